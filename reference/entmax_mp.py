"""Sparsemax and entmax a second time: other algorithms, in integers and by mpmath's exp and log.

Nothing of it is shared with the first path, which sorts, takes roots and asks Arb for powers.
"""

from __future__ import annotations

from fractions import Fraction

from softcert.reference.interval import (
    ZERO,
    Interval,
    add,
    divide,
    from_fraction,
    hull,
    multiply,
    negate,
    times_integer,
)
from softcert.reference.mp_oracle import exp_of_gap, log1p

_ONE = Interval(1, 1, 0)
#: Bits beyond those asked for, in which sums and products lose theirs.
_GUARD = 40


def sparsemax_shares(logits: list[Fraction]) -> list[Fraction]:
    """Shares of the logits, exactly: project onto the plane, leave out what is not above 0, and again.

    C. Michelot, A finite algorithm for finding the projection of a point onto the canonical simplex of R^n,
    J. Optim. Theory Appl. 50, 1986.
    """
    kept = logits
    while True:
        threshold = (sum(kept, Fraction(0)) - 1) / len(kept)
        above = [logit for logit in kept if logit > threshold]
        if len(above) == len(kept):
            return [max(logit - threshold, Fraction(0)) for logit in logits]
        kept = above


def sparsemax_product(outputs: list[float], slopes: list[float]) -> list[Fraction]:
    """The product with the Jacobian of sparsemax at some outputs, exactly."""
    support = [k for k, output in enumerate(outputs) if output > 0]
    size = len(support)
    total = sum((Fraction(slopes[k]) for k in support), Fraction(0))
    inside = set(support)
    return [
        (size * Fraction(slope) - total) / size if k in inside else Fraction(0)
        for k, slope in enumerate(slopes)
    ]


def entmax_shares(depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int) -> list[Interval]:
    """max(depth - tau, 0)^exponent for the tau at which the shares sum to 1, found by halving.

    Parameters
    ----------
    depths : distinct, the largest 0, all above -1. counts : how often each occurs.
    """
    low, high = _bracket(depths, counts, exponent, prec)
    zero = Fraction(0)
    return [
        hull(_power(max(d - high, zero), exponent, prec), _power(max(d - low, zero), exponent, prec))
        for d in depths
    ]


def entmax_product(
    outputs: list[Fraction], slopes: list[Fraction], exponent: Fraction, prec: int
) -> list[Interval]:
    """w_i (d_i - sum_k w_k d_k / sum_k w_k) of the weights w = outputs**exponent, for outputs above 0."""
    wp = prec + _GUARD
    weights = [_power(output, exponent, wp) for output in outputs]
    total, moment = ZERO, ZERO
    for weight, slope in zip(weights, slopes, strict=True):
        total = add(total, weight, wp)
        moment = add(moment, multiply(weight, from_fraction(slope, wp), wp), wp)
    mean = negate(divide(moment, total, wp))
    return [
        multiply(weight, add(from_fraction(slope, wp), mean, wp), wp)
        for weight, slope in zip(weights, slopes, strict=True)
    ]


def _bracket(
    depths: list[Fraction], counts: list[int], exponent: Fraction, prec: int
) -> tuple[Fraction, Fraction]:
    """Two numbers with tau between them, about 2^-prec apart."""
    low, high = Fraction(-1), Fraction(0)
    for _ in range(prec):
        middle = (low + high) / 2
        side = _side(depths, counts, exponent, middle, prec)
        if side == 0:
            # Within the enclosure's width of tau: its neighbours tell.
            near = Fraction(1, 1 << prec - 8)
            around = max(low, middle - near), min(high, middle + near)
            sides = [_side(depths, counts, exponent, end, prec) for end in around]
            return (around[0] if sides[0] > 0 else low), (around[1] if sides[1] < 0 else high)
        low, high = (middle, high) if side > 0 else (low, middle)
    return low, high


def _side(depths: list[Fraction], counts: list[int], exponent: Fraction, tau: Fraction, prec: int) -> int:
    """Sign of the sum of the shares at tau, less 1; 0 where it is not told."""
    wp = prec + _GUARD
    total = Interval(-1, -1, 0)
    for depth, count in zip(depths, counts, strict=True):
        if depth > tau:
            total = add(total, times_integer(_power(depth - tau, exponent, wp), count), wp)
    return total.sign


def _power(base: Fraction, exponent: Fraction, prec: int) -> Interval:
    """base**exponent of base >= 0; of 0 for an exponent above 0."""
    if base == 0:
        return ZERO
    if base == 1:
        return _ONE
    wp = prec + _GUARD
    log = log1p(from_fraction((base if base > 1 else 1 / base) - 1, wp), wp)
    size = multiply(log, from_fraction(abs(exponent), wp), wp)
    falling = hull(exp_of_gap(-size.hi, size.exp, 1, wp), exp_of_gap(-size.lo, size.exp, 1, wp))
    return falling if (base < 1) == (exponent > 0) else divide(_ONE, falling, wp)
