"""What the judge of attention accepts and refuses: values, policies, gradients of either kind, merges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_growing import forward_results
from softcert.conformance.judging.attention_judge import judge_given
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement, Trial

LN_2 = float(np.log(2.0))
DTYPES = ("float64", "float32", "float16")


def operands(dtype="float32", heads=2, groups=1, queries=3, keys=4, width=2):
    rng = np.random.default_rng(7)
    shapes = (heads, queries, 5), (groups, keys, 5), (groups, keys, width)
    return tuple(rng.standard_normal(s).astype(dtype) for s in shapes)


def context_of(op, dtype="float32", **promises):
    return Context(op=op, dtype=dtype, contract=Contract(**promises), ops=(op,))


def forward_call(q, k, v, mask=None, op="attention_lse", **params):
    return Call(op, (q, k, v), params, mask=mask)


def judged(call, values, **promises):
    context = context_of(call.op, call.operands[0].dtype.name, **promises)
    with np.errstate(all="ignore"):
        return judge_values(Trial((call,)), tuple(values), context)


def right(call, **promises):
    context = context_of(call.op, call.operands[0].dtype.name, **promises)
    return [a.copy() for a in forward_results(call, context)]


# --- ordinary values ---


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_correctly_rounded_result_is_within_half_an_ulp(dtype):
    call = forward_call(*operands(dtype))
    judgement = judged(call, right(call))
    assert judgement.finding is None
    assert 0.0 < judgement.error_ulp[1] <= 0.5
    assert 0.0 < judgement.margin < 1.0
    assert judgement.elements == 2 * 3 * 2 + 2 * 3
    assert not judgement.vacuous


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e3, -1.0])
@pytest.mark.parametrize(("result", "index", "name"), [(0, (1, 2, 0), "out"), (1, (1, 0), "lse")])
def test_one_wrong_number_is_found_in_its_result(result, index, name, wrong):
    call = forward_call(*operands())
    values = right(call)
    values[result][index] = wrong
    finding = judged(call, values).finding
    assert (finding.result, finding.index) == (result, index)
    assert finding.quantity == f"{name} of attention_lse(q, k, v)[{', '.join(map(str, index))}]"


def test_the_only_result_of_an_op_bears_its_name():
    call = forward_call(*operands(), op="attention")
    finding = judged(call, [np.zeros((2, 3, 2), dtype=np.float32)]).finding
    assert finding.quantity.startswith("attention(q, k, v)[")


def test_an_error_of_one_ulp_is_measured_as_such_and_forgiven():
    call = forward_call(*operands())
    values = right(call)
    values[0][0, 0, 0] = np.nextafter(values[0][0, 0, 0], np.float32(9))
    judgement = judged(call, values)
    assert judgement.finding is None
    assert 0.5 <= judgement.error_ulp[0] <= judgement.error_ulp[1] <= 1.5


def test_scale_and_causal_alignment_are_the_call_s_and_the_contract_s():
    q, k, v = operands()
    plain, scaled = forward_call(q, k, v), forward_call(q, k, v, scale=2.0)
    assert judged(scaled, right(scaled)).finding is None
    assert judged(scaled, right(plain)).finding is not None
    causal = forward_call(q, k, v, causal=True)
    assert judged(causal, right(causal)).finding is None
    assert judged(causal, right(causal), causal="top-left").finding is not None
    assert judged(causal, right(causal, causal="top-left"), causal="top-left").finding is None
    assert judged(plain, right(plain), causal="top-left").finding is None
    assert judged(plain, right(causal)).finding is not None


def test_a_mask_that_adds_is_added():
    q, k, v = operands()
    bias = np.linspace(-3.0, 3.0, 12, dtype=np.float32).reshape(3, 4)
    call = forward_call(q, k, v, bias)
    assert judged(call, right(call)).finding is None
    assert judged(call, right(forward_call(q, k, v))).finding is not None


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_lse_to_base_two_is_judged_as_one(dtype):
    call = forward_call(*operands(dtype))
    out, lse = right(call, lse_base="2")
    judgement = judged(call, (out, lse), lse_base="2")
    assert judgement.finding is None
    # what is counted through binary64 is not certain to its last bits
    assert judgement.error_ulp[1] <= (9.0 if dtype == "float64" else 1.01)
    assert judged(call, right(call), lse_base="2").finding.result == 1
    assert judged(call, (out, lse)).finding.result == 1
    off = lse * lse.dtype.type(1 + 1e-2)
    finding = judged(call, (out, off), lse_base="2").finding
    assert (
        float.fromhex(finding.observed) == float(off[finding.index]) * LN_2
    )  # beside the exact one, in its unit
    exact = float(finding.exact[0])
    assert exact == pytest.approx(float(right(call)[1][finding.index]), rel=1e-3)
    wanted = abs(float(off[finding.index]) * LN_2 - exact) / np.spacing(np.abs(exact).astype(lse.dtype))
    assert finding.error_ulp[0] == pytest.approx(float(wanted), rel=1e-2)
    # the roundings of the conversion and of the distance, of a few units in the last place of binary64
    ulp = float(np.spacing(np.abs(exact).astype(lse.dtype)))
    doubt = 2 * 2.0**-50 * (abs(exact) + abs(float(off[finding.index]) * LN_2 - exact)) / ulp
    assert finding.error_ulp[1] - finding.error_ulp[0] == pytest.approx(doubt, rel=0.01, abs=1e-9)
    if dtype != "float64":
        assert 0.1 < judgement.error_ulp[0] <= judgement.error_ulp[1]


def test_a_bound_that_accepts_anything_is_vacuous():
    call = forward_call(*operands("float16"))
    assert judged(call, right(call), exp_ulp=2.0**24, compute="float32").vacuous
    assert not judged(call, right(call), exp_ulp=100.0).vacuous


def test_nothing_is_said_where_no_bound_is_known():
    """Scores beyond binary64: what passes for a result there is anybody's."""
    q, k, v = (a.astype(np.float64) for a in operands())
    q[0, 1] = 1e300
    call = forward_call(q, k, v)
    context = context_of("attention_lse", "float64")
    known = [np.isfinite(part.bound) for part in context.parts(call)]
    assert not known[0][0, 1].any()
    assert known[0][0, 0].all()
    values = right(call)
    values[0][0, 1], values[1][0, 1] = 123.0, 123.0
    assert judged(call, values).finding is None
    values[0][0, 0, 0] = 123.0
    assert judged(call, values).finding.index == (0, 0, 0)


