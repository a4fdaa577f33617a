"""Which of very many errors may come nearest to their bounds: a cheap estimate from above.

An a-priori bound of `bounds.softmax` takes half a dozen logarithms and exponentials a row. What is computed
here takes none: it is never larger than that bound, since e + e^2/2 + ... + e^8/8! <= expm1(e), since the
diagonal Pade approximants of log1p(s) are below it, and since every other part is the same. So error /
estimate is never below error / bound, and whatever does not reach the largest error / bound known so far need
not be judged by the bound itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.reference.fast.compiled import compiled, fma, inlined
from softcert.reference.fast.short_rows import SHORT_OPS, Errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Facts = tuple[float, ...]

_SOFTMAX, _LOG_SOFTMAX, _LOGSUMEXP = range(3)
#: No format of at most 24 bits has an ulp of more or less.
_WIDEST = 160
_POWERS = np.ldexp(1.0, np.arange(-_WIDEST, _WIDEST + 1))
_LOG_2 = math.log(2.0)
#: More than what binary64 loses where the bound takes the logarithm of the rounded sum, which is 1 or more.
_BLURRED = 2.0**-50
_C3, _C4, _C5, _C6, _C7, _C8 = (1.0 / math.factorial(k) for k in range(3, 9))


def largest_ratios(op: str, x: Floats, errors: Errors, arithmetic: Arithmetic) -> Floats:
    """Estimates of error / bound from above, of the errors' shape; NaN where an error is left open.

    Parameters
    ----------
    x : (N, n) finite logits, n of 2 or 3.
    errors : those of the answers to them.
    """
    ratio = np.empty(errors.upper.shape)
    facts = _facts(arithmetic, x.shape[1])
    _ratios(
        SHORT_OPS.index(op), x, errors.upper, errors.unit, errors.share, errors.log_sum, facts, _POWERS, ratio
    )
    return ratio


def _facts(a: Arithmetic, n: int) -> Facts:
    """All that the estimate needs of an arithmetic, for rows of n."""
    narrower = a.u_out if a.u_out > a.u_compute else 0.0
    rounding = a.u_compute if a.u_sum < a.u_compute else 0.0
    steps = 1.0 if a.division else 3.0
    return (
        float(a.division),
        a.u_compute,
        a.u_offset,
        a.exp_error,
        a.rescale_error,
        a.underflow,
        2.0 * a.u_compute + narrower,
        (n - 1) * a.u_sum + rounding,
        math.expm1(a.u_compute + a.exp_error),
        math.expm1(a.u_compute + narrower),
        math.expm1(steps * a.u_compute + narrower),
        (a.lambda_out if a.flush else 0.0) + a.eta_out,
        math.expm1(2.0 * a.u_offset),
    )


@inlined
def _grown(e: float) -> float:
    """At most expm1(e), for e >= 0."""
    p = fma(e, _C8, _C7)
    p = fma(p, e, _C6)
    p = fma(p, e, _C5)
    p = fma(p, e, _C4)
    p = fma(p, e, _C3)
    p = fma(p, e, 0.5)
    return e * fma(p, e, 1.0)


@inlined
def _rescales(x: Floats, i: int) -> float:
    """Most rescales of any one-pass order: changes of the maximum along the row, forwards or backwards."""
    if x.shape[1] == 2:
        return 0.0 if x[i, 0] == x[i, 1] else 1.0
    rising = x[i, 0] < x[i, 1] < x[i, 2] or x[i, 0] > x[i, 1] > x[i, 2]
    if rising:
        return 2.0
    return 0.0 if x[i, 0] == x[i, 1] == x[i, 2] else 1.0


@inlined
def _argument(gap: float, size: float, top: float, free: bool, facts: Facts) -> float:
    """`bounds.softmax._argument_error` of one logit."""
    if facts[0] > 0.0:
        return facts[1] * gap
    own = 3.0 * facts[1] * gap
    return own if free else own + min(facts[2] * (size + top), max(gap, _LOG_2))


@inlined
def _denominator(
    x: Floats,
    i: int,
    share: Floats,
    top: float,
    free: bool,
    facts: Facts,
) -> float:
    """At most `bounds.softmax._sum_error` of a row."""
    rescales = 0.0 if facts[0] > 0.0 else _rescales(x, i) * facts[4]
    s, largest = 0.0, 0.0
    for j in range(x.shape[1]):
        gap = top - x[i, j]
        weight = _argument(gap, abs(x[i, j]), abs(top), free, facts) + rescales
        if gap > 0.0:
            weight += facts[3]
        s += share[i, j] * _grown(weight) if share[i, j] > 0.0 else 0.0
        largest = max(largest, share[i, j])
    # Gauss's quadrature of s / (1 + s t) in three points, which errs by an even derivative: downward.
    log: float = s * (60.0 + s * (60.0 + 11.0 * s)) / (60.0 + s * (90.0 + s * (36.0 + 3.0 * s)))
    total: float = log + facts[7] + x.shape[1] * facts[5] * largest
    return total


@inlined
def _share_bound(
    size: float, gap: float, top: float, p: float, denominator: float, log_sum: float, facts: Facts
) -> float:
    """At most `softmax_bound` of one logit, as a distance."""
    if p == 0.0:
        return facts[5]
    exponent = _argument(gap, size, abs(top), False, facts) + denominator + facts[6]  # noqa: FBT003 -- numba takes no keywords
    if gap > 0.0:
        exponent += facts[3]
    if facts[0] == 0.0:
        distance = gap + log_sum
        lse = min(facts[2] * max(abs(top + log_sum) - _BLURRED, 0.0), max(log_sum, facts[1]))
        through = denominator + lse + (facts[1] + facts[3]) * log_sum + facts[1] * distance + facts[6]
        exponent = max(exponent, through + (facts[3] if distance > 0.0 else 0.0))
    return p * _grown(exponent) + facts[5]


@inlined
def _log_bound(op: int, gap: float, top: float, log_sum: float, total: float, facts: Facts) -> float:
    """At most `log_softmax_bound` or `logsumexp_bound` of one result."""
    error = total + facts[8] * (log_sum + total)
    if op == _LOG_SOFTMAX:
        error += (1.0 if facts[0] > 0.0 else 3.0) * facts[1] * gap
        return error + facts[10] * (gap + log_sum + error) + facts[11]
    value = max(abs(top + log_sum) - _BLURRED, 0.0)
    if facts[0] == 0.0:
        error += 2.0 * facts[2] * abs(top) + facts[12] * (value + error)
    return error + facts[9] * (value + error) + facts[11]


@compiled
def _ratios(
    op: int,
    x: Floats,
    upper: Floats,
    unit: NDArray[Any],
    share: Floats,
    log_sum: Floats,
    facts: Facts,
    powers: Floats,
    ratio: Floats,
) -> None:
    """Fill the estimates."""
    for i in range(x.shape[0]):
        top = x[i, 0]
        for j in range(1, x.shape[1]):
            top = max(top, x[i, j])
        denominator = _denominator(x, i, share, top, op != _SOFTMAX, facts)
        seen = max(log_sum[i, 0] - _BLURRED, 0.0)
        for j in range(upper.shape[1]):
            gap = top - x[i, j]
            if op == _SOFTMAX:
                bound = _share_bound(abs(x[i, j]), gap, top, share[i, j], denominator, seen, facts)
            else:
                bound = _log_bound(op, gap, top, seen, denominator, facts)
            error = upper[i, j]
            ratio[i, j] = 0.0 if error == 0.0 else error / (bound * powers[_WIDEST - unit[i, j]])


__all__ = ["largest_ratios"]
