"""Cross-entropy of logits and its gradient in numba, for arrays of any shape: rows are dealt out to threads.

A row's result depends on that row alone. The gradient costs one pass over the logits more than the loss, so
`cross_entropy_with_gradient` gives both, as training needs them.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numba_ import losses
from softcert.backends.numba_.softmax import SHARE, as_rows, bits_of, row_of
from softcert.backends.numba_.threads import dealt
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
    x : logits (..., n, ...) of a floating dtype, bfloat16 and float16 included.
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
    moved, flat = as_rows(x, axis)
    classes = _classes(target, moved, ignore_index)
    result = np.empty(len(flat))

    def compute(part: slice) -> None:
        options = float(label_smoothing), ignore_index, float(z_loss), 1
        losses.losses(bits_of(flat[part]), classes[part], *options, result[part], row_of(flat))

    dealt(compute, flat, SHARE)
    return _narrowed(result, moved, x)


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

    Parameters, result and errors are those of `cross_entropy_with_gradient`, less the losses.
    """
    return cross_entropy_with_gradient(
        x,
        target,
        dloss,
        axis=axis,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        z_loss=z_loss,
    )[1]


def cross_entropy_with_gradient(
    x: Array,
    target: Array,
    dloss: Array,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
) -> tuple[Array, Array]:
    """The losses, and their gradient by x for a cotangent that is known beforehand, such as that of a mean.

    Parameters
    ----------
    x, target, axis, label_smoothing, ignore_index, z_loss : those of `cross_entropy`.
    dloss : cotangent of the losses, of target's shape.

    Returns
    -------
    Losses of target's shape, and the gradient of x's shape, both of x's dtype; 0 in ignored rows.

    Raises
    ------
    ValueError : as `cross_entropy`, and a cotangent of another shape.
    """
    moved, flat = as_rows(x, axis)
    classes = _classes(target, moved, ignore_index)
    if dloss.shape != target.shape:
        raise ValueError(f"dloss has shape {dloss.shape}, and target {target.shape}")
    cotangents = np.ascontiguousarray(dloss, np.float64).reshape(-1)
    result, slopes = np.empty(len(flat)), np.empty(flat.shape, flat.dtype)

    def compute(part: slice) -> None:
        # Terms of 16 bits would be rounded twice; others stand best where the results will.
        work = row_of(flat) if slopes.dtype.itemsize == 2 else slopes[part]
        losses.losses_and_slopes(
            bits_of(flat[part]),
            classes[part],
            cotangents[part],
            float(label_smoothing),
            ignore_index,
            float(z_loss),
            1,
            result[part],
            bits_of(slopes[part]),
            work,
        )

    dealt(compute, flat, SHARE)
    return _narrowed(result, moved, x), np.moveaxis(slopes.reshape(moved.shape), -1, axis)


def _classes(target: Array, moved: Array, ignore_index: int) -> Array:
    """Targets of rows, in int64.

    Raises
    ------
    ValueError : a target that is neither a class nor `ignore_index`, or of another shape.
    """
    n = moved.shape[-1]
    if target.shape != moved.shape[:-1]:
        raise ValueError(f"target has shape {target.shape}, and the rows of x {moved.shape[:-1]}")
    classes = np.ascontiguousarray(target, np.int64).reshape(-1)
    if np.any((classes != ignore_index) & ((classes < 0) | (classes >= n))):
        raise ValueError(f"a target is neither one of {n} classes nor {ignore_index}")
    return classes


def _narrowed(result: Array, moved: Array, x: Array) -> Array:
    """Losses of rows as an array in x's dtype."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return result.reshape(moved.shape[:-1]).astype(x.dtype)
