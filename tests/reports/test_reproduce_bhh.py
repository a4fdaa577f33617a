"""Printed and repaired bounds of Blanchard, Higham & Higham: the algorithms, the formulas, the verdicts."""

from __future__ import annotations

import dataclasses

import mpmath
import numpy as np
import pytest

from softcert import reference
from softcert.reference import format_of
from softcert.reports.reproduce import bounds_to_json, measure_bounds
from softcert.reports.reproduce.bhh2021 import (
    DTYPES,
    FAMILIES,
    LENGTHS,
    OFFSET,
    Batch,
    examine,
    inputs,
    judge,
    observe,
    relative_error,
)
from softcert.reports.reproduce.bhh_algorithms import Computed, run_algorithms
from softcert.reports.reproduce.bhh_theorems import THEOREMS, Facts

f16, f32 = np.float16, np.float32
BY_NUMBER = {theorem.number: theorem for theorem in THEOREMS}
AS_PRINTED = ("3.2", "3.3", "3.4", "(4.8)", "4.3")
TOO_SMALL = ("4.2", "4.4")


@pytest.fixture(scope="module")
def findings():
    return {finding.theorem.number: finding for finding in measure_bounds()}


# --- algorithms ---


def value(x, quantity):
    return run_algorithms(np.atleast_2d(x))[quantity].value[0]


@pytest.mark.parametrize("dtype", [f16, f32])
def test_two_equal_logits_by_hand(dtype):
    """exp(0) = 1, 1 + 1 = 2 and 1 / 2 are exact; log 2 and exp(-log 2) are rounded."""
    x = np.zeros(2, dtype=dtype)
    log_2 = dtype(np.log(2.0))
    assert value(x, "lse") == value(x, "log1p") == value(x, "shifted lse") == log_2
    assert value(x, "softmax").tolist() == value(x, "shifted softmax").tolist() == [0.5, 0.5]
    halves = [dtype(np.exp(-float(log_2)))] * 2
    assert value(x, "alternative").tolist() == value(x, "shifted alternative").tolist() == halves
    moved = np.full(2, 1000, dtype=dtype)
    assert value(moved, "shifted lse") == dtype(dtype(1000) + log_2)


def test_sums_go_from_left_to_right():
    """exp(-7.625) is just below 2^-11, half an ulp of 1 in float16: added one by one to 1 it is lost."""
    x = np.array([0] + [-7.625] * 8, dtype=f16)
    assert value(x, "lse") == 0
    assert value(x[::-1], "lse") == f16(np.log(1 + 4 * 2.0**-10))
    # The shifted algorithm adds the others first, wherever the largest stands.
    assert value(x, "log1p") == value(x[::-1], "log1p") == f16(np.log1p(8 * np.exp(-7.625)))


def test_the_shifted_sum_leaves_out_one_of_the_largest():
    x = np.array([1, 1, 0], dtype=f32)
    others = f32(1 + f32(np.exp(-1.0)))
    assert value(x, "log1p") == f32(np.log1p(float(others)))
    assert value(x, "shifted softmax").tolist() == [
        f32(1) / (f32(1) + others),
        f32(1) / (f32(1) + others),
        f32(np.exp(-1.0)) / (f32(1) + others),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("name", "low", "high"), [("exp", -9.5, 11.0), ("log", 0.01, 6e4), ("log1p", 0.01, 6e4)]
)
def test_functions_err_by_no_more_than_u(dtype, name, low, high):
    from softcert.reports.reproduce.bhh_algorithms import _rounded

    x = np.random.default_rng(1).uniform(low, high, 500).astype(dtype)
    computed = _rounded(getattr(np, name), x)
    assert computed.dtype == dtype
    with mpmath.workprec(200):
        for argument, given in zip(x.tolist(), computed.tolist(), strict=True):
            exact = getattr(mpmath, name)(mpmath.mpf(argument))
            assert abs(given - exact) <= abs(exact) * format_of(dtype).unit_roundoff


def within(x, quantity):
    return bool(run_algorithms(np.atleast_2d(x))[quantity].within[0])


@pytest.mark.parametrize(
    ("x", "quantity", "expected"),
    [
        ([11.0, 0.0], "lse", True),
        ([11.5, 0.0], "lse", False),  # exp overflows
        ([11.0, 11.0], "lse", False),  # the sum does
        ([-10.0, 0.0], "lse", False),  # exp(-10) is subnormal
        ([-10.0, 0.0], "shifted lse", False),
        ([1000.0, 1001.0], "shifted lse", True),
        ([-9.5, 5.0], "lse", True),
        ([-9.5, 5.0], "softmax", False),  # exp(-14.5) is subnormal
        ([-9.5, 5.0], "alternative", False),
        ([-9.6, 0.0], "log1p", True),
        ([-10.0, 0.0, 0.0], "shifted lse", False),
        ([-9.6, 0.0, 0.0, 0.0], "shifted lse", True),
        ([-9.6, 0.0, 0.0, 0.0], "shifted softmax", False),  # exp(-9.6) / 3 is subnormal
        ([-9.6, 0.0, 0.0, 0.0], "shifted alternative", False),
    ],
)
def test_what_over_or_underflows_is_beyond_the_theorems(x, quantity, expected):
    assert within(np.array(x, dtype=f16), quantity) is expected


