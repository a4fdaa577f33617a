"""The figures that say where errors occur: one wrong result shows in its own bins and in no other."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.context import Context, evaluate
from softcert.conformance.examination.breakdown import Breakdown
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.wire.runs import plain


def broken_down(*answered):
    """Statistics of (call, results) pairs, each a case of its own."""
    breakdown = Breakdown()
    for call, results in answered:
        context = Context(op=call.op, dtype=call.operands[0].dtype.name, contract=Contract(), ops=(call.op,))
        trial = Trial((call,))
        with np.errstate(all="ignore"):
            breakdown.add(trial, judge_values(trial, tuple(results), context), context)
    return breakdown.statistics()


def softmax(x, **params):
    call = Call("softmax", (np.asarray(x, dtype=np.float32),), {"axis": -1, "beta": 1.0} | params)
    return call, [evaluate(call, Contract())[0].round("float32")]


def far(bins, at_least=100.0):
    return [b["from"] for b in bins if b["error_ulp"] > at_least]


def test_rows_are_told_apart_by_spread_and_magnitude():
    call, (y,) = softmax([[0.0, 3.0], [100.0, 100.5], [np.inf, 0.0]])
    y[1, 0] *= np.float32(1.001)
    figures = broken_down((call, [y]))
    assert [b["from"] for b in figures["by_spread"]] == [0.5, 2.0]
    assert [b["from"] for b in figures["by_magnitude"]] == [2.0, 64.0]
    assert far(figures["by_spread"]) == [0.5]
    assert far(figures["by_magnitude"]) == [64.0]
    assert [b["elements"] for b in figures["by_spread"]] == [2, 2]


def test_hidden_and_extreme_logits_have_bins_too():
    figures = broken_down(softmax([[-np.inf, 1.0], [0.0, 0.0], [3e38, -3e38]]))
    assert [b["from"] for b in figures["by_spread"]] == [0.0, 2.0**32]
    assert [b["from"] for b in figures["by_magnitude"]] == [0.0, 1.0, 2.0**32]


def test_the_inverse_temperature_counts():
    figures = broken_down(softmax([[0.0, 1.0]], beta=-8.0))
    assert [b["from"] for b in figures["by_spread"]] == [8.0]


def test_results_are_counted_within_certified_limits():
    call, (y,) = softmax([[0.0, 1.0, 2.0]])
    y[0, 2] = np.inf
    within = broken_down((call, [y]))["within"]
    counts = dict(zip(within["ulps"], within["counts"], strict=True))
    assert (counts[0.5], counts[4096.0], within["of"]) == (2, 2, 3)


def test_lengths_are_told_apart_by_their_remainder():
    answered = [softmax([np.linspace(0, 1, n)]) for n in (64, 65, 129)]
    answered[2][1][0][0, -1] *= np.float32(1.001)
    residues = broken_down(*answered)["residues"]
    assert (residues["axes"], residues["moduli"]) == (["n"], [64])
    (whole, one) = residues["cells"]
    assert (whole[0], whole[2], one[0], one[2]) == (0, 64, 1, 194)
    assert whole[1] < 1.0 < one[1]


def attention(op="attention", queries=40, keys=33, **params):
    rng = np.random.default_rng(3)
    shapes = (2, queries, 4), (1, keys, 4), (1, keys, 3)
    call = Call(op, tuple(rng.standard_normal(s).astype(np.float32) for s in shapes), params)
    return call, [e.round("float32") for e in evaluate(call, Contract())]


@pytest.mark.parametrize("op", ["attention", "attention_lse"])
def test_a_wrong_number_of_attention_shows_at_its_query_and_feature(op):
    call, results = attention(op)
    results[0][1, 38, 2] += 1.0
    figures = broken_down((call, results))
    assert far(figures["by_query"], 1e3) == [32]
    assert far(figures["by_feature"], 1e3) == [2]
    assert [b["from"] for b in figures["by_query"]] == [*range(16), 16, 20, 24, 28, 32]
    assert sum(b["elements"] for b in figures["by_feature"]) == 2 * 40 * 3
    ((of_queries, of_keys, margin, _),) = figures["residues"]["cells"]
    assert (of_queries, of_keys) == (8, 1)
    assert margin > 1.0


def test_scores_are_those_that_a_query_sees():
    call, results = attention(causal=True, queries=1, keys=1)
    assert [b["from"] for b in broken_down((call, results))["by_spread"]] == [0.0]


def test_gradients_show_at_queries_and_keys():
    forward, (out, lse) = attention("attention_lse", queries=3, keys=5)
    dout = np.random.default_rng(4).standard_normal(out.shape).astype(np.float32)
    call = Call("attention_vjp", (*forward.operands, out, lse, dout), {})
    results = [e.round("float32") for e in evaluate(call, Contract())]
    results[2][0, 4, 1] += 1.0
    figures = broken_down((call, results))
    assert far(figures["by_key"], 1e3) == [4]
    assert far(figures["by_query"], 1e3) == []
    assert len(figures["by_query"]) == 3


def test_merges_are_told_apart_by_the_distance_of_their_lse():
    out = np.ones((1, 2, 3), dtype=np.float32)
    lse = np.array([[0.0, 1.0]], dtype=np.float32)
    call = Call("attention_merge", (out, lse, out, lse + np.array([[0.25, 9.0]], dtype=np.float32)), {})
    figures = broken_down((call, [e.round("float32") for e in evaluate(call, Contract())]))
    assert [b["from"] for b in figures["by_spread"]] == [0.25, 8.0]
    assert "residues" not in figures


def test_the_order_of_cases_does_not_matter_and_everything_is_json():
    answered = [softmax([np.linspace(0, k, n)]) for n, k in ((3, 1.0), (70, 9.0), (2, 0.0))]
    figures = broken_down(*answered)
    assert broken_down(*answered[::-1]) == figures
    json.dumps(plain(figures), allow_nan=False)
    assert all(math.isfinite(b["margin"]) for b in figures["by_spread"])


def test_nothing_compared_gives_no_figures():
    breakdown = Breakdown()
    call = softmax([[np.nan, 1.0]])[0]
    context = Context(op="softmax", dtype="float32", contract=Contract(), ops=("softmax",))
    breakdown.add(Trial((call,)), Judgement(), context)
    assert breakdown.statistics() == {}
