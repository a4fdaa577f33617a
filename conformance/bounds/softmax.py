"""A-priori rounding-error bounds of the softmax ops, element by element.

No tolerance here is a guess: each bound is a function of the input, of the format and of what the
contract promises, and each is rigorous, not first order. The exponent perturbations of numerator and
denominator are added and turned into a relative error by expm1 once, which covers products of
(1 + delta) of either sign (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., lemma 3.1,
with 1 / (1 - u)^k <= exp(k u / (1 - u))). The starting point is Blanchard, Higham & Higham, IMA J.
Numer. Anal. 41(4), 2021, doi:10.1093/imanum/draa038; their theorems 4.2 and 4.4 omit the rounding of
the last addition, which is restored here. The derivation stands in docs/explanation/bounds.md.

All bounds are evaluated in binary64 and inflated by `_SLACK`, which is far above that evaluation's error.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds.arithmetic import Arithmetic

Float = NDArray[np.float64]

_SLACK = 1.0 + 2.0**-30
_LOG_2 = float(np.log(2.0))
_LONG_ROW = 2048
#: Beyond it log(expm1(x)) is x to the last bit.
_LINEAR_LOG = 40.0
#: Stands for a gap between finite logits that binary64 cannot hold.
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Rows:
    """What the bounds need to know of finite or -inf logits, reduced along the last axis.

    Attributes
    ----------
    gap : (..., n), max(beta x) - beta x, +inf at masked logits.
    size : (..., n), |beta x|, 0 at masked logits.
    maximum : (..., 1), max(beta x).
    log_sum : (..., 1), log of the sum of exp(-gap), in [0, log n].
    rescales : (..., 1), most rescales that any one-pass order can make on one path.
    scaled : beta is not 1, so the logits are multiplied before or after the subtraction.
    """

    gap: Float
    size: Float
    maximum: Float
    log_sum: Float
    rescales: Float
    scaled: bool

    @property
    def count(self) -> int:
        """Number of logits in a row."""
        return int(self.gap.shape[-1])

    @property
    def top(self) -> Float:
        """Magnitude of the maximum, (..., 1)."""
        return np.abs(self.maximum)

    @property
    def log_p(self) -> Float:
        """Logarithm of the probabilities, (..., n)."""
        log_p: Float = -self.gap - self.log_sum
        return log_p


def rows_of(x: Float, beta: float, *, any_order: bool) -> Rows:
    """Facts of the rows of x, (..., n) in binary64, n >= 1, each row with at least one finite logit."""
    with np.errstate(over="ignore", invalid="ignore"):
        logits = beta * x
        top = logits.max(axis=-1, keepdims=True)
        gap = np.where(logits == -np.inf, np.inf, np.minimum(top - logits, _LARGEST))
        log_sum = np.log(np.exp(-gap).sum(axis=-1, keepdims=True))
    size = np.where(np.isfinite(logits), np.abs(logits), 0.0)
    longest = _longest_climb(logits) if any_order else np.zeros_like(top)
    return Rows(gap, size, top, log_sum, longest, scaled=beta != 1.0)


def _longest_climb(logits: Float) -> Float:
    """Bound the running-maximum changes on any path through each row, (..., 1).

    A one-pass softmax rescales its sum whenever the running maximum of what it has seen rises. The
    logits at which that happens rise along the scan, so there are at most as many as the longest strictly
    increasing subsequence has, forwards or backwards; for long rows the number of distinct logits serves.
    """
    flat = logits.reshape(-1, logits.shape[-1])
    # The first of them starts the scan: exp(-inf) = 0 rescales an empty sum exactly.
    climbs = [_climb(row) - 1 for row in flat]
    return np.asarray(climbs, dtype=np.float64).reshape(*logits.shape[:-1], 1)


def _climb(row: Float) -> int:
    if row.size > _LONG_ROW:
        return int(np.unique(row).size)
    values = row.tolist()
    return max(_increasing(values), _increasing(values[::-1]))


def _increasing(values: list[float]) -> int:
    tails: list[float] = []
    for value in values:
        at = bisect_left(tails, value)
        tails[at : at + 1] = [value]
    return len(tails)


def _argument_error(rows: Rows, a: Arithmetic, *, offset_free: bool = False) -> Float:
    """Absolute error of the argument of each exponential, (..., n).

    Division form: one subtraction, u gap; with beta also the products and the rounding of beta itself.
    Any form: a change of base first, whose two products err by u |beta x| and u |max|. Rounding is
    monotone, so no weight passes 1: the upward error is at most the gap, and losing a weight wholly is
    a factor that log 2 covers, since expm1(log 2) = 1.

    The logarithmic ops promise to be free of the offset in either form (`offset_free`): their error is
    absolute, and an offset that swallows log n has been a real defect (pytorch#38839).
    """
    u = a.u_compute
    with np.errstate(invalid="ignore"):
        own = u * rows.gap
        if rows.scaled:
            own = own * 3.0
        offset = np.zeros_like(own)
        if rows.scaled:
            offset = offset + u * (rows.size + rows.top)
        if not (a.division or offset_free):
            offset = offset + a.u_offset * (rows.size + rows.top)
        if not a.division:
            own = own * 3.0
        offset = np.minimum(offset, np.maximum(rows.gap, _LOG_2))
    return np.where(np.isfinite(rows.gap), own + offset, 0.0)


def _sum_error(rows: Rows, a: Arithmetic, argument: Float, exact: NDArray[np.bool_] | None = None) -> Float:
    """Exponent perturbation of the denominator, (..., 1): its weights' errors, its additions, underflow.

    `exact` says in which rows the additions are known to err by no more than the light weights.
    """
    weight = argument + _exp_error(rows.gap, a) + rows.rescales * a.rescale_error
    # log1p of what exceeds 1: in binary64 the sum itself rounds away what its own format's steps may err
    mean = np.log1p(absolute_error(rows, weight).sum(axis=-1, keepdims=True))
    lost = rows.count * a.underflow * np.exp(-rows.log_sum)
    additions = np.asarray((rows.count - 1) * a.u_sum)
    if exact is not None:
        additions = np.where(exact, 0.5 * a.u_sum, additions)
    rounding = a.u_compute if a.u_sum < a.u_compute else 0.0
    total: Float = mean + additions + lost + rounding
    return total


def exact_sum(rows: Rows, a: Arithmetic) -> NDArray[np.bool_]:
    """Rows whose weights below the maximum are too light to change the sum of the others, (..., 1).

    Let t be the sum of the computed weights below the maximum, t <= u/8. A partial sum of them alone stays
    below 2t <= u/4, u being the accumulator's, if n u <= 1/2. The maxima weigh exactly 1 each in the division
    form, so a partial sum with k of them is the integer k, exact up to 1/u: half an ulp above it is at least
    u, and what is lighter is rounded away. So by any order of additions the sum is the number m of maxima;
    a wider accumulator keeps t, no more. A single maximum need not weigh exactly 1: one of at least 1/2, half
    an ulp above which is u/2 or more, does not change either, and divides itself in the quotient.
    """
    argument = _argument_error(rows, a)
    error = argument + _exp_error(rows.gap, a) + rows.rescales * a.rescale_error
    top = rows.gap == 0.0
    with np.errstate(over="ignore"):
        light = np.where(top, 0.0, np.exp(error - rows.gap)).sum(axis=-1, keepdims=True) * _SLACK
    maxima = top.sum(axis=-1, keepdims=True)
    heavy = np.where(top, argument, 0.0).max(axis=-1, keepdims=True)
    ones = (a.division and not rows.scaled) & (maxima <= 1.0 / a.u_sum)
    single = (maxima == 1) & (heavy <= _LOG_2)
    exact: NDArray[np.bool_] = (light <= a.u_sum / 8.0) & (rows.count * a.u_sum <= 0.5) & (ones | single)
    return exact


def _exp_error(gap: Float, a: Arithmetic) -> Float:
    """Error of exp(-gap), (..., n): none at the maximum, because exp(0) = 1 exactly."""
    return np.where(gap > 0.0, a.exp_error, 0.0)


def _quotient_error(a: Arithmetic) -> float:
    """Reciprocal and product, or one division; then the rounding to a narrower result."""
    return 2.0 * a.u_compute + (a.u_out if a.u_out > a.u_compute else 0.0)


def softmax_denominator_error(rows: Rows, a: Arithmetic, exact: NDArray[np.bool_] | None = None) -> Float:
    """Perturbation of log p that is common to a row in the division form, (..., 1)."""
    return _sum_error(rows, a, _argument_error(rows, a), exact)


def softmax_exponent_error(rows: Rows, a: Arithmetic, exact: NDArray[np.bool_] | None = None) -> Float:
    """Perturbation of log p that softmax may show, (..., n), underflow apart.

    `exact` as `exact_sum` gives it; without it every addition may err.

    Division form exp(x - max) / sum: its numerator's and its denominator's perturbations, and the quotient's.
    Any form, exp(x - lse), besides: the roundings of lse and of x - lse. Rounding lse costs at most its
    distance from the maximum, which is itself a number of the format.
    """
    argument = _argument_error(rows, a)
    denominator = _sum_error(rows, a, argument, exact)
    quotient = argument + _exp_error(rows.gap, a) + denominator + _quotient_error(a)
    if a.division:
        return quotient
    u = a.u_compute
    value = np.abs(rows.maximum + rows.log_sum)
    lse = np.minimum(a.u_offset * value, np.maximum(rows.log_sum, u))
    finite_gap = np.where(np.isfinite(rows.gap), rows.gap, 0.0)
    through_lse = (
        denominator
        + lse
        + (u + a.exp_error) * rows.log_sum
        + u * (finite_gap + rows.log_sum)
        + _exp_error(finite_gap + rows.log_sum, a)
        + _quotient_error(a)
    )
    return np.maximum(quotient, through_lse)


def softmax_numerator_error(rows: Rows, a: Arithmetic) -> Float:
    """Perturbation of log p that is not common to the row, (..., n): what a ratio of two outputs keeps."""
    finite_gap = np.where(np.isfinite(rows.gap), rows.gap, 0.0)
    own = _argument_error(rows, a) + _quotient_error(a)
    if a.division:
        return own + _exp_error(rows.gap, a)
    distance = finite_gap + rows.log_sum
    return own + _exp_error(distance, a) + a.u_compute * distance


def absolute_error(rows: Rows, exponent: Float) -> Float:
    """p expm1(exponent), (..., n), taken through logarithms: p may underflow where expm1 overflows."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        growth = np.where(exponent > _LINEAR_LOG, exponent, np.log(np.expm1(exponent)))
        absolute = np.exp(rows.log_p + growth)
    return np.where(np.isfinite(rows.gap), absolute, 0.0)


def softmax_bound(rows: Rows, a: Arithmetic, ulp: Float) -> Float:
    """Bound of |computed - exact| in ulps, (..., n); 0 at masked logits.

    Parameters
    ----------
    ulp : ulp(p), (..., n).
    """
    absolute = absolute_error(rows, softmax_exponent_error(rows, a)) + a.underflow
    return np.where(np.isfinite(rows.gap), absolute / ulp * _SLACK, 0.0)


def softmax_sum_bound(rows: Rows, a: Arithmetic) -> Float:
    """Bound of |sum of the outputs - 1|, (..., 1), absolute.

    Division form: numerators and denominator share the same computed weights, so neither the error of
    exp nor that of the arguments enters. Any form: the sum of the element-wise bounds.
    """
    under = rows.count * a.underflow
    if a.division:
        rounding = a.u_compute if a.u_sum < a.u_compute else 0.0
        lost = rows.count * a.underflow * np.exp(-rows.log_sum)
        with np.errstate(over="ignore"):
            drift = np.expm1((rows.count - 1) * a.u_sum + rounding + _quotient_error(a) + lost)
    else:
        drift = absolute_error(rows, softmax_exponent_error(rows, a)).sum(axis=-1, keepdims=True)
    return np.asarray((drift + under) * _SLACK)


def log_error(rows: Rows, a: Arithmetic, exact: NDArray[np.bool_] | None = None) -> Float:
    """Absolute error of the computed logarithm of the shifted sum, (..., 1).

    The sum's perturbation is one of its logarithm; log and the rounding after it err relative to that.
    """
    total = _sum_error(rows, a, _argument_error(rows, a, offset_free=True), exact)
    error: Float = total + np.expm1(a.u_compute + a.exp_error) * (rows.log_sum + total)
    return error


def rounded_error(error: Float, value: Float, roundings: float, a: Arithmetic) -> Float:
    """Absolute error after `roundings` more of a result near `value`, and one to a narrower result."""
    growth = np.expm1(roundings * a.u_compute + (a.u_out if a.u_out > a.u_compute else 0.0))
    tail = (a.lambda_out if a.flush else 0.0) + a.eta_out
    return np.asarray((error + growth * (value + error) + tail) * _SLACK)


def logsumexp_bound(rows: Rows, a: Arithmetic, exact: NDArray[np.bool_] | None = None) -> Float:
    """Absolute bound of max + log(sum), (..., 1).

    The last addition's rounding, u |lse|, is what theorem 4.2 of Blanchard, Higham & Higham omits: without
    it the printed bound is exceeded 181-fold where an offset dwarfs n. Any form: a change of base errs
    by two roundings on the way in, of max, and by two of lse on the way out.
    """
    value = np.abs(rows.maximum + rows.log_sum)
    error = log_error(rows, a, exact)
    if a.division:
        return rounded_error(error, value, 1.0, a)
    changed = 2.0 * a.u_offset * rows.top + np.expm1(2.0 * a.u_offset) * (value + error)
    return rounded_error(error + changed, value, 1.0, a)


def log_softmax_bound(rows: Rows, a: Arithmetic) -> Float:
    """Absolute bound of (x - max) - log(sum), (..., n); 0 at masked logits.

    x - lse with lse rounded to the format is not this form: an offset common to the row then costs
    u |lse| in every output, which at 1e7 in float32 is all of it.
    """
    gap = np.where(np.isfinite(rows.gap), rows.gap, 0.0)
    roundings = 1.0 if a.division else 3.0
    error = log_error(rows, a) + roundings * a.u_compute * gap
    bound = rounded_error(error, gap + rows.log_sum, roundings, a)
    return np.where(np.isfinite(rows.gap), bound, 0.0)


def vjp_bound(y: Float, dy: Float, a: Arithmetic) -> Float:
    """Absolute bound of y (dy - sum(y dy)), (..., n), for the y and dy given.

    Division form (named for the row that it belongs to): y (dy - s). Any form also y dy - y s and the
    product with the Jacobian diag(y) - y y^T, whose sum runs over |y_i dy_i| too.
    """
    n = y.shape[-1]
    products = np.abs(y * dy)
    total = products.sum(axis=-1, keepdims=True)
    inner = np.abs(dy - (y * dy).sum(axis=-1, keepdims=True))
    factor = np.expm1((n - 1) * a.u_sum + 4.0 * a.u_compute)
    spread = total if a.division else total + np.abs(dy)
    # The matrix form underflows in y_i y_k before dy_k multiplies it.
    under = n + (0.0 if a.division else np.abs(dy).sum(axis=-1, keepdims=True) + np.abs(dy))
    under = under * max(a.eta_compute, a.lambda_compute if a.flush else 0.0)
    absolute = np.abs(y) * factor * (spread + inner) + under + a.underflow_product
    return np.asarray((absolute + 2.0 * a.u_out * np.abs(y) * inner) * _SLACK)


__all__ = [
    "Rows",
    "absolute_error",
    "exact_sum",
    "log_error",
    "log_softmax_bound",
    "logsumexp_bound",
    "rounded_error",
    "rows_of",
    "softmax_bound",
    "softmax_denominator_error",
    "softmax_exponent_error",
    "softmax_numerator_error",
    "softmax_sum_bound",
    "vjp_bound",
]
