"""The hierarchical softmax in numba: rows dealt out to threads, and nothing touched but the paths.

A path of d nodes costs d exponentials and, of narrow dtypes, one logarithm: the sum of log(1 + w_n) is
log(1 + q), q + 1 the product of all 1 + w_n, which float64 keeps to 3 d roundings of its own however small
the w_n are. The difference t - sigma(s), of what may be nearly equal, is taken as the probability of the
other branch.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import compiled, inlined
from softcert.backends.numba_.lanes import splat, sum_of
from softcert.backends.numba_.lanes_memory import load_part
from softcert.backends.numba_.threads import dealt
from softcert.backends.numba_.words import plus_first_product, plus_last_product, width
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array

#: Fewer leaves are not worth another thread.
_SHARE = 1 << 11
#: Where a product of sums is taken as a logarithm, lest a long path overflow it.
_FULL = 2.0**900


def hierarchical_log_softmax(
    s: Array, leaves: Array, path_starts: Array, path_nodes: Array, path_signs: Array
) -> Array:
    """Log-probabilities of chosen leaves: the sum of log sigma(sign s_n) over the nodes n of each path.

    Parameters
    ----------
    s : scores of the nodes (..., K - 1) of a floating dtype, bfloat16 and float16 included.
    leaves : integers (..., m) of 0, ..., K - 1, whose leading axes are broadcast to those of `s`.
    path_starts, path_nodes, path_signs : the tree, (K + 1,), (P,) and (P,); the path of leaf w is at
        path_starts[w]:path_starts[w + 1] of the others, and signs are 1 or -1.

    Returns
    -------
    An array (..., m) of the dtype of `s`. NaN on the path gives NaN, and an infinity against its sign -inf;
    what is off the path does not matter.
    """
    scores, chosen, shape = _rows(s, leaves)
    result = np.empty(chosen.shape, scores.dtype)
    kernel = _sums_of_logs if scores.dtype == np.float64 else _logs_of_products
    dealt(
        lambda k: kernel(scores[k], chosen[k], path_starts, path_nodes, path_signs, result[k]), chosen, _SHARE
    )
    with np.errstate(over="ignore", invalid="ignore"):
        return narrow(result.reshape(shape), s)


def hierarchical_log_softmax_vjp(
    s: Array, dy: Array, leaves: Array, path_starts: Array, path_nodes: Array, path_signs: Array
) -> Array:
    """Gradient of the log-probabilities by the scores: the sum over leaves of dy (t_n - sigma(s_n)).

    Parameters
    ----------
    s, leaves, path_starts, path_nodes, path_signs : as for `hierarchical_log_softmax`.
    dy : cotangent (..., m) of the log-probabilities.

    Returns
    -------
    An array of the shape and dtype of `s`, 0 at nodes of no chosen path.
    """
    scores, chosen, _ = _rows(s, leaves)
    slopes = np.ascontiguousarray(widen(dy)).reshape(chosen.shape)
    result = np.zeros_like(scores)

    def compute(k: slice) -> None:
        _slopes(scores[k], slopes[k], chosen[k], path_starts, path_nodes, path_signs, result[k])

    dealt(compute, chosen, _SHARE)
    with np.errstate(over="ignore", invalid="ignore"):
        return narrow(result.reshape(s.shape), s)


def hierarchical_step(
    h: Array, vectors: Array, leaves: Array, path_starts: Array, path_nodes: Array, path_signs: Array
) -> tuple[Array, Array, Array]:
    """Log-probability of one leaf a row and its gradients, through scores s_n = vectors[n] . h.

    Scores are computed along the paths alone, so that a row costs its path's length and nothing depends on K.

    Parameters
    ----------
    h : hidden vectors (rows, D) of float32 or float64, contiguous.
    vectors : (K - 1, D) of the nodes, contiguous, of the dtype of `h`.
    leaves : (rows,). path_starts, path_nodes, path_signs : as for `hierarchical_log_softmax`.

    Returns
    -------
    (logs, dh, dv) : (rows,), (rows, D), and (P', D), the gradients of the vectors at the nodes of the paths
    of all rows, one after the other.
    """
    ends = np.concatenate([[0], np.cumsum(path_starts[leaves + 1] - path_starts[leaves])])
    logs, by_hidden = np.empty(len(h), h.dtype), np.empty_like(h)
    by_vector = np.empty((ends[-1], h.shape[1]), h.dtype)

    def compute(k: slice) -> None:
        paths = (leaves[k], path_starts, path_nodes, path_signs)
        _step(h[k], vectors, *paths, ends[k], logs[k], by_hidden[k], by_vector)

    dealt(compute, leaves, _SHARE)
    return logs, by_hidden, by_vector


@compiled
def _logs_of_products(s: Any, leaves: Any, starts: Any, nodes: Any, signs: Any, y: Any) -> None:
    """Of narrow dtypes, computed in float64."""
    for r in range(s.shape[0]):
        for j in range(leaves.shape[1]):
            w = leaves[r, j]
            exact = product = 0.0
            for k in range(starts[w], starts[w + 1]):
                t = np.float64(s[r, nodes[k]]) * signs[k]
                exact, product = _with_branch(exact, product, t, math.exp(-abs(t)))
            y[r, j] = exact - math.log1p(product)


@inlined
def _with_branch(exact: float, product: float, t: float, term: float) -> tuple[float, float]:
    """A path with one branch more: the sum of min(t, 0), and the product of 1 + exp(-|t|), less 1."""
    exact += min(t, 0.0)
    product += term + product * term
    if product > _FULL:
        return exact - math.log1p(product), 0.0
    return exact, product


@compiled
def _sums_of_logs(s: Any, leaves: Any, starts: Any, nodes: Any, signs: Any, y: Any) -> None:
    """Of float64, where a product would be rounded as often as the terms of the sum."""
    for r in range(s.shape[0]):
        for j in range(leaves.shape[1]):
            w = leaves[r, j]
            total = 0.0
            for k in range(starts[w], starts[w + 1]):
                t = s[r, nodes[k]] * signs[k]
                total += min(t, 0.0) - math.log1p(math.exp(-abs(t)))
            y[r, j] = total


@inlined
def _other(t: float, term: float) -> float:
    """sigma(-t), of exp(-|t|)."""
    return (term if t > 0.0 else 1.0) / (1.0 + term)


@compiled
def _slopes(s: Any, dy: Any, leaves: Any, starts: Any, nodes: Any, signs: Any, ds: Any) -> None:
    for r in range(s.shape[0]):
        for j in range(leaves.shape[1]):
            w = leaves[r, j]
            for k in range(starts[w], starts[w + 1]):
                n = nodes[k]
                t = np.float64(s[r, n]) * signs[k]
                ds[r, n] += dy[r, j] * (_other(t, math.exp(-abs(t))) * signs[k])


@inlined
def _dot(a: Any, b: Any, work: Any) -> float:
    n, w, zero = a.size, width(work), work.dtype.type(0.0)
    s = t = splat(0.0)
    for i in range(0, n, w):
        p, q = load_part(a, i, n - i, zero), load_part(b, i, n - i, zero)
        s, t = plus_first_product(s, p, q), plus_last_product(t, p, q)
    return sum_of(s + t)


@compiled
def _step(
    h: Any,
    vectors: Any,
    leaves: Any,
    starts: Any,
    nodes: Any,
    signs: Any,
    ends: Any,
    y: Any,
    dh: Any,
    dv: Any,
) -> None:
    features = h.shape[1]
    for r in range(h.shape[0]):
        w, place = leaves[r], ends[r]
        exact = product = 0.0
        dh[r] = 0.0
        for k in range(starts[w], starts[w + 1]):
            vector = vectors[nodes[k]]
            t = _dot(vector, h[r], h) * signs[k]
            term = math.exp(-abs(t))
            exact, product = _with_branch(exact, product, t, term)
            slope = h.dtype.type(_other(t, term) * signs[k])
            for i in range(features):
                dh[r, i] += slope * vector[i]
                dv[place, i] = slope * h[r, i]
            place += 1
        y[r] = exact - math.log1p(product)


def _rows(s: Array, leaves: Array) -> tuple[Array, Array, tuple[int, ...]]:
    """Scores (rows, K - 1), leaves (rows, m), both contiguous, and the shape of the result."""
    shape = (*s.shape[:-1], leaves.shape[-1])
    rows = math.prod(shape[:-1])
    scores = np.ascontiguousarray(widen(s)).reshape(rows, s.shape[-1])
    return scores, np.ascontiguousarray(np.broadcast_to(leaves, shape)).reshape(rows, shape[-1]), shape
