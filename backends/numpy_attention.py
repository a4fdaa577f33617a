"""Attention in NumPy as FlashAttention computes it, written to be read, and the naive form as a warning.

The forward pass scans blocks of keys and carries for each query the largest score m, the sum l of
exp(s - m) and the weighted sum o of the values; whenever m rises, l and o are multiplied by
exp(m_old - m_new), and o / l is the output, m + log l its lse (T. Dao et al., arXiv:2205.14135, algorithm
1; T. Dao, arXiv:2307.08691). The backward pass makes the weights exp(s - lse) anew, block by block. So no
array holds a number for each pair of a query and a key. 16-bit inputs are computed and summed in float32
and rounded once at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from softcert.backends.types import Array

#: Queries and keys of one tile of scores.
_ROWS, _COLUMNS = 128, 128


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
    problem = _Problem.of(q, k, v, scale, causal, mask)
    out = np.zeros((*problem.q.shape[:-1], v.shape[-1]), problem.q.dtype)
    lse = np.zeros(problem.q.shape[:-1], problem.q.dtype)
    with np.errstate(all="ignore"):
        for rows in _blocks(q.shape[-2], _ROWS):
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
    problem = _Problem.of(q, k, v, scale, causal, mask)
    given = _Forward.of(problem, out, lse, dout)
    dq, dk, dv = (np.zeros(shape, problem.q.dtype) for shape in (problem.q.shape, k.shape, v.shape))
    with np.errstate(all="ignore"):
        for columns in _blocks(k.shape[-2], _COLUMNS):
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
        pivot = _finite(np.maximum(lse_a, lse_b))
        total = np.exp(lse_a - pivot) + np.exp(lse_b - pivot)
        joined = np.zeros(out_a.shape, lse_a.dtype)
        for out, lse in ((out_a, lse_a), (out_b, lse_b)):
            share = np.exp(lse - pivot)[..., None]
            joined += np.where(share == 0, share, share * out.astype(lse.dtype))
        return _divided(joined, total[..., None]).astype(out_a.dtype), pivot + np.log(total)


def naive_attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Attention as the formula reads, exp(scores) / sum exp(scores) times v: wrong as soon as exp overflows.

    Parameters
    ----------
    q, k, v, scale, causal, mask : those of `attention_lse`.

    Returns
    -------
    (..., L, Dv), of the dtype of `q`: NaN where every exponential underflows, or one overflows.
    """
    problem = _Problem.of(q, k, v, scale, causal, mask)
    everything = slice(0, q.shape[-2]), slice(0, k.shape[-2])
    with np.errstate(all="ignore"):
        terms = np.exp(problem.scores(*everything))
        weights = terms / np.sum(terms, axis=-1, keepdims=True)
        result: Array = (weights @ problem.v).astype(q.dtype, copy=False)
        return result.reshape(*q.shape[:-1], v.shape[-1])


@dataclass(frozen=True)
class _Problem:
    """The operands in the format computed in, heads of q grouped by the head of k and v that they share.

    Attributes
    ----------
    q : (..., G, H / G, L, D). k : (..., G, 1, S, D). v : (..., G, 1, S, Dv).
    mask : broadcasts to (..., G, H / G, L, S), or None.
    offset : query i sees key j iff j <= i + offset; None where it sees all.
    """

    q: Array
    k: Array
    v: Array
    scale: Any
    mask: Array | None
    offset: int | None

    @classmethod
    def of(
        cls, q: Array, k: Array, v: Array, scale: float | None, causal: bool, mask: Array | None
    ) -> _Problem:
        work = np.dtype(np.float32) if q.dtype.itemsize == 2 else q.dtype
        length, features = q.shape[-2:]
        factor = 1.0 / math.sqrt(max(features, 1)) if scale is None else scale
        if mask is not None:
            mask = _grouped(np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2])), k)
        return cls(
            _grouped(q.astype(work, copy=False), k),
            _grouped(k.astype(work, copy=False), k),
            _grouped(v.astype(work, copy=False), k),
            work.type(factor),
            mask,
            k.shape[-2] - length if causal else None,
        )

    def scores(self, rows: slice, columns: slice) -> Array:
        """Scores of some queries and keys, -inf where a key is hidden."""
        s = (self.q[..., rows, :] @ self.k[..., columns, :].swapaxes(-1, -2)) * self.scale
        if self.mask is not None:
            part = self.mask[..., rows, columns]
            if part.dtype == np.bool_:
                s = np.where(part, s, -np.inf)
            else:
                # what is hidden may be an overflowed score, and inf - inf is NaN
                s = np.where(np.isneginf(part), -np.inf, s + part.astype(s.dtype))
        if self.offset is not None:
            first = np.arange(rows.start, rows.stop)[:, None] + self.offset
            s = np.where(np.arange(columns.start, columns.stop) <= first, s, -np.inf)
        return np.asarray(s.astype(self.q.dtype, copy=False))

    def columns_seen_by(self, rows: slice) -> Iterator[slice]:
        """Blocks of keys, without those that causality hides from all of some queries."""
        count = self.k.shape[-2]
        yield from _blocks(count if self.offset is None else min(count, rows.stop + self.offset), _COLUMNS)

    def rows_that_see(self, columns: slice) -> Iterator[slice]:
        """Blocks of queries, without those from which causality hides all of some keys."""
        for rows in _blocks(self.q.shape[-2], _ROWS):
            if self.offset is None or columns.start < rows.stop + self.offset:
                yield rows


