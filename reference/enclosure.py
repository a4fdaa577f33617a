"""Arrays of certified intervals: what every op of the reference returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from softcert.reference import decimals, ulps
from softcert.reference.cells import Cell, Cells, round_cell
from softcert.reference.environment import require_ieee
from softcert.reference.errors import DomainError
from softcert.reference.formats import FloatFormat, format_of
from softcert.reference.interval import Interval, contains, middle, overlaps
from softcert.reference.operands import Floats, as_floats
from softcert.reference.rounding import PRECISION_CAP
from softcert.reference.split import (
    IS_NAN,
    MINUS_INF,
    NUMBER,
    PLUS_INF,
    SLOW,
    Split,
    completed,
    split_cells,
)
from softcert.reference.ulps import Bounds

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: How many of the decimal digits asked for the two ends of an enclosure may not share.
_OPEN_DIGITS = 6


class Fast(Protocol):
    """What the fast path knows of all cells of an enclosure."""

    @property
    def split(self) -> Split:
        """Every cell in 53 + 53 bits and a width; of kind SLOW where nothing is known."""

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every cell rounded to a format, flat, and the places where that is not decided."""


class Enclosure:
    """An array whose elements are exact values, each known to lie in an interval proven to hold it.

    Parameters
    ----------
    cells : the distinct values.
    index : array of the enclosure's shape, the cell of each element; or the shape alone, where the
        elements are the cells in order.
    fast : gives roundings and splits of all cells at once, where the fast path made them.

    Notes
    -----
    Methods that need more precision than there is refine the cells in place, which never changes
    what an enclosure is about. ulp(t) is taken at the exact value t in the format of what is judged:
    2**(max(floor(log2 |t|), emin) - (p - 1)), so a power of two belongs to the binade above it,
    subnormal values use the smallest subnormal, and values beyond the largest finite number the
    spacing of the top binade.
    """

    def __init__(
        self, cells: Cells, index: NDArray[np.int64] | tuple[int, ...], fast: Fast | None = None
    ) -> None:
        self._cells = cells
        self._places = index
        self._fast = fast
        self._split: list[Split] = []  # made once, where it is first needed, for all parts
        self._undecided: list[int] = []  # how many roundings each fast pass left to the slow path

    def _part(self, index: NDArray[np.int64], split: list[Split] | None = None) -> Enclosure:
        part = Enclosure(self._cells, index, self._fast)
        part._split, part._undecided = self._split if split is None else split, self._undecided
        return part

    @cached_property
    def _index(self) -> NDArray[np.int64]:
        """The cell of each element."""
        if isinstance(self._places, tuple):
            return np.arange(math.prod(self._places), dtype=np.int64).reshape(self._places)
        return self._places

    @property
    def cells_of_elements(self) -> NDArray[np.int64]:
        """For `known`, the number of each element of this part, flat."""
        return self._index.ravel()

    @property
    def undecided(self) -> int:
        """Number of roundings that the fast path left to the slow one so far."""
        return sum(self._undecided)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._places if isinstance(self._places, tuple) else self._places.shape

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return (
            f"Enclosure(shape={self.shape}, digits(6)={self.digits(6).tolist() if self.size <= 8 else '...'})"
        )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an enclosure without axes has no length")
        return self.shape[0]

    def __getitem__(self, key: Any) -> Enclosure:
        return self._part(np.asarray(self._index[key]))

    def reshape(self, *shape: int) -> Enclosure:
        """Return the same elements in another shape."""
        return self._part(self._index.reshape(*shape))

    def moveaxis(self, source: int, destination: int) -> Enclosure:
        """Return the same elements with one axis elsewhere."""
        return self._part(np.moveaxis(self._index, source, destination))

    def exactly(self) -> Enclosure:
        """Return the same elements from the exact path alone, where the fast one left them wide: slow."""
        if self._fast is None:
            return self
        split = self._splits()
        kind, used = split.kind.copy(), self._used()
        kind[used] = np.where(kind[used] == NUMBER, SLOW, kind[used])
        return self._part(self._index, [completed(replace(split, kind=kind), self._cells)])

    def _splits(self) -> Split:
        if not self._split:
            fast = self._fast
            self._split.append(
                split_cells(self._cells) if fast is None else completed(fast.split, self._cells)
            )
        return self._split[0]

    def _used(self) -> list[int]:
        """Return the cells that the elements refer to."""
        return cast("list[int]", np.unique(self._index).tolist())

    def _map(self, compute: Callable[[int], Any], dtype: Any) -> NDArray[Any]:
        """Array of `compute(cell)`, each distinct cell once."""
        used = self._used()
        table = np.empty(max(used, default=0) + 1, dtype=dtype)
        for k in used:
            table[k] = compute(k)
        out = np.empty(self.shape, dtype=dtype)
        out[...] = table[self._index]
        return out

    def round(self, fmt: object) -> NDArray[Any]:
        """Round each element correctly: to nearest, ties to even, gradual underflow.

        Parameters
        ----------
        fmt : what `format_of` takes: a name, a dtype, a FloatFormat.

        Returns
        -------
        ndarray of the format's dtype. Overflow gives infinity, in E4M3 (which has none) NaN.

        Raises
        ------
        UndecidedRounding : the precision cap was reached; no input is known that does this.
        AlteredArithmetic : the processor flushes subnormals or does not round to nearest.
        """
        require_ieee()
        target = format_of(fmt)
        if self._fast is not None:
            return self._rounded_fast(self._fast, target)
        values = self._map(lambda k: round_cell(self._cells, k, target), np.float64)
        with np.errstate(invalid="ignore"):  # ml_dtypes warns of NaN
            return values.astype(numpy_dtype(target))

    def _rounded_fast(self, fast: Fast, target: FloatFormat) -> NDArray[Any]:
        values, places = fast.rounded(target)
        self._undecided.append(int(places.size))
        for k in places.tolist():
            values[k] = round_cell(self._cells, k, target)
        taken = values.reshape(self.shape) if isinstance(self._places, tuple) else values[self._index]
        with np.errstate(invalid="ignore"):
            return taken.astype(numpy_dtype(target), copy=False)

    def digits(self, n: int) -> NDArray[np.object_]:
        """`n` significant decimal digits of each element, rounded to nearest, all of them proven.

        Returns
        -------
        Object array of strings; "nan", "inf", "-inf" and "0" where the value is that.

        Raises
        ------
        DomainError : n < 1. UndecidedRounding : the precision cap was reached.
        """
        count = _positive(n)
        return self._map(lambda k: _digits(self._cells, k, count), object)

    def bounds_decimal(self, digits: int = 30) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
        """Decimal strings (lower, upper) of an enclosure of each element, rounded outward.

        Both ends are exact decimal numbers; the interval between them contains the value. They agree to
        all but a few of their digits; what the fast path knows so well is not asked of an oracle again.
        """
        count = _positive(digits)
        known = {k: self._known_bounds(k, count) or _bounds(self._cells, k, count) for k in self._used()}
        return self._map(lambda k: known[k][0], object), self._map(lambda k: known[k][1], object)

    def error_ulp(self, y: ArrayLike) -> Bounds:
        """Certified error |y - t| / ulp(t) of the output y, in ulps of y's own format.

        Parameters
        ----------
        y : array of the enclosure's shape.

        Returns
        -------
        (lower, upper) : float64 arrays, rounded outward; the true error lies between. 0 where both
        are NaN, both the same infinity, or y is what t overflows to; infinite where y is NaN or
        infinite and t is neither, or the other way round.

        Raises
        ------
        DomainError : another shape, or no known dtype. AlteredArithmetic : as `round`.
        """
        return ulps.absolute(self.signed_error_ulp(y))

    def signed_error_ulp(self, y: ArrayLike) -> Bounds:
        """Certified (y - t) / ulp(t), as `error_ulp`; +inf where y is NaN and t is a number."""
        values, fmt = as_floats(y, "y")
        if values.shape != self.shape:
            raise DomainError(f"y has shape {values.shape}, the enclosure {self.shape}")
        lower, upper = ulps.signed_errors(
            self._cells, self._splits(), self._index.ravel(), values.ravel(), fmt
        )
        return lower.reshape(self.shape), upper.reshape(self.shape)

    def in_ulps(self, fmt: object) -> Bounds:
        """(lower, upper) of |t| / ulp(t) in ulps of a format: what one relative unit costs."""
        require_ieee()
        lower, upper = ulps.magnitude_in_ulps(
            self._cells, self._splits(), self._index.ravel(), format_of(fmt)
        )
        return lower.reshape(self.shape), upper.reshape(self.shape)

    def to_float64(self) -> Floats:
        """Return float64 numbers near the elements: not certified, for plots and bounds' arguments."""
        split = self._splits()
        with np.errstate(over="ignore", under="ignore"):
            exponent = np.clip(split.binade - 52, -2000, 2000).astype(np.int32)
            table = split.sign * np.ldexp(split.high + (split.low + split.width / 2.0) * 2.0**-53, exponent)
        for kind, value in ((IS_NAN, math.nan), (PLUS_INF, math.inf), (MINUS_INF, -math.inf)):
            table[split.kind == kind] = value
        for k in np.flatnonzero(split.kind == SLOW).tolist():
            wide = self._cells.rational(k, 64)
            table[k] = wide if isinstance(wide, float) else middle(wide)
        return np.asarray(table[self._index])

    def width_bits(self) -> Floats:
        """-log2 of each element's relative width, rounded down; inf where the value is exact."""
        return self._map(lambda k: _width_bits(self._cells.rational(k, 1 << 12)), np.float64)

    def is_exact(self) -> NDArray[np.bool_]:
        """Whether each element is one known number (or NaN, or an infinity)."""
        return self._map(lambda k: self._cells.precision(k) is None, np.bool_)

    def overlaps(self, other: Enclosure) -> NDArray[np.bool_]:
        """Whether each element's enclosure has a number in common with the other's."""
        if other.shape != self.shape:
            raise DomainError(f"enclosures of shapes {self.shape} and {other.shape} cannot be compared")
        known: dict[tuple[int, int], bool] = {}
        out = []
        for pair in zip(self._index.ravel().tolist(), other._index.ravel().tolist(), strict=True):
            if pair not in known:
                known[pair] = _overlap(self.known(pair[0]), other.known(pair[1]))
            out.append(known[pair])
        return np.array(out, dtype=np.bool_).reshape(self.shape)

    def known(self, k: int) -> Cell:
        """Element k of the whole enclosure as it is known so far, by the fast path or else by an oracle."""
        proven = self._splits().interval(k) if self._fast is not None else None
        return self._cells.values[k] if proven is None else proven

    def _known_bounds(self, k: int, digits: int) -> tuple[str, str] | None:
        """Decimal bounds by the fast path, where it leaves open no more than the last digits."""
        proven = None if self._fast is None else self._splits().interval(k)
        if proven is None or (proven.hi - proven.lo) * 10 ** max(digits - _OPEN_DIGITS, 0) > abs(proven.lo):
            return None
        return decimals.outward_bounds(proven, digits)

    def contains(self, values: Any) -> NDArray[np.bool_]:
        """Whether each enclosure, as narrow as it is now, holds the value given.

        Parameters
        ----------
        values : Fractions or floats, one for all or of the enclosure's shape.
        """
        wanted = np.broadcast_to(np.asarray(values, dtype=object), self.shape)
        pairs: Iterable[tuple[int, Any]] = zip(
            self._index.ravel().tolist(), wanted.ravel().tolist(), strict=True
        )
        return np.array([_holds(self._cells, k, v) for k, v in pairs], dtype=np.bool_).reshape(self.shape)


