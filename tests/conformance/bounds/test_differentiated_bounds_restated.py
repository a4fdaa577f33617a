"""The bounds of the differentiated softmax are what docs/explanation/bounds.md derives, restated one by one.

As in `test_bounds_restated.py`: in 200-bit numbers, with loops in place of arrays.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import exp, expm1, log, mpf

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.differentiated import (
    differentiated_bound,
    differentiated_exponent_error,
    differentiated_vjp_bounds,
    logit_bound,
)
from softcert.conformance.bounds.softmax import rows_of, vjp_bound

SLACK, EVALUATION = 1 + mpf(2) ** -30, mpf(2) ** -38
ARITHMETICS = [
    arithmetic(contract, dtype)
    for dtype in ("float64", "float32", "float16")
    for form in ("division", "any")
    for contract in (
        Contract(form=form),
        Contract(form=form, flush_subnormals=True),
        Contract(form=form, exp_ulp=1.5, compute="float32"),
        Contract(form=form, accumulator="float64", exp_ulp=50.0),
    )
]
H = np.array([[0.5, -1.25, 2.0], [1.0, 0.0, -3.0]])
WEIGHTS = [np.array([[1.0, -0.5]]), np.array([[0.25], [-2.0]])]
BIASES = [np.array([0.125]), np.array([0.0, -1.0])]
#: Which block each class is of, and which features that reads.
CLASSES = [(0, 0, slice(0, 2)), (1, 0, slice(2, 3)), (1, 1, slice(2, 3))]
#: Logits and their errors: ordinary ones, nearly equal ones, a masked one, and errors larger than gaps.
ROWS = [
    ([0.5, -2.25, 3.0], [1e-6, 2e-6, 1e-6]),
    ([1.0, 1.0 + 1e-7, 0.5], [1e-6, 3e-6, 1e-6]),
    ([0.0, -np.inf, -1.0], [1e-3, 0.0, 2e-3]),
    ([40.0, 0.0, -40.0], [0.5, 0.25, 0.5]),
    ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
    ([2.5], [0.0]),
    ([2.5], [1e-3]),
]


@pytest.fixture(autouse=True)
def wide():
    with mpmath.workprec(200):
        yield


def close(found, wanted):
    assert abs(mpf(float(found)) - wanted) <= EVALUATION * abs(wanted) + 4 * mpf(2) ** -1074, (found, wanted)


def underflow(a):
    if a.flush:
        return max(mpf(a.lambda_out), mpf(a.lambda_compute)) * (1 + 4 * mpf(a.u_compute))
    return (mpf(a.exp_ulp) + 0.5) * mpf(a.eta_compute) + mpf(a.eta_out) / 2


def smallest(a):
    return max(mpf(a.eta_compute), mpf(a.lambda_compute) if a.flush else mpf(0))


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_the_logits_is_as_derived(a):
    exact = np.array([[1.25, 0.5, -5.0], [1.125, -0.75, 5.0]])
    found = logit_bound(H, WEIGHTS, BIASES, exact, a)
    for row, (place, (block, k, features)) in ((r, c) for r in range(2) for c in enumerate(CLASSES)):
        w = WEIGHTS[block][k]
        size = sum(abs(mpf(x) * mpf(v)) for x, v in zip(H[row, features], w, strict=True))
        count = len(w) + 1
        error = expm1(count * mpf(a.u_sum)) * (size + abs(mpf(BIASES[block][k]))) + count * smallest(a)
        narrowed = mpf(a.u_compute) if a.u_sum < a.u_compute else 0
        close(found[row, place], (error + narrowed * (abs(mpf(exact[row, place])) + error)) * SLACK)


def exponents(x, moved, a):
    """Exponent of each class, and log p."""
    u, eps = mpf(a.u_compute), 2 * mpf(a.exp_ulp) * a.u_compute
    seen = [v for v in range(len(x)) if x[v] > -np.inf]
    x, moved, n = [mpf(float(v)) for v in x], [mpf(v) for v in moved], len(x)
    top = max(x[k] for k in seen)
    total = log(sum(exp(x[k] - top) for k in seen))
    rise = max([x[k] + moved[k] - top for k in seen] + [mpf(0)])
    gap = {k: top - x[k] + moved[k] + rise for k in seen}
    alpha, weight = {}, {}
    for k in seen:
        alpha[k] = u * gap[k] + moved[k]
        if not a.division:
            offset = mpf(a.u_offset) * (abs(x[k]) + moved[k] + abs(top) + rise)
            alpha[k] += 2 * u * gap[k] + min(offset, max(gap[k], log(mpf(2))))
        rescale = 0 if a.division else (n - 1) * 2 * (mpf(a.exp_ulp) + 1) * a.u_sum
        weight[k] = alpha[k] + (eps if gap[k] > 0 else 0) + rescale
    p = {k: exp(x[k] - top - total) for k in seen}
    mean = log(1 + sum(p[k] * expm1(weight[k]) for k in seen))
    denominator = mean + (n - 1) * mpf(a.u_sum) + n * underflow(a) + (u if a.u_sum < u else 0)
    quotient = 2 * u + (mpf(a.u_out) if a.u_out > u else 0)
    found = {}
    for k in seen:
        found[k] = alpha[k] + (eps if gap[k] > 0 else 0) + denominator + quotient
        if not a.division:
            spread = min(total + 2 * max(moved), log(mpf(n)))
            lse = min(mpf(a.u_offset) * (abs(top) + rise + spread), max(spread, u))
            other = denominator + moved[k] + lse + (u + eps) * spread + u * (gap[k] + spread) + quotient
            found[k] = max(found[k], other + (eps if gap[k] + spread > 0 else 0))
    return found, p


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_the_probabilities_is_as_derived(a):
    for x, moved in ROWS:
        rows = rows_of(np.array(x), 1.0, any_order=False)
        wanted, p = exponents(x, moved, a)
        found = differentiated_exponent_error(rows, np.array(moved), a)
        bound = differentiated_bound(rows, np.array(moved), a)
        sizes = [abs(mpf(v)) if np.isfinite(v) else mpf(0) for v in x]
        for k in range(len(x)):
            if k not in p:
                assert bound[k] == 0
                continue
            close(found[k], wanted[k])
            given = mpf(2) ** -53 * (sizes[k] + max(sizes))
            close(bound[k], (p[k] * expm1(wanted[k] + given) + underflow(a)) * SLACK)


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bounds_of_the_derivatives_are_as_derived(a):
    y, dy = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]), np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]])
    of_slope = vjp_bound(y, dy, a)
    slope = y * (dy - (y * dy).sum(-1, keepdims=True))
    by_hidden, by_weights, by_biases = differentiated_vjp_bounds(H, WEIGHTS, y, dy, a)

    def bound(factors):
        """Of a sum of products, each of a known factor and of a cotangent by its row and class."""
        u, count = mpf(a.u_compute), len(factors)
        error = sum(abs(mpf(f)) * mpf(of_slope[at]) for f, at in factors)
        size = sum(abs(mpf(f)) * (abs(mpf(slope[at])) + mpf(of_slope[at])) for f, at in factors)
        error += expm1(count * mpf(a.u_sum)) * size + count * smallest(a)
        value = abs(sum(mpf(f) * mpf(slope[at]) for f, at in factors))
        narrowed = (u if a.u_sum < u else 0) + (mpf(a.u_out) if a.u_out > u else 0)
        tail = (mpf(a.lambda_out) if a.flush else 0) + mpf(a.eta_out)
        return (error + expm1(narrowed) * (value + error) + tail) * SLACK

    for row in range(2):
        for feature in range(3):
            own = [(place, c) for place, c in enumerate(CLASSES) if c[2].start <= feature < c[2].stop]
            factors = [(WEIGHTS[b][k, feature - part.start], (row, place)) for place, (b, k, part) in own]
            close(by_hidden[row, feature], bound(factors))
    for place, (block, k, features) in enumerate(CLASSES):
        close(by_biases[block][k], bound([(1.0, (row, place)) for row in range(2)]))
        for j, feature in enumerate(range(features.start, features.stop)):
            close(by_weights[block][k, j], bound([(H[row, feature], (row, place)) for row in range(2)]))


@pytest.mark.parametrize("a", ARITHMETICS[:8])
def test_bounds_of_many_rows_are_derived_row_by_row(a):
    rng = np.random.default_rng(2)
    logits, moved = rng.normal(scale=3.0, size=(2, 3, 4)), rng.uniform(0.0, 1e-3, (2, 3, 4))
    found = differentiated_bound(rows_of(logits, 1.0, any_order=False), moved, a)
    assert found.shape == (2, 3, 4)
    for at in np.ndindex(2, 3):
        alone = differentiated_bound(rows_of(logits[at], 1.0, any_order=False), moved[at], a)
        np.testing.assert_allclose(found[at], alone, rtol=1e-14)
    h, slopes = rng.normal(size=(2, 3, 3)), rng.normal(size=(2, 2, 3, 3))
    exact = rng.normal(size=(2, 3, 3))
    each = [logit_bound(h[at], WEIGHTS, BIASES, exact[at], a) for at in np.ndindex(2, 3)]
    whole = logit_bound(h, WEIGHTS, BIASES, exact, a)
    np.testing.assert_allclose(whole.reshape(6, 3), each, rtol=1e-14)
    by_hidden, by_weights, _ = differentiated_vjp_bounds(h, WEIGHTS, *slopes, a)
    flat = differentiated_vjp_bounds(h.reshape(6, 3), WEIGHTS, *slopes.reshape(2, 6, 3), a)
    np.testing.assert_array_equal(by_hidden.reshape(6, 3), flat[0])
    np.testing.assert_array_equal(by_weights[1], flat[1][1])
