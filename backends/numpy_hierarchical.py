"""The hierarchical softmax in NumPy, written to be read: a leaf at a time, a path at a time.

F. Morin and Y. Bengio, AISTATS 2005. A tree comes as the paths to its leaves, one after the other: the path
of leaf w is at path_starts[w]:path_starts[w + 1] of `path_nodes` and `path_signs`. 16-bit inputs are computed
and summed in float32 and rounded once at the end.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array


def hierarchical_log_softmax(
    s: Array, leaves: Array, path_starts: Array, path_nodes: Array, path_signs: Array
) -> Array:
    """Log-probabilities of chosen leaves: the sum of log sigma(sign s_n) over the nodes n of each path.

    Parameters
    ----------
    s : scores of the nodes (..., K - 1) of a floating dtype.
    leaves : integers (..., m) of 0, ..., K - 1, whose leading axes are broadcast to those of `s`.
    path_starts, path_nodes, path_signs : the tree, (K + 1,), (P,) and (P,); signs are 1 or -1.

    Returns
    -------
    An array (..., m) of the dtype of `s`. NaN on the path gives NaN, and an infinity against its sign -inf;
    what is off the path does not matter.
    """
    scores, chosen = widen(s), _chosen(s, leaves)
    result = np.empty(chosen.shape, scores.dtype)
    with np.errstate(all="ignore"):
        for place in np.ndindex(chosen.shape):
            path = slice(path_starts[chosen[place]], path_starts[chosen[place] + 1])
            branches = scores[place[:-1]][path_nodes[path]] * path_signs[path]
            result[place] = np.sum(_log_sigma(branches))
        return narrow(result, s)


def hierarchical_log_softmax_vjp(
    s: Array, dy: Array, leaves: Array, path_starts: Array, path_nodes: Array, path_signs: Array
) -> Array:
    """Gradient of the log-probabilities by the scores: the sum over leaves of dy (t_n - sigma(s_n)).

    t_n is 1 where a leaf's path takes the branch of sign 1 at n, and 0 where it takes the other.

    Parameters
    ----------
    s, leaves, path_starts, path_nodes, path_signs : as for `hierarchical_log_softmax`.
    dy : cotangent (..., m) of the log-probabilities.

    Returns
    -------
    An array of the shape and dtype of `s`, 0 at nodes of no chosen path.
    """
    scores, slopes, chosen = widen(s), widen(dy), _chosen(s, leaves)
    result = np.zeros_like(scores)
    with np.errstate(all="ignore"):
        for place in np.ndindex(chosen.shape):
            path = slice(path_starts[chosen[place]], path_starts[chosen[place] + 1])
            nodes, signs = path_nodes[path], path_signs[path]
            # t - sigma(s) is the probability of the other branch, signed, and that cancels nothing.
            other = _sigma(-scores[place[:-1]][nodes] * signs)
            result[place[:-1]][nodes] += slopes[place] * (other * signs)
        return narrow(result, s)


def _chosen(s: Array, leaves: Array) -> Array:
    return np.broadcast_to(leaves, (*s.shape[:-1], leaves.shape[-1]))


def _log_sigma(t: Array) -> Array:
    """log sigma(t), also where sigma(t) would round to 0 or to 1."""
    result: Array = np.minimum(t, 0) - np.log1p(np.exp(-np.abs(t)))
    return result


def _sigma(t: Array) -> Array:
    """sigma(t) = 1 / (1 + exp(-t)), from an exponential that does not overflow."""
    term = np.exp(-np.abs(t))
    return np.where(t > 0, 1 / (1 + term), term / (1 + term))
