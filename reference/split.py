"""Cells as arrays: each enclosure in 53 + 53 bits and a width, for certified vector arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.chunks import in_chunks
from softcert.reference.errors import UndecidedRounding
from softcert.reference.formats import FloatFormat
from softcert.reference.interval import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What a cell is: a nonzero number, exactly zero, NaN, +inf, -inf, or a number for the exact path.
NUMBER, EXACT_ZERO, IS_NAN, PLUS_INF, MINUS_INF, SLOW = range(6)

_BITS = 106
_MASK = (1 << 53) - 1
#: Exponents are cut off here, far outside every format: only "negligible" or "beyond" is left to say.
FAR = 1 << 40
#: An interval wider than 2**-66 of its value is refined first.
_WIDTH_BITS = 40
_RATIONAL_PRECISION = 192
_STRADDLE_PRECISION = 4096

#: Nor is one kept, of the fast path, from here on: 2**-10 of its value, in the units of `Split.width`.
WIDEST = 2.0**95

_Entry = tuple[int, int, int, int, int, int]


@dataclass(frozen=True)
class Split:
    """|t| lies in (high + low * 2**-53 + [0, width * 2**-53]) * 2**(binade - 52), for kind NUMBER.

    Attributes (arrays of one length)
    ----------
    kind : what the cell is. sign : 1 or -1. binade : floor(log2 |t|), proven.
    high : integers of [2**52, 2**53). low : integers below 2**53. width : rounded up.
    """

    kind: NDArray[np.int8]
    sign: NDArray[np.float64]
    binade: NDArray[np.int64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    width: NDArray[np.float64]

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """The arrays, in the order in which the constructor takes them."""
        return self.kind, self.sign, self.binade, self.high, self.low, self.width

    @cached_property
    def ordinary(self) -> bool:
        """Whether every cell is of kind NUMBER."""
        return bool((self.kind == NUMBER).all())

    def take(self, index: NDArray[np.int64]) -> Split:
        """Return the cells at `index`."""
        return Split(*(column[index] for column in self.columns))

    def interval(self, k: int) -> Interval | None:
        """Cell k as an interval; None where it is no number, or beyond the exponents that are kept."""
        if self.kind[k] != NUMBER or abs(int(self.binade[k])) > FAR >> 2:
            return None
        low = (int(self.high[k]) << 53) + int(self.low[k])
        high = low + math.ceil(float(self.width[k]))
        exponent = int(self.binade[k]) - _BITS + 1
        return Interval(low, high, exponent) if self.sign[k] > 0.0 else Interval(-high, -low, exponent)


def split_cells(cells: Cells) -> Split:
    """Split every cell, refining those that straddle a power of two."""
    entries = [_split_cell(cells, k) for k in range(len(cells.values))]
    table: NDArray[Any] = np.array(entries, dtype=np.float64).reshape(len(entries), 6).T
    return Split(
        kind=table[0].astype(np.int8),
        sign=table[1],
        binade=table[2].astype(np.int64),
        high=table[3],
        low=table[4],
        width=table[5] * (1 + 2.0**-50),
    )


def completed(split: Split, cells: Cells) -> Split:
    """The split with its SLOW cells split one by one, where that can be done."""
    places = np.flatnonzero(split.kind == SLOW)
    if not places.size:
        return split
    columns = [column.copy() for column in split.columns]
    entries = [_split_cell(cells, k) for k in places.tolist()]
    for column, values in zip(columns, zip(*entries, strict=True), strict=True):
        column[places] = values
    return Split(*columns)


def _split_cell(cells: Cells, k: int) -> _Entry:
    value = cells.rational(k, _RATIONAL_PRECISION)
    if isinstance(value, float):
        kind = IS_NAN if value != value else PLUS_INF if value > 0 else MINUS_INF  # noqa: PLR0124 - the NaN test
        return (kind, 1, 0, 0, 0, 0)
    if value.lo == value.hi == 0:
        return (EXACT_ZERO, 1, -FAR, 0, 0, 0)  # far below: its ulp is the smallest subnormal
    while (entry := split_interval(value)) is None:
        precision = cells.precision(k)
        if precision is None or precision >= _STRADDLE_PRECISION:
            return (SLOW, 1, 0, 0, 0, 0)
        try:
            cells.refine(k)
        except UndecidedRounding:
            return (SLOW, 1, 0, 0, 0, 0)
        refined = cells.rational(k, _RATIONAL_PRECISION)
        assert isinstance(refined, Interval)  # noqa: S101 - a block's cells stay intervals
        value = refined
    return entry


def split_interval(t: Interval) -> _Entry | None:
    """One entry, or None where the binade or the sign is not known, or the interval is too wide."""
    lo, hi, exp, _, open_hi = t
    sign = 1
    if lo <= 0:
        lo, hi, open_hi, sign = -hi, -lo, t.open_lo, -1
        if lo <= 0:
            return None
    bits = lo.bit_length()
    if (hi - 1 if open_hi else hi).bit_length() != bits:
        return None
    shift = bits - _BITS
    if shift > 0:
        base = lo >> shift
        width = -(-hi >> shift) - base
    else:
        base = lo << -shift
        width = (hi - lo) << -shift
    if width >> _WIDTH_BITS:
        return None
    binade = bits - 1 + exp
    if not -FAR < binade < FAR:
        binade = FAR if binade > 0 else -FAR
    return (NUMBER, sign, binade, base >> 53, base & _MASK, width)


def round_split(split: Split, fmt: FloatFormat) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Round each cell to a format, ties to even, where all of its interval rounds alike.

    Returns
    -------
    The values in binary64, and where they are decided. A tie is never decided: the interval's lower end
    may be the exact value.
    """
    values, decided = in_chunks(lambda *columns: _round_chunk(Split(*columns), fmt), *split.columns)
    return values, decided


