"""A-priori rounding-error bounds of sparsemax and entmax and of their derivatives, element by element.

With depths d_i = (alpha - 1)(max - x_i), tau' = -tau and the exponent e = 1/(alpha - 1), the result is
t_i^e for t_i = max(tau' - d_i, 0), and tau' makes the sum 1. What an implementation errs in the sum moves
the threshold by no more than tau' ((1 - rho)^(-1/e) - 1): for all s in [0, tau'], the sum of (t_i - s)^e is
at most (1 - s/tau')^e, since no t_i exceeds tau'. From there each share is bounded at the ends of its base,
so that nothing is first order. The derivation stands in docs/explanation/bounds.md; the closed forms are
those of arXiv:1602.02068 and arXiv:1905.05702.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.conformance.bounds.softmax import Rows

Float = NDArray[np.float64]

_SLACK = 1.0 + 2.0**-30
#: What tau' and the depths may err in binary64, as they are evaluated here.
_EVALUATION = 2.0**-51
#: The order whose threshold has a closed form with a square root, and with it all that have a closed form.
_QUADRATIC = 1.5
_CLOSED = (_QUADRATIC, 2.0)


@dataclass(frozen=True)
class Shares:
    """The exact result of some rows, and what it is a power of.

    Attributes
    ----------
    p : (..., n), the shares.
    base : (..., n), tau' - d_i, of those without a share too.
    top : (..., 1), tau', the largest base.
    depth : (..., n), inf at masked logits.
    offset : (..., n), |x_i| + |max| times alpha - 1: what an error common to a row is relative to.
    alpha : the order.
    """

    p: Float
    base: Float
    top: Float
    depth: Float
    offset: Float
    alpha: float

    @property
    def exponent(self) -> float:
        """Power of the base that a share is."""
        return 1.0 / (self.alpha - 1.0)


def shares_of(rows: Rows, p: Float, alpha: float) -> Shares:
    """Facts of rows whose exact shares of order alpha > 1 are p, (..., n)."""
    step = alpha - 1.0
    top = p.max(axis=-1, keepdims=True) ** step
    with np.errstate(over="ignore", invalid="ignore"):
        depth = step * rows.gap
        return Shares(p, top - depth, top, depth, step * (rows.size + rows.top), alpha)


def entmax_bound(s: Shares, a: Arithmetic) -> Float:
    """Absolute bound of each share, (..., n); 0 where none can be had."""
    u = a.u_compute
    own = _depth_error(s, a)
    threshold = _threshold_error(s, a, own)
    with np.errstate(over="ignore", invalid="ignore"):
        reach = own + threshold + 2.0 * u * (np.maximum(s.base, 0.0) + own + threshold) + _EVALUATION * s.top
        high = np.maximum(s.base + reach, 0.0)
        low = np.maximum(s.base - reach, 0.0)
        above = high**s.exponent * (1.0 + _power_error(high, s.exponent, a)) - s.p
        below = s.p - low**s.exponent * np.maximum(1.0 - _power_error(low, s.exponent, a), 0.0)
    error = np.where(high > 0.0, np.maximum(above, below) + a.underflow, 0.0)
    # Some divide by the sum of what they have, which is the exact one but for these errors.
    drift = error.sum(axis=-1, keepdims=True)
    scaled = error + (s.p + error) * np.expm1(drift + _sum_error(s, a) + 2.0 * u)
    if a.u_out > u:
        scaled = scaled + a.u_out * (s.p + scaled)
    return np.where(high > 0.0, np.minimum(scaled * _SLACK, 1.0), 0.0)


def entmax_vjp_bound(y: Float, dy: Float, alpha: float, a: Arithmetic) -> Float:
    """Absolute bound of s (dy - sum(s dy) / sum(s)), s = y^(2 - alpha) where y > 0, for the y and dy given.

    It covers s dy - s q, where two rounded products cancel, as well.
    """
    u, inside = a.u_compute, y > 0.0
    power = 2.0 - alpha
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        weights = np.where(inside, np.where(inside, y, 1.0) ** power, 0.0)
        total = weights.sum(axis=-1, keepdims=True)
        mean = (weights * dy).sum(axis=-1, keepdims=True) / total
        size = (weights * np.abs(dy)).sum(axis=-1, keepdims=True) / total
        weight = _power_error(y, power, a) if power else np.zeros_like(y)
        worst = np.where(inside, weight, 0.0).max(axis=-1, keepdims=True)
        drift = size * np.expm1(2.0 * (worst + (y.shape[-1] - 1) * a.u_sum) + 3.0 * u)
        inner = np.abs(dy - mean) + drift
        absolute = weights * (drift + inner * np.expm1(weight + 2.0 * u) + 2.0 * u * (np.abs(dy) + size))
        under = a.underflow_product * (1.0 + weights * (2.0 + y.shape[-1] / total))
        result = absolute + under + 2.0 * a.u_out * weights * inner
    return np.where(inside, result * _SLACK, 0.0)


def _depth_error(s: Shares, a: Arithmetic) -> Float:
    """Absolute error of each depth: the difference, alpha - 1 and the product round; 0 where masked.

    Any form: logits are scaled first, and differ from a threshold that no maximum was taken from.
    """
    error = 3.0 * a.u_compute * np.where(np.isfinite(s.depth), s.depth, 0.0)
    return error if a.division else error + 2.0 * a.u_offset * s.offset


def _sum_error(s: Shares, a: Arithmetic) -> float:
    """Relative error of a sum of shares in any order, and once more for a prefix that decides the support."""
    return 2.0 * (int(s.p.shape[-1]) + 1) * a.u_sum


def _power_error(base: Float, exponent: float, a: Arithmetic) -> Float:
    """Relative error of a power, that of its rounded exponent included; a first power has none."""
    if exponent == 1.0:
        return np.zeros_like(base)
    with np.errstate(divide="ignore"):
        logarithm = np.where(base > 0.0, np.abs(np.log(np.where(base > 0.0, base, 1.0))), 0.0)
    return np.asarray(np.expm1(a.exp_error + 3.0 * a.u_compute * abs(exponent) * logarithm))


def _threshold_error(s: Shares, a: Arithmetic, own: Float) -> Float:
    """Absolute error of tau', (..., 1): of the depths, of the sum of powers, and of its own last digit."""
    u = a.u_compute
    near = s.base > -(own + _EVALUATION)
    depths = np.where(near, own, 0.0).max(axis=-1, keepdims=True)
    # -sum p log p is at most log n: what the exponent's rounding moves the sum by.
    powers = 0.0 if s.exponent == 1.0 else a.exp_error + 3.0 * u * np.log(s.p.shape[-1])
    rho = np.expm1(powers + _sum_error(s, a) + 3.0 * u)
    with np.errstate(divide="ignore", over="ignore"):
        moved = np.where(rho < 1.0, np.expm1(-np.log1p(-min(rho, 1.0)) * (s.alpha - 1.0)), np.inf) * s.top
    last = 4.0 * u * s.top + (0.0 if a.division else 4.0 * a.u_offset * s.offset.min(axis=-1, keepdims=True))
    error = np.asarray(depths + moved + last)
    if s.alpha not in _CLOSED:
        return error
    if s.alpha == _QUADRATIC:
        error = np.maximum(error, depths + last + _closed_form_error(s, a))
    # A logit r from the threshold may be counted or not, which changes the sum by r^e.
    flipped = (near & (np.abs(s.base) <= 2.0 * error)).sum(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):
        moved = error if s.exponent == 1.0 else 4.0 * flipped * error**2
    return np.asarray(error + np.where(flipped > 0, moved, 0.0))


def _closed_form_error(s: Shares, a: Arithmetic) -> Float:
    """Error of tau' = sqrt((1 - k (mean d^2 - (mean d)^2)) / k) + mean d, (..., 1), of the k with a share."""
    inside = s.base > 0.0
    count = inside.sum(axis=-1, keepdims=True)
    depth = np.where(inside, s.depth, 0.0)
    mean = depth.sum(axis=-1, keepdims=True) / count
    square = (depth**2).sum(axis=-1, keepdims=True) / count
    each = np.expm1((s.p.shape[-1] + 2) * a.u_sum + 2.0 * a.u_compute)
    radicand = 3.0 * each * (square + mean**2) + 3.0 * a.u_compute * (square + mean**2 + 1.0 / count)
    root = np.maximum(s.top - mean, 0.0)
    # sqrt(r^2 + d) - r is at most d / 2r and at most sqrt(d); below r^2, sqrt(r^2 - d) is at least r - d / r.
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = np.where(root > 0.0, np.minimum(radicand / root, np.sqrt(radicand)), np.sqrt(radicand))
    return np.asarray(moved + each * mean + 2.0 * a.u_compute * (root + mean))
