"""Sparsemax, the Euclidean projection onto the simplex, and its derivative: rational, hence exact.

A. Martins and R. Astudillo, From softmax to sparsemax, arXiv:1602.02068 (2016), proposition 1, section 2.4.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.gradients import paired
from softcert.reference.interval import ZERO
from softcert.reference.operands import Floats, rows_along
from softcert.reference.softmax import axis_restored, rowwise, specials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def sparsemax(x: ArrayLike, axis: int = -1) -> Enclosure:
    """argmin over p in the simplex of |p - x|^2, which is max(x_i - tau, 0) for the tau that makes the sum 1.

    Parameters
    ----------
    x : (..., n) along `axis`, n >= 1, any supported dtype.

    Returns
    -------
    Enclosure of x's shape and of zero width. A NaN or +inf logit, or none finite, gives NaN throughout; -inf
    among finite ones gives exactly 0.

    Raises
    ------
    DomainError : x is no array of supported floats, has no such axis, or is empty along it.
    """
    return rowwise(x, axis, "sparsemax", _sparsemax_row)


def sparsemax_vjp(y: ArrayLike, dy: ArrayLike, axis: int = -1) -> Enclosure:
    """s_i (dy_i - mean of dy over the support), s_i = 1 where y_i > 0 and else 0.

    The Jacobian at the output y is diag(s) - s s^T / |S|, symmetric, so this is the product with a tangent
    too. Where a logit lies on the threshold sparsemax has no derivative, and this is one of its one-sided
    ones.

    Parameters
    ----------
    y, dy : (..., n) along `axis`, n >= 1, of one shape; of y only the support counts.

    Returns
    -------
    Enclosure of zero width. A row with anything not finite, or without support, gives NaN throughout.

    Raises
    ------
    DomainError : shapes that differ, unsupported dtypes, no such axis or an empty one.
    """
    outputs, slopes = paired(y, dy, axis)
    (rows, shape), (directions, _) = rows_along(outputs, axis, "y"), rows_along(slopes, axis, "dy")
    cells, index = Cells(), np.empty(rows.shape, dtype=np.int64)
    for i, pair in enumerate(zip(rows, directions, strict=True)):
        index[i] = _product_row(cells, *pair)
    return Enclosure(cells, axis_restored(index, shape, axis))


def _sparsemax_row(cells: Cells, row: list[float], *, prec: int) -> list[int]:  # noqa: ARG001 - exact
    special, finite = specials(row)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(row)
    threshold = _threshold([Fraction(row[i]) for i in finite])
    zero = cells.add_exact(ZERO)
    index = [zero] * len(row)
    for i in finite:
        excess = Fraction(row[i]) - threshold
        if excess > 0:
            index[i] = cells.add_exact(excess)
    return index


def _threshold(logits: list[Fraction]) -> Fraction:
    """Algorithm 1: the sum of the k largest, less 1, by k, for the most k that leave the k-th above it."""
    total, threshold = Fraction(0), Fraction(0)
    for k, logit in enumerate(sorted(logits, reverse=True), 1):
        total += logit
        if 1 + k * logit <= total:
            break
        threshold = (total - 1) / k
    return threshold


def _product_row(cells: Cells, outputs: Floats, slopes: Floats) -> list[int]:
    support = outputs > 0
    if not (np.isfinite(outputs).all() and np.isfinite(slopes).all() and support.any()):
        return [cells.add_exact(math.nan)] * len(outputs)
    mean = sum(map(Fraction, slopes[support].tolist()), Fraction(0)) / int(support.sum())
    zero = cells.add_exact(ZERO)
    return [
        cells.add_exact(Fraction(slope) - mean) if within else zero
        for slope, within in zip(slopes.tolist(), support.tolist(), strict=True)
    ]
