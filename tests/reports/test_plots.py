"""Plots are the same bytes for the same data, follow the page's colours, and survive odd figures."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from softcert.conformance.model import Verdict
from softcert.reports.plots import histogram_plots, length_plots, margin_plots
from softcert.reports.summary import grade_rows, subjects


def drawings(runs):
    members = subjects(runs)
    return [*length_plots(members), *histogram_plots(members), *margin_plots(grade_rows(members))]


def statistics_run(build, statistics, name="odd", **fields):
    verdict = Verdict(
        "accuracy.certified", "softmax", "float32", "pass", 1, 1, statistics=statistics, **fields
    )
    return build(name, verdicts=(verdict,))


def test_a_drawing_for_each_format_and_op(small):
    assert len(drawings(small)) == 2 + 2 + 1


def test_drawings_are_deterministic(small):
    assert drawings(small) == drawings(small)


def test_drawings_are_accessible_and_follow_the_page(small):
    seen = set()
    for drawing in drawings(small):
        svg = ET.fromstring(drawing)
        ids = [part.get("id") for part in svg.iter() if part.get("id")]
        assert len(ids) == len(set(ids))
        assert seen.isdisjoint(ids)
        seen |= set(ids)
        assert svg.get("role") == "img"
        assert {svg.get("aria-labelledby"), svg.get("aria-describedby")} <= set(ids)
        assert "var(--series-0)" in drawing
        assert "currentColor" in drawing
        assert not re.search(r"#(?!000001)[0-9a-f]{6}\b", re.sub(r'href="#[^"]*"|url\([^)]*\)', "", drawing))
        assert "<style" not in drawing
        assert set(re.findall(r'(?:href="|url\()#([^")]+)', drawing)) <= set(ids)


def test_lengths_are_drawn_from_the_statistics(small):
    drawing = length_plots(subjects(small))[0]
    assert "softmax, float64" in drawing
    assert re.search(r"<desc[^>]*>Largest certified error .* ulp at 1, .* ulp at 131072\.</desc>", drawing)


@pytest.mark.parametrize("error", [0.0, 1e-30, 1e300, math.inf, math.nan])
def test_odd_errors_draw(build, error):
    points = [{"n": n, "error_ulp": error, "bound_ulp": math.inf, "family": "f"} for n in (0, 1, 5)]
    histogram = {"edges": [0.0, 1.0, 1e6, math.inf], "counts": [0, 0, 3]}
    run = statistics_run(build, {"by_length": points, "histogram": histogram}, margin=error, grade="C")
    assert len(drawings([run])) == 3


def test_histograms_without_counts_are_left_out(build):
    assert drawings([statistics_run(build, {"histogram": {"edges": [0.0, 1.0], "counts": [0]}})]) == []


def test_names_are_drawn_as_they_are(build):
    run = statistics_run(build, {"by_length": [{"n": 2, "error_ulp": 1.0}]}, name="$x^ <b>& \x00中")
    (drawing,) = drawings([run])
    assert "$x^ &lt;b&gt;&amp; \\u0000中" in drawing


def test_of_many_lengths_the_worst_of_each_doubling_is_drawn(build):
    points = [{"n": n, "error_ulp": float(n % 7), "bound_ulp": 9.0} for n in range(1, 200)]
    (drawing,) = drawings([statistics_run(build, {"by_length": points})])
    assert "1 ulp at 1, 6 ulp at 132." in drawing
