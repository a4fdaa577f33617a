"""The ops of softmax in numba, for arrays of any shape: rows are dealt out to threads.

A row's result depends on that row alone, so that neither the batch around it nor the number of threads
changes a bit of it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from softcert.backends.numba_ import rows, sparse
from softcert.backends.numba_.threads import dealt
from softcert.backends.types import Array

#: Fewer elements are not worth another thread.
SHARE = 1 << 15
#: Rows of so many logits and their terms fill the second cache of many a processor.
_LONG = 1 << 15
_AS_BITS = {"float16": np.int16, "bfloat16": np.uint16}


def softmax(x: Array, axis: int = -1) -> Array:
    """Softmax exp(x_i) / sum_j exp(x_j) along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`. A NaN or +inf logit, and a row of -inf only, make the
    whole row NaN; a -inf logit among finite ones gets exactly 0. An empty axis gives an empty array.
    """
    return _of_rows(kernel_of(np.moveaxis(x, axis, -1)), (x,), axis)


def kernel_of(x: Array) -> Any:
    """The kernel for softmax of rows (..., n)."""
    long = x.shape[-1] >= _LONG and x.dtype != np.float64
    return rows.softmax_in_chunks if long else rows.softmax


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Logarithm of the softmax, (x_i - max) - log sum_j exp(x_j - max), along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`, 0 becoming -inf.
    """
    return _of_rows(rows.log_softmax, (x,), axis)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp, max + log sum_j exp(x_j - max), along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    axis : the axis that is summed over.

    Returns
    -------
    An array of the dtype of `x` without that axis: -inf for a row of -inf only and for an empty
    one, +inf where a logit is +inf, NaN where one is NaN.
    """
    moved, flat = as_rows(x, axis)
    result = np.empty(flat.shape[0])
    dealt(lambda part: rows.logsumexp(bits_of(flat[part]), result[part], row_of(flat)), flat, SHARE)
    with np.errstate(over="ignore", invalid="ignore"):
        return result.reshape(moved.shape[:-1]).astype(x.dtype)


def softmax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """Gradient of softmax, y * (dy - sum_j y_j dy_j), as a function of the output y given.

    Parameters
    ----------
    y : softmax outputs (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    dy : cotangent of the outputs, shape and dtype of `y`.
    axis : the axis that was normalized.

    Returns
    -------
    An array of the shape and dtype of `y`.
    """
    return _of_rows(rows.softmax_vjp, (y, dy), axis)


def softmax_jvp(y: Array, dx: Array, axis: int = -1) -> Array:
    """Tangent of softmax at the output y given; its Jacobian diag(y) - y y^T is symmetric.

    Parameters
    ----------
    y : softmax outputs (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    dx : tangent of the logits, shape and dtype of `y`.
    axis : the axis that was normalized.

    Returns
    -------
    An array of the shape and dtype of `y`.
    """
    return softmax_vjp(y, dx, axis)


def sparsemax(x: Array, axis: int = -1) -> Array:
    """Sparsemax max(x_i - tau, 0) along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`.
    """
    return entmax(x, axis, 2.0)


def entmax(x: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """alpha-entmax max((alpha - 1) x_i - tau, 0)^(1 / (alpha - 1)) along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    axis : the axis that is normalized.
    alpha : the order, above 1; the quick ones are 1.5 and 2.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`.
    """
    return _of_rows(partial(_last, sparse.entmax, float(alpha)), (x,), axis)


def sparsemax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """Gradient of sparsemax at the output y, dy less its mean over the support; of y's shape and dtype."""
    return entmax_vjp(y, dy, axis, 2.0)


def entmax_vjp(y: Array, dy: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """Gradient of entmax at the output y, s (dy - sum(s dy) / sum(s)) with s = y^(2 - alpha) where y > 0.

    Parameters
    ----------
    y : outputs (..., n, ...) of a floating dtype, bfloat16 and float16 included.
    dy : cotangent of the outputs, shape and dtype of `y`.
    axis : the axis that was normalized.
    alpha : the order, above 1.

    Returns
    -------
    An array of the shape and dtype of `y`, exactly 0 outside the support.
    """
    return _of_rows(partial(_last, sparse.entmax_vjp, float(alpha)), (y, dy), axis)


def _last(kernel: Any, alpha: float, *arrays: Array) -> None:
    kernel(*arrays, alpha)


def _of_rows(kernel: Any, operands: tuple[Array, ...], axis: int) -> Array:
    """A result of the shape of the operands, from a kernel of rows."""
    moved, first = as_rows(operands[0], axis)
    flat = [first, *(as_rows(other, axis)[1] for other in operands[1:])]
    result = np.empty(first.shape, first.dtype)

    def compute(part: slice) -> None:
        # Terms of 16 bits would be rounded twice; others stand best where the results will.
        work = row_of(first) if result.dtype.itemsize == 2 else result[part]
        kernel(*(bits_of(array[part]) for array in flat), bits_of(result[part]), work)

    dealt(compute, first, SHARE)
    return np.moveaxis(result.reshape(moved.shape), -1, axis)


def as_rows(x: Array, axis: int) -> tuple[Array, Array]:
    """The array with an axis moved to the end, and as contiguous rows (m, n)."""
    moved = np.moveaxis(x, axis, -1)
    # -1 would not say how many rows there are, where they are empty.
    return moved, np.ascontiguousarray(moved).reshape(math.prod(moved.shape[:-1]), moved.shape[-1])


def bits_of(x: Array) -> Array:
    """What the kernels take: numbers of 16 bits, of which numba has no arrays, as their bits."""
    return x.view(_AS_BITS[x.dtype.name]) if x.dtype.itemsize == 2 else x


def row_of(flat: Array) -> Array:
    """Room for one row (1, n) of what is computed in."""
    return np.empty((1, flat.shape[1]), np.float64 if flat.dtype == np.float64 else np.float32)
