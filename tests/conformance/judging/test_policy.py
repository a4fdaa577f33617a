"""What rows with NaN and infinities must give, by the contract."""

from __future__ import annotations

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.ops import ROW_OPS as OPS
from softcert.backends.types import Call
from softcert.conformance.context import Context
from softcert.conformance.inputs.growing import operands_from
from softcert.conformance.judging.policy import (
    ALL_MINUS_INF,
    HAS_NAN,
    HAS_PLUS_INF,
    KIND_NAMES,
    ORDINARY,
    breaches,
    row_kinds,
)
from softcert.conformance.spec import PRODUCT_OPS

INF, NAN = np.inf, np.nan
f32 = np.float32


def call_of(op, *operands, axis=-1, beta=1.0):
    params = {"axis": axis} if beta == 1.0 else {"axis": axis, "beta": beta}
    return Call(op, tuple(np.asarray(o, dtype=f32) for o in operands), params)


def broken_places(op, x, answer, **promises):
    call = call_of(op, x)
    return [b.index for b in breaches(call, np.asarray(answer, dtype=f32), Contract(**promises))]


# --- kinds ---


@pytest.mark.parametrize(
    ("row", "beta", "kind"),
    [
        ([0.0, 1.0], 1.0, ORDINARY),
        ([0.0, -INF], 1.0, ORDINARY),
        ([3e38, -3e38], 1.0, ORDINARY),
        ([3e38, -3e38], 1e300, ORDINARY),
        ([0.0, -0.0], -1.0, ORDINARY),
        ([0.0, NAN], 1.0, HAS_NAN),
        ([INF, NAN], 1.0, HAS_NAN),
        ([-INF, NAN], 1.0, HAS_NAN),
        ([0.0, INF], 1.0, HAS_PLUS_INF),
        ([-INF, INF], 1.0, HAS_PLUS_INF),
        ([0.0, -INF], -1.0, HAS_PLUS_INF),
        ([0.0, INF], -1.0, ORDINARY),
        ([-INF, -INF], 1.0, ALL_MINUS_INF),
        ([INF, INF], -2.0, ALL_MINUS_INF),
        ([-INF], 1.0, ALL_MINUS_INF),
        ([0.0, INF], 0.0, HAS_NAN),
    ],
)
def test_the_kind_of_a_row_is_that_of_its_scaled_logits(row, beta, kind):
    assert row_kinds(call_of("softmax", row, beta=beta)).item() == kind
    assert KIND_NAMES[kind]


@pytest.mark.parametrize("op", ["softmax_vjp", "softmax_jvp"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_derivative_has_no_exact_value_beside_any_special(op, bad):
    assert row_kinds(call_of(op, [0.5, 0.5], [1.0, bad])).item() == HAS_NAN
    assert row_kinds(call_of(op, [0.5, bad], [1.0, 1.0])).item() == HAS_NAN
    assert row_kinds(call_of(op, [0.5, 0.5], [1.0, 1.0])).item() == ORDINARY


def test_kinds_follow_the_reduced_axis():
    x = np.array([[0.0, NAN], [1.0, 2.0]])
    assert row_kinds(call_of("softmax", x, axis=1)).tolist() == [HAS_NAN, ORDINARY]
    assert row_kinds(call_of("softmax", x, axis=0)).tolist() == [ORDINARY, HAS_NAN]


@pytest.mark.parametrize("op", OPS)
def test_an_empty_axis_is_ordinary(op):
    zero = np.zeros((2, 0), f32)
    operands = (zero, zero) if op in PRODUCT_OPS else operands_from(Context(op, "float32", Contract()), zero)
    assert row_kinds(Call(op, operands)).tolist() == [ORDINARY, ORDINARY]


# --- NaN ---


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_every_result_of_a_row_with_nan_is_nan(op):
    x = [1.0, NAN, 2.0]
    assert broken_places(op, x, [NAN, NAN, NAN]) == []
    assert broken_places(op, x, [0.3, NAN, 0.7]) == [(0,), (2,)]
    assert broken_places(op, x, [0.3, 0.0, 0.7]) == [(0,), (1,), (2,)]
    assert broken_places(op, x, [0.3, 0.0, 0.7], nan="any") == []


def test_ordinary_rows_are_left_to_the_oracle():
    assert broken_places("softmax", [[1.0, 2.0], [NAN, 1.0]], [[NAN, 9.0], [NAN, NAN]]) == []
    assert broken_places("softmax", [[1.0, 2.0], [NAN, 1.0]], [[0.5, 0.5], [NAN, 1.0]]) == [(1, 1)]


# --- +inf ---


def test_a_plus_infinite_logit_gives_nan_at_its_place():
    x = [INF, 1.0, INF]
    assert broken_places("softmax", x, [NAN, 0.0, NAN]) == []
    assert broken_places("softmax", x, [NAN, NAN, NAN]) == []
    assert broken_places("softmax", x, [0.5, 0.0, 0.5]) == [(0,), (2,)]
    assert broken_places("softmax", x, [NAN, 0.1, NAN]) == [(1,)]
    assert broken_places("softmax", x, [0.5, 0.1, 0.5], plus_inf="any") == []
    assert broken_places("log_softmax", x, [NAN, -INF, NAN]) == []
    assert broken_places("log_softmax", x, [0.0, -INF, 0.0]) == [(0,), (2,)]


def test_the_logsumexp_of_plus_infinity_is_infinite_or_nan():
    for good in (INF, NAN):
        assert broken_places("logsumexp", [INF, 0.0], good) == []
    for bad in (-INF, 0.0, 3e38):
        assert broken_places("logsumexp", [INF, 0.0], bad) == [()]
        assert broken_places("logsumexp", [INF, 0.0], bad, plus_inf="any") == [()]


@pytest.mark.parametrize("beta", [10.0, -10.0])
def test_a_product_that_only_binary64_overflows_is_no_infinite_logit(beta):
    """The row has a +inf logit once scaled, and a finite one whose product is beyond binary64."""
    x = np.array([np.copysign(np.inf, beta), 1.7e308, -1.7e308])
    call = Call("softmax", (x,), {"axis": -1, "beta": beta})
    assert breaches(call, np.array([NAN, 0.0, 0.0]), Contract()) == []
    assert [b.index for b in breaches(call, np.array([0.0, 0.0, 0.0]), Contract())] == [(0,)]


# --- -inf only ---


@pytest.mark.parametrize(
    ("promise", "good", "bad"),
    [("nan", [NAN, NAN], [0.5, 0.5]), ("zero", [0.0, -0.0], [NAN, 0.0]), ("uniform", [0.5, 0.5], [1.0, 0.0])],
)
def test_a_fully_masked_row_gives_what_the_contract_says(promise, good, bad):
    x = [-INF, -INF]
    assert broken_places("softmax", x, good, all_minus_inf=promise) == []
    assert broken_places("softmax", x, bad, all_minus_inf=promise) != []
    assert broken_places("softmax", x, bad, all_minus_inf="any") == []


def test_a_uniform_row_may_be_rounded_and_no_more():
    x = [-INF, -INF, -INF]
    assert broken_places("softmax", x, [1 / 3, 0.3345, 0.332], all_minus_inf="uniform") == []
    assert broken_places("softmax", x, [1 / 3, 0.34, 0.32], all_minus_inf="uniform") == [(1,), (2,)]


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2, -3])
def test_a_breach_is_placed_along_any_axis(axis):
    x = np.zeros((3, 4, 2))
    x[2, 3, 1] = NAN
    call = Call("softmax", (x.astype(f32),), {"axis": axis})
    answer = np.where(np.isnan(x).any(axis=axis, keepdims=True), NAN, np.full_like(x, 0.5))
    place = tuple(np.argwhere(np.isnan(x))[0])
    answer[place] = 0.5
    assert [b.index for b in breaches(call, answer.astype(f32), Contract())] == [place]


