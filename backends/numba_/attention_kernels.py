"""FlashAttention in lanes: one head, by blocks of queries and tiles of keys, no matrix of scores in memory.

Forward, for each query: m, the largest score so far, l, the sum of exp(score - m), and o, the same sum of
values; a tile that raises m makes l and o smaller by exp(old m - m) first. In the end out = o / l and
lse = m + log(l) (T. Dao et al., arXiv:2205.14135 (2022), algorithm 1; the division last: T. Dao,
arXiv:2307.08691 (2023), section 3.1). Backward: weights P = exp(score - lse) are made anew, tile by tile,
and dv = P' dout, dS = P (dout v' - delta), dq = scale dS k, dk = scale dS' q, where delta is the row sums of
dout out (arXiv:2205.14135, appendix B.4).

Matrices come as arrays of one axis, row by row, of float32 or float64; keys, and for the backward pass
values, also tile by tile with axes exchanged, (tiles, features, TILE), the last tile filled up: so close
together that they do not drive each other out of the first cache. `bias` is added to scores, -inf at hidden
keys: (queries, padded), where padded is the number of keys filled up to whole vectors, or of no element.
`shown` is how many keys the first query sees by the causal rule, each further query one more.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import compiled, inlined
from softcert.backends.numba_.exponential import exponential
from softcert.backends.numba_.lanes import larger, largest_of, splat, sum_of, unless_below
from softcert.backends.numba_.lanes_memory import first_lanes, load, load_part, store, store_part
from softcert.backends.numba_.products import ADD, REPLACE, multiply
from softcert.backends.numba_.words import plus_first, plus_last, width

#: Keys of a tile. With 48 queries the scores of a tile fill half of a first cache of 48 KiB.
TILE = 128
#: Queries of a block on the way back, whose number sets the order of the sums of dk and dv: not the machine's
#: to choose.
BLOCK = 48
#: Below any number that is added to a score.
_HIDDEN = -3.0e38


@inlined
def _scores(tile: Any, row: int, n: int, left: int, factor: Any, bias: Any, bias_at: int) -> None:
    """Products of a query and n keys become scores: scaled, biased, -inf beyond the first `left` keys.

    A loop for each, since a loop that asks whether there is a bias takes ten times as long.
    """
    w, none = width(tile), tile.dtype.type(-np.inf)
    for j in range(0, n, w):
        store(tile, row + j, load(tile, row + j) * factor)
    if bias.size:
        for j in range(0, n, w):
            added = load(bias, bias_at + j)
            # What is hidden may be an infinite score, and inf - inf is NaN.
            biased = load(tile, row + j) + added
            store(tile, row + j, unless_below(added, splat(tile.dtype.type(_HIDDEN)), splat(none), biased))
    for j in range(max(left, 0) // w * w, n, w):
        store(tile, row + j, first_lanes(load(tile, row + j), left - j, none))


@compiled
def forward(
    q: Any,
    keys_across: Any,
    v: Any,
    bias: Any,
    out: Any,
    lse: Any,
    sizes: Any,
    scale: float,
    shown: int,
) -> None:
    """Output and lse of a block of queries.

    Parameters
    ----------
    q, keys_across, v : (queries, features), (tiles, features, TILE) and (keys, values).
    bias : (queries, padded), or of no element.
    out, lse : results (queries, values) and (queries,), the latter in float64.
    sizes : queries, keys, padded, features, values.
    scale : of the products.
    shown : how many keys the first query sees by the causal rule.
    """
    queries, keys, padded, features, values = sizes
    w, zero = width(q), q.dtype.type(0.0)
    factor, none = splat(q.dtype.type(scale)), splat(zero)
    tile = np.empty(queries * TILE, q.dtype)
    top = np.full(queries, -np.inf, q.dtype)
    total = np.zeros(queries)
    out[:] = zero
    seen = min(keys, shown + queries - 1)
    for first in range(0, seen, TILE):
        n = min(TILE, padded - first)
        multiply(
            q,
            0,
            features,
            1,
            keys_across,
            first * features,
            TILE,
            tile,
            0,
            TILE,
            queries,
            n,
            features,
            w,
            REPLACE,
        )
        for i in range(queries):
            row, left = i * TILE, min(keys, shown + i) - first
            _scores(tile, row, n, left, factor, bias, i * padded + first)
            m = splat(top[i])
            for j in range(0, n, w):
                m = larger(m, load(tile, row + j))
            risen = largest_of(m)
            # Where nothing is seen yet, -inf - (-inf) would be NaN.
            pivot = zero if risen == -np.inf else risen
            if risen > top[i]:
                _fade(out, i * values, values, total, i, math.exp(np.float64(top[i]) - pivot), w)
                top[i] = risen
            pivots = splat(pivot)
            a = b = splat(0.0)
            for j in range(0, n, w):
                p = exponential(load(tile, row + j) - pivots, none)
                store(tile, row + j, p)
                a, b = plus_first(a, p), plus_last(b, p)
            total[i] += sum_of(a + b)
        depth = min(TILE, keys - first)
        multiply(tile, 0, TILE, 1, v, first * values, values, out, 0, values, queries, values, depth, w, ADD)
    for i in range(queries):
        lse[i] = (zero if top[i] == -np.inf else top[i]) + math.log(total[i])
        if total[i] != 0.0:
            _scale(out, i * values, values, splat(q.dtype.type(1.0 / total[i])), w)


@inlined
def _fade(out: Any, at: int, values: int, total: Any, i: int, factor: float, w: int) -> None:
    total[i] *= factor
    _scale(out, at, values, splat(out.dtype.type(factor)), w)


@inlined
def _scale(out: Any, at: int, values: int, factor: Any, w: int) -> None:
    zero = out.dtype.type(0.0)
    whole = values - values % w
    for j in range(0, whole, w):
        store(out, at + j, load(out, at + j) * factor)
    for j in range(whole, values, w):
        store_part(out, at + j, values - j, load_part(out, at + j, values - j, zero) * factor)


@compiled
def backward(
    q: Any,
    k: Any,
    keys_across: Any,
    values_across: Any,
    bias: Any,
    dout: Any,
    lse: Any,
    delta: Any,
    dq: Any,
    dk: Any,
    dv: Any,
    sizes: Any,
    scale: float,
    shown: int,
) -> None:
    """Gradients of a block of queries, added to dq, dk and dv, the first two without the scale.

    Parameters
    ----------
    q, k : (queries, features) and (keys, features).
    keys_across, values_across : (tiles, features, TILE) and (tiles, values, TILE).
    bias : (queries, padded), or of no element.
    dout, lse, delta : (queries, values), (queries,), (queries,).
    dq, dk, dv : (queries, features), (keys, features), (keys, values).
    sizes, scale, shown : as in `forward`.
    """
    queries, keys, padded, features, values = sizes
    w, zero = width(q), q.dtype.type(0.0)
    factor, none = splat(q.dtype.type(scale)), splat(zero)
    nothing = splat(q.dtype.type(_HIDDEN))
    weights, slopes = np.empty(BLOCK * TILE, q.dtype), np.empty(BLOCK * TILE, q.dtype)
    seen = min(keys, shown + queries - 1)
    for first in range(0, seen, TILE):
        n = min(TILE, padded - first)
        depth = min(TILE, keys - first)
        multiply(
            q,
            0,
            features,
            1,
            keys_across,
            first * features,
            TILE,
            weights,
            0,
            TILE,
            queries,
            n,
            features,
            w,
            REPLACE,
        )
        multiply(
            dout,
            0,
            values,
            1,
            values_across,
            first * values,
            TILE,
            slopes,
            0,
            TILE,
            queries,
            n,
            values,
            w,
            REPLACE,
        )
        for i in range(queries):
            row, left = i * TILE, min(keys, shown + i) - first
            _scores(weights, row, n, left, factor, bias, i * padded + first)
            # A query that sees nothing has weights of 0, whatever is taken from -inf.
            pivots, d = splat(zero if lse[i] == -np.inf else lse[i]), splat(delta[i])
            for j in range(0, n, w):
                t = load(weights, row + j)
                p = exponential(t - pivots, none)
                store(weights, row + j, p)
                # The slope at a hidden value may be infinite, and 0 inf is NaN.
                store(slopes, row + j, unless_below(t, nothing, none, p * (load(slopes, row + j) - d)))
        multiply(
            weights, 0, 1, TILE, dout, 0, values, dv, first * values, values, depth, values, queries, w, ADD
        )
        multiply(
            slopes,
            0,
            1,
            TILE,
            q,
            0,
            features,
            dk,
            first * features,
            features,
            depth,
            features,
            queries,
            w,
            ADD,
        )
        multiply(
            slopes,
            0,
            TILE,
            1,
            k,
            first * features,
            features,
            dq,
            0,
            features,
            queries,
            features,
            depth,
            w,
            ADD,
        )
