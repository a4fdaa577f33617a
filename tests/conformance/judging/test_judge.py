"""The comparer itself: specials, zeros, subnormals, enclosures, and what it may never let pass."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.ops import OF_TREES, OPERANDS
from softcert.backends.types import Call, as_dtype
from softcert.conformance.context import Context, evaluate, truth_ulp
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import operands_from
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.judge import judge_call, judge_values, result_quantity
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import ALL_OPS as OPS
from softcert.conformance.spec import ORDERED_OPS

DTYPES = ("float64", "float32", "float16", "bfloat16")


def context_of(op="softmax", dtype="float32", **promises):
    return Context(op=op, dtype=dtype, contract=Contract(**promises), ops=OPS)


def judged(op, operands, value, axis=-1, beta=1.0, **promises):
    context = context_of(op, str(operands[0].dtype), **promises)
    params = {"axis": axis} if beta == 1.0 else {"axis": axis, "beta": beta}
    trial = Trial((Call(op, tuple(operands), params),))
    with np.errstate(all="ignore"):
        return judge_values(trial, (value,), context)


def exact(op, operands, axis=-1):
    """Correctly rounded results, of the operands' dtype."""
    dtype = str(operands[0].dtype)
    call = Call(op, tuple(operands), {"axis": axis})
    return np.asarray(context_of(op, dtype).truth(call).round(dtype)).astype(as_dtype(dtype))


def row_of(op, dtype="float32", n=5):
    context = context_of(op, dtype)
    return operands_from(context, make_row("normal", n, 3, 2.0, dtype), 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_the_correctly_rounded_result_is_within_half_an_ulp(op, dtype):
    operands = row_of(op, dtype)
    judgement = judged(op, operands, exact(op, operands))
    assert judgement.finding is None
    assert judgement.error_ulp[1] <= 0.5
    assert 0.0 <= judgement.margin < 1.0
    assert not judgement.vacuous


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_no_array_of_nan_or_infinity_passes(op, dtype, wrong):
    operands = row_of(op, dtype)
    value = np.full_like(exact(op, operands), wrong)
    judgement = judged(op, operands, value)
    assert judgement.finding is not None
    assert judgement.error_ulp == (np.inf, np.inf)
    assert judgement.margin == np.inf


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e30, -1.0])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_one_wrong_element_is_found_at_its_place(place, wrong):
    operands = row_of("softmax")
    value = exact("softmax", operands)
    value[place] = wrong
    finding = judged("softmax", operands, value).finding
    assert finding.index == (place,)
    assert float.fromhex(finding.observed) == np.float32(wrong) or math.isnan(wrong)


def test_a_wrong_value_does_not_hide_behind_a_worse_finite_one():
    operands = row_of("softmax")
    value = exact("softmax", operands)
    value[1], value[3] = np.nan, 0.5
    assert judged("softmax", operands, value).finding is not None


def test_signed_zero_counts_as_zero():
    x = np.array([0.0, -np.inf], dtype=np.float32)
    for zero in (0.0, -0.0):
        assert judged("softmax", (x,), np.array([1.0, zero], dtype=np.float32)).finding is None


def test_a_masked_logit_gets_exactly_zero():
    x = np.array([0.0, -np.inf], dtype=np.float32)
    for wrong in (2.0**-149, -(2.0**-149), 1e-30, np.nan):
        judgement = judged("softmax", (x,), np.array([1.0, wrong], dtype=np.float32))
        assert judgement.finding.index == (1,)
    log = np.array([0.0, -np.inf], dtype=np.float32)
    assert judged("log_softmax", (x,), log).finding is None
    assert judged("log_softmax", (x,), np.array([0.0, -1e38], dtype=np.float32)).finding is not None


def test_subnormal_results_are_judged_in_their_own_ulp():
    x = np.array([0.0, -100.0], dtype=np.float32)  # exp(-100) is 26.5 smallest subnormals
    right = exact("softmax", (x,))
    assert 0 < right[1] < 2.0**-126
    for off, found in ((1, False), (3, False), (5, True), (-5, True), (-27, True)):
        value = right.copy()
        value[1] += np.float32(off * 2.0**-149)
        assert (judged("softmax", (x,), value).finding is not None) is found, off


