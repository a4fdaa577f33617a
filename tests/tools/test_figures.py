"""The figures of the docs are drawn from certified values, and what is committed is what is drawn."""

from __future__ import annotations

import importlib
import math
import re
import sys
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import pytest

from softcert.reference import Enclosure, Interval
from softcert.reference.cells import Cells

pytest.importorskip("matplotlib")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def program():
    """The program, imported as its folder makes it importable."""
    sys.path.insert(0, str(ROOT / "tools"))
    yield importlib.import_module("figures")
    sys.path.remove(str(ROOT / "tools"))


def test_every_figure_is_on_a_page_and_every_picture_of_a_page_is_drawn(program):
    shown = {
        name
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"_static/figures/([\w-]+)\.svg", page.read_text(encoding="utf-8"))
    }
    assert shown == set(program.FIGURES)


@pytest.mark.parametrize("name", ["limits-mean", "boltzmann-schottky"])
def test_what_is_committed_is_what_is_drawn(program, name, tmp_path):
    pinned = re.search(r"^matplotlib==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    if version("matplotlib") != pinned:
        pytest.skip("another matplotlib draws the same points by other bytes")
    program.draw(program.FIGURES[name](), tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_bytes() == (program.FOLDER / f"{name}.svg").read_bytes()


def test_the_rates_are_the_closed_form(program):
    for curve in program.rates().curves:
        gap = float(curve.name.removeprefix("gap "))
        for beta, distance in curve.points:
            rest = math.exp(-beta * gap)
            assert distance == pytest.approx(2 * rest / (1 + rest), rel=1e-12)


def test_near_ties_come_to_one_half_at_every_beta(program):
    plot = program.near_ties()
    for curve in plot.curves:
        assert 0.499 < max(value for _, value in curve.points) < 0.5
    assert plot.levels[0][1] == 0.5


def test_the_mean_touches_its_bound_and_does_not_pass_it(program):
    plot = program.mean_gaps()
    for curve, (_, level) in zip(plot.curves, plot.levels, strict=True):
        assert 0.999 * level < max(value for _, value in curve.points) <= level


def test_what_is_too_wide_is_not_drawn_as_a_point(program):
    cells = Cells()
    cells.add_exact(Fraction(1, 3))
    wide = Interval(1, 2, 0)
    cells.values.append(wide)
    assert program.value_of(Enclosure(cells, ())) == 1 / 3
    with pytest.raises(ArithmeticError, match="too wide"):
        program.value_of(Enclosure(cells, (2,))[1])
