"""Cross-entropy of logits and its gradient in NumPy, written to be read.

Both take the logits, not probabilities: log(softmax(x)) is -inf as soon as a probability underflows, and
forgets what a probability next to 1 lacks of it. Keywords are those of PyTorch's cross_entropy, and `z_loss`
is PaLM's auxiliary loss z logsumexp(x)^2 (arXiv:2204.02311, section 5). 16-bit logits are widened to float32.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array


def cross_entropy(
    x: Array,
    target: Array,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
) -> Array:
    """(1 - s) (-log p_t) + (s / n) sum_j (-log p_j) + z logsumexp^2 of each row, not reduced.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    target : integers of x's shape without `axis`: the index t of a class, or `ignore_index`.
    axis : the axis of the classes.
    label_smoothing, z_loss : s in [0, 1] and z >= 0.
    ignore_index : a target whose row is not counted.

    Returns
    -------
    Losses of target's shape and x's dtype: 0 in ignored rows, +inf where a class of probability 0 has a
    weight, NaN where a logit is NaN or +inf or all are -inf.

    Raises
    ------
    ValueError : a target that is neither a class nor `ignore_index`, or of another shape.
    """
    with np.errstate(all="ignore"):
        logits, classes, ignored = prepared(x, target, axis, ignore_index)
        largest, shifted, total = _parts(logits)
        log_p = shifted - np.log(total)
        loss = np.zeros(classes.shape, logits.dtype)
        # A weight of 0 adds nothing, also where the logarithm is infinite.
        if label_smoothing < 1.0:
            own = np.take_along_axis(log_p, classes[..., None], axis=-1)[..., 0]
            loss -= (1.0 - label_smoothing) * own
        if label_smoothing > 0.0:
            loss -= label_smoothing / logits.shape[-1] * np.sum(log_p, axis=-1)
        if z_loss > 0.0:
            loss += z_loss * (largest + np.log(total))[..., 0] ** 2
        return narrow(np.where(ignored, logits.dtype.type(0), loss), x)


def cross_entropy_vjp(
    x: Array,
    target: Array,
    dloss: Array,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
) -> Array:
    """dloss (p_j (1 + 2 z logsumexp) - s / n - (1 - s) [j = t]), the gradient of `cross_entropy` by x.

    Parameters
    ----------
    x, target, axis, label_smoothing, ignore_index, z_loss : those of `cross_entropy`.
    dloss : cotangent of the losses, of target's shape and x's dtype.

    Returns
    -------
    An array of the shape and dtype of x; 0 in ignored rows.

    Raises
    ------
    ValueError : as `cross_entropy`.
    """
    with np.errstate(all="ignore"):
        logits, classes, ignored = prepared(x, target, axis, ignore_index)
        largest, shifted, total = _parts(logits)
        slopes = np.exp(shifted) / total
        if z_loss > 0.0:
            slopes *= 1.0 + 2.0 * z_loss * (largest + np.log(total))
        slopes -= label_smoothing / logits.shape[-1]
        own = np.arange(logits.shape[-1]) == classes[..., None]
        slopes -= own * logits.dtype.type(1.0 - label_smoothing)
        slopes *= widen(dloss)[..., None]
        counted = np.where(ignored[..., None], logits.dtype.type(0), slopes)
        return narrow(np.moveaxis(counted, -1, axis), x)


def prepared(x: Array, target: Array, axis: int, ignore_index: int) -> tuple[Array, Array, Array]:
    """Logits with the classes last, in the format computed in; targets, 0 in ignored rows; which are ignored.

    Raises
    ------
    ValueError : a target that is neither a class nor `ignore_index`, or of another shape.
    """
    logits, ignored = widen(np.moveaxis(x, axis, -1)), target == ignore_index
    if target.shape != logits.shape[:-1]:
        raise ValueError(f"target has shape {target.shape}, and the rows of x {logits.shape[:-1]}")
    classes = np.where(ignored, 0, target)
    if np.any((classes < 0) | (classes >= logits.shape[-1])):
        raise ValueError(f"a target is neither one of {logits.shape[-1]} classes nor {ignore_index}")
    return logits, classes, ignored


def _parts(logits: Array) -> tuple[Array, Array, Array]:
    """The largest logit, the logits less that, and the sum of their exponentials."""
    largest = np.max(logits, axis=-1, keepdims=True)
    shifted = logits - largest
    return largest, shifted, np.sum(np.exp(shifted), axis=-1, keepdims=True)
