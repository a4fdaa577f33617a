"""Answers and enclosures as rational numbers, for relations that are decided without rounding."""

from __future__ import annotations

from fractions import Fraction

from softcert.backends.types import Array
from softcert.reference import Enclosure

#: Positive numbers below 2 to this power are enclosed by 0 and it: the integers of a smaller one fill memory.
_LEAST = -6000
_TINY = Fraction(1, 1 << -_LEAST)

Ends = tuple[Fraction, Fraction]


def exact_of(values: Array) -> list[Fraction]:
    """The finite numbers of an array, flat and exact."""
    return [Fraction(float(v)) for v in values.ravel()]


def ends_of(truth: Enclosure) -> list[Ends]:
    """(lower, upper) of each element of an enclosure of finite values, flat, as narrow as it is known."""
    cells = truth.cells_of_elements.tolist()
    ends = {k: _ends(truth, k) for k in dict.fromkeys(cells)}
    return [ends[k] for k in cells]


def _ends(truth: Enclosure, k: int) -> Ends:
    cell = truth.known(k)
    if isinstance(cell, (Fraction, float)):
        return Fraction(cell), Fraction(cell)
    if max(cell.lo.bit_length(), cell.hi.bit_length()) + cell.exp < _LEAST:
        return (-_TINY if cell.lo < 0 else Fraction(0)), (_TINY if cell.hi > 0 else Fraction(0))
    unit = Fraction(1 << cell.exp) if cell.exp >= 0 else Fraction(1, 1 << -cell.exp)
    return cell.lo * unit, cell.hi * unit


def shown(ends: Ends) -> tuple[str, str]:
    """Decimal ends of an interval, about 15 digits, rounded outwards."""
    return _outward(ends[0], upward=False), _outward(ends[1], upward=True)


def _outward(value: Fraction, *, upward: bool) -> str:
    near = Fraction(float(value))
    step = abs(near) * Fraction(1, 2**50) + Fraction(1, 2**1070)
    return repr(float(near + (step if upward else -step))) if value else "0"