def numpy_dtype(fmt: FloatFormat) -> np.dtype[Any]:
    """NumPy's dtype of a format; ml_dtypes is imported only where it is needed."""
    if hasattr(np, fmt.dtype):
        return np.dtype(fmt.dtype)
    import ml_dtypes

    return cast("np.dtype[Any]", np.dtype(getattr(ml_dtypes, fmt.dtype)))


def _positive(count: object) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise DomainError(f"digits={count!r} is not a positive integer")
    return count


def _special_text(value: float) -> str:
    return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _digits(cells: Cells, k: int, n: int) -> str:
    while True:
        value = cells.values[k]
        if isinstance(value, Fraction):
            return decimals.fraction_digits(value, n)
        if isinstance(value, float):
            return _special_text(value)
        text = decimals.nearest_digits(value, n)
        if text is not None:
            return text
        cells.refine(k, 4 * n + 32, max(PRECISION_CAP, 16 * n))


def _bounds(cells: Cells, k: int, digits: int) -> tuple[str, str]:
    value = cells.values[k]
    precision = cells.precision(k)
    # narrow enough that the strings' last digits mean something
    if precision is not None and precision < 4 * digits + 32:
        cells.refine(k, 4 * digits + 32, max(PRECISION_CAP, 16 * digits))
        value = cells.values[k]
    if isinstance(value, float):
        return _special_text(value), _special_text(value)
    if isinstance(value, Fraction):
        return decimals.fraction_bounds(value, digits)
    return decimals.outward_bounds(value, digits)


