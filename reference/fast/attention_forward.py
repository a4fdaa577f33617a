"""Outputs and log-sum-exps of attention in double words, block of queries by block of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.attention_weights import ROUNDED_UP, to_scores, to_weights
from softcert.reference.fast.compiled import compiled
from softcert.reference.fast.double_word import two_sum
from softcert.reference.fast.logs import lse_of
from softcert.reference.fast.rows import MISSING, product, reciprocal
from softcert.reference.fast.tiles import TILE, absorb, dot_tile, weighted_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Relative error of a reciprocal and a product of double words.
_QUOTIENT_ERROR = 2.0**-101
#: What products of a weight and a value can lose to underflow, in a sum of 2**20.
UNDERFLOW = 2.0**-1050


@compiled
def _dots(
    q: Words,
    keys: Words,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    high: Words,
    low: Words,
) -> None:
    """Dot products of some queries with every tile of keys of which they see any."""
    for t in range(first.min() // TILE, (last.max() + TILE - 1) // TILE):
        part = slice(t * TILE, (t + 1) * TILE)
        for i in range(q.shape[0]):
            if first[i] < part.stop and last[i] > part.start:
                dot_tile(q[i], keys[t], high[i, part], low[i, part])


@compiled
def _weighted(
    high: Words,
    low: Words,
    slack: Words,
    values: Words,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    sums: tuple[Words, Words, Words],
) -> None:
    """Sums of weights times values, and of the weights' errors times |values|."""
    columns = values.shape[1]
    room = np.empty(columns), np.empty(columns), np.empty(columns)
    for a in sums:
        a[:] = 0.0
    for t in range(first.min() // TILE, (last.max() + TILE - 1) // TILE):
        part = slice(t * TILE, (t + 1) * TILE)
        for i in range(high.shape[0]):
            if first[i] < part.stop and last[i] > part.start:
                weighted_sums(
                    high[i, part], low[i, part], slack[i, part], values[part], room[0], room[1], room[2]
                )
                absorb(sums[0][i], sums[1][i], sums[2][i], room[0], room[1], room[2])


@compiled
def forward(
    q: Words,
    q_sizes: Words,
    keys: Words,
    key_sizes: Words,
    values: Words,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    bias: Words,
    scale_high: float,
    scale_low: float,
    dot_slack: float,
    sum_slack: float,
    tiny: float,
    out: tuple[Words, Words, Words],
    exponent: NDArray[np.int64],
    lse: tuple[Words, Words, Words],
    lse_exponent: NDArray[np.int64],
) -> None:
    """Attention of some queries of one head.

    Parameters
    ----------
    q : (n, D), D a multiple of 4. keys : (T, D, TILE). values : (T * TILE, C).
    q_sizes : (n,). key_sizes : (T * TILE,). Euclidean norms, rounded up.
    first, last : (n,). bias : (n, T * TILE), or (n, 0). As in `to_scores`.
    dot_slack : error of a dot product over the norms, times |scale|. sum_slack : relative error of a sum.
    tiny : `UNDERFLOW` where values are so small that products of them and weights may vanish, else 0.
    out, exponent : (n, C), results as high + low and an absolute error; exponent `MISSING` where not given.
    lse, lse_exponent : (n,), the same.
    """
    count, width = q.shape[0], keys.shape[0] * TILE
    high, low, slack = np.empty((count, width)), np.empty((count, width)), np.empty((count, width))
    _dots(q, keys, first, last, high, low)
    totals = np.empty((count, 4))
    for i in range(count):
        part = slice(first[i] // TILE * TILE, (last[i] + TILE - 1) // TILE * TILE)
        top, known = to_scores(
            high[i, part],
            low[i, part],
            slack[i, part],
            bias[i, part] if bias.shape[1] > 0 else bias[i],
            key_sizes[part],
            first[i] - part.start,
            last[i] - part.start,
            scale_high,
            scale_low,
            dot_slack * q_sizes[i],
        )
        totals[i, 0] = top if known else np.nan
        totals[i, 1:] = to_weights(high[i, part], low[i, part], slack[i, part], top, sum_slack)
    _weighted(high, low, slack, values, first, last, out)
    for i in range(count):
        top, sh, sl, spread = totals[i]
        if top == -np.inf:
            _nothing_seen(i, out, exponent, lse, lse_exponent)
        else:
            _finish(i, top, sh, sl, spread, tiny, out, exponent, lse, lse_exponent)


@compiled
def _finish(
    i: int,
    top: float,
    sh: float,
    sl: float,
    spread: float,
    tiny: float,
    out: tuple[Words, Words, Words],
    exponent: NDArray[np.int64],
    lse: tuple[Words, Words, Words],
    lse_exponent: NDArray[np.int64],
) -> None:
    """Divide the sums of query i by that of its weights, and take the logarithm of the latter."""
    known = abs(top) < np.inf and spread < 1.0
    relative = spread * (1.0 + spread)
    rh, rl = reciprocal(sh, sl)
    for c in range(out[0].shape[1]):
        h, l = product(out[0][i, c], out[1][i, c], rh, rl)  # noqa: E741
        size = out[2][i, c]
        error = size * rh * ROUNDED_UP + abs(h) * (relative + _QUOTIENT_ERROR)
        out[0][i, c], out[1][i, c] = two_sum(h, l)
        out[2][i, c] = error + UNDERFLOW if size > 0.0 else tiny
        exponent[i, c] = 0 if known and abs(h) < np.inf else MISSING
    lse[0][i], lse[1][i], error, good = lse_of(top, sh, sl)
    lse[2][i] = error + relative
    lse_exponent[i] = 0 if known and good else MISSING


@compiled
def _nothing_seen(
    i: int,
    out: tuple[Words, Words, Words],
    exponent: NDArray[np.int64],
    lse: tuple[Words, Words, Words],
    lse_exponent: NDArray[np.int64],
) -> None:
    for a in out:
        a[i] = 0.0
    exponent[i] = 0
    lse[0][i], lse[1][i], lse[2][i] = -np.inf, 0.0, 0.0
    lse_exponent[i] = 0
