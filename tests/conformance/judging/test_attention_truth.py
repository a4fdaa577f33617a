"""What is known of calls of attention: of their operands, and of merges of two parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.context import Context
from softcert.conformance.judging.attention_judge import by_calls
from softcert.conformance.judging.attention_truth import attention_parts, exact_operands, seen_keys
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial

LN_2 = float(np.log(2.0))


def context_of(op, dtype="float32", **promises):
    return Context(op=op, dtype=dtype, contract=Contract(**promises), ops=(op,))


def judged(call, values, **promises):
    context = context_of(call.op, call.operands[0].dtype.name, **promises)
    with np.errstate(all="ignore"):
        return judge_values(Trial((call,)), tuple(values), context)


# --- merges ---


def merge_call(dtype="float32"):
    rng = np.random.default_rng(5)
    out_a, out_b = (rng.standard_normal((2, 3, 2)).astype(dtype) for _ in range(2))
    lse_a, lse_b = (rng.standard_normal((2, 3)).astype(np.float32) for _ in range(2))
    lse_a[0, 1] = lse_a[1, 2] = lse_b[1, 2] = -np.inf
    return Call("attention_merge", (out_a, lse_a, out_b, lse_b), {})


def merged(call, **promises):
    names = call.operands[0].dtype.name, "float32"
    context = context_of("attention_merge", names[0], **promises)
    out, lse = (np.array(t.round(n)) for t, n in zip(context.truths(call), names, strict=True))
    out[1, 2], lse[1, 2] = 0.0, -np.inf
    return [out.astype(names[0]), lse.astype(names[1])]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_merge_is_judged_by_its_values_and_where_both_are_empty_by_policy(dtype):
    call = merge_call(dtype)
    judgement = judged(call, merged(call))
    assert judgement.finding is None
    assert 0.0 < judgement.margin < 1.0
    assert not judgement.vacuous
    for result, place, wrong in (
        (0, (1, 2, 0), 1.0),
        (1, (1, 2), 0.0),
        (0, (0, 1, 0), 9.0),
        (1, (0, 0), 9.0),
    ):
        values = merged(call)
        values[result][place] = wrong
        finding = judged(call, values).finding
        assert (finding.result, finding.index) == (result, place)
        assert ("both parts are empty" in finding.message) is (place[:2] == (1, 2))


@pytest.mark.parametrize("promised", ["any", "mean"])
def test_no_mean_is_known_of_two_empty_parts(promised):
    call = merge_call()
    values = merged(call)
    values[0][1, 2] = 5.0
    assert judged(call, values, masked_row=promised).finding is None
    values[0][1, 2], values[1][1, 2] = np.nan, np.nan
    assert judged(call, values, masked_row="nan", masked_lse="nan").finding is None
    assert judged(call, values, masked_row="nan", masked_lse="any").finding is None
    assert judged(call, values, masked_row="zero", masked_lse="any").finding.index == (1, 2, 0)


def test_a_merge_to_base_two():
    call = merge_call()
    out_a, lse_a, out_b, lse_b = call.operands
    binary = replace(call, operands=(out_a, lse_a / np.float32(LN_2), out_b, lse_b / np.float32(LN_2)))
    out, lse = merged(call)
    assert judged(binary, (out, lse / np.float32(LN_2)), lse_base="2").finding is None
    assert judged(binary, (out, lse), lse_base="2").finding is not None


def test_the_lse_of_a_merge_is_vacuous_where_a_factor_of_two_passes():
    call = merge_call()
    parts = attention_parts(call, Contract(exp_ulp=2.0**21), context_of("attention_merge").truths(call))
    assert parts[1].vacuous.any()
    assert not context_of("attention_merge").parts(call)[1].vacuous.any()


# --- the operands ---


def test_batches_and_heads_become_one_axis():
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, h, n, 3)).astype(np.float32) for h, n in ((4, 5), (2, 6), (2, 6)))
    mask = rng.random((5, 6)) < 0.5
    exact = exact_operands(
        Call("attention", (q, k, v), {"scale": 0.25, "causal": True}, mask=mask), Contract()
    )
    assert (exact.q.shape, exact.k.shape, exact.v.shape) == ((8, 5, 3), (4, 6, 3), (4, 6, 3))
    assert (exact.scale, exact.causal, exact.mask.shape) == (0.25, "bottom-right", (8, 5, 6))
    plain = exact_operands(Call("attention", (q, k, v), {"causal": False}), Contract())
    assert (plain.scale, plain.causal, plain.mask) == (None, False, None)
    bias = exact_operands(Call("attention", (q, k, v), {}, mask=mask.astype(np.float16)), Contract()).mask
    assert bias.dtype == np.float64


def test_keys_that_are_seen():
    rng = np.random.default_rng(7)
    q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 5), (1, 4, 5), (1, 4, 2)))
    assert seen_keys(Operands(q, k, v), 0).all()
    causal = seen_keys(Operands(q, k, v, causal=True), 1)
    assert causal.tolist() == [[True, True, False, False], [True, True, True, False], [True] * 4]
    mask = np.ones((3, 4), dtype=bool)
    mask[1] = False
    assert seen_keys(Operands(q, k, v, mask=mask), 0).tolist() == mask.tolist()


def test_results_are_handed_out_call_by_call():
    calls = tuple(Call(op, (), {}) for op in ("attention_lse", "attention", "attention_vjp"))
    arrays = tuple(np.full(1, k) for k in range(6))
    taken = [[int(a[0]) for a in values] for values in by_calls(calls, arrays)]
    assert taken == [[0, 1], [2], [3, 4, 5]]
