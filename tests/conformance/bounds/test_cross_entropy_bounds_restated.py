"""The bounds of cross-entropy are what docs/explanation/bounds.md derives, restated class by class.

What they take from softmax, `log_error` and `softmax_exponent_error`, test_bounds_restated.py restates.
"""

from __future__ import annotations

from dataclasses import replace

import mpmath
import numpy as np
import pytest
from mpmath import exp, expm1, log, mpf

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.cross_entropy import (
    cross_entropy_bound,
    cross_entropy_vjp_bound,
    losses_of,
)
from softcert.conformance.bounds.softmax import log_error, softmax_exponent_error

SLACK = 1 + mpf(2) ** -30
ROWS = {
    "one": [3.0],
    "spread": [0.5, -2.25, 3.0, 1.0, -7.0],
    "ties": [1.5, 1.5, -0.25, 1.5],
    "masked": [1.0, -np.inf, 2.5, -np.inf],
    "offset": [1000.0, 1000.5, 998.0],
    "negative": [-30.0, -30.25, -33.0],
}
ARITHMETICS = [
    arithmetic(Contract(form=form, **more), dtype)
    for form in ("division", "any")
    for dtype, more in (
        ("float64", {}),
        ("float32", {"exp_ulp": 40.0}),
        ("float16", {}),
        ("float16", {"flush_subnormals": True}),
        ("float16", {"compute": "float32"}),
    )
]
OPTIONS = [(0.0, 0.0), (0.25, 0.0), (0.0, 0.375), (0.75, 0.125)]


@pytest.fixture(autouse=True)
def wide():
    with mpmath.workprec(200):
        yield


