"""The bounds are what docs/explanation/bounds.md derives, restated here logit by logit.

The page's formulas are written out in 200-bit numbers, with loops in place of arrays, so that no error of
evaluation is shared with the code that is held against them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import mpmath
import numpy as np
import pytest
from mpmath import exp, expm1, log, mpf

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import Arithmetic, arithmetic
from softcert.conformance.bounds.softmax import (
    log_softmax_bound,
    logsumexp_bound,
    rows_of,
    softmax_bound,
    softmax_exponent_error,
    softmax_numerator_error,
    softmax_sum_bound,
    vjp_bound,
)

SLACK = 1 + mpf(2) ** -30
#: What binary64 may err in evaluating a bound, and a restatement in rounding its operands.
EVALUATION = mpf(2) ** -38
#: A few smallest numbers of binary64: its own roundings where bounds are made of such.
SMALLEST = 4 * mpf(2) ** -1074

ROWS = {
    "one": [3.0],
    "spread": [0.5, -2.25, 3.0, 1.0, -7.0],
    "rising": [-3.0, -1.0, 0.5, 2.0, 2.5, 4.0],
    "ties": [1.5, 1.5, -0.25, 1.5],
    "masked": [1.0, -np.inf, 2.5, -np.inf],
    "offset": [1000.0, 1000.5, 998.0],
    "negative": [-30.0, -30.25, -33.0],
    "deep": [0.0, -95.0, -20.0],
}
STRICT = ("float64", "float32", "float16")


def arithmetics():
    for dtype in STRICT:
        for form in ("division", "any"):
            yield arithmetic(Contract(form=form), dtype)
            yield arithmetic(Contract(form=form, flush_subnormals=True), dtype)
            yield arithmetic(Contract(form=form, exp_ulp=1.5, compute="float32"), dtype)
            yield arithmetic(Contract(form=form, accumulator="float64", exp_ulp=50.0), dtype)


ARITHMETICS = tuple(arithmetics())


@pytest.fixture(autouse=True)
def wide():
    with mpmath.workprec(200):
        yield


def tight(theirs, ours):
    """Whether a bound is the restated one, inflated by its slack and no more."""
    theirs, ours = np.broadcast_arrays(np.asarray(theirs, dtype=object), np.asarray(ours, dtype=object))
    for found, wanted in zip(theirs.ravel(), ours.ravel(), strict=True):
        assert abs(mpf(float(found)) - wanted) <= EVALUATION * abs(wanted) + SMALLEST, (found, wanted)


@dataclass
class Row:
    """Facts of one row of logits: gaps, L and the size of beta x."""

    x: list[float]
    a: Arithmetic
    beta: float = 1.0

    def __post_init__(self):
        z = [mpf(self.beta) * mpf(float(v)) for v in self.x]
        self.z, self.n, self.top = z, len(z), max(z)
        self.gap = [self.top - v for v in z]
        self.L = log(sum(exp(-g) for g in self.gap))
        self.p = [exp(-g - self.L) for g in self.gap]
        self.seen = [mpmath.isfinite(g) for g in self.gap]
        self.eps = 2 * mpf(self.a.exp_ulp) * self.a.u_compute

    def alpha(self, *, offset_free=False):
        u, a, scaled = mpf(self.a.u_compute), self.a, self.beta != 1.0
        errors = []
        for g, z in zip(self.gap, self.z, strict=True):
            if not mpmath.isfinite(g):
                errors.append(mpf(0))
                continue
            own = u * g * (3 if scaled else 1) * (1 if a.division else 3)
            by_beta = u if scaled else mpf(0)
            by_base = mpf(0) if a.division or offset_free else mpf(a.u_offset)
            offset = (by_beta + by_base) * (abs(z) + abs(self.top))
            errors.append(own + min(offset, max(g, log(mpf(2)))))
        return errors

    def exponential(self, distance):
        return self.eps if distance > 0 else mpf(0)

    def climb(self):
        """Elements of the longest strictly rising choice of logits, either way, less one."""
        if self.a.division:
            return 0
        most = 1
        for size in range(2, self.n + 1):
            for order in (self.z, self.z[::-1]):
                if any(all(s < t for s, t in pairwise(c)) for c in combinations(order, size)):
                    most = size
        return most - 1

    def sum_error(self, *, offset_free=False):
        a, rescale = self.a, 2 * (mpf(self.a.exp_ulp) + 1) * self.a.u_sum
        weights = [
            p * exp(alpha + self.exponential(g) + self.climb() * rescale)
            for p, alpha, g in zip(self.p, self.alpha(offset_free=offset_free), self.gap, strict=True)
            if mpmath.isfinite(g)
        ]
        narrowed = a.u_compute if a.u_sum < a.u_compute else 0
        return log(sum(weights)) + (self.n - 1) * mpf(a.u_sum) + self.lost() + narrowed

    def lost(self):
        return self.n * underflow(self.a) * exp(-self.L)

    def quotient(self):
        return 2 * mpf(self.a.u_compute) + narrowing(self.a)

    def exponent(self):
        """Exponent of softmax at each logit, the greater of the quotient's and of exp(x - lse)'s."""
        a, u, s, q = self.a, mpf(self.a.u_compute), self.sum_error(), self.quotient()
        lse = min(mpf(a.u_offset) * abs(self.top + self.L), max(self.L, u))
        errors = []
        for alpha, gap in zip(self.alpha(), self.gap, strict=True):
            divided = alpha + self.exponential(gap) + s + q
            g = gap if mpmath.isfinite(gap) else mpf(0)
            logged = s + lse + (u + self.eps) * self.L + u * (g + self.L) + self.exponential(g + self.L) + q
            errors.append(divided if a.division else max(divided, logged))
        return errors

    def numerator(self):
        a, u = self.a, mpf(self.a.u_compute)
        errors = []
        for alpha, gap in zip(self.alpha(), self.gap, strict=True):
            if a.division:
                errors.append(alpha + self.exponential(gap) + self.quotient())
            else:
                g = gap if mpmath.isfinite(gap) else mpf(0)
                errors.append(alpha + self.quotient() + self.exponential(g + self.L) + u * (g + self.L))
        return errors

    def logarithm(self):
        s = self.sum_error(offset_free=True)
        return s + expm1(self.a.u_compute + self.eps) * (self.L + s)


def underflow(a):
    if a.flush:
        return max(mpf(a.lambda_out), mpf(a.lambda_compute)) * (1 + 4 * mpf(a.u_compute))
    return (mpf(a.exp_ulp) + 0.5) * mpf(a.eta_compute) + mpf(a.eta_out) / 2


def narrowing(a):
    return mpf(a.u_out) if a.u_out > a.u_compute else mpf(0)


def rounded(a, error, value, k):
    return error + expm1(k * mpf(a.u_compute) + narrowing(a)) * (value + error) + tail(a)


def tail(a):
    return (mpf(a.lambda_out) if a.flush else 0) + mpf(a.eta_out)


def given(x, a, beta=1.0):
    return rows_of(np.array(x), beta, any_order=not a.division), Row(x, a, beta)


def cases(betas=(1.0,)):
    for name, x in ROWS.items():
        for beta in betas:
            if beta > 0 or name != "masked":
                yield x, beta


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_softmax_is_as_derived(a):
    for x, beta in cases((1.0, 0.3, -2.0)):
        rows, row = given(x, a, beta)
        wanted = [
            (p * expm1(e) + underflow(a)) / 3 * SLACK if seen else mpf(0)
            for p, e, seen in zip(row.p, row.exponent(), row.seen, strict=True)
        ]
        tight(softmax_bound(rows, a, np.full(len(x), 3.0)), wanted)


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_exponents_of_softmax_are_as_derived(a):
    for x, beta in cases((1.0, 1.7)):
        rows, row = given(x, a, beta)
        at = np.array(row.seen)
        for theirs, ours in (
            (softmax_exponent_error(rows, a), row.exponent()),
            (softmax_numerator_error(rows, a), row.numerator()),
        ):
            tight(theirs[at], np.array(ours, dtype=object)[at])


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_a_sum_of_outputs_is_as_derived(a):
    for x, beta in cases((1.0, 0.3)):
        rows, row = given(x, a, beta)
        if a.division:
            narrowed = a.u_compute if a.u_sum < a.u_compute else 0
            drift = expm1((row.n - 1) * mpf(a.u_sum) + narrowed + row.quotient() + row.lost())
        else:
            drift = sum(p * expm1(e) for p, e in zip(row.p, row.exponent(), strict=True))
        tight(softmax_sum_bound(rows, a), (drift + row.n * underflow(a)) * SLACK)


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bounds_of_the_logarithms_are_as_derived(a):
    u, k = mpf(a.u_compute), 1 if a.division else 3
    for x, _ in cases():
        rows, row = given(x, a)
        error, value, u_off = row.logarithm(), abs(row.top + row.L), mpf(a.u_offset)
        if not a.division:
            error += 2 * u_off * abs(row.top) + expm1(2 * u_off) * (value + error)
        tight(logsumexp_bound(rows, a), rounded(a, error, value, 1) * SLACK)
        wanted = [
            rounded(a, row.logarithm() + k * u * g, g + row.L, k) * SLACK if seen else mpf(0)
            for g, seen in zip(row.gap, row.seen, strict=True)
        ]
        tight(log_softmax_bound(rows, a), wanted)


@pytest.mark.parametrize("size", [1.0, 1e-42, 300.0])
@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_a_derivative_is_as_derived(a, size):
    y, dy = [0.25, 0.5, 0.125, 0.0], [size * v for v in (3.0, -1.0, 0.5, 2.0)]
    products = [mpf(s) * mpf(t) for s, t in zip(y, dy, strict=True)]
    inner, total = sum(products), sum(abs(p) for p in products)
    wanted = []
    for y_i, dy_i in zip(map(mpf, y), map(mpf, dy), strict=True):
        spread = total + (0 if a.division else abs(dy_i))
        lost = 4 + (0 if a.division else sum(abs(mpf(v)) for v in dy) + abs(dy_i))
        lost *= max(mpf(a.eta_compute), mpf(a.lambda_compute) if a.flush else 0)
        lost += max(mpf(a.lambda_out), mpf(a.lambda_compute)) if a.flush else a.eta_compute + mpf(a.eta_out)
        factor = expm1(3 * mpf(a.u_sum) + 4 * mpf(a.u_compute))
        bound = y_i * factor * (spread + abs(dy_i - inner)) + lost
        wanted.append((bound + 2 * mpf(a.u_out) * y_i * abs(dy_i - inner)) * SLACK)
    tight(vjp_bound(np.array(y), np.array(dy), a), wanted)


def test_many_derivatives_are_bounded_as_each_alone():
    rng = np.random.default_rng(0)
    y, dy = rng.random((3, 3)), rng.standard_normal((3, 3))
    for form in ("division", "any"):
        a = replace(arithmetic(Contract(form=form), "float32"), eta_compute=1e-7)
        alone = [vjp_bound(y[k], dy[k], a) for k in range(3)]
        np.testing.assert_allclose(vjp_bound(y, dy, a), alone, rtol=1e-12)


# --- facts of rows ---


def test_many_rows_are_bounded_as_each_alone():
    a = arithmetic(Contract(), "float32")
    x = np.array([[0.5, -2.25, 3.0], [1.0, -np.inf, 2.5], [-1.0, 0.0, 1.0]])
    rows = rows_of(x, 1.0, any_order=True)
    for k, row in enumerate(x):
        alone = rows_of(row, 1.0, any_order=True)
        np.testing.assert_array_equal(softmax_exponent_error(rows, a)[k], softmax_exponent_error(alone, a))
        np.testing.assert_array_equal(softmax_sum_bound(rows, a)[k], softmax_sum_bound(alone, a))
        np.testing.assert_array_equal(logsumexp_bound(rows, a)[k], logsumexp_bound(alone, a))
    assert rows.rescales.tolist() == [[1.0], [1.0], [2.0]]
    assert softmax_sum_bound(rows, a).shape == (3, 1)


@pytest.mark.parametrize(("n", "rescales"), [(2048, 1.0), (2049, 2.0)])
def test_the_distinct_logits_of_a_long_row_stand_for_its_climb(n, rescales):
    """Three values, of which no scan sees more than two rise."""
    x = np.zeros(n)
    x[: n // 2], x[-1] = 1.0, 0.5
    assert rows_of(x, 1.0, any_order=True).rescales.item() == rescales
    assert rows_of(x, 1.0, any_order=False).rescales.item() == 0.0


def test_a_gap_that_binary64_cannot_hold_is_the_largest_that_it_can():
    rows = rows_of(np.array([1.7e308, -1.7e308]), 1.0, any_order=True)
    assert rows.gap.tolist() == [0.0, np.finfo(np.float64).max]
    assert rows.log_sum.item() == 0.0


def test_an_exponent_whose_expm1_overflows_still_bounds_a_result_that_underflows():
    a = arithmetic(Contract(form="division", exp_ulp=800.0 * 2.0**23), "float32")
    a, x = replace(a, eta_out=0.0, eta_compute=0.0), [0.0, -760.0]
    rows, row = given(x, a)
    wanted = [p * expm1(e) * SLACK for p, e in zip(row.p, row.exponent(), strict=True)]
    tight(softmax_bound(rows, a, np.ones(2)), wanted)
    assert 1e34 < wanted[1] < 1e36