# --- formulas ---


def facts_of(x):
    wide = np.atleast_2d(x).astype(np.float64)
    y = reference.logsumexp(wide).round("float64")
    top = wide.max(axis=1)
    return Facts(wide.shape[1], y, y - top, top, wide.min(axis=1))


def test_bounds_by_hand():
    """x = (0, log 3): y = log 4, s = 1/3, log(1 + s) = log(4/3), s / (1 + s) = 1/4."""
    facts = facts_of(np.log([1.0, 3.0]))
    y, spread = np.log(4.0), np.log(3.0)
    expected = {
        "3.2": 1 + 3 / y,
        "3.3": 5,
        "3.4": y + y + 4,
        "(4.8)": np.log(4 / 3) + 0.25 * (2 + spread),
        "4.2": (y + 2) / y,
        "4.3": 4 + 2 * spread,
        "4.4": 1 + y + y + 2,
    }
    for number, bound in expected.items():
        assert BY_NUMBER[number].bound(facts).tolist() == pytest.approx([bound], rel=1e-14)
    assert BY_NUMBER["4.2"].repaired(facts).item() == pytest.approx((y + 2) / y + 1)
    assert BY_NUMBER["4.4"].repaired(facts).item() == pytest.approx(1 + y + y + 2 + y)


def test_bounds_of_negative_numbers_by_hand():
    """x = -1000 twice: y = -1000 + log 2, |y + n - x_min| = 2 + log 2."""
    facts = facts_of([-1000.0, -1000.0])
    y = -1000 + np.log(2)
    assert BY_NUMBER["4.2"].bound(facts).item() == pytest.approx((2 + np.log(2)) / -y)
    assert BY_NUMBER["3.4"].bound(facts).item() == pytest.approx(-y + np.log(2) + 4)
    assert BY_NUMBER["4.4"].repaired(facts).item() == pytest.approx(1 + np.log(2) + 2 + np.log(2) - y)


# --- inputs and errors ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_inputs_are_always_the_same_and_fit_the_certification(dtype, n):
    x = inputs(dtype, n)
    assert x.dtype == dtype
    assert x.shape[1] == n
    assert len(x) > 2 * len(FAMILIES)
    assert np.array_equal(x, inputs(dtype, n))
    wide = x.astype(np.float64)
    assert (np.abs(wide) < 2.0**12).all()
    assert np.array_equal(wide * 2.0**40, np.rint(wide * 2.0**40))


def test_inputs_hold_the_pairs_at_an_offset_and_rows_near_zero():
    for dtype in DTYPES:
        x = inputs(dtype, 2).astype(np.float64)
        assert ((x[:, 0] == OFFSET) & (x[:, 1] >= OFFSET)).sum() >= 7
        y = reference.logsumexp(inputs(dtype, 9)).round("float64")
        assert (np.abs(y) < 0.05).sum() >= 20


@pytest.mark.parametrize("dtype", DTYPES)
def test_certified_errors_hold_the_true_ones(dtype):
    x = inputs(dtype, 3)[::17]
    batch = examine(x)
    with mpmath.workprec(300):
        for row, logits in enumerate(x.tolist()):
            weights = [mpmath.exp(mpmath.mpf(v)) for v in logits]
            total = sum(weights)
            y = mpmath.log(total)
            for quantity, found in batch.computed.items():
                given = np.atleast_1d(found.value[row]).tolist()
                if quantity == "log1p":
                    true = abs(given[0] - (y - max(logits) if quantity == "log1p" else y))
                elif "lse" in quantity:
                    true = abs((given[0] - y) / y)
                else:
                    off = [abs(g - w / total) for g, w in zip(given, weights, strict=True)]
                    true = max(off) / (max(weights) / total)
                low, high = (end[row] for end in batch.errors[quantity])
                if found.within[row]:
                    assert low <= true <= high, quantity
                    assert high - low <= 1e-8 * high


def test_a_relative_error_by_hand():
    """The exact value is 1/3, and 0.25 is off by a quarter of it."""
    exact = reference.softmax(np.zeros(3, dtype=f32))[:1]
    low, high = relative_error(exact, np.array([0.25], dtype=f32))
    assert low.item() < 0.25 < high.item()
    assert high.item() - low.item() < 1e-8


def test_a_relative_error_takes_the_ends_that_are_furthest_apart():
    class Wide:
        def error_ulp(self, _computed):
            return np.array([1.0]), np.array([2.0])

        def in_ulps(self, _dtype):
            return np.array([4.0]), np.array([5.0])

    low, high = relative_error(Wide(), np.array([0.25], dtype=f32))
    assert low.item() == pytest.approx(1 / 5)
    assert high.item() == pytest.approx(2 / 4)


