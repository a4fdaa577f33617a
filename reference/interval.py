"""Intervals with integer ends, [lo, hi] * 2**exp, whose arithmetic rounds outward.

Exponents are Python integers, so nothing under- or overflows: exp(-1e308) is an ordinary interval.
An end may be open: then the value held is known to differ from it. Where a value is an exact number
plus something transcendental and vanishing, that knowledge alone decides its rounding.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

#: Exponents beyond this are compared by magnitude and never turned into a Fraction.
MODEST_EXPONENT = 1 << 16
#: More than a float64 holds.
_MIDDLE_BITS = 96


class Interval(NamedTuple):
    """The real numbers t with lo * 2**exp <= t <= hi * 2**exp; strict where the end is open."""

    lo: int
    hi: int
    exp: int
    open_lo: bool = False
    open_hi: bool = False

    @property
    def is_exact(self) -> bool:
        """Whether the interval is one number."""
        return self.lo == self.hi

    @property
    def sign(self) -> int:
        """1 or -1 where all the interval's numbers have that sign, 0 where zero may be among them."""
        if self.lo > 0 or (self.lo == 0 and self.open_lo):
            return 1
        if self.hi < 0 or (self.hi == 0 and self.open_hi):
            return -1
        return 0


ZERO = Interval(0, 0, 0)


def shift_floor(value: int, shift: int) -> int:
    """floor(value * 2**-shift), for a shift of any size and sign (a large negative one costs memory)."""
    if shift <= 0:
        return value << -shift
    if shift > value.bit_length():
        return -1 if value < 0 else 0
    return value >> shift


def shift_ceil(value: int, shift: int) -> int:
    """ceil(value * 2**-shift)."""
    return -shift_floor(-value, shift)


def negate(a: Interval) -> Interval:
    """-a."""
    return Interval(-a.hi, -a.lo, a.exp, a.open_hi, a.open_lo)


def at_exponent(a: Interval, exp: int) -> Interval:
    """Enclose a in an interval whose ends are multiples of 2**exp; exact where exp <= a.exp."""
    shift = exp - a.exp
    if shift <= 0:
        return Interval(a.lo << -shift, a.hi << -shift, exp, a.open_lo, a.open_hi)
    return Interval(shift_floor(a.lo, shift), shift_ceil(a.hi, shift), exp)


def trim(a: Interval, prec: int) -> Interval:
    """Enclose a in an interval whose ends have about `prec` bits."""
    excess = max(a.lo.bit_length(), a.hi.bit_length()) - prec
    return a if excess <= 0 else at_exponent(a, a.exp + excess)


def magnitude(a: Interval) -> int:
    """k with |t| <= 2**k for every t of the interval (not both ends zero)."""
    return max(a.lo.bit_length(), a.hi.bit_length()) + a.exp


def add(a: Interval, b: Interval, prec: int) -> Interval:
    """a + b, rounded outward to about `prec` bits of the larger operand."""
    if ZERO in (a, b):
        return trim(b if a == ZERO else a, prec)
    floor_exp = max(magnitude(a), magnitude(b)) - prec - 2
    exp = max(min(a.exp, b.exp), floor_exp)
    a, b = at_exponent(a, exp), at_exponent(b, exp)
    return trim(Interval(a.lo + b.lo, a.hi + b.hi, exp), prec)


def times_integer(a: Interval, n: int) -> Interval:
    """Multiply a by an integer, exactly."""
    ends = (a.lo * n, a.hi * n)
    return Interval(min(ends), max(ends), a.exp)


def multiply(a: Interval, b: Interval, prec: int) -> Interval:
    """a * b, rounded outward to about `prec` bits."""
    products = (a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi)
    return trim(Interval(min(products), max(products), a.exp + b.exp), prec)


