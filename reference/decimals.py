"""Decimal strings of enclosures: proven digits, and bounds rounded outward; integers only.

Powers of ten are exact or enclosed by interval powering, so that a value like 1e-434294481903251827652
costs no more than an ordinary one.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction
from typing import NamedTuple

from softcert.reference.interval import MODEST_EXPONENT, Interval, divide, multiply, power

#: Powers of ten up to this one are exact.
_EXACT_POWER = 5000


class Scaled(NamedTuple):
    """Rational bounds of t * 10**shift, t > 0, strict where open."""

    low: Fraction
    high: Fraction
    open_low: bool
    open_high: bool


def _exponent_guess(t: Interval) -> int:
    """floor(log10 t), or one off."""
    with localcontext() as context:
        exponent = t.lo.bit_length() - 1 + t.exp
        context.prec = 30 + len(str(abs(exponent)))
        fraction = Decimal(t.lo >> max(t.lo.bit_length() - 53, 0)) / (1 << min(t.lo.bit_length() - 1, 52))
        return int((Decimal(exponent) * Decimal(2).log10() + fraction.log10()).__floor__())


def _scaled(t: Interval, shift: int, prec: int) -> Scaled:
    """Bounds of t * 10**shift, exact where the numbers are of modest size."""
    if (abs(shift) <= _EXACT_POWER or t.is_exact) and abs(t.exp) <= MODEST_EXPONENT:
        factor = Fraction(10) ** shift * Fraction(2) ** t.exp
        return Scaled(t.lo * factor, t.hi * factor, t.open_lo, t.open_hi)
    five = power(5, abs(shift), prec)
    bare = Interval(t.lo, t.hi, t.exp)
    product = multiply(bare, five, prec) if shift >= 0 else divide(bare, five, prec)
    scale = Fraction(2) ** (product.exp + shift)
    return Scaled(product.lo * scale, product.hi * scale, open_low=False, open_high=False)


def _nearest(value: Fraction, sticky: int) -> int:
    """Integer nearest to `value` moved by an infinitesimal of sign `sticky`; ties to even."""
    floor, rest = divmod(value.numerator, value.denominator)
    twice = 2 * rest - value.denominator
    up = twice > 0 or (twice == 0 and (sticky > 0 or (sticky == 0 and floor & 1 == 1)))
    return floor + up


def _precision(t: Interval, digits: int) -> int:
    return 4 * digits + 64 + max(t.lo.bit_length(), t.hi.bit_length())


def nearest_digits(t: Interval, digits: int) -> str | None:
    """`digits` significant digits of t, rounded to nearest (exact ties to even); None where not decided."""
    if t.lo == t.hi == 0:
        return "0"
    if t.sign == 0 or t.lo == 0 or t.hi == 0:
        return None
    if t.hi < 0:
        inner = nearest_digits(Interval(-t.hi, -t.lo, t.exp, t.open_hi, t.open_lo), digits)
        return None if inner is None else "-" + inner
    exponent = _exponent_guess(t)
    for guess in (exponent, exponent - 1, exponent + 1):
        s = _scaled(t, digits - 1 - guess, _precision(t, digits))
        low = _nearest(s.low, 1 if s.open_low else 0)
        high = _nearest(s.high, -1 if s.open_high else 0)
        if low != high and high >= 10 ** (digits - 1) and low < 10**digits:
            return None
        # at the right exponent t itself, not only its rounding, reaches the leading digit
        if low == high and s.low >= 10 ** (digits - 1) and low <= 10**digits:
            return _placed(low, guess - digits + 1, digits)
    return None


def outward_bounds(t: Interval, digits: int) -> tuple[str, str]:
    """Decimal numbers of `digits` digits, the first not above t, the second not below."""
    return _outward(t.lo, t.exp, digits, up=False), _outward(t.hi, t.exp, digits, up=True)


def _outward(m: int, e: int, digits: int, *, up: bool) -> str:
    if m == 0:
        return "0"
    if m < 0:
        return "-" + _outward(-m, e, digits, up=not up)
    t = Interval(m, m, e)
    exponent = _exponent_guess(t)
    s = _scaled(t, digits - 1 - exponent, _precision(t, digits))
    value = -(-s.high.numerator // s.high.denominator) if up else s.low.numerator // s.low.denominator
    return _placed(value, exponent - digits + 1, digits)


def _decimal_exponent(value: Fraction) -> int:
    """floor(log10 value) of a positive rational."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    return exponent if value >= Fraction(10) ** exponent else exponent - 1


def fraction_bounds(value: Fraction, digits: int) -> tuple[str, str]:
    """`outward_bounds` of a nonzero rational: equal strings where `digits` digits hold it."""
    if value < 0:
        low, high = fraction_bounds(-value, digits)
        return "-" + high, "-" + low
    unit = _decimal_exponent(value) - digits + 1
    scaled = value / Fraction(10) ** unit
    floor, ceiling = scaled.numerator // scaled.denominator, -(-scaled.numerator // scaled.denominator)
    return _placed(floor, unit, digits), _placed(ceiling, unit, digits)


def fraction_digits(value: Fraction, digits: int) -> str:
    """`digits` significant digits of a nonzero rational, rounded to nearest, exact ties to even."""
    if value < 0:
        return "-" + fraction_digits(-value, digits)
    unit = _decimal_exponent(value) - digits + 1
    return _placed(_nearest(value / Fraction(10) ** unit, 0), unit, digits)


#: Python refuses to write integers of more than 4300 digits at once.
_CHUNK = 4000


def _text(number: int) -> str:
    """Decimal digits of an integer of any length."""
    if number < 10**_CHUNK:
        return str(number)
    high, low = divmod(number, 10**_CHUNK)
    return _text(high) + str(low).zfill(_CHUNK)


def _placed(significand: int, exponent: int, digits: int) -> str:
    """significand * 10**exponent written with its point: positional near 1, else with an exponent."""
    text = _text(significand)
    leading = len(text) - 1 + exponent
    if len(text) > digits and text.endswith("0"):  # rounding carried into one more digit
        text, exponent = text[:-1], exponent + 1
    if -6 < leading < max(digits, 1):
        if exponent >= 0:
            return text + "0" * exponent
        if leading >= 0:
            return f"{text[: leading + 1]}.{text[leading + 1 :]}"
        return "0." + "0" * (-leading - 1) + text
    point = f".{text[1:]}" if len(text) > 1 else ""
    return f"{text[0]}{point}e{leading:+d}"
