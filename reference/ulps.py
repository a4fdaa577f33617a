"""Certified errors in ulps of the exact value.

The fast path evaluates (y - t) / ulp(t) for whole arrays in binary64 with error-free transformations
(TwoSum: Knuth, TAOCP vol. 2, section 4.2.2, theorem B); everything that it cannot represent exactly,
and every special case, goes to exact rationals.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.cells import Cells, round_cell
from softcert.reference.chunks import in_chunks
from softcert.reference.formats import FloatFormat
from softcert.reference.interval import Interval, to_fraction
from softcert.reference.operands import Floats
from softcert.reference.split import EXACT_ZERO, IS_NAN, MINUS_INF, NUMBER, PLUS_INF, SLOW, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bounds = tuple[Floats, Floats]
_EXACT_RANGE = 900
_BEYOND = Fraction(2) ** 4000


def _two_sum(a: Floats, b: Floats) -> Bounds:
    """(s, e) with s + e == a + b exactly and s the rounded sum."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


def _ulp_exponents(split: Split, fmt: FloatFormat) -> NDArray[np.int64]:
    return np.minimum(np.maximum(split.binade, fmt.emin), fmt.emax) - (fmt.precision - 1)


def _magnitude_in_ulps(split: Split, fmt: FloatFormat) -> tuple[Floats, Floats, Floats]:
    """(a, b, w): |t| / ulp(t) lies in a + b + [0, w], a and b exact."""
    scale = split.binade - _ulp_exponents(split, fmt)
    tiny = scale < -_EXACT_RANGE
    exponent = np.minimum(np.maximum(scale, -_EXACT_RANGE), _EXACT_RANGE).astype(np.int32)
    high = np.ldexp(split.high, exponent - 52)
    low = np.ldexp(split.low, exponent - 105)
    width = np.ldexp(split.width, exponent - 105)
    if tiny.any():
        high, low = np.where(tiny, 0.0, high), np.where(tiny, 0.0, low)
        width = np.where(tiny, (split.high > 0) * 2.0 ** (1 - _EXACT_RANGE), width)
    return high, low, width


def magnitude_in_ulps(cells: Cells, split: Split, index: NDArray[np.int64], fmt: FloatFormat) -> Bounds:
    """Bounds of |t| / ulp(t), one ulp of `fmt`, elementwise over `index`; NaN for NaN."""
    lower, upper = in_chunks(lambda k: _in_ulps(cells, split, k, fmt), index)
    return lower, upper


def _in_ulps(cells: Cells, split: Split, index: NDArray[np.int64], fmt: FloatFormat) -> Bounds:
    taken = split.take(index)
    high, low, width = _magnitude_in_ulps(taken, fmt)
    inexact = (low != 0) | (width != 0)
    lower = np.where(inexact, np.maximum(np.nextafter(high + low, -np.inf), 0.0), high)
    upper = np.where(inexact, np.nextafter(high + (low + width) * (1 + 2.0**-50), np.inf), high)
    for kind, value in ((EXACT_ZERO, 0.0), (IS_NAN, math.nan), (PLUS_INF, math.inf), (MINUS_INF, math.inf)):
        at = taken.kind == kind
        lower[at], upper[at] = value, value
    slow = (taken.kind == SLOW) | ((taken.kind == NUMBER) & (taken.binade - fmt.emax > _EXACT_RANGE))
    for i in np.flatnonzero(slow).tolist():
        near, far = _exact_error(cells, int(index[i]), 0.0, fmt)
        lower[i] = _float_down(max(near, -far, Fraction(0)))
        upper[i] = _float_up(max(-near, far))
    return lower, upper


def signed_errors(
    cells: Cells, split: Split, index: NDArray[np.int64], y: Floats, fmt: FloatFormat
) -> Bounds:
    """Bounds of (y - t) / ulp(t), elementwise; infinite where only one of y and t is a number."""
    lower, upper = in_chunks(lambda k, v: _signed_errors(cells, split, k, v, fmt), index, y)
    return lower, upper


def _signed_errors(
    cells: Cells, split: Split, index: NDArray[np.int64], y: Floats, fmt: FloatFormat
) -> Bounds:
    taken = split.take(index)
    finite = np.isfinite(y)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        lower, upper, exact_scaling = _fast_errors(taken, np.where(finite, y, 0.0), fmt)
    if taken.ordinary and finite.all() and exact_scaling.all():
        return lower, upper
    number = (taken.kind == NUMBER) | (taken.kind == EXACT_ZERO) | (taken.kind == SLOW)
    slow = number & finite & ((taken.kind == SLOW) | ~exact_scaling)
    _resolve(slow, index, y, lower, upper, lambda k, value: _exact_bounds(cells, k, value, fmt))
    _set_specials(taken, y, lower, upper, fmt)
    # an infinite (E4M3: NaN) output is right where the exact value overflows
    candidate = ((taken.kind == NUMBER) & (taken.binade >= fmt.emax - 1)) | (taken.kind == SLOW)
    overflow = candidate & (~finite if not fmt.has_inf else np.isinf(y))
    _resolve(overflow, index, y, lower, upper, lambda k, value: _overflow_bounds(cells, k, value, fmt))
    return lower, upper


def absolute(bounds: Bounds) -> Bounds:
    """Bounds of the absolute value of what lies within `bounds`."""
    lower, upper = bounds
    return np.maximum(np.maximum(lower, -upper), 0.0), np.maximum(-lower, upper)


