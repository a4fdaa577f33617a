"""Attention in NumPy as FlashAttention computes it, forward and backward, written to be read.

The forward pass scans blocks of keys, and carries for each query the largest score m, the sum l of exp(z
- m) over the scores z seen so far and the sum o of the values with those weights. A block of scores z
makes of them

    m' = max(m, max z)
    l' = exp(m - m') l + sum exp(z - m')
    o' = exp(m - m') o + exp(z - m') v

and in the end o / l is the output, m + log l its lse (T. Dao et al., arXiv:2205.14135, algorithm 1; T.
Dao, arXiv:2307.08691). The backward pass makes the weights exp(z - lse) anew, block by block. So no array
holds a number for each pair of a query and a key; `numpy_standard` has the form that does. 16-bit inputs
are computed and summed in float32 and rounded once at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softcert.backends.numpy_scores import COLUMNS, ROWS, Problem, blocks, divided, finite
from softcert.backends.types import Array


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Attention softmax(scale q k^T) v, without its lse.

    Parameters, special values and errors are those of `attention_lse`.

    Returns
    -------
    (..., L, Dv), of the dtype of `q`.
    """
    return attention_lse(q, k, v, scale=scale, causal=causal, mask=mask)[0]


def attention_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """Attention and the logarithm of the sum of exp(scores), in one pass over blocks of keys.

    Parameters
    ----------
    q : (..., H, L, D), or (L, D), of a floating dtype.
    k, v : (..., G, S, D) and (..., G, S, Dv), G a divisor of H: head h of q sees head h // (H / G).
    scale : 1 / sqrt(D) by default.
    causal : query i sees key j iff j <= i + S - L.
    mask : broadcasts to (..., H, L, S); booleans, True where seen, or numbers that are added to scores.

    Returns
    -------
    out (..., L, Dv) of the dtype of `q`, and lse (..., L), float32 for 16-bit inputs, else of the same
    dtype: 0 and -inf for a query that sees no key.

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    problem = Problem.of(q, k, v, scale, causal, mask)
    out = np.zeros((*problem.q.shape[:-1], v.shape[-1]), problem.q.dtype)
    lse = np.zeros(problem.q.shape[:-1], problem.q.dtype)
    with np.errstate(all="ignore"):
        for rows in blocks(q.shape[-2], ROWS):
            out[..., rows, :], lse[..., rows] = _attend(problem, rows)
        return out.reshape(*q.shape[:-1], v.shape[-1]).astype(q.dtype, copy=False), lse.reshape(q.shape[:-1])


def attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    dout: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array, Array]:
    """Gradient of attention, its weights made anew from the lse given (arXiv:2307.08691, algorithm 2).

    Parameters
    ----------
    out, lse : what `attention_lse` gave. dout : cotangent of out, (..., L, Dv).
    q, k, v, scale, causal, mask : those of `attention_lse`.

    Returns
    -------
    dq, dk and dv, of the shapes and dtype of q, k and v; keys that no query sees get exactly 0.

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    problem = Problem.of(q, k, v, scale, causal, mask)
    given = _Forward.of(problem, out, lse, dout)
    dq, dk, dv = (np.zeros(shape, problem.q.dtype) for shape in (problem.q.shape, k.shape, v.shape))
    with np.errstate(all="ignore"):
        for columns in blocks(k.shape[-2], COLUMNS):
            for rows in problem.rows_that_see(columns):
                of_q, of_k, of_v = _tile_gradients(problem, given, rows, columns)
                dq[..., rows, :] += of_q
                dk[..., columns, :] += of_k.reshape(dk[..., columns, :].shape)
                dv[..., columns, :] += of_v.reshape(dv[..., columns, :].shape)
        dq, dk = dq.reshape(q.shape) * problem.scale, dk * problem.scale
        return (
            dq.astype(q.dtype, copy=False),
            dk.astype(k.dtype, copy=False),
            dv.astype(v.dtype, copy=False),
        )


