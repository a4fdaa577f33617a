"""The softmax functions of arrays: special values by definition, all others as enclosures."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from softcert.reference import many_rows
from softcert.reference.cells import Cell, Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.environment import require_ieee
from softcert.reference.errors import DomainError
from softcert.reference.exactness import (
    Logits,
    clip_log_softmax,
    clip_logsumexp,
    clip_softmax,
    group,
    softmax_if_rational,
)
from softcert.reference.formats import FloatFormat, dyadic, format_of
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import as_floats, rows_along
from softcert.reference.oracles import Oracle, oracle
from softcert.reference.rounding import start_precision

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Least precision of a first evaluation: 106 bits for the error arithmetic, and some to spare.
_LEAST_PRECISION = 128

_LARGEST = sys.float_info.max
#: Elements from which "auto" is the fast path, which takes seconds to compile once.
_MANY = 1 << 15


class RowOf(Protocol):
    """Adds the cells of a row, and returns the place of each element's."""

    def __call__(self, cells: Cells, row: list[float], /, *, prec: int) -> list[int]:
        """Cells are first evaluated at `prec` bits."""


def exact_factor(beta: float | Fraction, name: str = "beta") -> Fraction:
    """Return the exact real of a factor, such as an inverse temperature.

    Parameters
    ----------
    name : how it is called in messages.

    Raises
    ------
    DomainError : not a finite number.
    """
    if isinstance(beta, Fraction):
        return beta
    if isinstance(beta, bool) or not isinstance(beta, (int, float, np.integer, np.floating)):
        raise DomainError(f"{name}={beta!r} is not a real number")
    given: Any = beta
    number = given.item() if isinstance(given, np.generic) else given
    # A comparison, since an integer may be too large for every function of floats.
    if not -_LARGEST <= number <= _LARGEST:
        raise DomainError(f"{name}={beta!r:.40} is not finite in float64")
    return Fraction(*number.as_integer_ratio())


def by_double_words(method: str, x: ArrayLike) -> bool:
    """Whether a method computes an array by the fast path, as far as the latter takes it."""
    many = isinstance(x, np.ndarray) and x.size >= _MANY
    return method == "fast" or (method == "auto" and many)


def first_precision(fmt: FloatFormat) -> int:
    """Precision at which rows that came in `fmt` are first evaluated."""
    return max(start_precision(fmt.precision), _LEAST_PRECISION)


def softmax(x: ArrayLike, axis: int = -1, beta: float | Fraction = 1.0, method: str = "auto") -> Enclosure:
    """exp(beta x_i) / sum_j exp(beta x_j) of the numbers given, as exact reals.

    Parameters
    ----------
    x : (..., n) along `axis`, n >= 1, any supported dtype.
    beta : inverse temperature, the exact real of the number given; the base is e**beta.
    method : "arb", "mpmath", "fast" (double words, with Arb for what they leave open), or "auto": "fast" for
        arrays of 2**15 elements or more, else "arb".

    Returns
    -------
    Enclosure of x's shape. A NaN, or an infinity that beta makes +inf, or a row whose every
    product is -inf, gives NaN throughout; a product -inf among finite ones gives exactly 0;
    0 times an infinity is NaN.

    Raises
    ------
    DomainError : x is no array of supported floats, has no such axis, or is empty along it.
    ValueError : no such method.
    """
    if by_double_words(method, x):
        return _softmax_fast(x, axis, exact_factor(beta))
    return rowwise(x, axis, "softmax", partial(_softmax_row, beta=exact_factor(beta), source=oracle(method)))


def _plain(x: ArrayLike, axis: int) -> tuple[NDArray[Any], int]:
    """An array of numbers as it came, if it is one, and the length of its rows; 0 where no axis is said.

    What is more than an array, a masked one for instance, is refused or converted as anything else.
    """
    array = x if type(x) is np.ndarray else as_floats(x)[0]
    require_ieee()
    whole = np.issubdtype(type(axis), np.integer)
    return array, array.shape[axis] if whole and -array.ndim <= axis < array.ndim else 0


def _softmax_fast(x: ArrayLike, axis: int, beta: Fraction) -> Enclosure:
    array, n = _plain(x, axis)
    if not many_rows.takes(array.dtype, n, beta):
        return softmax(x, axis, beta, method="arb")
    fmt = format_of(array.dtype)
    row_of = partial(_softmax_row, beta=beta, source=oracle("arb"), prec=first_precision(fmt))
    return many_rows.softmax_rows(array, axis, beta, row_of)


def log_softmax(x: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """x_i - log sum_j exp(x_j).

    Returns
    -------
    Enclosure of x's shape. A NaN or +inf logit, or none finite, gives NaN throughout; -inf among
    finite ones gives -inf; a single finite logit gives exactly 0.

    Raises
    ------
    DomainError, ValueError : as `softmax`.
    """
    if by_double_words(method, x):
        return _logs_fast(x, axis, reduces=False)
    return rowwise(x, axis, "log_softmax", partial(_log_softmax_row, source=oracle(method)))


def logsumexp(x: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """log sum_j exp(x_j), which drops `axis`.

    Returns
    -------
    Enclosure of x's shape without `axis`. NaN where a logit is NaN, else +inf where one is +inf,
    else -inf where none is finite, the empty row included; the logit itself where it is the only
    finite one.

    Raises
    ------
    DomainError, ValueError : as `softmax`, but an empty axis is allowed.
    """
    if by_double_words(method, x):
        return _logs_fast(x, axis, reduces=True)
    source = oracle(method)
    values, fmt = as_floats(x)
    rows, shape = rows_along(values, axis)
    cells, prec = Cells(), first_precision(fmt)
    index = [_logsumexp_cell(cells, row, source, prec) for row in rows.tolist()]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape[:-1]))