# --- verdicts ---


@pytest.mark.parametrize("number", AS_PRINTED)
def test_what_holds_as_printed(findings, number):
    finding = findings[number]
    assert finding.holds
    assert finding.repaired is None
    assert not finding.repair_holds
    for seen in finding.printed.values():
        assert 0.3 < seen.ratio[0] <= seen.ratio[1] < 1.0
        assert seen.rows > 400


@pytest.mark.parametrize(("number", "least"), [("4.2", 140), ("4.4", 90)])
def test_what_fails_as_printed_and_holds_repaired(findings, number, least):
    finding = findings[number]
    assert not finding.holds
    assert finding.repair_holds
    for dtype in DTYPES:
        seen, repaired = finding.printed[dtype], finding.repaired[dtype]
        assert seen.violated
        assert seen.ratio[0] > least
        assert seen.rows == repaired.rows > 400
        assert 0.5 < repaired.ratio[0] <= repaired.ratio[1] <= 1.0


def test_the_worst_pair_is_at_the_offset_and_can_be_checked_again(findings):
    for dtype in DTYPES:
        seen = findings["4.2"].printed[dtype]
        assert (seen.x >= OFFSET).all()
        y = np.longdouble(OFFSET) + np.log(np.exp(seen.x.astype(np.longdouble) - OFFSET).sum())
        bound = (y + 2 - seen.x.min()) * np.longdouble(format_of(dtype).unit_roundoff)
        assert float(abs(seen.computed - y) / bound) == pytest.approx(seen.ratio[0], rel=1e-6)


def test_every_bound_is_failed_by_something():
    """A bound of a tenth is violated by the same arithmetic: holding is no matter of course."""
    batches = {"float32": [examine(inputs("float32", n)) for n in (2, 9)]}
    for theorem in THEOREMS:
        tenth = dataclasses.replace(theorem, bound=lambda f, b=theorem.bound: 0.1 * b(f), repaired=None)
        assert not judge(tenth, batches).holds, theorem.number
        if theorem.repaired is not None:
            weak = dataclasses.replace(theorem, repaired=lambda f, b=theorem.repaired: 0.1 * b(f))
            assert not judge(weak, batches).repair_holds


def made(low, high, *, ok=True):
    """A batch of one row whose error of lse is known to lie between the ends."""
    x = np.zeros((1, 2), dtype=f16)
    facts = Facts(2, np.log([2.0]), np.log([2.0]), np.zeros(1), np.zeros(1))
    computed = {"lse": Computed(np.zeros(1, dtype=f16), np.array([ok]))}
    return Batch(x, facts, computed, {"lse": (np.array([low]), np.array([high]))})


def test_a_violation_is_claimed_from_the_lower_end_alone():
    u = 2.0**-11

    def seen(low, high):
        return observe("lse", lambda _facts: np.array([2.0]), [made(low, high)])

    assert not seen(1.9 * u, 9 * u).violated
    assert seen(1.9 * u, 9 * u).ratio == pytest.approx((0.95, 4.5))
    assert seen(2.01 * u, 9 * u).violated
    # 2 u / (1 - 2 u) = 2.00196 u is what the O(u^2) of the theorems may come to.
    assert not seen(2.001 * u, 9 * u).violated


def test_a_vacuous_bound_and_a_row_beyond_the_model_count_for_nothing():
    good, vacuous = made(0.5, 0.5), lambda _facts: np.array([2.0**11])
    with pytest.raises(ValueError, match="no row"):
        observe("lse", vacuous, [good])
    with pytest.raises(ValueError, match="no row"):
        observe("lse", lambda _facts: np.array([1.0]), [made(9.0, 9.0, ok=False)])
    assert observe("lse", lambda _facts: np.array([1.0]), [good, made(9.0, 9.0, ok=False)]).rows == 1


def test_a_violation_in_one_batch_is_one_although_another_is_worse():
    """The largest first-order ratio may be one that O(u^2) explains."""
    u = 2.0**-11
    explained, violated = made(1500 * u, 1500 * u), made(2.1 * u, 2.1 * u)
    bound = {id(explained.facts): 1000.0, id(violated.facts): 2.0}
    both = observe("lse", lambda facts: np.array([bound[id(facts)]]), [explained, violated])
    assert both.ratio[0] == pytest.approx(1.5)
    assert both.violated
    assert both.rows == 2


def test_json_holds_every_theorem(findings):
    document = bounds_to_json(list(findings.values()))
    assert [entry["number"] for entry in document["theorems"]] == [t.number for t in THEOREMS]
    for entry in document["theorems"]:
        assert entry["holds_as_printed"] is (entry["number"] in AS_PRINTED)
        assert (entry["repair"] or {"holds": False})["holds"] is (entry["number"] in TOO_SMALL)
        for dtype, seen in entry["printed"].items():
            assert dtype in DTYPES
            assert all(
                float.fromhex(number) == np.dtype(dtype).type(float.fromhex(number)) for number in seen["x"]
            )
