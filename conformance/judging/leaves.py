"""Exact values and bounds of ops of one leaf a row of a tree, in the shapes of their results."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.backends.ops import OF_TREES
from softcert.backends.types import Call
from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.conformance.bounds.hierarchical import (
    branches_of,
    hierarchical_log_bound,
    hierarchical_vjp_bound,
    sides_of,
)
from softcert.conformance.spec import rows_last
from softcert.reference import Enclosure

Float = NDArray[np.float64]


def leaf_truth(call: Call, method: str) -> Enclosure:
    """Certified enclosure of the exact result of a call.

    Parameters
    ----------
    method : an oracle; the quickest there is of other ops stands for the one that is of this.
    """
    axis = int(call.params["axis"])
    s, leaves, paths = rows_last(call.operands[0], axis), call.operands[1][..., np.newaxis], _paths(call)
    source = "auto" if method == "fast" else method
    if call.op == "hierarchical_log_softmax":
        found = reference.hierarchical_log_softmax(s, leaves, *paths, method=source)
        return found[..., 0]
    slopes = call.operands[2][..., np.newaxis]
    found = reference.hierarchical_log_softmax_vjp(s, slopes, leaves, *paths, method=source)
    return found.moveaxis(-1, axis)


def leaf_bound(call: Call, arithmetic: Arithmetic) -> Float:
    """Absolute bound of a log-probability, (..., 1)."""
    s = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    leaves = call.operands[1][..., np.newaxis]
    return hierarchical_log_bound(branches_of(s, leaves, *_paths(call)), arithmetic)


def leaf_slope_bound(call: Call, arithmetic: Arithmetic) -> Float:
    """Absolute bound of the derivative by each score, the axis of the nodes last."""
    s = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    leaves, slopes = (a[..., np.newaxis] for a in call.operands[1:3])
    sides, signed = sides_of(slopes.astype(np.float64), leaves, *_paths(call))
    return hierarchical_vjp_bound(s, sides, signed, arithmetic)


def without_last_node(call: Call) -> Float:
    """The result where the last node of each path is left out; the axis of the nodes last."""
    s = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    starts, nodes, signs = _paths(call)
    target = call.operands[1]
    flat = s.reshape(-1, s.shape[-1])
    logs, slopes = np.zeros(target.size), np.zeros_like(flat)
    with np.errstate(all="ignore"):
        for row, leaf in enumerate(target.reshape(-1).tolist()):
            kept = slice(starts[leaf], max(starts[leaf], starts[leaf + 1] - 1))
            t = flat[row, nodes[kept]] * signs[kept]
            logs[row] = np.sum(np.minimum(t, 0.0) - np.log1p(np.exp(-np.abs(t))))
            slopes[row, nodes[kept]] = signs[kept] * np.exp(np.minimum(-t, 0.0)) / (1.0 + np.exp(-np.abs(t)))
        if call.op == "hierarchical_log_softmax":
            return logs.reshape(target.shape)
        cotangents = call.operands[2].astype(np.float64)[..., np.newaxis]
        return np.asarray(slopes.reshape(s.shape) * cotangents)


def _paths(call: Call) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    starts, nodes, signs = call.operands[-len(OF_TREES) :]
    return starts, nodes, signs