@dataclass(frozen=True)
class _Forward:
    """What the backward pass takes of the forward pass: lse, dout, and delta, the row sums of dout * out."""

    lse: Array
    dout: Array
    delta: Array

    @classmethod
    def of(cls, problem: _Problem, out: Array, lse: Array, dout: Array) -> _Forward:
        work, shape = problem.q.dtype, problem.q.shape[:-1]
        result, cotangent = (a.astype(work, copy=False).reshape(*shape, a.shape[-1]) for a in (out, dout))
        return cls(
            lse.astype(work, copy=False).reshape(*shape, 1),
            cotangent,
            np.sum(result * cotangent, axis=-1, keepdims=True),
        )


def _attend(problem: _Problem, rows: slice) -> tuple[Array, Array]:
    """Output and lse of some queries, by one pass over the blocks of keys."""
    shape, work = problem.q[..., rows, :].shape[:-1], problem.q.dtype
    m = np.full((*shape, 1), -np.inf, work)
    total = np.zeros((*shape, 1), work)
    acc = np.zeros((*shape, problem.v.shape[-1]), work)
    for columns in problem.columns_seen_by(rows):
        s = problem.scores(rows, columns)
        risen = np.maximum(m, np.max(s, axis=-1, keepdims=True))
        # where nothing was seen yet, -inf - (-inf) would be NaN
        pivot = _finite(risen)
        fade, terms = np.exp(m - pivot), np.exp(s - pivot)
        total = total * fade + np.sum(terms, axis=-1, keepdims=True)
        acc = acc * fade + terms @ problem.v[..., columns, :]
        m = risen
    return _divided(acc, total), (_finite(m) + np.log(total))[..., 0]


def _tile_gradients(
    problem: _Problem, given: _Forward, rows: slice, columns: slice
) -> tuple[Array, Array, Array]:
    """Parts of dq, dk and dv of one tile, without the scale; dk and dv summed over the heads that share."""
    q, k, v = problem.q[..., rows, :], problem.k[..., columns, :], problem.v[..., columns, :]
    lse, dout, delta = given.lse[..., rows, :], given.dout[..., rows, :], given.delta[..., rows, :]
    s = problem.scores(rows, columns)
    hidden = np.isneginf(s)
    weights = np.where(hidden, s.dtype.type(0), np.exp(s - lse))
    # the product with a hidden value may be infinite, and 0 * inf is NaN
    slopes = np.where(hidden, s.dtype.type(0), weights * (dout @ v.swapaxes(-1, -2) - delta))
    of_k, of_v = slopes.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ dout
    return slopes @ k, np.sum(of_k, axis=-3), np.sum(of_v, axis=-3)


def _grouped(array: Array, k: Array) -> Array:
    """(..., H, n, m) as (..., G, H / G, n, m), G the heads of k; one head without an axis gets two."""
    groups = k.shape[-3] if k.ndim > 2 else 1
    heads = array.shape[-3] if array.ndim > 2 else 1
    if groups == 0 or heads % groups:
        raise ValueError(f"{heads} heads of q cannot share {groups} of k and v alike")
    return array.reshape(*array.shape[:-3], groups, heads // groups, *array.shape[-2:])


def _blocks(count: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _finite(m: Array) -> Array:
    """What to subtract: m, and 0 where that is infinite."""
    return np.where(np.isfinite(m), m, m.dtype.type(0))


def _divided(acc: Array, total: Array) -> Array:
    """acc / total, and 0 where nothing was summed."""
    return np.asarray(np.where(total == 0, total, acc / np.where(total == 0, total.dtype.type(1), total)))