def attention_merge(out_a: Array, lse_a: Array, out_b: Array, lse_b: Array) -> tuple[Array, Array]:
    """Attention over the union of two disjoint sets of keys, from that over each (split-KV decoding).

    Parameters
    ----------
    out_a, out_b : (..., L, Dv) of a floating dtype.
    lse_a, lse_b : (..., L); -inf says that a part has no keys, whose out then does not matter.

    Returns
    -------
    out and lse of the union, of the dtypes of `out_a` and `lse_a`.
    """
    with np.errstate(all="ignore"):
        pivot = finite(np.maximum(lse_a, lse_b))
        total = np.exp(lse_a - pivot) + np.exp(lse_b - pivot)
        joined = np.zeros(out_a.shape, lse_a.dtype)
        for out, lse in ((out_a, lse_a), (out_b, lse_b)):
            share = np.exp(lse - pivot)[..., None]
            joined += np.where(share == 0, share, share * out.astype(lse.dtype))
        return divided(joined, total[..., None]).astype(out_a.dtype), pivot + np.log(total)


@dataclass(frozen=True)
class _Forward:
    """What the backward pass takes of the forward pass: lse, dout, and delta, the row sums of dout * out."""

    lse: Array
    dout: Array
    delta: Array

    @classmethod
    def of(cls, problem: Problem, out: Array, lse: Array, dout: Array) -> _Forward:
        work, shape = problem.q.dtype, problem.q.shape[:-1]
        result, cotangent = (a.astype(work, copy=False).reshape(*shape, a.shape[-1]) for a in (out, dout))
        return cls(
            lse.astype(work, copy=False).reshape(*shape, 1),
            cotangent,
            np.sum(result * cotangent, axis=-1, keepdims=True),
        )


def _attend(problem: Problem, rows: slice) -> tuple[Array, Array]:
    """Output and lse of some queries, by one pass over the blocks of keys."""
    shape, work = problem.q[..., rows, :].shape[:-1], problem.q.dtype
    m = np.full((*shape, 1), -np.inf, work)
    ell = np.zeros((*shape, 1), work)
    o = np.zeros((*shape, problem.v.shape[-1]), work)
    for columns in problem.columns_seen_by(rows):
        z = problem.scores(rows, columns)
        risen = np.maximum(m, np.max(z, axis=-1, keepdims=True))
        # where nothing was seen yet, -inf - (-inf) would be NaN
        pivot = finite(risen)
        fade, terms = np.exp(m - pivot), np.exp(z - pivot)
        ell = fade * ell + np.sum(terms, axis=-1, keepdims=True)
        o = fade * o + terms @ problem.v[..., columns, :]
        m = risen
    return divided(o, ell), (finite(m) + np.log(ell))[..., 0]


def _tile_gradients(
    problem: Problem, given: _Forward, rows: slice, columns: slice
) -> tuple[Array, Array, Array]:
    """Parts of dq, dk and dv of one tile, without the scale; dk and dv summed over the heads that share.

    With P = exp(z - lse) and dP = dout v^T: dS = P (dP - delta), dv = P^T dout, dq = dS k, dk = dS^T q
    (arXiv:2205.14135, algorithm 4).
    """
    q, k, v = problem.q[..., rows, :], problem.k[..., columns, :], problem.v[..., columns, :]
    lse, dout, delta = given.lse[..., rows, :], given.dout[..., rows, :], given.delta[..., rows, :]
    z = problem.scores(rows, columns)
    hidden = np.isneginf(z)
    weights = np.where(hidden, z.dtype.type(0), np.exp(z - lse))
    # the product with a hidden value may be infinite, and 0 * inf is NaN
    slopes = np.where(hidden, z.dtype.type(0), weights * (dout @ v.swapaxes(-1, -2) - delta))
    of_k, of_v = slopes.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ dout
    return slopes @ k, np.sum(of_k, axis=-3), np.sum(of_v, axis=-3)
