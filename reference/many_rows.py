"""Enclosures of softmax by the fast path, with the oracles behind them for what it leaves open."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.lazy import LazyCells, Row
from softcert.reference.operands import rows_along

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    #: The slow path: from cells and the logits of a row to the places of its elements.
    RowOf = Callable[[Cells, list[float]], list[int]]


def takes(dtype: np.dtype[Any], n: int, beta: Fraction) -> bool:
    """Whether the fast path computes rows of n logits of a dtype with this beta."""
    binary = beta.denominator & (beta.denominator - 1) == 0
    if not binary or dtype.kind != "f" or dtype.itemsize > 8 or n < 1:
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

    kept = array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)
    rows, shape = rows_along(kept, axis)
    rows = np.ascontiguousarray(rows)
    fast = FastRows(rows if beta > 0 else -rows, abs(float(beta)))

    def evaluate(i: int) -> Row:
        cells = Cells()
        return cells, row_of(cells, rows[i].astype(np.float64).tolist())

    count, length = rows.shape
    cells = LazyCells(count, length, evaluate)
    if axis in (-1, len(shape) - 1):
        return Enclosure(cells, shape, fast)
    index = np.arange(rows.size, dtype=np.int64).reshape(shape)
    return Enclosure(cells, np.moveaxis(index, -1, axis), fast)
