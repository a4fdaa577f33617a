"""The softmax ops in NumPy with the maximum and the sum taken in one pass over blocks of logits.

The safe softmax reads a row three times: for its maximum m, for the sum d of exp(x - m), for the results.
The online one takes both in the first pass (M. Milakov & N. Gimelshein, arXiv:1805.02867, algorithm 3): a
block of logits x makes of them

    m' = max(m, max x)
    d' = exp(m - m') d + sum exp(x - m')

FlashAttention carries the same two numbers, and a third for the output. 16-bit inputs are computed and
summed in float32 and rounded once at the end.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.numpy_ import softmax_jvp, softmax_vjp
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.numpy_scores import blocks, finite
from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Backend

#: Logits of one block.
_BLOCK = 256


def online_backend() -> Backend:
    """Backend `numpy-online`: maximum and sum in one pass; the gradient has neither, and is `numpy`'s."""
    return Backend(
        name="numpy-online",
        ops={
            "softmax": softmax,
            "log_softmax": log_softmax,
            "logsumexp": logsumexp,
            "softmax_vjp": softmax_vjp,
            "softmax_jvp": softmax_jvp,
        },
        dtypes=DTYPES,
        contract=Contract(form="division"),
        versions={"numpy": np.__version__},
    )


def softmax(x: Array, axis: int = -1) -> Array:
    """Softmax exp(x_i - m) / d along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`. A NaN makes the whole row NaN, a +inf its own place; a row of
    -inf only is NaN, and a -inf logit among finite ones gets exactly 0.
    """
    with np.errstate(all="ignore"):
        rows = widen(np.moveaxis(x, axis, -1))
        m, d = _normalizer(rows)
        return np.moveaxis(narrow(np.exp(rows - m) / d, x), -1, axis)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Logarithm of the softmax, (x_i - m) - log d, along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`, 0 becoming -inf.
    """
    with np.errstate(all="ignore"):
        rows = widen(np.moveaxis(x, axis, -1))
        m, d = _normalizer(rows)
        return np.moveaxis(narrow((rows - m) - np.log(d), x), -1, axis)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp, m + log d, along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is summed over.

    Returns
    -------
    An array of the dtype of `x` without that axis: -inf for a row of -inf only and for an empty one, +inf
    where a logit is +inf, NaN where one is NaN.
    """
    with np.errstate(all="ignore"):
        m, d = _normalizer(widen(np.moveaxis(x, axis, -1)))
        return narrow((finite(m) + np.log(d))[..., 0], x)


def _normalizer(rows: Array) -> tuple[Array, Array]:
    """Maximum m and sum d of exp(x - m) of each row, (..., 1); exp(x) is summed where m is not finite."""
    m = np.full((*rows.shape[:-1], 1), -np.inf, rows.dtype)
    d = np.zeros_like(m)
    for columns in blocks(rows.shape[-1], _BLOCK):
        x = rows[..., columns]
        risen = np.maximum(m, np.max(x, axis=-1, keepdims=True))
        # -inf - (-inf), where no logit above -inf was seen yet, would be NaN
        pivot = finite(risen)
        d = np.exp(m - pivot) * d + np.sum(np.exp(x - pivot), axis=-1, keepdims=True)
        m = risen
    return m, d
