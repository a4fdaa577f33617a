"""A-priori rounding-error bounds of cross-entropy and its gradient, absolute, row by row.

They rest on the bounds of the logarithm of the shifted sum and of softmax (`bounds/softmax.py`), and are as
rigorous: computed factors are bounded as wholes, not to first order. The derivation stands in
docs/explanation/bounds.md, with the implementations that each bound covers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.conformance.bounds.softmax import (
    Float,
    Rows,
    absolute_error,
    log_error,
    rounded_error,
    rows_of,
    softmax_exponent_error,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Losses:
    """What the bounds need to know of rows of logits with their targets; reduced along the last axis.

    Attributes
    ----------
    rows : facts of the logits; those of an ignored row are of no matter.
    own : (..., n), whether a class is the target; nowhere in an ignored row.
    counted : (..., 1), whether a row is not ignored.
    smoothing, z_loss : s and z, in binary64.
    """

    rows: Rows
    own: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    smoothing: float
    z_loss: float

    def at_target(self, values: Float) -> Float:
        """The value of the target's class, (..., 1); 0 in an ignored row."""
        taken: Float = np.where(self.own, values, 0.0).sum(axis=-1, keepdims=True)
        return taken

    @property
    def gap(self) -> Float:
        """Gaps of the finite logits, (..., n), 0 at others."""
        return np.where(np.isfinite(self.rows.gap), self.rows.gap, 0.0)

    @property
    def lse(self) -> Float:
        """Logsumexp, (..., 1)."""
        lse: Float = self.rows.maximum + self.rows.log_sum
        return lse

    @property
    def plain(self) -> Float:
        """The loss without smoothing and z-loss, (..., 1): gap of the target and log of the sum."""
        plain: Float = self.at_target(self.gap) + self.rows.log_sum
        return plain

    @property
    def mean(self) -> Float:
        """The mean of that over all classes, (..., 1)."""
        mean: Float = self.gap.mean(axis=-1, keepdims=True) + self.rows.log_sum
        return mean

    @property
    def smoothed(self) -> Float:
        """The loss without z-loss, (..., 1)."""
        if not self.smoothing:
            return self.plain  # the mean may be beyond binary64
        smoothed: Float = (1.0 - self.smoothing) * self.plain + self.smoothing * self.mean
        return smoothed

    @property
    def weights(self) -> Float:
        """c_j, (..., n): (1 - s) at the target and s / n everywhere."""
        return np.where(self.own, 1.0 - self.smoothing, 0.0) + self.smoothing / self.rows.count

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Whether a loss is a number, (..., 1): no class with a weight has probability 0."""
        masked = ~np.isfinite(self.rows.gap)
        return np.asarray(~((self.weights > 0.0) & masked).any(axis=-1, keepdims=True))


def losses_of(
    x: Float,
    target: NDArray[np.int64],
    *,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
    any_order: bool,
) -> Losses:
    """Facts of rows x, (..., n) in binary64; those that count have a finite logit and neither NaN nor +inf.

    Parameters
    ----------
    target : (...,), an index below n or `ignore_index`.
    any_order : whether a form other than "division" is to be covered.
    """
    counted = (target != ignore_index)[..., None]
    rows = rows_of(np.where(counted, x, 0.0), 1.0, any_order=any_order)
    own = (np.arange(x.shape[-1]) == target[..., None]) & counted
    return Losses(rows, own, counted, label_smoothing, z_loss)


def cross_entropy_bound(losses: Losses, a: Arithmetic) -> Float:
    """Absolute bound of each row's loss, (..., 1); 0 where it is exactly 0 (ignored) or +inf.

    Division form: from the log-probabilities (x - max) - log(sum). Any form also: from lse - x_t, with lse
    held in `u_offset`, and sums of logits in place of log-probabilities.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        error = _from_log_probabilities(losses, a)
        if not a.division:
            error = np.maximum(error, _from_lse(losses, a))
        value = losses.smoothed
        if losses.z_loss:
            error = error + _z_loss_error(losses, a)
            value = value + losses.z_loss * losses.lse**2
            error = error + np.expm1(a.u_compute) * (value + error)
        bound = _known(rounded_error(error, value, 0.0, a))
    return np.where(losses.counted & losses.finite, bound, 0.0)


def cross_entropy_vjp_bound(losses: Losses, dloss: Float, a: Arithmetic) -> Float:
    """Absolute bound of the gradient by each logit, (..., n), for cotangents dloss (..., 1).

    0 in ignored rows, and at masked logits that bear no weight, where the gradient is exactly 0.
    """
    p, weights, u = np.exp(losses.rows.log_p), losses.weights, a.u_compute
    with np.errstate(over="ignore", invalid="ignore"):
        lift = 1.0 + 2.0 * losses.z_loss * losses.lse
        slope = np.abs(p * lift - weights)
        error = _product_error(losses, p, np.abs(lift), a)
        if losses.smoothing:
            share = losses.smoothing / losses.rows.count
            error = error + np.where(losses.own, 2.0 * u, 0.0) + np.expm1(3.0 * u) * share + _least(a)
            error = error + np.expm1(2.0 * u) * (p * np.abs(lift) + weights + error)
        else:
            error = error + np.where(losses.own, np.expm1(u) * (slope + error), 0.0)
        size = np.abs(dloss)
        error = size * (error + np.expm1(2.0 * u) * (slope + error)) + a.underflow_product
        bound = _known(rounded_error(error, size * slope, 0.0, a))
    exact = ~np.isfinite(losses.rows.gap) & (weights == 0.0)
    return np.where(losses.counted & ~exact, bound, 0.0)