def test_the_logarithms_of_a_fully_masked_row():
    x = [-INF, -INF]
    assert broken_places("log_softmax", x, [NAN, -INF]) == []
    assert broken_places("log_softmax", x, [0.0, -1e38]) == [(0,), (1,)]
    assert broken_places("logsumexp", x, -INF) == []
    for bad in (NAN, INF, 0.0, -3e38):
        assert broken_places("logsumexp", x, bad) == [()]


def test_a_breach_says_where_what_and_of_which_row():
    x = np.array([[0.0, 1.0], [-INF, -INF]], dtype=f32)
    call = Call("softmax", (x.T.copy(),), {"axis": 0})
    (breach,) = breaches(call, np.array([[0.5, NAN], [0.5, 0.0]], dtype=f32), Contract())
    assert (breach.index, breach.expected, breach.kind) == ((1, 1), "NaN", ALL_MINUS_INF)


# --- losses ---


def kinds_of_losses(x, target, dloss=None, **options):
    operands = (f32(x), np.array(target), *(() if dloss is None else (f32(dloss),)))
    op = "cross_entropy" if dloss is None else "cross_entropy_vjp"
    return row_kinds(Call(op, operands, {"axis": -1, **options})).tolist()


def test_an_ignored_row_of_a_loss_is_ordinary_whatever_it_holds():
    x = [[NAN, 0.0], [INF, 0.0], [-INF, -INF], [0.0, -INF]]
    assert kinds_of_losses(x, [0, 0, 0, 1]) == [HAS_NAN, HAS_PLUS_INF, ALL_MINUS_INF, ORDINARY]
    assert kinds_of_losses(x, [-100] * 4) == [ORDINARY] * 4
    assert kinds_of_losses(x, [1, 0, 1, 0], ignore_index=1) == [ORDINARY, HAS_PLUS_INF, ORDINARY, ORDINARY]
    zero = np.zeros((4, 2))
    assert kinds_of_losses(zero, [0, 0, -100, 1], [NAN, INF, NAN, 1.0]) == [
        HAS_NAN,
        HAS_NAN,
        ORDINARY,
        ORDINARY,
    ]


@pytest.mark.parametrize(
    ("row", "allowed", "refused"),
    [
        ([NAN, 0.0], [NAN], [0.0, INF]),
        ([INF, 0.0], [NAN, INF], [0.0, -INF, 7.0]),
        ([-INF, -INF], [NAN, INF], [0.0, 0.6931472]),
    ],
)
def test_what_a_loss_without_a_distribution_may_be(row, allowed, refused):
    call = Call("cross_entropy", (f32([row]), np.array([1])))
    for answer in (*allowed, *refused):
        assert bool(breaches(call, f32([answer]), Contract())) == (answer in refused)
    slopes = Call("cross_entropy_vjp", (f32([row]), np.array([1]), f32([1.0])))
    assert not breaches(slopes, f32([[NAN, NAN]]), Contract())
    assert breaches(slopes, f32([[0.0, 0.0]]), Contract())
    assert bool(breaches(slopes, f32([[NAN, -1.0]]), Contract())) == (row[0] != INF)