def test_flushing_is_forgiven_where_the_contract_declares_it():
    x = np.array([0.0, -100.0], dtype=np.float32)
    flushed = np.array([1.0, 0.0], dtype=np.float32)
    assert judged("softmax", (x,), flushed).finding is not None
    assert judged("softmax", (x,), flushed, flush_subnormals=True).finding is None


def test_a_zero_that_should_be_a_normal_number_is_found():
    x = np.array([0.0, -20.0], dtype=np.float32)
    assert judged("softmax", (x,), np.array([1.0, 0.0], dtype=np.float32)).finding is not None


# --- special rows ---


def test_nan_is_wanted_in_its_own_row_and_nowhere_else():
    row = make_row("normal", 4, 1, 1.0, "float32")
    poisoned = row.copy()
    poisoned[2] = np.nan
    x = np.stack([row, poisoned])
    right = np.stack([exact("softmax", (row,)), np.full(4, np.nan, dtype=np.float32)])
    assert judged("softmax", (x,), right).finding is None
    for wrong in (right[::-1], np.full_like(right, np.nan), np.stack([right[0]] * 2)):
        assert judged("softmax", (x,), wrong).finding is not None
    one_number = right.copy()
    one_number[1, 0] = 0.25
    assert judged("softmax", (x,), one_number).finding.index == (1, 0)


def test_nan_at_the_wrong_place_of_a_row_with_plus_infinity():
    x = np.array([np.inf, 1.0, 2.0], dtype=np.float32)
    nan = np.float32(np.nan)
    assert judged("softmax", (x,), np.array([nan, 0, 0], dtype=np.float32)).finding is None
    assert judged("softmax", (x,), np.array([nan, nan, nan])).finding is None
    assert judged("softmax", (x,), np.array([1, 0, 0], dtype=np.float32)).finding.index == (0,)
    assert judged("softmax", (x,), np.array([0, nan, 0], dtype=np.float32)).finding is not None


@pytest.mark.parametrize("op", OPS)
def test_a_special_row_does_not_change_how_its_neighbour_is_judged(op):
    """Bounds and errors are those of the ordinary row alone, whatever row stands beside it."""
    operands = row_of(op, "float64")
    alone = judged(op, operands, exact(op, operands))
    spoiled = (a if a.dtype.kind == "i" else np.full_like(a, np.nan) for a in operands)
    beside = tuple(
        a if name in OF_TREES else np.stack([a, other, a])
        for name, a, other in zip(OPERANDS[op], operands, spoiled, strict=True)
    )
    value = np.stack([exact(op, operands), np.full_like(exact(op, operands), np.nan), exact(op, operands)])
    both = judged(op, beside, value)
    assert both.finding is None
    assert (both.error_ulp, both.bound_ulp, both.margin) == (alone.error_ulp, alone.bound_ulp, alone.margin)
    assert both.mean_ulp == pytest.approx(alone.mean_ulp)
    assert (both.elements, len(both.errors)) == (3 * alone.elements, 2 * alone.elements)
    # Sparse shares of one logit, or of a few with short sums, are numbers of the format.
    assert alone.margin > 0.0 or op in ORDERED_OPS


def test_the_first_breach_of_a_special_row_is_the_finding():
    x = np.array([np.nan, 1.0, 2.0], dtype=np.float32)
    finding = judged("softmax", (x,), np.array([np.nan, 0.25, 0.5], dtype=np.float32)).finding
    assert (finding.index, finding.observed) == ((1,), (0.25).hex())
    assert finding.message == "softmax of a row with a NaN gives 0.25 where it must give NaN"


@pytest.mark.parametrize("axis", [0, 1, -1, -2])
def test_a_finding_points_at_its_element_along_any_axis(axis):
    x = np.stack([make_row("normal", 4, k, 1.0, "float32") for k in range(3)])
    value = exact("softmax", (x,), axis)
    value[2, 1] = np.float32(0.9)
    assert judged("softmax", (x,), value, axis=axis).finding.index == (2, 1)


def test_an_empty_result_is_no_judgement():
    x = np.zeros((0, 3), dtype=np.float32)
    assert judged("softmax", (x,), x) == Judgement()


# --- exact zeros, whose ulps overflow binary64 ---


def zero_truth(_op):
    """Operands of a derivative whose exact result is 0, in binary64."""
    return np.array([0.5, 0.5]), np.array([3.0, 3.0])


