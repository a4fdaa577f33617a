"""Attention in numba, for arrays of any layout: heads and blocks of queries are dealt out to threads.

Keys and values are copied once a head, in the dtype computed in, so that memory grows with the length of the
sequences and not with its square. A query's result depends on its own head alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from softcert.backends.numba_ import attention_kernels as kernels
from softcert.backends.numba_.caches import queries_of_block
from softcert.backends.numba_.threads import shared
from softcert.backends.types import Array

#: Fewer pairs of query and key are not worth another thread.
_SHARE = 1 << 14


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Scaled dot-product attention.

    Parameters
    ----------
    q, k, v, scale, causal, mask : those of `attention_lse`.

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
    """Scaled dot-product attention and the log-sum-exp of its scores.

    Parameters
    ----------
    q : (..., H, L, D) of a floating dtype, bfloat16 and float16 included.
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
    out = np.empty((*problem.q.shape[:3], v.shape[-1]), q.dtype)
    lse = np.empty(problem.q.shape[:3], problem.work)
    heads = [
        (problem.across(problem.k[place]), problem.flat(problem.v[place]))
        for place in problem.places_of_keys()
    ]

    def attend(task: tuple[tuple[int, int], slice]) -> None:
        (batch, head), rows = task
        keys, values = heads[problem.index_of_keys(batch, head)]
        count = rows.stop - rows.start
        result, logs = np.empty(count * v.shape[-1], problem.work), np.empty(count)
        kernels.forward(
            problem.flat(problem.q[batch, head, rows]),
            keys,
            values,
            problem.bias(batch, head, rows),
            result,
            logs,
            problem.sizes(rows),
            problem.scale,
            problem.shown(rows),
        )
        with np.errstate(over="ignore", invalid="ignore"):
            out[batch, head, rows] = result.reshape(count, -1)
            lse[batch, head, rows] = logs

    blocks = list(problem.blocks(queries_of_block(problem.work.itemsize)))
    tasks = product(product(*map(range, problem.q.shape[:2])), blocks)
    shared(attend, tasks, worthwhile=problem.pairs > _SHARE)
    return out.reshape(*q.shape[:-1], v.shape[-1]), lse.reshape(q.shape[:-1])


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
    """Gradient of attention, its weights made anew from the lse given.

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
    given = [a.reshape(*problem.q.shape[:3], *a.shape[q.ndim - 1 :]) for a in (out, lse, dout)]
    dq = np.empty(problem.q.shape, q.dtype)
    dk, dv = np.empty(problem.k.shape, k.dtype), np.empty(problem.v.shape, v.dtype)

    def differentiate(place: tuple[int, int]) -> None:
        batch, group = place
        keys, keys_across = problem.flat(problem.k[place]), problem.across(problem.k[place])
        values_across = problem.across(problem.v[place])
        of_k, of_v = np.zeros(keys.size, problem.work), np.zeros(dv[batch, group].size, problem.work)
        for head, rows in product(problem.heads_of(group), problem.blocks(kernels.BLOCK)):
            of_q = np.zeros(problem.q[batch, head, rows].size, problem.work)
            outs, logs, slopes = (a[batch, head, rows] for a in given)
            with np.errstate(over="ignore", invalid="ignore"):
                delta = np.sum(outs.astype(np.float64) * slopes.astype(np.float64), axis=-1)
                kernels.backward(
                    problem.flat(problem.q[batch, head, rows]),
                    keys,
                    keys_across,
                    values_across,
                    problem.bias(batch, head, rows),
                    problem.flat(slopes),
                    problem.flat(logs),
                    problem.flat(delta),
                    of_q,
                    of_k,
                    of_v,
                    problem.sizes(rows),
                    problem.scale,
                    problem.shown(rows),
                )
                of_q *= problem.factor
                dq[batch, head, rows] = of_q.reshape(dq[batch, head, rows].shape)
        with np.errstate(over="ignore", invalid="ignore"):
            of_k *= problem.factor
            dk[batch, group] = of_k.reshape(dk[batch, group].shape)
            dv[batch, group] = of_v.reshape(dv[batch, group].shape)

    shared(differentiate, problem.places_of_keys(), worthwhile=problem.pairs > _SHARE)
    return dq.reshape(q.shape), dk.reshape(k.shape), dv.reshape(v.shape)


@dataclass(frozen=True)
class _Problem:
    """The operands with two axes in front, batch and head, and what the kernels need of them.

    Attributes
    ----------
    q : (B, H, L, D). k : (B, G, S, D). v : (B, G, S, Dv).
    mask : (B, H, L, S), strides 0 where it is broadcast, or None.
    offset : query i sees key j iff j <= i + offset; None where it sees all.
    work : the dtype computed in.
    """

    q: Array
    k: Array
    v: Array
    scale: float
    mask: Array | None
    offset: int | None
    work: Any

    @classmethod
    def of(
        cls, q: Array, k: Array, v: Array, scale: float | None, causal: bool, mask: Array | None
    ) -> _Problem:
        if mask is not None:
            mask = _with_two_axes(np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2])))
        heads, groups = (a.shape[-3] if a.ndim > 2 else 1 for a in (q, k))
        if groups == 0 or heads % groups:
            raise ValueError(f"{heads} heads of q cannot share {groups} of k and v alike")
        features = q.shape[-1]
        return cls(
            _with_two_axes(q),
            _with_two_axes(k),
            _with_two_axes(v),
            1.0 / math.sqrt(max(features, 1)) if scale is None else float(scale),
            mask,
            k.shape[-2] - q.shape[-2] if causal else None,
            np.dtype(np.float64 if q.dtype == np.float64 else np.float32),
        )

    @property
    def factor(self) -> Any:
        """The scale in the dtype computed in."""
        return self.work.type(self.scale)

    @property
    def pairs(self) -> int:
        """Pairs of query and key."""
        return math.prod(self.q.shape[:3]) * int(self.k.shape[2])

    @property
    def padded(self) -> int:
        """Keys, filled up to whole vectors."""
        return -(-int(self.k.shape[2]) // _LANES) * _LANES

    def places_of_keys(self) -> list[tuple[int, int]]:
        """Every batch and head of k and v."""
        batches, groups = self.k.shape[:2]
        return list(product(range(batches), range(groups)))

    def index_of_keys(self, batch: int, head: int) -> int:
        """Which of them a head of q sees."""
        heads, groups = int(self.q.shape[1]), int(self.k.shape[1])
        return batch * groups + head // (heads // groups)

    def heads_of(self, group: int) -> range:
        """Heads of q that see a head of k and v."""
        share = self.q.shape[1] // self.k.shape[1]
        return range(group * share, (group + 1) * share)

    def blocks(self, size: int) -> Iterator[slice]:
        """Blocks of so many queries, the last one of what is left."""
        length = self.q.shape[2]
        for first in range(0, length, size):
            yield slice(first, min(first + size, length))

    def across(self, matrix: Array) -> Array:
        """Keys or values of one head, tile by tile with axes exchanged, the last tile filled up."""
        count, features = matrix.shape
        tiles = -(-count // kernels.TILE)
        filled = np.zeros((tiles * kernels.TILE, features), self.work)
        filled[:count] = matrix
        return self.flat(filled.reshape(tiles, kernels.TILE, features).swapaxes(1, 2))

    def flat(self, array: Array) -> Array:
        """A copy of an array, number behind number, in the dtype computed in.

        Not the array itself: kernels are compiled anew for what cannot be written to.
        """
        return np.array(array, self.work, order="C").reshape(-1)

    def bias(self, batch: int, head: int, rows: slice) -> Array:
        """What is added to scores of some queries, -inf at hidden keys; nothing where there is no mask."""
        if self.mask is None:
            return np.empty(0, self.work)
        part = self.mask[batch, head, rows]
        result = np.full((len(part), self.padded), -np.inf, self.work)
        result[:, : part.shape[1]] = np.where(part, 0.0, -np.inf) if part.dtype == np.bool_ else part
        return result.reshape(-1)

    def sizes(self, rows: slice) -> tuple[int, int, int, int, int]:
        """Queries, keys, padded, features, values."""
        return rows.stop - rows.start, self.k.shape[2], self.padded, self.q.shape[3], self.v.shape[3]

    def shown(self, rows: slice) -> int:
        """How many keys the first of some queries sees."""
        return int(self.k.shape[2]) if self.offset is None else int(rows.start) + self.offset + 1


#: Rows of keys with axes exchanged are filled up to a multiple of it, a vector of any dtype.
_LANES = 16


def _with_two_axes(array: Array) -> Array:
    """(..., H, n, m) as (B, H, n, m)."""
    while array.ndim < 4:
        array = array[None]
    return array.reshape(math.prod(array.shape[:-3]), *array.shape[-3:])
