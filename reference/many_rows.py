"""Enclosures of softmax by the fast path, with the oracles behind them for what it leaves open."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure, Fast
from softcert.reference.lazy import LazyCells
from softcert.reference.operands import Floats, rows_along

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    #: The slow path: from cells and the logits of a row to the places of its elements.
    RowOf = Callable[[Cells, list[float]], list[int]]
    ProductOf = Callable[[Cells, Floats, Floats], list[int]]


def takes(dtype: np.dtype[Any], n: int, beta: Fraction) -> bool:
    """Whether the fast path computes rows of n logits of a dtype with this beta."""
    binary = beta.denominator & (beta.denominator - 1) == 0
    # ml_dtypes' narrow formats are of no kind that NumPy knows.
    known = (dtype.kind == "f" and dtype.itemsize <= 8) or (dtype.kind == "V" and dtype.itemsize <= 2)
    if not binary or not known or n < 1:
        return False
    from softcert.reference.fast.oracle import FastRows

    return Fraction(float(beta)) == beta and FastRows.takes(n, float(beta))


def softmax_rows(array: NDArray[Any], axis: int, beta: Fraction, row_of: RowOf) -> Enclosure:
    """Softmax of every row of an array of binary floats along `axis`.

    Parameters
    ----------
    row_of : the slow path, for one row.
    """
    from softcert.reference.fast.oracle import FastRows

    kept: NDArray[Any] = array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)
    rows, shape = rows_along(kept, axis)
    rows = np.ascontiguousarray(rows)
    fast = FastRows(rows if beta > 0 else -rows, abs(float(beta)))

    count, length = rows.shape
    cells = LazyCells(count, length, lambda new, i: row_of(new, rows[i].astype(np.float64).tolist()))
    return _placed(cells, shape, axis, fast)


def logs(array: NDArray[Any], axis: int, row_of: RowOf, *, reduces: bool) -> Enclosure:
    """log_softmax, or the logsumexp that `reduces`, of every row of an array along `axis`."""
    from softcert.reference.fast.logs import log_softmax_pairs, logsumexp_pairs
    from softcert.reference.fast.oracle import PairedRows

    rows, shape = rows_along(array.astype(np.float64), axis)
    rows = np.ascontiguousarray(rows)
    fast = PairedRows(logsumexp_pairs if reduces else log_softmax_pairs, (rows,), reduces)

    length = 1 if reduces else rows.shape[1]
    cells = LazyCells(len(rows), length, lambda new, i: row_of(new, rows[i].tolist()))
    return _placed(cells, shape[:-1] if reduces else shape, -1 if reduces else axis, fast)


def products(y: Floats, d: Floats, axis: int, row_of: ProductOf) -> Enclosure:
    """y (d - sum(y d)) of every row of two arrays along `axis`."""
    from softcert.reference.fast.oracle import PairedRows
    from softcert.reference.fast.products import product_pairs

    (left, shape), (right, _) = rows_along(y, axis), rows_along(d, axis)
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)

    cells = LazyCells(len(left), left.shape[1], lambda new, i: row_of(new, left[i], right[i]))
    return _placed(cells, shape, axis, PairedRows(product_pairs, (left, right)))


def _placed(cells: LazyCells, shape: tuple[int, ...], axis: int, fast: Fast) -> Enclosure:
    """Rows back in the array's shape."""
    if axis in (-1, len(shape) - 1):
        return Enclosure(cells, shape, fast)
    index = np.arange(cells.count, dtype=np.int64).reshape(shape)
    return Enclosure(cells, np.moveaxis(index, -1, axis), fast)
