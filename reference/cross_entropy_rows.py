"""One row of cross-entropy and of its gradient in canonical form, and which of their values are algebraic.

With L = logsumexp, c_j the weight of class j ((1 - s) where it is the target, and s / n besides) and z the
factor of the z-loss, the loss is L - sum_j c_j x_j + z L^2 and its slope by x_j is p_j (1 + 2 z L) - c_j.

Theorem. Let s, z and the finite logits be rational, K of them, m of those distinct, and let no weight c_j > 0
lie at a logit -inf, where the loss is +inf.
(a) The loss is z x^2 where K = 1, x being that logit; else it is transcendental.
(b) With z = 0 a slope at a finite logit is 1/K - c_j where m = 1; else it is transcendental.
(c) With z > 0 it is 1 + 2 z x - c_j where K = 1, and transcendental where m = 1 and K >= 2.
(d) With z > 0 and m >= 2, p_j (1 + 2 z L) is not 0; it is transcendental if Schanuel's conjecture holds.

Proof. By the theorem of `exactness.py` L is algebraic only where K = 1. (a) Were the loss algebraic,
L + z L^2 would be, and L a root of a polynomial with algebraic coefficients, hence algebraic. (b) is that
theorem on softmax. (c) With m = 1 the slope is (1 + 2 z (x + log K)) / K - c_j, and log K is
transcendental for K >= 2. (d) 1 + 2 z L = 0 would make L rational. Let w = exp(1 / q), q a common denominator
of the logits, so that exp(L) and p_j are rational functions of w. Were p_j (1 + 2 z L) algebraic,
L would be a rational function of w with algebraic coefficients, and Q(1, L, e, exp(L)) of transcendence
degree 1 over Q; but 1 and L are linearly independent over Q, for which
Schanuel's conjecture gives at least 2. QED.

So every rounding of a loss, and of a slope with z = 0, is decided at some finite precision. Of (d) nobody has
a proof without the conjecture: there a rounding stops at the precision cap, should it ever fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from softcert.reference.exactness import Logits
from softcert.reference.interval import Interval, above, below


@dataclass(frozen=True)
class LossOfRow:
    """The loss of a row, as (L - top) + rest + z L^2: no term is negative, so that nothing cancels.

    Attributes
    ----------
    row : the finite logits, K >= 2 of them.
    rest : top - sum_j c_j x_j >= 0, top being the largest logit.
    z_loss : z >= 0.
    """

    row: Logits
    rest: Fraction
    z_loss: Fraction


@dataclass(frozen=True)
class SlopesOfRow:
    """Slopes of a row, times the cotangent of its loss.

    Attributes
    ----------
    row : the finite logits, K >= 2 of them, and two distinct ones unless z > 0.
    wanted : (k, c): the distinct value k with a weight c.
    z_loss : z >= 0.
    cotangent : the exact factor of every slope, not 0.
    """

    row: Logits
    wanted: tuple[tuple[int, Fraction], ...]
    z_loss: Fraction
    cotangent: Fraction

    @cached_property
    def lift(self) -> Fraction:
        """1 + 2 z top."""
        return 1 + 2 * self.z_loss * Fraction(self.row.values[self.row.top])

    @property
    def slack(self) -> Fraction:
        """2 z - lift: at the top a slope's change is slack t + 2 z (log(1 + t) - t), over count (1 + t)."""
        return 2 * self.z_loss - self.lift

    def base(self, k: int, c: Fraction) -> Fraction | None:
        """Limit of a slope, cotangent apart, as all logits below the top go to -inf: None if irrational."""
        count = self.row.counts[self.row.top]
        if k != self.row.top:
            return -c
        return self.lift / count - c if count == 1 or not self.z_loss else None


def slope_if_rational(row: Logits, c: Fraction, z_loss: Fraction) -> Fraction | None:
    """Slope at a finite logit where (b) or (c) give a rational number, else None."""
    if len(row.values) > 1:
        return None
    if row.total == 1:
        return 1 + 2 * z_loss * Fraction(row.values[0]) - c
    return None if z_loss else Fraction(1, row.total) - c


def _dyadic(value: Fraction) -> tuple[int, int] | None:
    """(m, e) with value == m * 2**e, where there are such integers."""
    d = value.denominator
    return None if d & (d - 1) else (value.numerator, 1 - d.bit_length())


def _beside(value: Interval, base: Fraction, sign: int) -> Interval:
    """The interval, given that its number lies strictly above (1) or below (-1) the base; 0 says neither."""
    place = _dyadic(base)
    if place is None or not sign:
        return value
    return above(value, *place) if sign > 0 else below(value, *place)


def clip_loss(question: LossOfRow, value: Interval, excess: Interval) -> Interval:
    """Use that L exceeds the largest logit: it decides a midpoint plus something that vanishes.

    Parameters
    ----------
    excess : enclosure of L - top > 0.

    Notes
    -----
    With d = L - top the loss exceeds rest + z top^2 by d (1 + 2 z top + z d).
    """
    z, top = question.z_loss, Fraction(question.row.values[question.row.top])
    lift = 1 + 2 * z * top
    sign = 1 if lift >= 0 else -1 if _surely_below(excess, -lift / z) else 0
    return _beside(value, question.rest + z * top * top, sign)


def clip_slope(
    question: SlopesOfRow, k: int, c: Fraction, value: Interval, tail: Interval, grown: Interval
) -> Interval:
    """Use on which side of its limit a slope lies.

    Parameters
    ----------
    value : enclosure of cotangent times slope.
    tail : enclosure of t = sum of exp(x_j - top) over all logits below the top, over the top's count.
    grown : enclosure of 1 + 2 z L.

    Notes
    -----
    Below the top a slope exceeds -c by p (1 + 2 z L). At a single top, or with z = 0, it exceeds its limit by
    (2 z log(1 + t) - lift t) / (count (1 + t)), which is negative where lift >= 2 z, and positive
    where t < (2 z - lift) / z, since log(1 + t) >= t - t^2 / 2.
    """
    base = question.base(k, c)
    if base is None:
        return value
    slack = question.slack
    if k != question.row.top:
        sign = grown.sign
    elif slack <= 0:
        sign = -1
    else:
        sign = 1 if _surely_below(tail, slack / question.z_loss) else 0
    return _beside(value, question.cotangent * base, sign if question.cotangent > 0 else -sign)


def _surely_below(value: Interval, limit: Fraction) -> bool:
    """Whether an interval that lies above 0 also lies below a limit above 0, whatever its exponent."""
    # exponents of vanishing tails are too far below to be made fractions
    if value.hi.bit_length() + value.exp < -(1 << 12):
        return limit > Fraction(1, 1 << (1 << 12))
    return Fraction(value.hi) * Fraction(2) ** value.exp < limit