def _fast_errors(split: Split, y: Floats, fmt: FloatFormat) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Bounds for finite y and finite t, and where their scaling was exact."""
    unit = _ulp_exponents(split, fmt).astype(np.int32)
    scaled = np.ldexp(y, -unit)
    exact = np.isfinite(scaled) & (np.ldexp(scaled, unit) == y)
    exact &= split.binade <= fmt.emax + _EXACT_RANGE
    high, low, width = _magnitude_in_ulps(split, fmt)
    scaled = scaled * split.sign
    a, ra = _two_sum(scaled, -high)
    b, rb = _two_sum(ra, -low)
    d, rd = _two_sum(a, b)
    # d + rd + rb - [0, width] holds the error; the slack covers the roundings of these small terms
    slack = (np.abs(rd) + np.abs(rb) + width) * 2.0**-50
    inexact = slack != 0
    lower = np.where(inexact, np.nextafter(d + (rd + rb - width - slack), -np.inf), d)
    upper = np.where(inexact, np.nextafter(d + (rd + rb + slack), np.inf), d)
    negative = split.sign < 0
    return np.where(negative, -upper, lower), np.where(negative, -lower, upper), exact


def _set_specials(split: Split, y: Floats, lower: Floats, upper: Floats, fmt: FloatFormat) -> None:
    """Write the errors where y or t is no number: 0 where both are the same, else infinite.

    In E4M3 an infinite t rounds to NaN, which then is the same.
    """
    number = (split.kind == NUMBER) | (split.kind == EXACT_ZERO) | (split.kind == SLOW)
    bad = number & ~np.isfinite(y)
    lower[bad] = upper[bad] = np.where(y[bad] == -np.inf, -np.inf, np.inf)
    for kind, value in ((IS_NAN, math.nan), (PLUS_INF, math.inf), (MINUS_INF, -math.inf)):
        at = split.kind == kind
        if at.any():
            nan = kind == IS_NAN or not fmt.has_inf
            same = np.isnan(y[at]) if nan else y[at] == value
            lower[at] = upper[at] = np.where(same, 0.0, -math.inf if kind == PLUS_INF else math.inf)


def _resolve(
    where: NDArray[np.bool_],
    index: NDArray[np.int64],
    y: Floats,
    lower: Floats,
    upper: Floats,
    bounds: Callable[[int, float], tuple[float, float]],
) -> None:
    """Fill the bounds where told, each distinct pair of cell and output once."""
    known: dict[tuple[int, str], tuple[float, float]] = {}
    for i in np.flatnonzero(where).tolist():
        k, value = int(index[i]), float(y[i])
        key = (k, value.hex())
        if key not in known:
            known[key] = bounds(k, value)
        lower[i], upper[i] = known[key]


def _exact_ends(value: Interval) -> tuple[Fraction, Fraction]:
    """Rational ends of an interval, cut off at +-2**4000 and, towards zero, at 2**-8000."""

    def end(m: int, e: int, *, away: bool) -> Fraction:
        if m == 0:
            return Fraction(0)
        top = m.bit_length() + e
        if top < -8000:
            return Fraction(1 if m > 0 else -1, 1 << 8000) if away else Fraction(0)
        if top > 4000:
            return _BEYOND if m > 0 else -_BEYOND
        return to_fraction(m, e)

    return end(value.lo, value.exp, away=value.lo < 0), end(value.hi, value.exp, away=value.hi > 0)


def _exact_error(cells: Cells, k: int, y: float, fmt: FloatFormat) -> tuple[Fraction, Fraction]:
    """Bounds of (y - t) / ulp(t) in rationals, for both ulps where the binade is not known."""
    value = cells.rational(k, 8 * fmt.precision + 128)
    assert isinstance(value, Interval)  # noqa: S101 - callers select numbers
    low, high = _exact_ends(value)
    numerators = (Fraction(y) - high, Fraction(y) - low)
    inner = 0 if low <= 0 <= high else min(abs(low), abs(high))
    units = {_unit(Fraction(inner), fmt), _unit(max(abs(low), abs(high)), fmt)}
    quotients = [n / unit for n in numerators for unit in units]
    return min(quotients), max(quotients)


def _unit(t: Fraction, fmt: FloatFormat) -> Fraction:
    """Return ulp(t) for t >= 0."""
    if t == 0:
        return Fraction(2) ** fmt.eta_exponent
    binade = t.numerator.bit_length() - t.denominator.bit_length()
    if t < Fraction(2) ** binade:
        binade -= 1
    return Fraction(2) ** fmt.ulp_exponent(binade)


def _exact_bounds(cells: Cells, k: int, y: float, fmt: FloatFormat) -> tuple[float, float]:
    low, high = _exact_error(cells, k, y, fmt)
    return _float_down(low), _float_up(high)


def _float_down(value: Fraction) -> float:
    """Largest binary64 number not above `value`."""
    try:
        near = value.numerator / value.denominator
    except OverflowError:
        return 1.7976931348623157e308 if value > 0 else -math.inf
    return near if Fraction(near) <= value else math.nextafter(near, -math.inf)


def _float_up(value: Fraction) -> float:
    """Smallest binary64 number not below `value`."""
    return -_float_down(-value)


def _overflow_bounds(cells: Cells, k: int, y: float, fmt: FloatFormat) -> tuple[float, float]:
    """(0, 0) where t rounds to the infinite (E4M3: NaN) output y, else infinite."""
    bad = -math.inf if y == -math.inf else math.inf
    rounded = round_cell(cells, k, fmt)
    same = rounded == y or (math.isnan(rounded) and math.isnan(y))
    return (0.0, 0.0) if same else (bad, bad)