def _width_bits(value: Interval | float) -> float:
    if isinstance(value, float) or value.lo == value.hi:
        return math.inf
    smallest = min(abs(value.lo), abs(value.hi)) if value.sign else 0
    return float(smallest.bit_length() - 1 - (value.hi - value.lo).bit_length())


def _overlap(left: Cell, right: Cell) -> bool:
    if isinstance(left, float) or isinstance(right, float):
        both = isinstance(left, float) and isinstance(right, float)
        return both and (left == right or (left != left and right != right))  # noqa: PLR0124 - the NaN test
    if isinstance(left, Fraction) and isinstance(right, Fraction):
        return left == right
    if isinstance(left, Fraction):
        return contains(cast("Interval", right), left)
    if isinstance(right, Fraction):
        return contains(left, right)
    return overlaps(left, right)


def _holds(cells: Cells, k: int, wanted: Any) -> bool:
    value = cells.values[k]
    if not isinstance(wanted, (Fraction, int)) and not math.isfinite(wanted):
        return isinstance(value, float) and (value == wanted or (value != value and wanted != wanted))  # noqa: PLR0124 - NaN
    if isinstance(value, float):
        return False
    number = Fraction(wanted if isinstance(wanted, (Fraction, int)) else float(wanted))
    return value == number if isinstance(value, Fraction) else contains(value, number)
