"""Correct rounding through integers: of dyadic numbers, rationals and enclosures.

Rounding is to nearest, ties to even, with gradual underflow, overflow to infinity (to NaN in E4M3,
which has none) from half an ulp past the largest finite number, as in IEEE 754-2019 section 4.3.1.
"""

from __future__ import annotations

import math
from fractions import Fraction

from softcert.reference.formats import FloatFormat
from softcert.reference.interval import Interval

#: Working precision, bits, at which a rounding is given up.
PRECISION_CAP = 1 << 14


def start_precision(precision: int) -> int:
    """Working precision at which Ziv's loop starts for a format of `precision` bits.

    Two logits 2**(1 - p) apart give 1/2 + d/4 - d**3/48: d/4 alone is a midpoint, and telling the cubic
    term from it takes 3 (p - 1) + 7 bits.
    """
    return 3 * precision + 16


def round_dyadic(m: int, e: int, fmt: FloatFormat, sticky: int = 0) -> float:
    """m * 2**e, moved by an infinitesimal of sign `sticky`, rounded to `fmt`.

    Returns
    -------
    The rounded value; a zero bears the sign of what was rounded.
    """
    if m == 0:
        return -0.0 if sticky < 0 else 0.0
    sign = -1 if m < 0 else 1
    m, sticky = abs(m), sticky * sign
    unit = max(m.bit_length() + e - 1, fmt.emin) - fmt.precision + 1
    shift = unit - e
    if shift <= 0:
        kept = m << -shift
    elif shift > m.bit_length() + 1:  # less than half of the smallest subnormal
        kept = 0
    else:
        kept, rest, half = m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1)
        if rest > half or (rest == half and (sticky > 0 or (sticky == 0 and kept & 1))):
            kept += 1
    return sign * _assemble(kept, unit, fmt)


def _assemble(kept: int, unit: int, fmt: FloatFormat) -> float:
    """kept * 2**unit where the format reaches so far, else what overflow gives."""
    if kept == 1 << fmt.precision:  # the carry reached the next binade
        kept, unit = kept >> 1, unit + 1
    top = kept.bit_length() + unit - 1
    if top > fmt.emax or (top == fmt.emax and kept > fmt.max_significand):
        return math.inf if fmt.has_inf else math.nan
    return math.ldexp(kept, unit)  # exact: a number of the format, hence of binary64


def round_fraction(value: Fraction, fmt: FloatFormat) -> float:
    """`value` rounded to `fmt`."""
    n, d = abs(value.numerator), value.denominator
    # two bits more than the significand: what is cut off lies strictly between boundaries
    shift = fmt.precision + 3 + d.bit_length() - n.bit_length()
    quotient, remainder = divmod(n << max(shift, 0), d << max(-shift, 0))
    rounded = round_dyadic(quotient, -shift, fmt, 1 if remainder else 0)
    return -rounded if value < 0 else rounded


def round_interval(t: Interval, fmt: FloatFormat) -> float | None:
    """Return the number of `fmt` to which all of the enclosure rounds; None where there are two."""
    low = round_dyadic(t.lo, t.exp, fmt, 1 if t.open_lo else 0)
    if t.lo == t.hi:
        return low
    high = round_dyadic(t.hi, t.exp, fmt, -1 if t.open_hi else 0)
    if low == high and (low != 0 or math.copysign(1.0, low) == math.copysign(1.0, high)):
        return low
    if math.isnan(low) and math.isnan(high) and t.sign:
        return low
    return None
