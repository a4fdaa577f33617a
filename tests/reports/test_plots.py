"""Plots are the same bytes for the same data, follow the page's colours, and survive odd figures."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET

import pytest

from softcert.conformance.model import Verdict
from softcert.reports.error_plots import histogram_plots, length_plots, margin_plots
from softcert.reports.plots import MARKERS, marker
from softcert.reports.summary import MARKS, grade_rows, subjects


def drawings(runs):
    members = subjects(runs)
    found = [*length_plots(members), *histogram_plots(members), *margin_plots(grade_rows(members))]
    return [drawing.svg for drawing in found]


def statistics_run(build, statistics, name="odd", **fields):
    verdict = Verdict(
        "accuracy.certified", "softmax", "float32", "pass", 1, 1, statistics=statistics, **fields
    )
    return build(name, verdicts=(verdict,))


def test_a_drawing_for_each_format_and_op(small):
    assert len(drawings(small)) == 2 + 2 + 2


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
    assert (drawing.op, drawing.dtype, drawing.kind) == ("softmax", "float64", "length")
    assert "softmax, float64" in drawing.svg
    assert re.search(
        r"<desc[^>]*>Largest certified error .* ulp at 1, .* ulp at 131072\.</desc>", drawing.svg
    )


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


def marks(svg, part="line"):
    """The numbers at the marks of each subject, and how many marks are drawn."""
    found = {}
    for group in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        if group.get("id", "").endswith(f"-{part}"):
            uses = list(group.iter("{http://www.w3.org/2000/svg}use"))
            found[group.get("data-subject")] = json.loads(group.get("data-points")), len(uses)
    return found


def test_every_mark_has_its_numbers(build):
    points = [{"n": n, "error_ulp": e, "bound_ulp": 9.0} for n, e in ((1, 0.5), (2, math.inf), (8, 3.25))]
    runs = [statistics_run(build, {"by_length": points}, name=name) for name in ("one", "two")]
    (drawing,) = length_plots(subjects(runs))
    assert marks(drawing.svg) == dict.fromkeys("01", ([[1.0, 0.5, 9.0], [8.0, 3.25, 9.0]], 2))
    assert marks(drawing.svg, "endless") == dict.fromkeys("01", ([[2.0, None, 9.0]], 1))


def test_every_bar_has_its_numbers(build):
    histogram = {"edges": [0.0, 0.5, 1.0, 2.0, 4.0], "counts": [900, 0, 7, 0]}
    runs = [statistics_run(build, {"histogram": histogram}, name=name) for name in ("one", "two")]
    (drawing,) = histogram_plots(subjects(runs))
    bars = [
        (group.get("data-subject"), json.loads(group.get("data-points")), len(list(group)))
        for group in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}g")
        if group.get("id", "").endswith("-bars")
    ]
    assert bars == [(one, [[0.5, 900, None], [1, 0, None], [2, 7, None]], 3) for one in "01"]


def test_subjects_of_one_colour_have_different_marks(build):
    members = subjects([build(f"b{k}", verdicts=()) for k in range(24)])
    assert len({(s.slot, s.mark) for s in members}) == 24
    assert {marker(s) for s in members} == set(MARKERS)
    assert all(MARKERS[MARKS.index(s.mark)] == marker(s) for s in members)