@pytest.mark.parametrize("op", ["softmax_vjp", "softmax_jvp"])
def test_errors_of_exact_zeros_are_decided_in_rationals(op):
    operands = zero_truth(op)
    call, context = Call(op, operands, {"axis": -1}), context_of(op, "float64")
    limit = float(context.absolute_bound(call).flat[0])
    assert 0.0 < limit < 1e-14
    for factor, found in (
        (0.0, False),
        (0.5, False),
        (0.99, False),
        (1.01, True),
        (1e5, True),
        (1e300, True),
    ):
        value = np.zeros_like(operands[0])
        value[0] = limit * factor
        judgement = judged(op, operands, value)
        assert (judgement.finding is not None) is found, factor
        assert (judgement.margin > 1.0) is found
        # its bound in ulps is infinite, but as a distance it refuses nearly everything
        assert not judgement.vacuous
        if not found:
            assert judgement.margin == pytest.approx(value[0] / limit, rel=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_no_number_in_place_of_an_exact_zero_is_found(wrong):
    operands = zero_truth("softmax_vjp")
    assert judged("softmax_vjp", operands, np.array([0.0, wrong])).finding.index == (1,)


# --- certainty ---


class Wide:
    """An enclosure too wide to decide, by the exact path too: errors of [low, high] ulps of any answer."""

    def __init__(self, truth, low, high):
        self._truth, self._error = truth, (low, high)

    def __getattr__(self, name):
        return getattr(self._truth, name)

    def __getitem__(self, key):
        return Wide(self._truth[key], *self._error)

    def exactly(self):
        return self

    def error_ulp(self, value):
        return tuple(np.full(value.shape, e) for e in self._error)


class WideAtFirst(Wide):
    """An enclosure that the exact path makes narrow."""

    def __getitem__(self, key):
        return WideAtFirst(self._truth[key], *self._error)

    def exactly(self):
        return self._truth


@pytest.mark.parametrize(("factor", "found"), [(1.0, False), (1.01, True)])
def test_what_the_fast_path_leaves_open_is_decided_by_the_exact_one(factor, found, monkeypatch):
    (x,) = row_of("softmax")
    context = context_of()
    call = Call("softmax", (x,), {"axis": -1})
    truth = context.truth(call)
    monkeypatch.setattr(context, "truth", lambda _call: WideAtFirst(truth, 0.0, 1e30))
    judgement = judge_call(Trial((call,)), 0, exact("softmax", (x,)) * factor, context)
    assert (judgement.finding is not None) is found
    assert (judgement.margin > 1.0) is found
    assert judgement.margin < 1e29


def test_correct_rounding_is_known_where_the_enclosure_leaves_it_open(monkeypatch):
    (x,) = row_of("softmax")
    context = context_of()
    call = Call("softmax", (x,), {"axis": -1})
    truth = context.truth(call)
    monkeypatch.setattr(context, "truth", lambda _call: Wide(truth, 0.49, 0.51))
    judgement = judge_call(Trial((call,)), 0, exact("softmax", (x,)), context)
    assert judgement.error_ulp == (0.49, 0.5)


@pytest.mark.parametrize(("low", "high", "found"), [(0.0, 1e9, False), (25.0, 1e9, False), (1e8, 1e9, True)])
def test_a_finding_needs_the_lower_end_and_the_margin_takes_the_upper(low, high, found, monkeypatch):
    (x,) = row_of("softmax")
    context = context_of()
    call = Call("softmax", (x,), {"axis": -1})
    truth = context.truth(call)
    assert float(context.bound_ulp(call, truth).min()) > 25.0
    monkeypatch.setattr(context, "truth", lambda _call: Wide(truth, low, high))
    # not what correct rounding gives, which would be within half an ulp whatever the enclosure says
    judgement = judge_call(Trial((call,)), 0, exact("softmax", (x,)) * 1.00001, context)
    assert (judgement.finding is not None) is found
    assert judgement.margin > 1e6
    assert judgement.error_ulp == (low, high)
    if found:
        assert judgement.finding.error_ulp == (low, high)


def test_the_margin_of_a_finding_is_its_error_over_the_bound(monkeypatch):
    (x,) = row_of("softmax")
    context, call = context_of(), Call("softmax", (row_of("softmax")[0],), {"axis": -1})
    truth = context.truth(call)
    monkeypatch.setattr(context, "truth", lambda _call: Wide(truth, 15.0, 15.0))
    monkeypatch.setattr(context, "bound_ulp", lambda _call, truth: np.full(truth.shape, 10.0))
    judgement = judge_call(Trial((call,)), 0, exact("softmax", (x,)), context)
    assert (judgement.margin, judgement.finding.bound_ulp) == (1.5, 10.0)


def test_a_sample_of_the_errors_of_a_large_result_is_kept():
    x = np.linspace(-1.0, 1.0, 100, dtype=np.float32).repeat(100).reshape(100, 100)
    kept = judged("softmax", (x,), exact("softmax", (x,))).errors
    assert len(kept) == 5000
    assert 0.0 <= min(kept) <= max(kept) <= 0.5
    assert len(judged("softmax", (x[:40],), exact("softmax", (x[:40],))).errors) == 4000


def test_a_finding_carries_a_certificate_that_holds():
    operands = row_of("softmax")
    value = exact("softmax", operands)
    value[2] *= np.float32(1.001)
    finding = judged("softmax", operands, value).finding
    low, high = (Fraction(end) for end in finding.exact)
    assert low <= high
    assert high - low < abs(low) * Fraction(1, 10**28)
    ulp = Fraction(float(np.spacing(np.float32(float(low)))))
    error = abs(Fraction(float.fromhex(finding.observed)) - low) / ulp
    assert finding.error_ulp[0] * 0.999 <= error <= finding.error_ulp[1] * 1.001
    assert finding.error_ulp[0] > finding.bound_ulp
    assert finding.quantity == "softmax(x)[2]"
    exact_text = f"{finding.error_ulp[0]:.4g} ulp from the exact {finding.exact[0][:14]}"
    assert finding.message.startswith(f"softmax(x)[2] is {value[2]:.9g}, {exact_text}")


def test_an_error_beyond_what_ulps_count_is_told_as_a_distance():
    """The exact value is 0 and its ulp the smallest number, so 1e-10 is more ulps than binary64 holds."""
    finding = judged("log_softmax", (np.array([3.0]),), np.array([1e-10])).finding
    assert (finding.error_ulp, finding.bound_ulp) == (None, None)
    assert finding.message.endswith("more apart than the absolute bound")
    near = judged("log_softmax", (np.array([3.0]),), np.array([1e-322])).finding
    assert near.error_ulp == (20.0, 20.0)


# --- bounds that accept anything ---


@pytest.mark.parametrize("op", OPS)
def test_a_bound_that_accepts_anything_is_vacuous(op):
    operands = row_of(op, "float16")
    value = exact(op, operands)
    assert judged(op, operands, value).vacuous is False
    if op == "softmax":
        assert judged(op, operands, value, exp_ulp=1e4).vacuous is True


@pytest.mark.parametrize("bound", [np.inf, np.nan, 2.0**30])
def test_a_softmax_bound_wider_than_the_range_is_vacuous(bound, monkeypatch):
    (x,) = row_of("softmax")
    context = context_of()
    monkeypatch.setattr(context, "bound_ulp", lambda _call, truth: np.full(truth.shape, bound))
    judgement = judge_call(Trial((Call("softmax", (x,), {"axis": -1}),)), 0, exact("softmax", (x,)), context)
    assert judgement.vacuous


@pytest.mark.parametrize("op", ["logsumexp", "log_softmax", "softmax_vjp"])
@pytest.mark.parametrize("bound", [np.inf, np.nan])
def test_an_infinite_or_undefined_bound_of_another_op_is_vacuous(op, bound, monkeypatch):
    operands = row_of(op)
    context = context_of(op)
    monkeypatch.setattr(context, "absolute_bound", lambda _call: np.full(exact(op, operands).shape, bound))
    judgement = judge_call(Trial((Call(op, operands, {"axis": -1}),)), 0, exact(op, operands), context)
    assert judgement.vacuous


@pytest.mark.parametrize("op", ["logsumexp", "log_softmax", "softmax_vjp"])
def test_a_large_finite_bound_of_another_op_is_not_vacuous(op, monkeypatch):
    """Their results have no range that a bound could cover."""
    operands = row_of(op)
    context, value = context_of(op), exact(op, operands)
    monkeypatch.setattr(context, "absolute_bound", lambda _call: np.full(value.shape, 1e30))
    assert not judge_call(Trial((Call(op, operands, {"axis": -1}),)), 0, value, context).vacuous


@pytest.mark.parametrize(
    ("p", "distances", "vacuous"),
    [
        (0.5, (0.5, 0.5), True),
        (0.5, (0.4999, 0.5), False),
        (0.9, (0.91, 0.91), True),
        (0.9, (0.5, 0.91), False),
        (0.9, (0.91, 0.5), False),
        (0.9, (0.5, 0.5), False),
    ],
)
def test_a_softmax_bound_is_vacuous_where_it_reaches_0_and_1(p, distances, vacuous, monkeypatch):
    """Two classes p and 1 - p: the range [0, 1] lies max(p, 1 - p) away from either."""
    x = np.array([np.log(p / (1.0 - p)), 0.0])
    context, call = context_of(dtype="float64"), Call("softmax", (x,), {"axis": -1})

    def bound(_call, truth):
        return np.array(distances) / truth_ulp(truth, "float64")

    monkeypatch.setattr(context, "bound_ulp", bound)
    assert judge_call(Trial((call,)), 0, exact("softmax", (x,)), context).vacuous is vacuous


# --- many judgements in one ---


def test_combining_keeps_the_worst_and_counts_all():
    a = Judgement(error_ulp=(0.0, 1.0), mean_ulp=1.0, margin=0.5, bound_ulp=2.0, elements=1)
    b = Judgement(error_ulp=(2.0, 3.0), mean_ulp=3.0, margin=0.3, bound_ulp=10.0, elements=3)
    both = combine([a, b])
    assert both.error_ulp == (2.0, 3.0)
    assert (both.margin, both.bound_ulp) == (0.5, 2.0)
    assert both.elements == 4
    assert both.mean_ulp == pytest.approx(2.5)
    assert combine([]) == Judgement()
    assert combine([replace(a, vacuous=True), b]).vacuous is False
    assert combine([replace(a, vacuous=True), Judgement()]).vacuous is True


@pytest.mark.parametrize("op", OPS)
def test_operands_are_named_in_findings(op):
    operands = row_of(op)
    value = exact(op, operands) + np.float32(1.0)
    quantity = judged(op, operands, value).finding.quantity
    assert quantity.startswith(f"{op}({', '.join(OPERANDS[op])})[")


@pytest.mark.parametrize(("beta", "named"), [(1.0, "x"), (0.5, "x, beta=0.5"), (-2.0, "x, beta=-2.0")])
def test_an_inverse_temperature_is_named_in_findings(beta, named):
    (x,) = row_of("softmax")
    quantity = judged("softmax", (x,), np.full_like(x, 0.9), beta=beta).finding.quantity
    assert quantity.startswith(f"softmax({named})[")


def test_each_result_of_a_call_has_its_name():
    q, x = np.zeros((1, 2)), np.zeros(3)
    assert result_quantity(Call("softmax", (x,), {"axis": -1}), 0, (2,)) == "softmax(x)[2]"
    call = Call("attention_lse", (q, q, q), {})
    assert result_quantity(call, 0, (0, 1)) == "out of attention_lse(q, k, v)[0, 1]"
    assert result_quantity(call, 1, (0,)) == "lse of attention_lse(q, k, v)[0]"
    assert result_quantity(replace(call, op="attention"), 0, (0, 1)) == "attention(q, k, v)[0, 1]"


@pytest.mark.parametrize("logits", [[-55.38585716000668, 16.008302437667687], [0.0, 0.0], [0.0, 1.0]])
def test_the_ulp_just_below_a_power_of_two_is_that_of_the_lower_binade(logits):
    """Found by search: the first is 2^-103 once rounded to binary64, which gave it twice its ulp."""
    (truth,) = evaluate(Call("softmax", (np.array(logits),), {"axis": -1}), Contract())
    ulps = truth_ulp(truth, "float64") * truth.in_ulps("float64")[0]
    assert ulps == pytest.approx(truth.to_float64(), rel=1e-12)


def test_the_memory_of_a_context_is_not_among_what_hypothesis_prints():
    context = context_of()
    context.truths(Call("softmax", (np.linspace(0, 1, 1000, dtype=np.float32),), {"axis": -1}))
    assert len(repr(seedlings(context, families=("normal",), lengths=(2,), most=2))) < 2000