def _logs_fast(x: ArrayLike, axis: int, *, reduces: bool) -> Enclosure:
    array, n = _plain(x, axis)
    if not many_rows.takes(array.dtype, n, Fraction(1)):
        return (logsumexp if reduces else log_softmax)(x, axis, method="arb")
    source, prec = oracle("arb"), first_precision(format_of(array.dtype))
    if reduces:
        return many_rows.logs(
            array, axis, lambda cells, row: [_logsumexp_cell(cells, row, source, prec)], reduces=True
        )
    return many_rows.logs(array, axis, partial(_log_softmax_row, source=source, prec=prec), reduces=False)


def rowwise(x: ArrayLike, axis: int, op: str, row_of: RowOf) -> Enclosure:
    """Enclosure of an op that gives as many values as a row has.

    Parameters
    ----------
    op : its name, for messages.
    row_of : adds the cells of a row, first evaluated at a precision, and says which is each element's.

    Raises
    ------
    DomainError : x is no array of supported floats, has no such axis, or is empty along it.
    """
    values, fmt = as_floats(x)
    rows, shape = rows_along(values, axis)
    if shape[-1] == 0:
        raise DomainError(f"{op} needs at least one element along axis {axis}, and x has none")
    cells, prec = Cells(), first_precision(fmt)
    index = np.empty(rows.shape, dtype=np.int64)
    for i, row in enumerate(rows.tolist()):
        index[i] = row_of(cells, row, prec=prec)
    return Enclosure(cells, axis_restored(index, shape, axis))


def axis_restored(index: NDArray[np.int64], shape: tuple[int, ...], axis: int) -> NDArray[np.int64]:
    """Rows back in the array's shape, with the last axis where it came from."""
    whole = index.reshape(shape)
    return whole if axis in (-1, len(shape) - 1) else np.moveaxis(whole, -1, axis)


def scaled_special(value: float, beta: Fraction) -> float:
    """beta * value in the extended reals for an infinite or NaN value."""
    if value != value or beta == 0:  # noqa: PLR0124 - the NaN test
        return math.nan
    return value if beta > 0 else -value


def specials(row: Sequence[float], beta: Fraction = Fraction(1)) -> tuple[float | None, list[int]]:
    """Which special value governs a row, and where its finite logits are.

    Returns
    -------
    NaN where a product is NaN, else +inf where one is, else -inf where none is finite, else None;
    and the places of the finite logits.
    """
    finite = [i for i, v in enumerate(row) if math.isfinite(v)]
    if len(finite) == len(row) and finite:
        return None, finite
    products = [scaled_special(v, beta) for v in row if not math.isfinite(v)]
    if any(map(math.isnan, products)):
        return math.nan, finite
    if math.inf in products:
        return math.inf, finite
    return (None if finite else -math.inf), finite


def _spread_over(
    cells: Cells, row: Sequence[float], finite: list[int], placed: list[int], rest: Cell
) -> list[int]:
    """Return the index of a row from that of its finite logits; `rest` is what the others are."""
    if len(finite) == len(row):
        return placed
    index = [cells.add_exact(rest)] * len(row)
    for i, k in zip(finite, placed, strict=True):
        index[i] = k
    return index


def _softmax_row(cells: Cells, row: list[float], *, beta: Fraction, source: Oracle, prec: int) -> list[int]:
    special, finite = specials(row, beta)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(row)
    logits, member = group([row[i] for i in finite] if len(finite) < len(row) else row, beta)
    rational = softmax_if_rational(logits)
    if rational is not None:
        placed = [cells.add_exact(rational)] * len(finite)
    else:
        start = cells.add_block(partial(_softmax_entries, source, logits), prec)
        placed = [start + k for k in member]
    return _spread_over(cells, row, finite, placed, ZERO)


def _softmax_entries(source: Oracle, logits: Logits, prec: int) -> list[Interval]:
    return clip_softmax(logits, source.softmax_row(logits, prec))


def _log_softmax_row(cells: Cells, row: list[float], *, source: Oracle, prec: int) -> list[int]:
    special, finite = specials(row)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(row)
    logits, member = group([row[i] for i in finite], Fraction(1))
    if logits.total == 1:
        placed = [cells.add_exact(ZERO)]
    else:
        start = cells.add_block(partial(_log_softmax_entries, source, logits), prec)
        placed = [start + k for k in member]
    return _spread_over(cells, row, finite, placed, -math.inf)


def _log_softmax_entries(source: Oracle, logits: Logits, prec: int) -> list[Interval]:
    return clip_log_softmax(logits, source.log_softmax_row(logits, prec))


def _logsumexp_cell(cells: Cells, row: list[float], source: Oracle, prec: int) -> int:
    special, finite = specials(row)
    if special is not None:
        return cells.add_exact(special)
    logits, _ = group([row[i] for i in finite], Fraction(1))
    if logits.total == 1:
        m, e = dyadic(logits.values[0])
        return cells.add_exact(Interval(m, m, e))
    return cells.add_block(partial(_logsumexp_entry, source, logits), prec)


def _logsumexp_entry(source: Oracle, logits: Logits, prec: int) -> list[Interval]:
    return [clip_logsumexp(logits, source.logsumexp_row(logits, prec))]
