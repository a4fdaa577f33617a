"""docs/coverage.md names what exists: clauses, functions, backends and tests; and leaves no figure out."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from softcert import reference
from softcert.backends import available
from softcert.backends.ops import OPS
from softcert.conformance import CLAUSES

ROOT = Path(__file__).resolve().parents[1]
FIGURES = "tests/test_seed_figures.py"
CLAUSE_IDS = {clause.id for clause in CLAUSES}


def rows(text):
    """(section, cells) of each row of the tables of a page."""
    found, section = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| statement |", "| --- |")):
            found.append((section, [cell.strip() for cell in line.strip("| ").split(" | ")]))
    return found


PAGE = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
ROWS = rows(PAGE)
SHOWN = [(section, *cells) for section, cells in ROWS if section != "Not yet"]
NOT_YET = [cells for section, cells in ROWS if section == "Not yet"]


@cache
def defined_in(file):
    """Names of the tests of a file."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def exists(name):
    """Whether there is what a name on the page stands for."""
    if name.startswith("reference."):
        return name.removeprefix("reference.") in reference.__all__
    if "::" in name:
        file, _, test = name.partition("::")
        return (ROOT / file).is_file() and test in defined_in(file)
    if name.startswith("test_"):
        return name in defined_in(FIGURES)
    return name in CLAUSE_IDS or name in available()


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize(("section", "statement", "shown"), SHOWN)
def test_what_shows_a_statement_exists(section, statement, shown):
    assert names(shown) or shown == "*told*", f"{section}: nothing shows {statement!r}"
    for name in names(shown):
        assert exists(name), f"{section}, {statement!r}: {name}"


@pytest.mark.parametrize(
    "name",
    [
        "limits.argmaximum",
        "reference.softmin",
        "test_nothing_of_the_kind",
        "tests/reference/test_softmax.py::test_nothing_of_the_kind",
        "tests/test_nothing.py::test_softmax",
        "numpy-perfect",
        "softmax",
    ],
)
def test_a_name_of_nothing_is_noticed(name):
    assert not exists(name)


def test_every_figure_that_is_recomputed_is_on_the_page():
    named = {name for _, _, shown in SHOWN for name in names(shown)}
    figures = {name for name in defined_in(FIGURES) if name.startswith("test_")}
    assert figures <= named, figures - named


def test_every_section_has_its_statements():
    sections = re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert len(sections) == len(set(sections)) >= 14
    assert {section for section, _ in ROWS} == set(sections)
    assert sections[-1] == "Not yet"


@pytest.mark.parametrize(("statement", "section", "op"), NOT_YET)
def test_what_is_not_there_yet_is_not_there(statement, section, op):
    """An op that the suite has is no longer missing: its row belongs to its section, with what shows it."""
    assert section in {known for known, _ in ROWS}
    (name,) = names(op)
    assert name not in OPS, f"{statement!r} can be shown now: move its row to {section}"
