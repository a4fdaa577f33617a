"""Cross-entropy and its gradient in Arb's ball arithmetic: the second, independent oracle."""

from __future__ import annotations

from fractions import Fraction

from flint import arb, fmpq

from softcert.reference.arb_oracle import interval_of, log_total, precision, tail_of, weights, working
from softcert.reference.cross_entropy_rows import LossOfRow, SlopesOfRow, clip_loss, clip_slope
from softcert.reference.interval import Interval


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _log1p_less(t: arb, wp: int) -> arb:
    """log(1 + t) - t, t > 0, relatively well however small t is."""
    least = arb(2) ** -wp
    if t < least:
        # between -t^2 / 2 and -(1 - t) t^2 / 2
        return -t * t / 2 * arb(1).union(1 - least)
    with precision(3 * wp):
        # It falls with t, and what is taken off at an end cancels as many bits as t is below 1.
        return (t.lower().log1p() - t.lower()).union(t.upper().log1p() - t.upper())


def loss_row(question: LossOfRow, prec: int) -> Interval:
    """The loss, as an enclosure."""
    wp = working(question.row, prec)
    with precision(wp):
        excess = log_total(question.row, wp)
        lse = arb(question.row.values[question.row.top]) + excess
        total = excess + _ball(question.rest) + _ball(question.z_loss) * lse**2
        return clip_loss(question, interval_of(total, wp), interval_of(excess, wp))


def slopes_row(question: SlopesOfRow, prec: int) -> list[Interval]:
    """Cotangent times slope at each distinct value and weight wanted."""
    row = question.row
    wp = working(row, prec)
    with precision(wp):
        w, count = weights(row, wp), row.counts[row.top]
        rest = tail_of(row, w)
        total, tail, twice = rest + count, rest / count, _ball(2 * question.z_loss)
        # As what it is at the top and an excess: their sum may be the latter alone.
        grown = _ball(question.lift)
        if question.z_loss:
            grown += twice * log_total(row, wp)
        change = _ball(question.slack) * tail
        if question.z_loss:
            change += twice * _log1p_less(tail, wp)
        side = interval_of(tail, wp), interval_of(grown, wp)
        factor, slopes = _ball(question.cotangent), []
        for k, c in question.wanted:
            base = question.base(k, c) if k == row.top else None
            # What a far tail takes off would be lost beside the limit.
            slope = w[k] / total * grown - _ball(c) if base is None else change / total + _ball(base)
            value = interval_of(factor * slope, wp)
            slopes.append(clip_slope(question, k, c, value, *side))
        return slopes
