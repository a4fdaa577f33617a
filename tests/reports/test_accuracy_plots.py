"""Plots of where errors occur show what the statistics hold, and the page finds whose each mark is."""

from __future__ import annotations

import json
import math
import re

import pytest

from softcert.conformance.model import Verdict
from softcert.reports.accuracy_plots import curve_plots, within_plots
from softcert.reports.plot_panels import KINDS, panels
from softcert.reports.residue_plots import residue_plots
from softcert.reports.summary import grade_rows, subjects

STATISTICS = {
    "by_length": [{"n": 3, "error_ulp": 2.0, "bound_ulp": 9.0, "margin": 0.3, "family": "normal"}],
    "by_spread": [
        {"from": 0.0, "error_ulp": 0.5, "margin": 0.1, "elements": 3},
        {"from": 4.0, "error_ulp": 2.0, "margin": 0.3, "elements": 5},
        {"from": 2.0**32, "error_ulp": math.inf, "margin": math.inf, "elements": 1},
    ],
    "by_query": [{"from": k, "error_ulp": 7.0, "margin": 0.25 * k, "elements": 2} for k in range(3)],
    "within": {"ulps": [0.25, 0.5, 1.0, 2.0, 4.0], "counts": [0, 3, 6, 8, 8], "of": 9},
    "residues": {"axes": ["n"], "moduli": [64], "cells": [[0, 0.05, 8], [13, 0.7, 4], [63, 1.5, 2]]},
}
ATTENTION = {"residues": {"axes": ["L", "S"], "moduli": [32, 32], "cells": [[3, 31, 0.3, 8]]}}


def run_of(build, *statistics, name="one", op="softmax"):
    verdicts = [
        Verdict(f"accuracy.c{k}", op, "float32", "pass", 2, 9, (1.0, 2.0), 0.5, 9.0, 0.3, "C", statistics=s)
        for k, s in enumerate(statistics)
    ]
    return build(name, verdicts=tuple(verdicts))


def points(svg, part):
    return {
        subject: json.loads(found)
        for subject, found in re.findall(
            rf'id="[^"]*-series-\d+-{part}" data-subject="(\d+)" data-points="([^"]*)"', svg
        )
    }


def test_the_worst_of_all_verdicts_is_drawn_at_each_bin(build):
    other = {"by_spread": [{"from": 4.0, "error_ulp": 3.0, "margin": 0.2, "elements": 7}]}
    (drawing,) = [d for d in curve_plots(subjects([run_of(build, STATISTICS, other)])) if d.kind == "spread"]
    assert points(drawing.svg, "line") == {"0": [[0.0, 0.5, 3], [4.0, 3.0, 12]]}
    assert points(drawing.svg, "endless") == {"0": [[4.295e9, None, 1]]}
    assert drawing.words == ("spread from", "ulp", "results")
    assert "one: at most ∞ ulp" in drawing.svg


def test_of_attention_errors_are_in_units_of_the_bound(build):
    drawn = curve_plots(subjects([run_of(build, STATISTICS, op="attention")]))
    assert [d.kind for d in drawn] == ["spread", "query"]
    assert points(drawn[1].svg, "line") == {"0": [[0.0, 0.0, 2], [1.0, 0.25, 2], [2.0, 0.5, 2]]}
    assert drawn[1].words[1] == "of the bound"


def test_shares_are_those_of_all_results(build):
    runs = [run_of(build, STATISTICS, STATISTICS), run_of(build, {}, name="without")]
    (drawing,) = within_plots(subjects(runs))
    assert points(drawing.svg, "line") == {"0": [[0.5, 33.33, 6], [1.0, 66.67, 12], [2.0, 88.89, 16]]}
    assert "one: 33.3 % within 0.5 ulp, 66.7 % within 1 ulp." in drawing.svg


def test_remainders_have_their_place_and_shade(build):
    (drawing,) = residue_plots(subjects([run_of(build, STATISTICS)]))
    assert points(drawing.svg, "cells") == {"0": [[0.0, 0.05, None], [13.0, 0.7, None], [63.0, 1.5, None]]}
    assert drawing.words[0] == "n/8/8"
    assert set(re.findall(r"var\(--shade-(\d)\)", drawing.svg)) == {"0", "4", "5"}
    assert "one: at most 1.5, at n mod 64 = 63, of 3 remainders tried." in drawing.svg


def test_remainders_of_queries_and_keys_span_a_map(build):
    (drawing,) = residue_plots(subjects([run_of(build, ATTENTION, op="attention")]))
    assert points(drawing.svg, "cells") == {"0": [[31.0 + 32 * 3, 0.3, None]]}
    assert drawing.words[0] == "L,S/32/32"
    assert "L mod 32 = 3, S mod 32 = 31" in drawing.svg


def test_runs_without_the_figures_have_no_such_plots(build):
    members = subjects([run_of(build, {"by_length": STATISTICS["by_length"]})])
    assert (*curve_plots(members), *within_plots(members), *residue_plots(members)) == ()


@pytest.mark.parametrize("count", [1, 9])
def test_panels_hold_every_plot_once_and_lead_to_what_it_rests_on(build, count):
    members = subjects([run_of(build, STATISTICS, name=f"b{k}") for k in range(count)])
    grades = grade_rows(members)
    found = panels(members, grades, [f"rests-{k}" for k in range(count)])
    assert [(p.op, p.dtype) for p in found] == [("softmax", "float32")]
    assert [d.kind for p in found for d in p.drawings] == [
        "margin", "length", "spread", "within", "query", "residues",
    ]  # fmt: skip
    assert {d.kind for p in found for d in p.drawings} <= set(KINDS)
    assert found[0].rests == {k: f"rests-{k}" for k in range(count)}
    ids = [i for p in found for d in p.drawings for i in re.findall(r'\bid="([^"]+)"', d.svg)]
    assert len(ids) == len(set(ids))
    for drawing in found[0].drawings:
        assert {int(s) for s in re.findall(r'data-subject="(\d+)"', drawing.svg)} == set(range(count))