def divide(a: Interval, b: Interval, prec: int) -> Interval:
    """a / b for b > 0, rounded outward to about `prec` bits.

    Raises
    ------
    ZeroDivisionError : b holds a number that is not positive.
    """
    if b.lo <= 0:
        raise ZeroDivisionError("the divisor of an interval quotient must be positive")
    shift = prec + 2 + b.hi.bit_length()
    low_by, high_by = (b.hi if a.lo >= 0 else b.lo), (b.lo if a.hi >= 0 else b.hi)
    low = (a.lo << shift) // low_by
    high = -((-a.hi << shift) // high_by)
    return trim(Interval(low, high, a.exp - b.exp - shift), prec)


def power(base: int, exponent: int, prec: int) -> Interval:
    """base**exponent for base > 0, exponent >= 0, by squaring, relative width about 2**-prec."""
    # each of the 2 log2(exponent) products adds a rounding, and each squaring doubles what is there
    wp = prec + 2 * exponent.bit_length() + 8
    result, factor = Interval(1, 1, 0), Interval(base, base, 0)
    while exponent:
        if exponent & 1:
            result = multiply(result, factor, wp)
        exponent >>= 1
        if exponent:
            factor = multiply(factor, factor, wp)
    return result


def compare_dyadic(m1: int, e1: int, m2: int, e2: int) -> int:
    """Sign of m1 * 2**e1 - m2 * 2**e2, whatever the exponents."""
    s1, s2 = (m1 > 0) - (m1 < 0), (m2 > 0) - (m2 < 0)
    if s1 != s2 or s1 == 0:
        return (s1 > s2) - (s1 < s2)
    top1, top2 = m1.bit_length() + e1, m2.bit_length() + e2
    if top1 != top2:
        return s1 if top1 > top2 else -s1
    # equal magnitudes, so the exponents differ by no more than the lengths do
    low = min(e1, e2)
    a, b = m1 << (e1 - low), m2 << (e2 - low)
    return (a > b) - (a < b)


def compare_rational(m: int, e: int, value: Fraction) -> int:
    """Sign of m * 2**e - value."""
    return compare_dyadic(m * value.denominator, e, value.numerator, 0)


def overlaps(a: Interval, b: Interval) -> bool:
    """Whether a and b have a number in common (open ends respected)."""
    low = compare_dyadic(a.lo, a.exp, b.hi, b.exp)
    high = compare_dyadic(b.lo, b.exp, a.hi, a.exp)
    if low > 0 or high > 0:
        return False
    if low == 0 and (a.open_lo or b.open_hi):
        return False
    return not (high == 0 and (b.open_lo or a.open_hi))


def middle(a: Interval) -> float:
    """Return a float near the middle of a; infinite beyond the largest."""
    twice = a.lo + a.hi
    # An integer of thousands of bits has no float of its own, whatever the exponent makes of it.
    excess = max(0, twice.bit_length() - _MIDDLE_BITS)
    try:
        return math.ldexp(twice >> excess, a.exp + excess - 1)
    except OverflowError:
        return math.copysign(math.inf, twice)


def contains(a: Interval, value: Fraction) -> bool:
    """Whether `value` lies in the interval (open ends respected)."""
    low = compare_rational(a.lo, a.exp, value)
    high = compare_rational(a.hi, a.exp, value)
    return (low < 0 or (low == 0 and not a.open_lo)) and (high > 0 or (high == 0 and not a.open_hi))


def hull(low: Interval, high: Interval) -> Interval:
    """Return the interval from low's lower to high's upper end."""
    exp = min(low.exp, high.exp)
    return Interval(low.lo << (low.exp - exp), high.hi << (high.exp - exp), exp)


def below(a: Interval, m: int, e: int) -> Interval:
    """a, given that its value is strictly less than m * 2**e."""
    if compare_dyadic(a.hi, a.exp, m, e) < 0 or compare_dyadic(a.lo, a.exp, m, e) >= 0:
        return a
    exp = min(a.exp, e)
    return Interval(a.lo << (a.exp - exp), m << (e - exp), exp, a.open_lo, open_hi=True)


def above(a: Interval, m: int, e: int) -> Interval:
    """a, given that its value is strictly greater than m * 2**e."""
    return negate(below(negate(a), -m, e))


def from_fraction(value: Fraction, prec: int) -> Interval:
    """Enclose a rational; exact where it is dyadic."""
    n, d = value.numerator, value.denominator
    if d & (d - 1) == 0:
        return Interval(n, n, 1 - d.bit_length())
    shift = max(0, prec + d.bit_length() - n.bit_length())
    low = (n << shift) // d
    return Interval(low, low + 1, -shift)


def to_fraction(m: int, e: int) -> Fraction:
    """m * 2**e as a Fraction; for modest exponents."""
    return Fraction(m << e) if e >= 0 else Fraction(m, 1 << -e)
