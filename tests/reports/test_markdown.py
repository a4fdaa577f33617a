"""Markdown reports hold the same, in tables that no name can break."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from softcert.reports import render_markdown
from softcert.reports.markdown import code, escape


def tables(text):
    rows, found = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            rows.append(line)
        elif rows:
            found.append(rows)
            rows = []
    return found


def columns(row):
    return row.replace("\\|", "").count("|")


def test_sections_and_figures(small):
    text = render_markdown(small)
    for heading in (
        "Grades",
        "Verdicts",
        "Worst witnesses",
        "Speed",
        "What the words mean",
        "How to reproduce",
    ):
        assert f"\n## {heading}\n" in text
    for part in (
        "**broken** breaks 3 clauses",
        "| softmax | float64 | broken | **F** |",
        "✗ fail",
        "⚡ error",
        "0x0p+0 -0x0p+0",
        "... 136 more",
        "softcert replay witnesses/broken-accuracy.certified-softmax-float32-",
        "softcert check kernels/broken.py:softmax",
        "mpmath 1.3.0",
    ):
        assert part in text


def test_vacuous_and_passed_controls_stand_out(runs):
    text = render_markdown(runs[:1])
    assert "## Wrong answers that passed too" in text
    assert "✓ †" in text
    assert "**∅ vacuous**" in text


@pytest.mark.parametrize("name", ["a|b", "`x`", "<b>|`y`|</b>", "x\ny", "[a](b)", "\\|"])
def test_no_name_breaks_a_table(small, name):
    text = render_markdown([replace(small[0], name=name, subject=name)])
    assert len(tables(text)) == 4
    for table in tables(text):
        assert len({columns(row) for row in table}) == 1
    assert "<b>" not in text.replace("`` softcert", "").split("## How to reproduce")[0]


def test_escaping():
    assert escape("<a>|*_[x]") == "&lt;a&gt;\\|\\*\\_\\[x\\]"
    assert code("a`b``c") == "``` a`b``c ```"
    assert code("plain") == "`plain`"


def test_it_is_deterministic_and_needs_no_library(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert render_markdown(small) == render_markdown(small)


def test_no_runs():
    assert render_markdown([]).startswith("# softcert report\n")
