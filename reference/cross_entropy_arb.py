"""Cross-entropy and its gradient in Arb's ball arithmetic: the second, independent oracle."""

from __future__ import annotations

from fractions import Fraction

from flint import arb, fmpq

from softcert.reference.arb_oracle import interval_of, log_total, precision, tail_of, weights, working
from softcert.reference.cross_entropy_rows import LossOfRow, SlopesOfRow, clip_loss, clip_slope
from softcert.reference.interval import Interval


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


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
        grown = arb(1)
        if question.z_loss:
            grown += twice * (arb(row.values[row.top]) + log_total(row, wp))
        change = twice * tail.log1p() - _ball(question.lift) * tail
        side = interval_of(tail, wp), interval_of(grown, wp)
        factor, slopes = _ball(question.cotangent), []
        for k, c in question.wanted:
            base = question.base(k, c) if k == row.top else None
            # What a far tail takes off would be lost beside the limit.
            slope = w[k] / total * grown - _ball(c) if base is None else change / total + _ball(base)
            value = interval_of(factor * slope, wp)
            slopes.append(clip_slope(question, k, c, value, *side))
        return slopes