def test_an_empty_result_is_no_judgement():
    q, k, v = operands()
    call = forward_call(q[:, :0], k, v)
    assert judged(call, (q[:, :0, :2], q[:, :0, 0])) == Judgement()


# --- policies ---


def hiding(row=1):
    """A mask that hides every key of one query."""
    mask = np.ones((3, 4), dtype=bool)
    mask[row] = False
    return mask


@pytest.mark.parametrize(
    ("promised", "good", "bad"),
    [
        ("zero", 0.0, np.nan),
        ("zero", -0.0, 1e-30),
        ("nan", np.nan, 0.0),
        ("any", 7.0, None),
        ("mean", "mean", 0.0),
    ],
)
@pytest.mark.parametrize("groups", [1, 2])
def test_the_output_of_a_query_that_sees_nothing_is_what_the_contract_says(promised, good, bad, groups):
    q, k, v = operands(heads=4, groups=groups)
    v += np.float32(3.0)
    call = forward_call(q, k, v, hiding())
    out, lse = right(call)
    means = np.repeat(v.astype(np.float64).mean(axis=1), 4 // groups, axis=0)
    out[:, 1] = means if good == "mean" else good
    assert judged(call, (out, lse), masked_row=promised).finding is None
    if bad is not None:
        out[2, 1, 1] = bad
        finding = judged(call, (out, lse), masked_row=promised).finding
        assert (finding.result, finding.index) == (0, (2, 1, 1))
        words = {"zero": "0", "nan": "NaN", "mean": "the mean of all values"}[promised]
        assert finding.message.endswith(f"is {bad:g} where no key is seen, and has to be {words}")


@pytest.mark.parametrize(
    ("off", "found"), [(0.0, False), (1.4e-6, False), (-1.4e-6, False), (2e-6, True), (-2e-6, True)]
)
def test_a_mean_of_values_may_err_as_a_sum_does(off, found):
    """Four keys of about 3 in binary32: 8 u of the mean magnitude, and the rounding of the result."""
    q, k, v = operands()
    v += np.float32(3.0)
    call = forward_call(q, k, v, hiding())
    out, lse = right(call)
    out[:, 1] = v.astype(np.float64).mean(axis=1) + off
    assert (judged(call, (out, lse), masked_row="mean").finding is not None) is found


@pytest.mark.parametrize(
    ("promised", "good", "bad"),
    [
        ("-inf", -np.inf, np.inf),
        ("+inf", np.inf, -np.inf),
        ("nan", np.nan, -np.inf),
        ("zero", 0.0, -np.inf),
        ("any", 5.0, None),
    ],
)
def test_the_lse_of_a_query_that_sees_nothing_is_what_the_contract_says(promised, good, bad):
    call = forward_call(*operands(), hiding())
    out, lse = right(call)
    lse[:, 1] = good
    assert judged(call, (out, lse), masked_lse=promised).finding is None
    if bad is not None:
        lse[1, 1] = bad
        finding = judged(call, (out, lse), masked_lse=promised).finding
        assert (finding.result, finding.index) == (1, (1, 1))


def test_of_many_batches_that_are_alike_an_empty_query_is_the_mean_in_each():
    q, k, v = (np.broadcast_to(a[:1], (512, *a.shape[1:])).copy() for a in operands(queries=3, keys=2))
    call = forward_call(q, k, v, causal=True)
    out, lse = right(call)
    out[:, 0] = v.astype(np.float64).mean(axis=1)
    assert judged(call, (out, lse), masked_row="mean").finding is None
    out[300, 0, 1] += 1.0
    assert judged(call, (out, lse), masked_row="mean").finding.index == (300, 0, 1)


def spoilt(name, value):
    q, k, v = operands()
    {"q": q, "k": k, "v": v}[name][0, 1, 0] = value
    return q, k, v


@pytest.mark.parametrize(
    ("name", "out_places", "lse_places"),
    [
        ("q", [(0, 1, 0), (0, 1, 1)], [(0, 1)]),
        (
            "k",
            [(h, i, c) for h in range(2) for i in range(3) for c in range(2)],
            [(h, i) for h in (0, 1) for i in range(3)],
        ),
        ("v", [(h, i, 0) for h in range(2) for i in range(3)], []),
    ],
)
def test_a_nan_that_is_seen_comes_out_and_only_where_it_goes_in(name, out_places, lse_places):
    call = forward_call(*spoilt(name, np.nan))
    clean = right(forward_call(*spoilt(name, 0.5)))
    out, lse = (a.copy() for a in clean)
    for array, places in ((out, out_places), (lse, lse_places)):
        for place in places:
            array[place] = np.nan
    assert judged(call, (out, lse)).finding is None
    for array, places in ((out, out_places), (lse, lse_places)):
        for place in places:
            kept, array[place] = array[place], 1.0
            finding = judged(call, (out, lse)).finding
            assert finding.index == place
            assert "a NaN is seen" in finding.message
            assert judged(call, (out, lse), nan="any").finding is None
            array[place] = kept
    if name == "q":
        out[1] = np.nan
        assert judged(call, (out, lse)).finding is not None


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_nothing_is_said_of_a_query_that_sees_an_infinity(name):
    call = forward_call(*spoilt(name, np.inf))
    out, lse = (a.copy() for a in right(forward_call(*spoilt(name, 0.5))))
    out[0, 1], lse[0, 1] = 77.0, 77.0
    found = judged(call, (out, lse)).finding
    assert found is None
    if name == "q":
        out[0, 0, 0] = 77.0
        assert judged(call, (out, lse)).finding.index == (0, 0, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["k", "v"])
def test_what_is_no_number_at_a_hidden_key_matters_as_the_contract_says(name, bad):
    mask = np.ones((3, 4), dtype=bool)
    mask[:2, 1] = False
    mask[2] = [False, False, True, True]
    call = forward_call(*spoilt(name, bad), mask)
    values = right(forward_call(*spoilt(name, 0.5), mask))
    assert judged(call, values, masked_nan="ignored").finding is None
    assert judged(call, values).finding is None
    values[0][0, 0, 0] = 9.0
    assert judged(call, values, masked_nan="ignored").finding.index == (0, 0, 0)
    assert judged(call, values).finding is None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_mask_that_adds_no_number_says_nothing_of_its_query(bad):
    q, k, v = operands()
    bias = np.zeros((3, 4), dtype=np.float32)
    call = forward_call(q, k, v, bias)
    values = right(call)
    bias[1, 2] = bad
    values[0][:, 1], values[1][:, 1] = 55.0, 55.0
    assert judged(replace(call, mask=bias), values).finding is None
    values[1][1, 2] = 55.0
    assert judged(replace(call, mask=bias), values).finding.index == (1, 2)


def test_so_it_does_where_the_key_is_hidden():
    q, k, v = operands()
    bias = np.zeros((3, 4), dtype=np.float32)
    bias[0, 3] = np.nan  # the first of three queries sees two of four keys
    call = forward_call(q, k, v, bias, causal=True)
    out, lse = right(forward_call(q, k, v, causal=True))
    out[:, 0] = 55.0
    assert judged(call, (out, lse)).finding is None
    out[1, 1] = 55.0
    assert judged(call, (out, lse)).finding.index == (1, 1, 0)


# --- gradients ---


def gradient_call(dtype="float32", mask=None, noise=0.0, **changed):
    """Call of the gradient on the out and lse of a forward pass, moved by some noise."""
    q, k, v = operands(dtype)
    forward = forward_call(q, k, v, mask)
    out, lse = right(forward)
    rng = np.random.default_rng(1)
    dout = rng.standard_normal(out.shape).astype(dtype)
    given = {"q": q, "k": k, "v": v, "out": out * (1.0 + noise), "lse": lse, "dout": dout} | changed
    given["out"] = given["out"].astype(dtype)
    return Call("attention_vjp", tuple(given.values()), {}, mask=mask)


def gradients(call, **promises):
    context = context_of("attention_vjp", call.operands[0].dtype.name, **promises)
    return [np.asarray(t.round(call.operands[0].dtype.name)) for t in context.truths(call)]


def test_a_gradient_may_be_that_of_what_is_given_or_of_attention_itself():
    given, clean = gradient_call(noise=0.25), gradient_call()
    context = context_of("attention_vjp")
    for values in (gradients(given), gradients(clean)):
        assert judged(given, values).finding is None
    assert judge_given(0, given, tuple(gradients(given)), context).finding is None
    assert judge_given(0, given, tuple(gradients(clean)), context).finding is not None
    mixed = [gradients(given)[0], *gradients(clean)[1:]]
    assert judged(given, mixed).finding is not None


@pytest.mark.parametrize(("result", "name"), [(0, "dq"), (1, "dk"), (2, "dv")])
def test_a_wrong_gradient_is_found_by_its_name(result, name):
    call = gradient_call()
    values = gradients(call)
    values[result][0, 1, 0] += 0.5
    finding = judged(call, values).finding
    assert (finding.result, finding.index) == (result, (0, 1, 0))
    assert finding.quantity.startswith(f"{name} of attention_vjp(q, k, v, out, lse, dout)")


@pytest.mark.parametrize(("promised", "found"), [("zero", True), ("nan", False), ("any", False)])
def test_gradients_beside_an_empty_query_are_judged_where_its_output_is_zero(promised, found):
    call = gradient_call(mask=hiding())
    values = gradients(call)
    assert judged(call, values, masked_row=promised).finding is None
    values[1][0, 0, 0] += 1.0
    assert (judged(call, values, masked_row=promised).finding is not None) is found


def test_gradients_of_queries_that_see_one_key_are_judged_whatever_an_empty_one_gives():
    mask = np.ones((3, 4), dtype=bool)
    mask[1, 1:] = False
    call = gradient_call(mask=mask)
    values = gradients(call)
    values[1][0, 0, 0] += 1.0
    assert judged(call, values, masked_row="nan").finding is not None


@pytest.mark.parametrize(("promised", "found"), [("ignored", True), ("any", False)])
def test_gradients_beside_a_hidden_nan_are_judged_where_it_is_said_not_to_matter(promised, found):
    mask = np.ones((3, 4), dtype=bool)
    mask[:, 1] = False
    call = gradient_call(mask=mask)
    values = gradients(call)
    spoilt_v = call.operands[2].copy()
    spoilt_v[0, 1] = np.nan
    call = replace(call, operands=(*call.operands[:2], spoilt_v, *call.operands[3:]))
    values[0][0, 0, 0] += 1.0
    assert (judged(call, values, masked_nan=promised).finding is not None) is found


def test_an_lse_to_base_two_is_taken_as_one():
    call = gradient_call()
    lse = (call.operands[4].astype(np.float64) / LN_2).astype(np.float32)
    other = replace(call, operands=(*call.operands[:4], lse, call.operands[5]))
    assert judged(other, gradients(call), lse_base="2").finding is None
    assert judged(other, gradients(other)).finding is None
    context = context_of("attention_vjp", lse_base="2")
    assert judge_given(0, other, tuple(gradients(other)), context).finding is not None


@pytest.mark.parametrize(("dtype", "widened"), [("float64", 2.0), ("float32", 1.0), ("float16", 1.0)])
def test_bounds_of_gradients_are_those_derived(dtype, widened):
    call = gradient_call(dtype)
    context = context_of("attention_vjp", dtype)
    q, k, v, out, lse, dout = (a.astype(np.float64) for a in call.operands)
    a, exact = attention_arithmetic(Contract(), dtype), Operands(q, k, v)
    forward = attention_bounds(exact, a)
    made = Cotangents(forward.exact_out, forward.exact_lse, dout)
    for parts, bounds, factor in (
        (context.parts(call), attention_backward_bounds(exact, Cotangents(out, lse, dout), a), 1.0),
        (context.remade_parts(call), attention_backward_bounds(exact, made, a, forward), widened),
    ):
        for part, bound in zip(parts, (bounds.dq, bounds.dk, bounds.dv), strict=True):
            np.testing.assert_allclose(part.bound, factor * bound, rtol=1e-12)
