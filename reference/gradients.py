"""Derivatives: products with the softmax Jacobian, the Jacobian itself, the Hessian of logsumexp.

`derivation.py` proves each closed form below from the definition, for a symbolic number of classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference import many_rows
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.exactness import Logits, clip_jacobian, group
from softcert.reference.interval import ZERO, Interval
from softcert.reference.operands import Floats, as_floats, rows_along
from softcert.reference.oracles import ExactOracle, Oracle, exact_oracle_of, oracle
from softcert.reference.softmax import axis_restored, exact_factor, first_precision, specials

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def softmax_vjp(y: ArrayLike, dy: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """y_i (dy_i - sum_k y_k dy_k): the cotangent dy times the softmax Jacobian at the output y.

    Parameters
    ----------
    y, dy : (..., n) along `axis`, n >= 1, of one shape; y need not sum to 1.
    method : "auto" and "mpmath" compute in integers, "arb" in FLINT's rationals, both exactly; "fast" in
        double words, with FLINT for what they leave open.

    Returns
    -------
    Enclosure of zero width (by "fast": of proven width). A row with anything not finite gives NaN throughout.

    Raises
    ------
    DomainError : shapes that differ, unsupported dtypes, no such axis or an empty one.
    ValueError : no such method.
    """
    return _product(y, dy, axis, method, "dy")


def softmax_jvp(y: ArrayLike, dx: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """y_i (dx_i - sum_k y_k dx_k): the softmax Jacobian at the output y times the tangent dx.

    The Jacobian is symmetric, so this is `softmax_vjp`; parameters, result and errors are its own.
    """
    return _product(y, dx, axis, method, "dx")


def exact_sum(y: ArrayLike, axis: int = -1, method: str = "auto") -> Enclosure:
    """Sum of the floats along `axis`, exactly; drops the axis.

    Returns
    -------
    Enclosure of zero width; NaN, +inf and -inf as the extended reals add. The empty sum is 0.

    Raises
    ------
    DomainError : unsupported dtype or no such axis.
    """
    compute = exact_oracle_of(method).sum_row
    values, _ = as_floats(y, "y")
    rows, shape = rows_along(values, axis, "y")
    cells = Cells()
    index = [cells.add_exact(_sum_of(row, compute)) for row in rows.tolist()]
    return Enclosure(cells, np.array(index, dtype=np.int64).reshape(shape[:-1]))


def _sum_of(row: list[float], compute: Callable[[list[float]], Interval]) -> Interval | float:
    if all(map(math.isfinite, row)):
        return compute(row)
    infinities = {v for v in row if not math.isfinite(v)}
    return infinities.pop() if len(infinities) == 1 else math.nan


def paired(y: ArrayLike, direction: ArrayLike, axis: int, name: str = "dy") -> tuple[Floats, Floats]:
    """An output and what its Jacobian multiplies, of one shape that is not empty along `axis`.

    Parameters
    ----------
    name : how the second is called in messages.

    Raises
    ------
    DomainError : shapes that differ, unsupported dtypes, no such axis or an empty one.
    """
    outputs, tangents = as_floats(y, "y")[0], as_floats(direction, name)[0]
    if outputs.shape != tangents.shape:
        raise DomainError(f"y has shape {outputs.shape} and {name} has shape {tangents.shape}")
    if rows_along(outputs, axis, "y")[1][-1] == 0:
        raise DomainError(f"y and {name} need at least one element along axis {axis}, and have none")
    return outputs, tangents


def _product(y: ArrayLike, direction: ArrayLike, axis: int, method: str, name: str) -> Enclosure:
    """y_i (d_i - sum_k y_k d_k) along `axis`."""
    source = exact_oracle_of("arb" if method == "fast" else method)
    outputs, tangents = paired(y, direction, axis, name)
    if method == "fast":
        return many_rows.products(outputs, tangents, axis, partial(_product_row, source=source))
    (rows, shape), (directions, _) = rows_along(outputs, axis, "y"), rows_along(tangents, axis, name)
    cells, index = Cells(), np.empty(rows.shape, dtype=np.int64)
    for i, (weights, row) in enumerate(zip(rows, directions, strict=True)):
        index[i] = _product_row(cells, weights, row, source)
    return Enclosure(cells, axis_restored(index, shape, axis))


def _product_row(cells: Cells, weights: Floats, row: Floats, source: ExactOracle) -> list[int]:
    if not (np.isfinite(weights).all() and np.isfinite(row).all()):
        return [cells.add_exact(math.nan)] * len(row)
    start = len(cells.values)
    cells.values.extend(source.jvp_row(weights.tolist(), row.tolist()))
    return list(range(start, start + len(row)))


def softmax_jacobian(x: ArrayLike, beta: float | Fraction = 1.0, method: str = "auto") -> Enclosure:
    """beta p_i (delta_ij - p_j), the derivative of softmax(beta x)_i by x_j.

    Parameters
    ----------
    x : (..., n), n >= 1. beta : as for `softmax`.

    Returns
    -------
    Enclosure (..., n, n). NaN where softmax is; exactly 0 in rows and columns of a logit -inf.

    Raises
    ------
    DomainError, ValueError : as `softmax`.
    """
    factor, source = exact_factor(beta), oracle(method)
    values, fmt = as_floats(x)
    rows, shape = rows_along(values, -1)
    if shape[-1] == 0:
        raise DomainError("the Jacobian needs at least one element along axis -1, and x has none")
    cells, n = Cells(), shape[-1]
    index = np.empty((len(rows), n, n), dtype=np.int64)
    for i, row in enumerate(rows.tolist()):
        index[i] = _jacobian_row(cells, row, factor, source, first_precision(fmt))
    return Enclosure(cells, index.reshape((*shape, n)))


def logsumexp_hessian(x: ArrayLike, method: str = "auto") -> Enclosure:
    """p_i (delta_ij - p_j), the second derivative of logsumexp by x_i and x_j.

    The gradient of logsumexp is softmax, so this is `softmax_jacobian` with beta = 1.
    """
    return softmax_jacobian(x, 1, method)


def _jacobian_row(
    cells: Cells, row: list[float], beta: Fraction, source: Oracle, prec: int
) -> NDArray[np.int64]:
    n = len(row)
    special, finite = specials(row, beta)
    if special is not None:
        return np.full((n, n), cells.add_exact(math.nan), dtype=np.int64)
    logits, member = group([row[i] for i in finite], beta)
    inner = (
        _rational_jacobian(cells, logits.total, beta)
        if len(logits.values) == 1
        else _jacobian_block(cells, logits, np.array(member), source, prec)
    )
    if len(finite) == n:
        return inner
    index = np.full((n, n), cells.add_exact(ZERO), dtype=np.int64)
    index[np.ix_(finite, finite)] = inner
    return index


def _rational_jacobian(cells: Cells, total: int, beta: Fraction) -> NDArray[np.int64]:
    """All logits equal: beta (K - 1) / K**2 on the diagonal, -beta / K**2 beside it."""
    index = np.full((total, total), cells.add_exact(-beta / total**2), dtype=np.int64)
    np.fill_diagonal(index, cells.add_exact(beta * (total - 1) / total**2))
    return index


def _jacobian_block(
    cells: Cells, logits: Logits, member: NDArray[np.int64], source: Oracle, prec: int
) -> NDArray[np.int64]:
    """Cells of the m diagonal values and of the pairs a <= b of distinct logits, indexed by element."""
    start, m = cells.add_block(partial(_jacobian_entries, source, logits), prec), len(logits.values)
    low, high = np.minimum.outer(member, member), np.maximum.outer(member, member)
    index = start + m + low * m - low * (low - 1) // 2 + (high - low)
    np.fill_diagonal(index, start + member)
    return np.asarray(index, dtype=np.int64)


def _jacobian_entries(source: Oracle, logits: Logits, prec: int) -> list[Interval]:
    return clip_jacobian(logits, source.jacobian_row(logits, prec))
