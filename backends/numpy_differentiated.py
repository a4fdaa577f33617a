"""The differentiated softmax in NumPy, written to be read: blocks of classes that read disjoint slices.

W. Chen, D. Grangier and M. Auli, arXiv:1512.04906 (2015). 16-bit inputs are computed and summed in float32
and rounded once at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from softcert.backends import numpy_
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array

#: dh, and of each block dW and db.
Gradients = tuple[Array, tuple[Array, ...], tuple[Array, ...]]


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
    features = widen(h)
    with np.errstate(all="ignore"):
        logits = [features[..., part] @ widen(w).T for w, part, _ in blocks(weights)]
        if biases is not None:
            logits = [z + widen(b) for z, b in zip(logits, biases, strict=True)]
        return narrow(numpy_.softmax(np.concatenate(logits, axis=-1)), h)


def differentiated_softmax_vjp(h: Array, weights: Sequence[Array], y: Array, dy: Array) -> Gradients:
    """Gradients by h, W and b, as functions of the output y given.

    The cotangent of the logits is g = y (dy - sum y dy); then dh_k = W_k^T g_k, and dW_k = g_k h_k^T and
    db_k = g_k summed over all rows of h.

    Parameters
    ----------
    h, weights : as for `differentiated_softmax`.
    y, dy : outputs and their cotangent (..., V_1 + V_2 + ...).

    Returns
    -------
    (dh, dW, db) : of the shapes and dtypes of h, of each block's weights, and (V_k,) of their dtypes.
    """
    rows = widen(h).reshape(-1, h.shape[-1])
    with np.errstate(all="ignore"):
        slopes = numpy_.softmax_vjp(widen(y), widen(dy)).reshape(len(rows), y.shape[-1])
        by_hidden = [slopes[:, own] @ widen(w) for w, _, own in blocks(weights)]
        by_weights = [narrow(slopes[:, own].T @ rows[:, part], w) for w, part, own in blocks(weights)]
        by_biases = [narrow(slopes[:, own].sum(axis=0), w) for w, _, own in blocks(weights)]
        dh = np.concatenate(by_hidden, axis=-1).reshape(h.shape)
        return narrow(dh, h), tuple(by_weights), tuple(by_biases)


def blocks(weights: Sequence[Array]) -> Iterator[tuple[Array, slice, slice]]:
    """Each block's weights, the features that it reads, and its classes."""
    feature = row = 0
    for w in weights:
        classes, features = w.shape
        yield w, slice(feature, feature + features), slice(row, row + classes)
        feature, row = feature + features, row + classes