def _round_chunk(split: Split, fmt: FloatFormat) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    number = split.kind == NUMBER
    binade = np.where(number, split.binade, 0)
    unit = np.maximum(binade, fmt.emin) - (fmt.precision - 1)
    # Bits of `high` that the format does not keep; beyond 54 nothing is left but the question of 0.
    dropped = np.minimum(unit - (binade - 52), 55)
    high = split.high.astype(np.int64)
    low, width = split.low, split.width
    kept = np.where(dropped < 55, high >> np.minimum(dropped, 54), 0)
    rest = high - (kept << np.minimum(dropped, 54))
    carries = low + width >= 2.0**53
    half = np.where(dropped > 0, np.int64(1) << np.maximum(np.minimum(dropped, 55) - 1, 0), 0)
    # With bits dropped the boundary is rest = half, low = 0; with none it is low = 2**52.
    up = np.where(dropped > 0, (rest >= half) & (dropped < 55), low > 2.0**52)
    doubtful = np.where(
        dropped > 0,
        ((rest == half) & (low == 0.0)) | ((rest == half - 1) & carries),
        (low <= 2.0**52) & (low + width >= 2.0**52),
    ) | (width >= 2.0**52)
    rounded = kept + up
    with np.errstate(over="ignore", under="ignore"):
        exponent = np.clip(unit, -(1 << 20), 1 << 20).astype(np.int32)
        values = np.ldexp(rounded.astype(np.float64), exponent)
    top = np.ldexp(float(fmt.max_significand), fmt.emax - fmt.precision + 1)
    values = np.where(values > top, np.inf if fmt.has_inf else np.nan, values) * split.sign
    for kind, special in ((EXACT_ZERO, 0.0), (IS_NAN, np.nan), (PLUS_INF, np.inf), (MINUS_INF, -np.inf)):
        values = np.where(
            split.kind == kind, special if fmt.has_inf or not np.isinf(special) else np.nan, values
        )
    return values, ~((number & doubtful) | (split.kind == SLOW))
