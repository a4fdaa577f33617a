"""Attention by mpmath's exp and log, in integer intervals widened as `mp_oracle.py` argues.

`exp_of_gap` reduces its argument by a floored division, which does not ask for its sign, so that it encloses
exp of positive arguments, too: with floor(x / log 2) = k the rest lies in [0, log 2) either way. 1/sqrt(D) is
enclosed by integer square roots.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import isqrt

from softcert.reference.attention_scores import Column, ExpSum, Score, ScoreRow
from softcert.reference.interval import (
    ZERO,
    Interval,
    add,
    at_exponent,
    divide,
    from_fraction,
    multiply,
    times_integer,
)
from softcert.reference.mp_oracle import exp_of_gap, log1p


def _inverse_root(radicand: int, prec: int) -> Interval:
    """Enclose 1/sqrt(radicand) with relative width about 2**-prec."""
    shift = prec + radicand.bit_length()
    floor = isqrt((1 << 2 * shift) // radicand)
    return Interval(floor, floor if floor * floor * radicand == 1 << 2 * shift else floor + 1, -shift)


def _size(value: Fraction) -> int:
    """Bits before the point, at most one too many."""
    return max(0, value.numerator.bit_length() - value.denominator.bit_length() + 1)


def score(number: Score, radicand: int, prec: int) -> Interval:
    """Enclose a score with an absolute width of about 2**-prec of its larger part."""
    rational = from_fraction(number.rational, prec + 8)
    if not number.root:
        return rational
    wp = prec + 8
    return add(multiply(from_fraction(number.root, wp), _inverse_root(radicand, wp), wp), rational, wp)


@lru_cache(maxsize=1 << 12)
def _exp(number: Score, radicand: int, prec: int) -> Interval:
    """Enclose exp of a score with relative width about 2**-prec."""
    if not number.root:
        denominator = number.rational.denominator
        twos = (denominator & -denominator).bit_length() - 1
        return exp_of_gap(number.rational.numerator, -twos, denominator >> twos, prec)
    size = max(_size(number.root), _size(number.rational))
    argument = score(number, radicand, prec + size + 8)
    # exp increases, so the ends of the argument give the ends of the value
    low = exp_of_gap(argument.lo, argument.exp, 1, prec)
    high = exp_of_gap(argument.hi, argument.exp, 1, prec)
    exp = min(low.exp, high.exp)
    return Interval(at_exponent(low, exp).lo, at_exponent(high, exp).hi, exp)


def _working(count: int, prec: int) -> int:
    """Precision at which the roundings of `count` additions do not matter."""
    return prec + 12 + count.bit_length()


def _tail(row: ScoreRow, wp: int) -> Interval:
    """Sum of exp(gap) over all keys but those of the largest score."""
    tail = ZERO
    for k, (gap, count) in enumerate(zip(row.gaps, row.counts, strict=True)):
        if k != row.top:
            tail = add(tail, times_integer(_exp(gap, row.radicand, wp), count), wp)
    return tail


def tails(row: ScoreRow, columns: list[Column], prec: int) -> list[Interval]:
    """Each column's output minus its mean; relative width about 2**-prec but for cancellation."""
    wp = _working(len(row.scores), prec)
    n = row.counts[row.top]
    total = add(Interval(n, n, 0), _tail(row, wp), wp)
    return [divide(_combined(row.gaps, c.deltas, row.radicand, wp), total, wp) for c in columns]


def shares(row: ScoreRow, prec: int) -> list[Interval]:
    """Softmax at each distinct score; relative width about 2**-prec."""
    wp = _working(len(row.scores), prec)
    n = row.counts[row.top]
    total = add(Interval(n, n, 0), _tail(row, wp), wp)
    return [divide(_exp(gap, row.radicand, wp), total, wp) for gap in row.gaps]


def _combined(exponents: list[Score], coefficients: Sequence[Fraction], radicand: int, wp: int) -> Interval:
    total = ZERO
    for exponent, coefficient in zip(exponents, coefficients, strict=True):
        if coefficient:
            term = multiply(from_fraction(coefficient, wp), _exp(exponent, radicand, wp), wp)
            total = add(total, term, wp)
    return total


def logsumexp(row: ScoreRow, prec: int) -> Interval:
    """Largest score plus log of the sum of exp(gap); the score itself where one key is seen."""
    wp = _working(len(row.scores), prec)
    largest = score(row.scores[row.top], row.radicand, wp)
    n, tail = row.counts[row.top], _tail(row, wp)
    if n == 1 and tail == ZERO:
        return largest
    excess = tail if n == 1 else add(Interval(n - 1, n - 1, 0), tail, wp)
    return add(largest, log1p(excess, wp), wp)


def exp_sum(total: ExpSum, prec: int) -> Interval:
    """Enclose a sum of exponentials; relative width about 2**-prec but for cancellation."""
    wp = _working(len(total.terms), prec)
    exponents, coefficients = [t for t, _ in total.terms], [c for _, c in total.terms]
    value = _combined(exponents, coefficients, total.radicand, wp)
    return multiply(value, _inverse_root(total.radicand, wp), wp) if total.rooted else value