def _known(bound: Float) -> Float:
    """The bound, infinite, which is none at all, where binary64 could not hold what it is made of."""
    return np.where(np.isnan(bound), np.inf, bound)


def _least(a: Arithmetic) -> float:
    """What underflow may cost one product of the element-wise steps."""
    return max(a.eta_compute, a.lambda_compute if a.flush else 0.0)


def _log_probability_error(losses: Losses, gap: Float, a: Arithmetic) -> Float:
    """Absolute error of (x - max) - log(sum) at a gap, unrounded to a narrower format."""
    roundings = 1.0 if a.division else 3.0
    error = log_error(losses.rows, a) + roundings * a.u_compute * gap
    total: Float = error + np.expm1(roundings * a.u_compute) * (gap + losses.rows.log_sum + error)
    return total


def _from_log_probabilities(losses: Losses, a: Arithmetic) -> Float:
    """(1 - s) (-log p_t) + (s / n) sum_j (-log p_j), (..., 1)."""
    u, s, n = a.u_compute, losses.smoothing, losses.rows.count
    own = _log_probability_error(losses, losses.at_target(losses.gap), a)
    if not s:
        return own
    spread = _log_probability_error(losses, losses.gap.mean(axis=-1, keepdims=True), a)
    plain, mean = losses.plain + own, losses.mean + spread
    # s and 1 - s rounded move 1 - s by 2 u, however small it is.
    error = (1.0 - s) * own + 2.0 * u * plain + s * (spread + np.expm1((n - 1) * a.u_sum + 4.0 * u) * mean)
    error = error + np.expm1(2.0 * u) * (losses.smoothed + error)
    # s / n may be subnormal: half of the smallest, times the sum.
    total: Float = error + _least(a) * n * (mean + 1.0)
    return total


def _lse_error(losses: Losses, a: Arithmetic) -> Float:
    """Absolute error of logsumexp as it is held, (..., 1)."""
    error = log_error(losses.rows, a)
    size = np.abs(losses.lse) + error
    if a.division:
        return np.asarray(error + np.expm1(a.u_compute) * size)
    # The base may change, of max on the way in and of lse on the way out.
    total: Float = error + 2.0 * a.u_offset * losses.rows.top + np.expm1(3.0 * a.u_offset) * size
    return total


def _from_lse(losses: Losses, a: Arithmetic) -> Float:
    """lse - x_t, and lse - (1 - s) x_t - (s / n) sum_j x_j in any arrangement, (..., 1)."""
    s, n, offset = losses.smoothing, losses.rows.count, a.u_offset
    error = _lse_error(losses, a)
    if s:
        size = np.abs(losses.lse) + error + losses.at_target(losses.rows.size)
        mean = losses.rows.size.mean(axis=-1, keepdims=True)
        error = error + np.expm1(6.0 * offset) * size
        error = error + np.expm1((n - 1) * a.u_sum + 6.0 * offset) * s * mean + _least(a) * n * (mean + 1.0)
    total: Float = error + np.expm1(a.u_compute) * (losses.smoothed + error)
    return total


def _rounded_lse_error(losses: Losses, a: Arithmetic) -> Float:
    """The same once more rounded, to the format of the element-wise steps, where the form is any."""
    error = _lse_error(losses, a)
    if a.division:
        return error
    total: Float = error + np.expm1(a.u_compute) * (np.abs(losses.lse) + error)
    return total


def _z_loss_error(losses: Losses, a: Arithmetic) -> Float:
    """Absolute error of z lse^2, (..., 1)."""
    z, error = losses.z_loss, _rounded_lse_error(losses, a)
    size = np.abs(losses.lse)
    grown = size + error
    square = error * (2.0 * size + error) + np.expm1(3.0 * a.u_compute) * grown**2
    total: Float = z * square + _least(a) * (grown**2 + grown + z + 2.0)
    return total


def _product_error(losses: Losses, p: Float, lift: Float, a: Arithmetic) -> Float:
    """Absolute error of p (1 + 2 z lse), (..., n), before anything is taken from it."""
    u, rows = a.u_compute, losses.rows
    # A result is rounded to a narrower format at the end, not before a weight is subtracted.
    inner = replace(a, u_out=min(a.u_out, u))
    exponent = softmax_exponent_error(rows, inner)
    if not a.division:
        # exp(log p), as backward passes take it from what a forward pass kept
        kept = _log_probability_error(losses, losses.gap, a) + a.exp_error + 2.0 * u
        exponent = np.maximum(exponent, kept)
    own = absolute_error(rows, exponent) + np.where(np.isfinite(rows.gap), a.underflow, 0.0)
    grown = p + own
    if not losses.z_loss and not losses.smoothing:
        return own
    error = own * lift
    if losses.z_loss:
        lse = _rounded_lse_error(losses, a)
        held = 2.0 * losses.z_loss * lse + _least(a) * (1.0 + np.abs(losses.lse))
        held = held + np.expm1(4.0 * u) * (1.0 + 2.0 * losses.z_loss * (np.abs(losses.lse) + lse))
        error = error + grown * held
        lift = lift + held
        error = error + np.expm1(u) * grown * lift
    if losses.smoothing:
        # p times the sum of all weights, which is 1 but for rounding
        error = error + np.expm1((rows.count - 1) * a.u_sum + 4.0 * u) * grown * lift
    return np.asarray(error)


__all__ = ["Losses", "cross_entropy_bound", "cross_entropy_vjp_bound", "losses_of"]
