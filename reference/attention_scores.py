"""Exact scores of attention, and which of its results are algebraic.

Theorem. Let t_1 > ... > t_m be the distinct scores of the keys that a query sees, n_k how many keys have
score t_k, and V_k the sum of their values in one column. The scores are algebraic, whether the scale is
rational or 1/sqrt(D). The output sum_k V_k exp(t_k) / sum_k n_k exp(t_k) is algebraic if and only if all
the means V_k / n_k are one number, which it then is. lse is algebraic if and only if exactly one key is
seen. A sum of c_k exp(t_k) with distinct algebraic t_k and algebraic c_k is algebraic if and only if every
c_k with t_k != 0 is 0.

Proof. By Lindemann and Weierstrass, exp(t_1), ..., exp(t_m) are linearly independent over the algebraic
numbers (Baker, Transcendental Number Theory, 1975, theorem 1.4). An algebraic output r gives sum_k
(V_k - r n_k) exp(t_k) = 0, hence V_k = r n_k for every k. For lse see `exactness.py`, and the third claim
is the same theorem with exp(0) = 1 beside the others. QED. A transcendental number is neither a float nor
a midpoint of two, so Ziv's loop ends for it; the algebraic ones are rationals, rounded exactly, or nonzero
rational multiples of 1/sqrt(D) plus rationals, which are irrational and no boundary either.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

from softcert.reference.interval import Interval, above, add, below, from_fraction


class Score(NamedTuple):
    """The real number root / sqrt(radicand) + rational.

    The radicand is one of a whole call, either 1, and then every root is 0, or no square. So two scores are
    the same number if and only if both parts are equal.
    """

    root: Fraction
    rational: Fraction

    def minus(self, other: Score) -> Score:
        """The difference of two numbers."""
        return Score(self.root - other.root, self.rational - other.rational)

    def sign(self, radicand: int) -> int:
        """Sign of the number, decided by the squares of its two parts."""
        one, other = _sign(self.root), _sign(self.rational)
        if one * other >= 0:
            return one or other
        return one if self.root**2 > radicand * self.rational**2 else other


NOTHING = Score(Fraction(0), Fraction(0))


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


@dataclass(frozen=True)
class ScoreRow:
    """The distinct scores of the keys that one query sees, at least one.

    Attributes
    ----------
    scores : the distinct numbers.
    counts : how many keys have each.
    member : which of them each key has.
    top : index of the largest.
    radicand : what `Score.root` is divided by the square root of.
    """

    scores: Sequence[Score]
    counts: Sequence[int]
    member: Sequence[int]
    top: int
    radicand: int

    @cached_property
    def gaps(self) -> list[Score]:
        """Score minus largest score, for each distinct one."""
        return [score.minus(self.scores[self.top]) for score in self.scores]

    def sums(self, values: Sequence[Fraction]) -> list[Fraction]:
        """Sum of one value per key over the keys of each distinct score."""
        sums = [Fraction(0)] * len(self.scores)
        for k, value in zip(self.member, values, strict=True):
            sums[k] += value
        return sums


def group_scores(scores: Sequence[Score], radicand: int) -> ScoreRow:
    """Group equal scores, and find the largest."""
    ids: dict[Score, int] = {}
    member = [ids.setdefault(score, len(ids)) for score in scores]
    counts = [0] * len(ids)
    for k in member:
        counts[k] += 1
    distinct, top = list(ids), 0
    for k, score in enumerate(distinct):
        if score.minus(distinct[top]).sign(radicand) > 0:
            top = k
    return ScoreRow(distinct, counts, member, top, radicand)


@dataclass(frozen=True)
class Column:
    """One column of a row's output: mean + sum_k deltas[k] exp(gap_k) / sum_k counts[k] exp(gap_k).

    Attributes
    ----------
    mean : V / n of the largest score.
    deltas : V_k - mean n_k; 0 at the largest score, and throughout where the output is the mean.
    """

    mean: Fraction
    deltas: Sequence[Fraction]


def column_of(row: ScoreRow, values: Sequence[Fraction]) -> Column:
    """Column of the values that one query sees."""
    sums = row.sums(values)
    mean = sums[row.top] / row.counts[row.top]
    return Column(mean, [total - mean * n for total, n in zip(sums, row.counts, strict=True)])


@dataclass(frozen=True)
class ExpSum:
    """sum of coefficient exp(exponent), over sqrt(radicand) where it is `rooted`.

    Attributes
    ----------
    terms : distinct exponents with their coefficients, none 0.
    radicand : as in `ScoreRow`.
    rooted : whether the sum is divided by sqrt(radicand).
    """

    terms: Sequence[tuple[Score, Fraction]]
    radicand: int
    rooted: bool


def collected(terms: Iterable[tuple[Score, Fraction]], radicand: int, *, rooted: bool) -> ExpSum:
    """Sum with equal exponents taken together; by the theorem it is 0 only if it has no terms left."""
    sums: dict[Score, Fraction] = {}
    for exponent, coefficient in terms:
        sums[exponent] = sums.get(exponent, Fraction(0)) + coefficient
    return ExpSum([(t, c) for t, c in sums.items() if c], radicand, rooted)


def beside(exact: Fraction, rest: Interval, prec: int) -> Interval:
    """exact + rest, strictly on that side of `exact` on which the sign of `rest` puts it.

    The mean of two floats may be a midpoint, and `rest` smaller than any precision reaches: then its sign
    alone decides the rounding.
    """
    value = add(from_fraction(exact, prec), rest, prec)
    return _clipped(value, exact, rest.sign)


def above_score(value: Interval, score: Score) -> Interval:
    """`value`, given that it exceeds a score strictly, as lse does with two keys or more."""
    return value if score.root else _clipped(value, score.rational, 1)


def _clipped(value: Interval, exact: Fraction, sign: int) -> Interval:
    denominator = exact.denominator
    if denominator & (denominator - 1) or not sign:
        return value  # no end of an interval can be this number, or the side is not known
    m, e = exact.numerator, 1 - denominator.bit_length()
    return above(value, m, e) if sign > 0 else below(value, m, e)
