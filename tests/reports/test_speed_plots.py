"""Plots of speed show what is valid, and say in words what they show."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from softcert.reports import render_html, render_markdown
from softcert.reports.speed_plots import (
    Mark,
    accuracy_plots,
    frontier,
    memory_plots,
    roofline_plots,
    time_plots,
)
from softcert.reports.summary import subjects

pytest.importorskip("matplotlib")


def row(op, shape, seconds, **more):
    operations = 4 * shape[0] * shape[1] * (shape[2] * shape[3] if len(shape) == 4 else 1)
    facts = {
        "op": op,
        "dtype": "float32",
        "shape": list(shape),
        "seconds": seconds,
        "interval": [0.9 * seconds, 1.2 * seconds],
        "samples": [seconds, 0.9 * seconds, 1.2 * seconds],
        "clock": "wall",
        "operations": operations,
        "bytes": 8 * shape[0] * shape[1],
        "bytes_per_second": 8 * shape[0] * shape[1] / seconds,
        "copy_bytes_per_second": 2e10,
        "memory_bytes_per_second": 1e10,
        "peak_bytes": 8 * shape[0] * shape[1],
        "error_ulp": 1.5,
        "margin": 0.01,
        "status": "ok",
    }
    return facts | more


def rows(factor=1.0, **more):
    softmax = [row("softmax", (64, n), factor * 1e-9 * n, **more) for n in (256, 1024, 4096)]
    attention = [
        row("attention", (8, n, n, 64), factor * 1e-9 * n * n, matrix_flops_per_second=1e12, **more)
        for n in (128, 256, 512)
    ]
    return (*softmax, *attention)


@pytest.fixture
def members(build):
    few = {"ops": ("softmax",), "dtypes": ("float32",)}
    fast = build("fast", 3.0, speed=rows(), **few)
    exact = build("exact", 0.5, speed=rows(5.0), **few)
    beaten = build("beaten", 4.0, speed=rows(9.0), **few)
    return subjects([fast, exact, beaten])


ALL = (time_plots, memory_plots, roofline_plots, accuracy_plots)


@pytest.mark.parametrize(("plots", "count"), [(time_plots, 2), (memory_plots, 1), (roofline_plots, 1)])
def test_each_drawing_is_whole_and_says_what_it_shows(members, plots, count):
    drawings = plots(members)
    assert len(drawings) == count
    assert drawings == plots(members)
    for drawing in drawings:
        ElementTree.fromstring(drawing)
        assert all(name in drawing for name in (["fast"] if plots is roofline_plots else ["fast", "beaten"]))


def test_exponents_and_limits_are_told(members):
    softmax, attention = time_plots(members)
    assert "time grows as n^1 [1, 1], 256 to 4096" in softmax
    assert "time grows as L^2 [2, 2], 128 to 512" in attention
    (roofline,) = roofline_plots(members)
    assert "10 GB/s in memory and 20 in a cache, products of matrices 1000 GFLOP/s" in roofline
    assert "fast, attention 8 × 128 × 128 × 64" in roofline


def test_the_frontier_is_what_nothing_beats(members):
    softmax, attention = accuracy_plots(members)
    assert "Not beaten in both: exact, fast." in softmax
    # No verdict is on attention here: the answers that were timed are, and all alike.
    assert "Not beaten in both: fast." in attention


def test_the_frontier_of_points():
    (one,) = subjects_of_one()
    marks = [Mark(one, x, y) for x, y in [(1, 0.1), (2, 0.1), (2, 0.5), (3, 1.0), (4, 0.9), (0.5, 0.05)]]
    assert [(m.x, m.y) for m in frontier(marks)] == [(0.5, 0.05), (2, 0.1), (4, 0.9)]
    assert frontier([]) == []


def subjects_of_one():
    from softcert.conformance.model import Run

    return subjects([Run("a", "a", {}, {}, {"profile": "smoke", "seed": 0}, ())])


def test_invalid_figures_are_listed_and_never_drawn(members):
    bad = rows(1e-3, status="invalid", reason="the answer after timing is wrong: all zeros")
    liar = replace(members[0].run, name="liar", speed=bad)
    assert [plots(subjects([liar])) for plots in ALL] == [(), (), (), ()]
    runs = [liar, *(member.run for member in members)]
    page, text = render_html(runs), render_markdown(runs)
    assert "all zeros" in page
    assert r"**invalid** liar, softmax 64 × 256: the answer after timing is wrong: all zeros" in text
    assert "Accuracy against speed" in page
    assert "How the time grows" in page


def test_figures_of_older_files_are_shown_without_what_they_lack(small):
    assert [plots(subjects(small)) for plots in ALL] == [(), (), (), ()]
    page = render_html(small)
    assert "60.6 %" in page  # 10.9 of 18 GB/s
    assert "Accuracy against speed" not in page


def test_noise_is_marked(build):
    noisy = build("noisy", speed=rows(status="noisy", reason="the quartiles of the rounds lie far apart"))
    page = render_html([noisy])
    assert 'title="the quartiles of the rounds lie far apart">noisy<' in page
