"""Trees of classes as operands of ops of rows, and kernels of many leaves a row as such ops.

A tree of K classes is three arrays, the paths from its root to its leaves one after the other: the path of
class w is at path_starts[w]:path_starts[w + 1] of the nodes and of the branches, 1 or -1, taken there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from softcert.backends.types import Array, Kernel

Paths = tuple[Array, Array, Array]


@lru_cache(maxsize=8)
def heap_paths(classes: int) -> Paths:
    """Paths of the tree of a binary heap: node n has the children 2n + 1 (branch 1) and 2n + 2 (branch -1).

    Returns
    -------
    path_starts (K + 1,), path_nodes (P,), path_signs (P,), all int64, read-only; class w is called K - 1 + w.
    """
    at = np.arange(classes - 1, 2 * classes - 1, dtype=np.int64)
    upward = []
    while (at > 0).any():
        sign = np.where(at % 2, 1, -1)
        parent = np.where(at > 0, (at - 1) // 2, -1)
        upward.append((parent, sign))
        at = np.maximum(parent, 0)
    nodes, signs = (np.array([step[k] for step in reversed(upward)]).reshape(-1, classes).T for k in (0, 1))
    inside = nodes >= 0
    starts = np.concatenate([[0], np.cumsum(inside.sum(axis=1))])
    paths = starts.astype(np.int64), nodes[inside].astype(np.int64), signs[inside].astype(np.int64)
    for array in paths:
        array.flags.writeable = False
    return paths


def of_one_leaf(kernel: Callable[..., Array]) -> Kernel:
    """The op hierarchical_log_softmax from a kernel (s, leaves, *paths) along the last axis."""

    def hierarchical_log_softmax(s: Array, target: Array, *paths: Array, axis: int = -1) -> Array:
        rows = np.moveaxis(s, axis, -1)
        result: Array = kernel(rows, target[..., np.newaxis], *paths)
        return result[..., 0]

    return hierarchical_log_softmax


def slopes_of_one_leaf(kernel: Callable[..., Array]) -> Kernel:
    """The op hierarchical_log_softmax_vjp from a kernel (s, dy, leaves, *paths) along the last axis."""

    def hierarchical_log_softmax_vjp(
        s: Array, target: Array, dlogp: Array, *paths: Array, axis: int = -1
    ) -> Array:
        rows = np.moveaxis(s, axis, -1)
        slopes = kernel(rows, dlogp[..., np.newaxis], target[..., np.newaxis], *paths)
        return np.moveaxis(slopes, -1, axis)

    return hierarchical_log_softmax_vjp
