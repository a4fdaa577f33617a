"""Sparsemax and entmax in NumPy, written to be read.

The maximum is subtracted first, so that every difference that matters lies in [-1, 0]. 16-bit inputs are
computed and summed in float32 and rounded once at the end.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array

#: More halvings than a float64 has digits.
_HALVINGS = 64


def sparsemax(x: Array, axis: int = -1) -> Array:
    """Sparsemax max(x_i - tau, 0) along an axis, the nearest point of the simplex.

    A. Martins and R. Astudillo, arXiv:1602.02068 (2016), algorithm 1.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`. A NaN or +inf logit, and a row of -inf only, make the whole row
    NaN; a -inf logit among finite ones gets exactly 0. An empty axis gives an empty array.
    """
    with np.errstate(all="ignore"):
        z = _shifted(x, axis)
        descending = -np.sort(-z, axis=-1)
        sums = np.cumsum(descending, axis=-1) - 1.0
        counts = np.arange(1, z.shape[-1] + 1, dtype=z.dtype)
        # The k-th largest has a share as long as it exceeds the threshold of the k largest.
        size = np.sum(counts * descending > sums, axis=-1, keepdims=True)
        tau = _at(sums, size) / size.astype(z.dtype)
        return _back(np.maximum(z - tau, 0.0), x, axis)


def entmax(x: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """alpha-entmax max((alpha - 1) x_i - tau, 0)^(1 / (alpha - 1)) along an axis.

    B. Peters, V. Niculae and A. Martins, arXiv:1905.05702 (2019), definition of entmax and algorithm 1.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.
    alpha : the order, above 1; 2 is sparsemax.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `sparsemax`.
    """
    if alpha == 2.0:
        return sparsemax(x, axis)
    with np.errstate(all="ignore"):
        step = x.dtype.type(alpha - 1.0) if x.dtype.itemsize > 2 else np.float32(alpha - 1.0)
        z = _shifted(x, axis) * step
        exponent = step.dtype.type(1.0) / step
        low, high = np.full_like(z[..., :1], -1.0), np.zeros_like(z[..., :1])
        for _ in range(_HALVINGS):
            middle = low + (high - low) / 2
            over = np.sum(np.maximum(z - middle, 0.0) ** exponent, axis=-1, keepdims=True) >= 1.0
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        shares = np.maximum(z - low, 0.0) ** exponent
        return _back(shares / np.sum(shares, axis=-1, keepdims=True), x, axis)


def sparsemax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """Gradient of sparsemax, dy_i less the mean of dy over the support, at the output y given.

    Parameters
    ----------
    y : outputs (..., n, ...) of a floating dtype, of which only the support counts.
    dy : cotangent of the outputs, shape and dtype of `y`.
    axis : the axis that was normalized.

    Returns
    -------
    An array of the shape and dtype of `y`, exactly 0 outside the support.
    """
    return entmax_vjp(y, dy, axis, alpha=2.0)


def entmax_vjp(y: Array, dy: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """Gradient of entmax, s_i (dy_i - sum_k s_k dy_k / sum_k s_k) with s = y^(2 - alpha) on the support.

    Parameters
    ----------
    y : outputs (..., n, ...) of a floating dtype.
    dy : cotangent of the outputs, shape and dtype of `y`.
    axis : the axis that was normalized.
    alpha : the order, above 1.

    Returns
    -------
    An array of the shape and dtype of `y`, exactly 0 outside the support.
    """
    with np.errstate(all="ignore"):
        output, slopes = widen(y), widen(dy)
        weights = np.where(output == 0.0, output, output ** output.dtype.type(2.0 - alpha))
        mean = np.sum(weights * slopes, axis=axis, keepdims=True)
        mean = mean / np.sum(weights, axis=axis, keepdims=True)
        return narrow(weights * (slopes - mean), y)


def _shifted(x: Array, axis: int) -> Array:
    """x less its maximum, in the format computed in, the axis last."""
    rows = np.moveaxis(widen(x), axis, -1)
    shifted: Array = rows - np.max(rows, axis=-1, keepdims=True, initial=-np.inf)
    return shifted


def _at(sums: Array, size: Array) -> Array:
    """The sum of the `size` first; of a row that has no support, for it holds a NaN, the NaN of its last."""
    if not sums.shape[-1]:
        return sums
    return np.take_along_axis(sums, np.where(size > 0, size, sums.shape[-1]) - 1, axis=-1)


def _back(shares: Array, x: Array, axis: int) -> Array:
    return narrow(np.moveaxis(shares, -1, axis), x)
