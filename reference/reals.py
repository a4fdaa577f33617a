"""Real numbers with operators by either oracle, so that a formula of many steps is written once for both.

The oracles share nothing but the words of the formula: one computes in the integer intervals of
`mp_oracle.py`, the other in Arb's balls. A third kind of number, the rationals, finds the formulas whose
exponentials and logarithms are of 0 and of 1 alone: these have exact values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from flint import arb, fmpq
from mpmath.libmp import ln2_fixed

from softcert.reference import interval
from softcert.reference.arb_oracle import interval_of, precision
from softcert.reference.cells import Cells
from softcert.reference.interval import Interval
from softcert.reference.mp_oracle import exp_of_gap, log1p, log_point

#: A number of whichever kind the oracle at hand computes with; it has the operators +, -, * and /.
Real = Any


class Reals(Protocol):
    """What a formula asks of an oracle."""

    def rational(self, value: Fraction) -> Real:
        """A rational number."""

    def exp(self, value: Fraction) -> Real:
        """Exponential of a rational, relatively accurate however large that is."""

    def exp_of(self, value: Real) -> Real:
        """Exponential of a number of this kind."""

    def log(self, value: Real) -> Real:
        """Logarithm of a number of this kind, which is above 0."""

    def log1p(self, value: Real) -> Real:
        """Logarithm of 1 and a number of this kind, which is above 0: relatively accurate however small."""


#: A formula in numbers of any kind.
Formula = Callable[[Reals], list[Real]]


class NotRational(ArithmeticError):  # noqa: N818 - it names what was found
    """A formula has an exponential or a logarithm that is no rational."""


# --- integer intervals -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Enclosed:
    """An interval with the precision, in bits, that results of operations on it are rounded outward to."""

    ends: Interval
    prec: int

    def __add__(self, other: Enclosed) -> Enclosed:
        return Enclosed(interval.add(self.ends, other.ends, self.prec), self.prec)

    def __neg__(self) -> Enclosed:
        return Enclosed(interval.negate(self.ends), self.prec)

    def __sub__(self, other: Enclosed) -> Enclosed:
        return self + -other

    def __mul__(self, other: Enclosed) -> Enclosed:
        return Enclosed(interval.multiply(self.ends, other.ends, self.prec), self.prec)

    def __truediv__(self, other: Enclosed) -> Enclosed:
        """Raise ZeroDivisionError where the divisor is not certainly positive."""
        return Enclosed(interval.divide(self.ends, other.ends, self.prec), self.prec)


@dataclass(frozen=True)
class IntervalReals:
    """Numbers by mpmath's point values in integer intervals."""

    prec: int

    def rational(self, value: Fraction) -> Enclosed:
        """A rational number."""
        return Enclosed(interval.from_fraction(value, self.prec), self.prec)

    def exp(self, value: Fraction) -> Enclosed:
        """Exponential of a rational."""
        denominator = value.denominator
        twos = (denominator & -denominator).bit_length() - 1
        return Enclosed(exp_of_gap(value.numerator, -twos, denominator >> twos, self.prec), self.prec)

    def exp_of(self, value: Enclosed) -> Enclosed:
        """Exponential of an interval: those of its ends, since it increases."""
        low, high, exponent, *_ = value.ends
        return self._hull(exp_of_gap(low, exponent, 1, self.prec), exp_of_gap(high, exponent, 1, self.prec))

    def log(self, value: Enclosed) -> Enclosed:
        """Logarithm of a positive interval: those of its ends, since it increases."""
        low, high, exponent, *_ = value.ends
        if low <= 0:
            raise ZeroDivisionError("the logarithm of an interval needs one that is positive")
        return self._hull(self._log_at(low, exponent), self._log_at(high, exponent))

    def log1p(self, value: Enclosed) -> Enclosed:
        """Logarithm of 1 and a positive interval."""
        return Enclosed(log1p(value.ends, self.prec), self.prec)

    def _log_at(self, m: int, e: int) -> Interval:
        """Logarithm of m 2^e: of the significand, which lies in [1, 2), and the exponent's times log 2."""
        bits = m.bit_length() - 1
        significand, twos = log_point(m, -bits, self.prec), e + bits
        fixed = int(ln2_fixed(self.prec))
        log_two = Interval(fixed - 2, fixed + 2, -self.prec)
        return (
            interval.add(significand, interval.times_integer(log_two, twos), self.prec)
            if twos
            else significand
        )

    def _hull(self, low: Interval, high: Interval) -> Enclosed:
        return Enclosed(interval.hull(low, high), self.prec)


