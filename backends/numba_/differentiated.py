"""The differentiated softmax for speed: products of blocks by BLAS into one array, its softmax by numba."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softcert.backends.numba_ import softmax as of_rows
from softcert.backends.numpy_differentiated import Gradients, blocks
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array


def differentiated_softmax(
    h: Array, weights: Sequence[Array], biases: Sequence[Array] | None = None
) -> Array:
    """Softmax over all classes of the logits W_k h_k + b_k of each block k.

    Parameters
    ----------
    h : features (..., D) of a floating dtype.
    weights : of each block (V_k, d_k); the d_k sum to D, and slices follow each other in order.
    biases : of each block (V_k,); None is 0.

    Returns
    -------
    An array (..., V_1 + V_2 + ...) of the dtype of `h`, blocks in order.
    """
    rows = _as_rows(h)
    logits = np.empty((len(rows), sum(len(w) for w in weights)), rows.dtype)
    with np.errstate(all="ignore"):
        for k, (w, part, own) in enumerate(blocks(weights)):
            np.matmul(rows[:, part], widen(w).T, out=logits[:, own])
            if biases is not None:
                logits[:, own] += widen(biases[k])
        return narrow(of_rows.softmax(logits).reshape(*h.shape[:-1], logits.shape[1]), h)


def differentiated_softmax_vjp(h: Array, weights: Sequence[Array], y: Array, dy: Array) -> Gradients:
    """Gradients by h, W and b, as functions of the output y given.

    Parameters
    ----------
    h, weights : as for `differentiated_softmax`.
    y, dy : outputs and their cotangent (..., V_1 + V_2 + ...).

    Returns
    -------
    (dh, dW, db) : of the shapes and dtypes of h, of each block's weights, and (V_k,) of their dtypes.
    """
    rows = _as_rows(h)
    slopes = of_rows.softmax_vjp(_as_rows(y), _as_rows(dy))
    by_hidden, by_weights, by_biases = np.empty_like(rows), [], []
    with np.errstate(all="ignore"):
        for w, part, own in blocks(weights):
            np.matmul(slopes[:, own], widen(w), out=by_hidden[:, part])
            by_weights.append(narrow(slopes[:, own].T @ rows[:, part], w))
            by_biases.append(narrow(slopes[:, own].sum(axis=0), w))
        return narrow(by_hidden.reshape(h.shape), h), tuple(by_weights), tuple(by_biases)


def _as_rows(x: Array) -> Array:
    """Rows (m, n) in the format computed in."""
    return np.ascontiguousarray(widen(x)).reshape(int(np.prod(x.shape[:-1], dtype=np.int64)), x.shape[-1])
