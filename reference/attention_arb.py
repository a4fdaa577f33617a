"""Attention in Arb's ball arithmetic (python-flint): the second, independent oracle.

Nothing is shared with the mpmath path but the exact scores and values of the row; see `arb_oracle.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from flint import arb, ctx, fmpq

from softcert.reference.attention_scores import Column, ExpSum, Score, ScoreRow
from softcert.reference.interval import Interval


def _interval(ball: arb) -> Interval:
    """Interval of a ball, from its lower and upper bounds, which Arb rounds outward."""
    (low, low_exp), (high, high_exp) = ball.lower().man_exp(), ball.upper().man_exp()
    exp = min(int(low_exp), int(high_exp))
    return Interval(int(low) << (int(low_exp) - exp), int(high) << (int(high_exp) - exp), exp)


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _score(number: Score, radicand: int) -> arb:
    """Score at the precision in force."""
    rational = _ball(number.rational)
    return _ball(number.root) / arb(radicand).sqrt() + rational if number.root else rational


def _size(value: Fraction) -> int:
    """Bits before the point, at most one too many."""
    return max(0, value.numerator.bit_length() - value.denominator.bit_length() + 1)


@lru_cache(maxsize=1 << 12)
def _exp(number: Score, radicand: int, prec: int) -> arb:
    """exp of a score, relatively accurate however large its two parts are."""
    with ctx.workprec(prec + 8 + max(_size(number.root), _size(number.rational))):
        return _score(number, radicand).exp()


def _working(count: int, prec: int) -> int:
    return prec + 12 + count.bit_length()


def _tail(row: ScoreRow, wp: int) -> arb:
    """Sum of exp(gap) over all keys but those of the largest score."""
    others = [k for k in range(len(row.scores)) if k != row.top]
    return sum((_exp(row.gaps[k], row.radicand, wp) * row.counts[k] for k in others), arb(0))


def tails(row: ScoreRow, columns: list[Column], prec: int) -> list[Interval]:
    """Each column's output minus its mean; relative width about 2**-prec but for cancellation."""
    wp = _working(len(row.scores), prec)
    with ctx.workprec(wp):
        total = _tail(row, wp) + row.counts[row.top]
        sums = (_combined(zip(row.gaps, c.deltas, strict=True), row.radicand, wp) for c in columns)
        return [_interval(value / total) for value in sums]


def _combined(terms: Iterable[tuple[Score, Fraction]], radicand: int, wp: int) -> arb:
    """Sum of coefficient exp(exponent), terms of coefficient 0 left out."""
    return sum((_ball(c) * _exp(t, radicand, wp) for t, c in terms if c), arb(0))


def shares(row: ScoreRow, prec: int) -> list[Interval]:
    """Softmax at each distinct score; relative width about 2**-prec."""
    wp = _working(len(row.scores), prec)
    with ctx.workprec(wp):
        total = _tail(row, wp) + row.counts[row.top]
        return [_interval(_exp(gap, row.radicand, wp) / total) for gap in row.gaps]


def score(number: Score, radicand: int, prec: int) -> Interval:
    """Enclose a score with an absolute width of about 2**-prec of its larger part."""
    with ctx.workprec(prec + 12):
        return _interval(_score(number, radicand))


def logsumexp(row: ScoreRow, prec: int) -> Interval:
    """Largest score plus log of the sum of exp(gap); the score itself where one key is seen."""
    wp = _working(len(row.scores), prec)
    if len(row.scores) == 1 and row.counts[0] == 1:
        return score(row.scores[0], row.radicand, wp)
    with ctx.workprec(wp):
        tail, n = _tail(row, wp), row.counts[row.top]
        log_total = tail.log1p() if n == 1 else (tail + n).log()
        return _interval(_score(row.scores[row.top], row.radicand) + log_total)


def exp_sum(total: ExpSum, prec: int) -> Interval:
    """Enclose a sum of exponentials; relative width about 2**-prec but for cancellation."""
    wp = _working(len(total.terms), prec)
    with ctx.workprec(wp):
        value = _combined(total.terms, total.radicand, wp)
        return _interval(value / arb(total.radicand).sqrt() if total.rooted else value)
