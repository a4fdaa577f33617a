"""Cross-entropy and its gradient in integer intervals: mpmath's exp and log, widened by a proven error."""

from __future__ import annotations

from softcert.reference.cross_entropy_rows import LossOfRow, SlopesOfRow, clip_loss, clip_slope
from softcert.reference.exactness import Logits
from softcert.reference.interval import (
    ZERO,
    Interval,
    add,
    divide,
    from_fraction,
    hull,
    magnitude,
    multiply,
    negate,
)
from softcert.reference.mp_oracle import log1p, log_total, tail_of, weights, working

_ONE = Interval(1, 1, 0)


def loss_row(question: LossOfRow, prec: int) -> Interval:
    """The loss; no term is negative, so its relative width is about 2**-prec but for that of L near 0."""
    wp = working(question.row, prec)
    excess = log_total(question.row, wp)
    total = add(excess, from_fraction(question.rest, wp), wp)
    if question.z_loss:
        lse = _lse(question.row, excess, wp)
        total = add(total, multiply(from_fraction(question.z_loss, wp), _square(lse, wp), wp), wp)
    return clip_loss(question, total, excess)


def slopes_row(question: SlopesOfRow, prec: int) -> list[Interval]:
    """Cotangent times slope at each distinct value and weight wanted."""
    row = question.row
    wp = working(row, prec)
    w, count = weights(row, wp), Interval(row.counts[row.top], row.counts[row.top], 0)
    rest = tail_of(row, w, wp)
    total, tail = add(count, rest, wp), divide(rest, count, wp)
    twice = from_fraction(2 * question.z_loss, wp)
    grown = _grown(question, wp) if question.z_loss else _ONE
    factor, slopes = from_fraction(question.cotangent, wp), []
    for k, c in question.wanted:
        base = question.base(k, c) if k == row.top else None
        if base is None:
            first, second = multiply(divide(w[k], total, wp), grown, wp), -c
        else:
            # What a far tail takes off would be lost beside the limit.
            change = multiply(from_fraction(question.slack, wp), tail, wp) if question.slack else ZERO
            if question.z_loss:
                change = add(change, multiply(twice, _log1p_less(tail, wp), wp), wp)
            first, second = divide(change, total, wp), base
        value = multiply(factor, add(first, from_fraction(second, wp), wp), wp)
        slopes.append(clip_slope(question, k, c, value, tail, grown))
    return slopes


def _grown(question: SlopesOfRow, wp: int) -> Interval:
    """1 + 2 z L, as what it is at the top and an excess: their sum may be the latter alone."""
    excess = multiply(from_fraction(2 * question.z_loss, wp), log_total(question.row, wp), wp)
    return add(from_fraction(question.lift, wp), excess, wp)


def _lse(row: Logits, excess: Interval, wp: int) -> Interval:
    m, e = row.top_dyadic
    return add(Interval(m, m, e), excess, wp)


def _log1p_less(t: Interval, wp: int) -> Interval:
    """log(1 + t) - t, t > 0, relatively well however small t is."""
    if magnitude(t) < -wp:
        # -t^2 / 2 < log(1 + t) - t < -(1 - t) t^2 / 2
        square = multiply(t, t, wp)
        return Interval(-square.hi, -square.lo + (square.lo >> wp) + 1, square.exp - 1)
    # It falls with t, and what is taken off at an end cancels as many bits as t is below 1.
    ends = [Interval(m, m, t.exp) for m in (t.hi, t.lo)]
    low, high = (add(log1p(end, 3 * wp), negate(end), 3 * wp) for end in ends)
    return hull(low, high)


def _square(a: Interval, wp: int) -> Interval:
    """The square, not below 0 where the interval holds 0."""
    square = multiply(a, a, wp)
    return square if square.lo >= 0 else square._replace(lo=0)
