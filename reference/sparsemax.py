"""Sparsemax, the Euclidean projection onto the simplex, and its derivative: rational, hence exact.

A. Martins and R. Astudillo, From softmax to sparsemax, arXiv:1602.02068 (2016), proposition 1, section 2.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference import entmax_mp
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.gradients import paired
from softcert.reference.interval import ZERO
from softcert.reference.operands import Floats, rows_along
from softcert.reference.oracles import by_mpmath
from softcert.reference.softmax import axis_restored, rowwise, specials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def sparsemax(x: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """argmin over p in the simplex of |p - x|^2, which is max(x_i - tau, 0) for the tau that makes the sum 1.

    Parameters
    ----------
    x : (..., n) along `axis`, n >= 1, any supported dtype.
    method : "mpmath" for an algorithm of its own (C. Michelot, 1986); of "auto", "arb" and "fast" each is the
        one that sorts.

    Returns
    -------
    Enclosure of x's shape and of zero width. A NaN or +inf logit, or none finite, gives NaN throughout; -inf
    among finite ones gives exactly 0.

    Raises
    ------
    DomainError : x is no array of supported floats, has no such axis, or is empty along it.
    ValueError : no such method.
    """
    shares = entmax_mp.sparsemax_shares if by_mpmath(method) else _shares
    return rowwise(x, axis, "sparsemax", partial(_sparsemax_row, shares=shares))


def sparsemax_vjp(y: ArrayLike, dy: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """s_i (dy_i - mean of dy over the support), s_i = 1 where y_i > 0 and else 0.

    The Jacobian at the output y is diag(s) - s s^T / |S|, symmetric, so this is the product with a tangent
    too. Where a logit lies on the threshold sparsemax has no derivative, and this is one of its one-sided
    ones.

    Parameters
    ----------
    y, dy : (..., n) along `axis`, n >= 1, of one shape; of y only the support counts.
    method : as for `sparsemax`.

    Returns
    -------
    Enclosure of zero width. A row with anything not finite, or without support, gives NaN throughout.

    Raises
    ------
    DomainError : shapes that differ, unsupported dtypes, no such axis or an empty one.
    ValueError : no such method.
    """
    product = entmax_mp.sparsemax_product if by_mpmath(method) else _product
    outputs, slopes = paired(y, dy, axis)
    (rows, shape), (directions, _) = rows_along(outputs, axis, "y"), rows_along(slopes, axis, "dy")
    cells, index = Cells(), np.empty(rows.shape, dtype=np.int64)
    for i, pair in enumerate(zip(rows, directions, strict=True)):
        index[i] = _product_row(cells, *pair, product)
    return Enclosure(cells, axis_restored(index, shape, axis))


def _sparsemax_row(
    cells: Cells,
    row: list[float],
    *,
    shares: Callable[[list[Fraction]], list[Fraction]],
    prec: int,  # noqa: ARG001 - the shares are exact
) -> list[int]:
    special, finite = specials(row)
    if special is not None:
        return [cells.add_exact(math.nan)] * len(row)
    zero = cells.add_exact(ZERO)
    index = [zero] * len(row)
    for i, share in zip(finite, shares([Fraction(row[i]) for i in finite]), strict=True):
        if share:
            index[i] = cells.add_exact(share)
    return index


def _shares(logits: list[Fraction]) -> list[Fraction]:
    """Algorithm 1: above the sum of the k largest, less 1, by k, for the most k whose k-th is above it."""
    total, threshold = Fraction(0), Fraction(0)
    for k, logit in enumerate(sorted(logits, reverse=True), 1):
        total += logit
        if 1 + k * logit <= total:
            break
        threshold = (total - 1) / k
    return [max(logit - threshold, Fraction(0)) for logit in logits]


def _product_row(
    cells: Cells,
    outputs: Floats,
    slopes: Floats,
    product: Callable[[list[float], list[float]], list[Fraction]],
) -> list[int]:
    if not (np.isfinite(outputs).all() and np.isfinite(slopes).all() and (outputs > 0).any()):
        return [cells.add_exact(math.nan)] * len(outputs)
    return [cells.add_exact(value) for value in product(outputs.tolist(), slopes.tolist())]


def _product(outputs: list[float], slopes: list[float]) -> list[Fraction]:
    inside = [Fraction(d) for y, d in zip(outputs, slopes, strict=True) if y > 0]
    mean = sum(inside, Fraction(0)) / len(inside)
    return [Fraction(d) - mean if y > 0 else Fraction(0) for y, d in zip(outputs, slopes, strict=True)]