class Restated:
    """Facts of a row and what its steps err by."""

    def __init__(self, x, t, s, z, a):
        self.a, self.t, self.s, self.z, self.n = a, t, mpf(s), mpf(z), len(x)
        self.x, self.top = [mpf(v) for v in x], mpf(max(x))
        self.seen = [mpmath.isfinite(v) for v in self.x]
        self.g = [self.top - v if seen else mpf(0) for v, seen in zip(self.x, self.seen, strict=True)]
        self.L = log(sum(exp(-g) for g, seen in zip(self.g, self.seen, strict=True) if seen))
        self.lse = self.top + self.L
        self.p = [exp(-g - self.L) if seen else mpf(0) for g, seen in zip(self.g, self.seen, strict=True)]
        self.c = [(1 - self.s) * (j == t) + self.s / self.n for j in range(self.n)]
        self.u, self.off, self.k = mpf(a.u_compute), mpf(a.u_offset), 1 if a.division else 3
        losses = losses_of(np.array(x), np.array(t), label_smoothing=s, z_loss=z, any_order=not a.division)
        self.losses = losses
        self.e_log = mpf(log_error(losses.rows, a).item())
        inner = replace(a, u_out=min(a.u_out, a.u_compute))
        self.h = [mpf(v) for v in softmax_exponent_error(losses.rows, inner)]
        self.eta = mpf(max(a.eta_compute, a.lambda_compute if a.flush else 0))
        self.additions = (self.n - 1) * mpf(a.u_sum)
        self.e_lse = self.e_log + expm1(self.u) * (abs(self.lse) + self.e_log)
        if not a.division:
            changed = 2 * self.off * abs(self.top)
            self.e_lse = self.e_log + changed + expm1(3 * self.off) * (abs(self.lse) + self.e_log)
        self.e_held = self.e_lse
        if not a.division:
            self.e_held += expm1(self.u) * (abs(self.lse) + self.e_lse)

    def e(self, j):
        shift = self.e_log + self.k * self.u * self.g[j]
        return shift + expm1(self.k * self.u) * (self.g[j] + self.L + shift)

    @property
    def loss(self):
        terms = [c * (g + self.L) for c, g in zip(self.c, self.g, strict=True)]
        return sum(terms)

    def rounded(self, error, value):
        narrowed = mpf(self.a.u_out) if self.a.u_out > self.a.u_compute else 0
        last = (mpf(self.a.lambda_out) if self.a.flush else 0) + mpf(self.a.eta_out)
        return (error + expm1(narrowed) * (value + error) + last) * SLACK

    def by_logs(self):
        if not self.s:
            return self.e(self.t)
        u, n, grown = self.u, self.n, [self.g[j] + self.L + self.e(j) for j in range(self.n)]
        mean = sum(grown) / n
        error = (1 - self.s) * self.e(self.t) + 2 * u * grown[self.t]
        error += self.s * (sum(self.e(j) for j in range(n)) / n + expm1(self.additions + 4 * u) * mean)
        return error + expm1(2 * u) * (self.loss + error) + self.eta * n * (mean + 1)

    def by_lse(self):
        error, sizes = (
            self.e_lse,
            [abs(v) if seen else mpf(0) for v, seen in zip(self.x, self.seen, strict=True)],
        )
        if self.s:
            mean = sum(sizes) / self.n
            error += expm1(6 * self.off) * (abs(self.lse) + self.e_lse + sizes[self.t])
            error += expm1(self.additions + 6 * self.off) * self.s * mean + self.eta * self.n * (mean + 1)
        return error + expm1(self.u) * (self.loss + error)

    def loss_bound(self):
        error = self.by_logs() if self.a.division else max(self.by_logs(), self.by_lse())
        value = self.loss
        if self.z:
            grown = abs(self.lse) + self.e_held
            error += self.z * (self.e_held * (2 * abs(self.lse) + self.e_held) + expm1(3 * self.u) * grown**2)
            error += self.eta * (grown**2 + grown + self.z + 2)
            value += self.z * self.lse**2
            error += expm1(self.u) * (value + error)
        return self.rounded(error, value)

    def slope_bound(self, j, d):
        if not self.seen[j] and not self.c[j]:
            return mpf(0)
        a, u, p, own = self.a, self.u, self.p[j], j == self.t
        lift = 1 + 2 * self.z * self.lse
        slope, lift = abs(p * lift - self.c[j]), abs(lift)
        h = self.h[j] if a.division else max(self.h[j], self.e(j) + 2 * mpf(a.exp_ulp) * u + 2 * u)
        lost = mpf(0)
        if self.seen[j]:
            lost = (mpf(a.exp_ulp) + 0.5) * mpf(a.eta_compute) + mpf(a.eta_out) / 2
            if a.flush:
                lost = max(mpf(a.lambda_out), mpf(a.lambda_compute)) * (1 + 4 * u)
        error = p * expm1(h) + lost
        grown = p + error
        error *= lift if self.z or self.s else 1
        if self.z:
            held = 2 * self.z * self.e_held + self.eta * (1 + abs(self.lse))
            held += expm1(4 * u) * (1 + 2 * self.z * (abs(self.lse) + self.e_held))
            error += grown * held + expm1(u) * grown * (lift + held)
            lifted = lift + held
        else:
            lifted = lift
        if self.s:
            error += expm1(self.additions + 4 * u) * grown * lifted
            error += 2 * u * own + expm1(3 * u) * self.s / self.n + self.eta
            error += expm1(2 * u) * (p * lift + self.c[j] + error)
        elif own:
            error += expm1(u) * (slope + error)
        error = d * (error + expm1(2 * u) * (slope + error))
        error += (
            max(mpf(a.lambda_out), mpf(a.lambda_compute)) if a.flush else mpf(a.eta_compute) + mpf(a.eta_out)
        )
        return self.rounded(error, d * slope)


def tight(theirs, ours):
    # and a few smallest numbers of binary64, where bounds are made of such
    assert abs(mpf(float(theirs)) - ours) <= mpf(2) ** -36 * abs(ours) + 8 * mpf(2) ** -1074, (theirs, ours)


@pytest.mark.parametrize("a", ARITHMETICS)
@pytest.mark.parametrize(("s", "z"), OPTIONS)
def test_the_bounds_of_cross_entropy_are_as_derived(a, s, z):
    for name, x in ROWS.items():
        for t in range(0, len(x), 2):
            row = Restated(x, t, s, z, a)
            if name != "masked" or not s:
                tight(cross_entropy_bound(row.losses, a).item(), row.loss_bound())
            slopes = cross_entropy_vjp_bound(row.losses, np.array([-1.75]), a)
            for j in range(len(x)):
                tight(slopes[j], row.slope_bound(j, mpf(1.75)))
