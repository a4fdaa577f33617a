"""Attention in plain binary64 with its error: it decides almost every rounding to binary32 and narrower.

Steps and names are those of `attention_weights.py` and `attention_forward.py`, with one word for two. The
derivation stands in docs/explanation/fast-attention.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.attention_weights import LARGEST_SCORE_ERROR, ROUNDED_UP, sum_of
from softcert.reference.fast.compiled import compiled, larger
from softcert.reference.fast.logs import LOG_ERROR, log_of_sum
from softcert.reference.fast.narrow import EXP_ERROR, NEGLIGIBLE, exp_plain
from softcert.reference.fast.rows import UNIT_1, UNIT_2, cuts
from softcert.reference.fast.tiles import TILE, plain_dot_tile, plain_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

_UNIT = 2.0**-53
#: Scale, product and addition of a bias: three roundings, of |scale * dot| + |bias| at most.
_SCORE_ERROR = 4.0 * _UNIT
#: Stands for weights of gaps beyond 160, and for what their sums are off by.
_FAR_WEIGHT = 2.0**-229
_FAR_GAP = -159.0
#: The reciprocal, the product, and what adding the error rounds.
_QUOTIENT_ERROR = 4.0 * _UNIT


@compiled
def _scores(
    scores: Words,
    slack: Words,
    bias: Words,
    key_sizes: Words,
    first: int,
    last: int,
    scale: float,
    dot_slack: float,
) -> tuple[float, bool]:
    """As `to_scores`, in place."""
    top, wild = -np.inf, 0
    biased = bias.size > 0
    for j in range(scores.size):
        added = bias[j] if biased else 0.0
        seen = (first <= j) & (j < last) & (added > -np.inf)
        product = scale * scores[j]
        t = product + (added if seen else 0.0)
        fine = abs(t) < np.inf
        wild += seen & (not fine)
        usable = seen & fine
        scores[j] = t if usable else -np.inf
        slack[j] = dot_slack * key_sizes[j] + _SCORE_ERROR * (abs(product) + abs(added)) if usable else 0.0
        top = larger(top, scores[j])
    return top, wild == 0


@compiled
def _weights(weight: Words, slack: Words, top: float, sum_slack: float) -> tuple[float, float]:
    """As `to_weights`, in place: the sum, and its relative error."""
    q1, q2, spoiled = 0, 0, 0
    for j in range(weight.size):
        gap = weight[j] - top
        seen = weight[j] > -np.inf
        near = gap > NEGLIGIBLE
        error = slack[j] - _UNIT * (gap if near else 0.0)
        spoiled += near & (not error < LARGEST_SCORE_ERROR)
        spoiled += seen & (not near) & (not gap + error < _FAR_GAP)
        w = exp_plain(gap if near else NEGLIGIBLE)
        w = w if near else 0.0
        n1, n2, _ = cuts(w, 0.0)
        q1 += n1
        q2 += n2
        weight[j] = w
        own = w * (error * (1.0 + LARGEST_SCORE_ERROR) + (EXP_ERROR + sum_slack))
        slack[j] = own + _FAR_WEIGHT if seen else 0.0
    total = float(q1) * UNIT_1 + float(q2) * UNIT_2
    # The cuts leave 2**-86 a term, the words of the sum round twice.
    return total, np.inf if spoiled else sum_of(slack) / total * ROUNDED_UP + 4.0 * _UNIT


@compiled
def forward_plain(
    q: Words,
    q_sizes: Words,
    keys: Words,
    key_sizes: Words,
    values: Words,
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    bias: Words,
    scale: float,
    dot_slack: float,
    sum_slack: float,
    out: Words,
    error: Words,
    lse: Words,
    lse_error: Words,
) -> None:
    """Attention of some queries of one head; see `forward`.

    Parameters
    ----------
    out, error : (n, C), results and their absolute errors, infinite where nothing is known.
    lse, lse_error : (n,), the same.
    """
    count, width = q.shape[0], keys.shape[0] * TILE
    weight, slack = np.empty((count, width)), np.empty((count, width))
    begin, end = first.min() // TILE, (last.max() + TILE - 1) // TILE
    for t in range(begin, end):
        part = slice(t * TILE, (t + 1) * TILE)
        for i in range(count):
            if first[i] < part.stop and last[i] > part.start:
                plain_dot_tile(q[i], keys[t], weight[i, part])
    facts = np.empty((count, 3))
    for i in range(count):
        part = slice(first[i] // TILE * TILE, (last[i] + TILE - 1) // TILE * TILE)
        top, known = _scores(
            weight[i, part],
            slack[i, part],
            bias[i, part] if bias.shape[1] > 0 else bias[i],
            key_sizes[part],
            first[i] - part.start,
            last[i] - part.start,
            scale,
            dot_slack * q_sizes[i],
        )
        facts[i, 0] = top if known else np.nan
        facts[i, 1:] = _weights(weight[i, part], slack[i, part], top, sum_slack)
    sums, sizes = np.empty(values.shape[1]), np.empty(values.shape[1])
    out[:] = 0.0
    error[:] = 0.0
    for t in range(begin, end):
        part = slice(t * TILE, (t + 1) * TILE)
        for i in range(count):
            if first[i] < part.stop and last[i] > part.start:
                plain_sums(weight[i, part], slack[i, part], values[part], sums, sizes)
                for c in range(sums.size):
                    out[i, c] += sums[c]
                    error[i, c] += sizes[c]
    for i in range(count):
        top, total, spread = facts[i]
        _divide(out[i], error[i], top, total, spread)
        lse[i], lse_error[i] = _logarithm(top, total, spread)


@compiled
def _logarithm(top: float, total: float, spread: float) -> tuple[float, float]:
    """The lse of a query and its absolute error."""
    if top == -np.inf:
        return top, 0.0
    high, _, good = log_of_sum(total, 0.0)
    lse = top + high
    # The second word of the logarithm is left out, and the sum is rounded.
    off = spread * (1.0 + spread) + 4.0 * _UNIT * (abs(high) + abs(lse)) + LOG_ERROR
    return lse, off if good and spread < 1.0 and abs(lse) < np.inf else np.inf


@compiled
def _divide(out: Words, error: Words, top: float, total: float, spread: float) -> None:
    """Divide the sums of a query by that of its weights, in place, and turn their sizes into errors."""
    if top == -np.inf:
        return
    known = abs(top) < np.inf and spread < 1.0
    r = 1.0 / total
    for c in range(out.size):
        out[c] *= r
        off = error[c] * r * ROUNDED_UP + abs(out[c]) * (spread * (1.0 + spread) + _QUOTIENT_ERROR)
        error[c] = off if known and abs(out[c]) < np.inf else np.inf