# --- balls -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BallReals:
    """Numbers in Arb's ball arithmetic, at the precision in force; complex balls pass through it as well."""

    prec: int

    def rational(self, value: Fraction) -> arb:
        """A rational number."""
        return arb(fmpq(value.numerator, value.denominator))

    def exp(self, value: Fraction) -> arb:
        """Exponential of a rational."""
        size = max(0, value.numerator.bit_length() - value.denominator.bit_length() + 1)
        with precision(self.prec + size + 8):
            return self.rational(value).exp()

    def exp_of(self, value: arb) -> arb:
        """Exponential of a ball."""
        return value.exp()

    def log(self, value: arb) -> arb:
        """Logarithm of a ball."""
        return value.log()

    def log1p(self, value: arb) -> arb:
        """Logarithm of 1 and a ball."""
        return value.log1p()


# --- rationals ---------------------------------------------------------------------------------------


class RationalReals:
    """Fractions, for formulas that need no other numbers."""

    def rational(self, value: Fraction) -> Fraction:
        """A rational number."""
        return value

    def exp(self, value: Fraction) -> Fraction:
        """1, of 0; any other exponential of a rational is transcendental.

        Raises
        ------
        NotRational : of anything else.
        """
        if value:
            raise NotRational(f"exp({value}) is transcendental")
        return Fraction(1)

    #: Of rationals both are the same.
    exp_of = exp

    def log(self, value: Fraction) -> Fraction:
        """0, of 1; any other logarithm of a positive rational is transcendental.

        Raises
        ------
        NotRational : of anything else.
        """
        if value != 1:
            raise NotRational(f"log({value}) is transcendental")
        return Fraction(0)

    def log1p(self, value: Fraction) -> Fraction:
        """As `log`."""
        return self.log(1 + value)


def _by_intervals(formula: Formula, prec: int) -> list[Interval]:
    return [value.ends for value in formula(IntervalReals(prec))]


def _by_balls(formula: Formula, prec: int) -> list[Interval]:
    with precision(prec):
        return [_ends(value, prec) for value in formula(BallReals(prec))]


def _ends(ball: arb, prec: int) -> Interval:
    # Its interval is a little wider than the ball, which must not be said of exact numbers.
    if ball.is_exact():
        mantissa, exponent = ball.mid().man_exp()
        return Interval(int(mantissa), int(mantissa), int(exponent))
    return interval_of(ball, prec)


_ORACLES: Mapping[str, Callable[[Formula, int], list[Interval]]] = MappingProxyType(
    {"auto": _by_balls, "mpmath": _by_intervals, "arb": _by_balls}
)


def evaluate(formula: Formula, method: str, size: int, prec: int) -> list[Interval]:
    """Enclosures of what a formula gives.

    Parameters
    ----------
    size : about how many numbers it adds; they cost that many roundings.
    prec : relative precision in bits, but for cancellation within the formula.

    Raises
    ------
    ValueError : no such method.
    """
    return known_method(method)(formula, prec + 16 + size.bit_length())


def known_method(method: str) -> Callable[[Formula, int], list[Interval]]:
    """How a method evaluates a formula.

    Raises
    ------
    ValueError : no such method.
    """
    found = _ORACLES.get(str(method))
    if found is None:
        raise ValueError(f"method={method!r} is not one of {', '.join(_ORACLES)}")
    return found


def add_formula(cells: Cells, formula: Formula, method: str, size: int, prec: int) -> list[int]:
    """Places of the cells of what a formula gives: exact ones where it is rational throughout."""
    try:
        return [cells.add_exact(value) for value in formula(RationalReals())]
    except NotRational:
        start = cells.add_block(partial(evaluate, formula, method, size), prec)
        return list(range(start, len(cells.values)))


def summed(terms: Sequence[Real]) -> Real:
    """Sum of at least one number of any kind."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
