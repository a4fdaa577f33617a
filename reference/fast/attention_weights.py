"""One query's scores and weights in double words; docs/explanation/fast-attention.md derives the errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.compiled import compiled, inlined, larger
from softcert.reference.fast.double_word import EXP_ERROR, exp_dw, two_sum
from softcert.reference.fast.rows import (
    NEAR,
    cuts,
    power_of_two,
    product,
    total,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Error of scale * dot + bias beyond that of the dot, in units of |scale * dot| + |bias|.
SCORE_ERROR = 2.0**-101
#: Errors of scores beyond it are left to the oracles: exp would magnify them.
LARGEST_SCORE_ERROR = 2.0**-20
#: Stands for weights of gaps beyond `NEAR`, and for what their sums are off by.
FAR_WEIGHT = 2.0**-920
#: exp of it is below `FAR_WEIGHT`.
FAR_GAP = -639.0
#: Relative error of the words of a row's sum beyond that of its weights: cuts, and conversion.
_TOTAL_ERROR = 2.0**-103
#: Covers the roundings of sums of up to 2**20 errors.
ROUNDED_UP = 1.0 + 2.0**-30


@inlined
def scaled_score(
    dh: float, dl: float, scale_high: float, scale_low: float, bias: float
) -> tuple[float, float, float]:
    """(scale * dot + bias in two words, |scale * dot| + |bias|)."""
    p, e = product(dh, dl, scale_high, scale_low)
    s, f = two_sum(p, bias)
    high, low = two_sum(s, f + e)
    return high, low, abs(p) + abs(bias)


@inlined
def distance(high: float, low: float, shift: float) -> tuple[float, float, float]:
    """high + low - shift in three words: exact, and each at most 3 u of the one before."""
    d, e = two_sum(high, -shift)
    a, f = two_sum(d, low)
    b, c = two_sum(f, e)
    return a, b, c


@compiled
def to_scores(
    high: Words,
    low: Words,
    slack: Words,
    bias: Words,
    key_sizes: Words,
    first: int,
    last: int,
    scale_high: float,
    scale_low: float,
    dot_slack: float,
) -> tuple[float, bool]:
    """Turn dot products into scores, in place.

    Parameters
    ----------
    high, low : (n,), dots in, scores out; -inf where a key is hidden.
    slack : (n,), out, the absolute error of each score.
    bias : (n,), what is added, -inf where a key is hidden; of length 0 where nothing is added.
    key_sizes : (n,), norms of the keys. first, last : the range of keys that the query's place leaves it.
    dot_slack : error of a dot product over the norm of the key, times |scale|.

    Returns
    -------
    (largest score, whether each is a finite number).
    """
    top, wild = -np.inf, 0
    biased = bias.size > 0
    for j in range(high.size):
        added = bias[j] if biased else 0.0
        seen = (first <= j) & (j < last) & (added > -np.inf)
        th, tl, size = scaled_score(high[j], low[j], scale_high, scale_low, added if seen else 0.0)
        fine = abs(th) + abs(tl) < np.inf
        wild += seen & (not fine)
        usable = seen & fine
        high[j] = th if usable else -np.inf
        low[j] = tl if usable else 0.0
        slack[j] = dot_slack * key_sizes[j] + SCORE_ERROR * size if usable else 0.0
        top = larger(top, high[j])
    return top, wild == 0


@compiled
def to_weights(
    high: Words, low: Words, slack: Words, top: float, sum_slack: float
) -> tuple[float, float, float]:
    """Turn scores into weights exp(score - top), in place, and add them.

    Parameters
    ----------
    high, low : (n,), scores in, weights out; 0 where a key is hidden.
    slack : (n,), errors of the scores in; out, those of the weights and of a sum of multiples of them, which
        are `sum_slack` relatively.

    Returns
    -------
    (the sum in two words, its relative error); the error is infinite where this proves nothing.
    """
    q1, q2, q3, spoiled = 0, 0, 0, 0
    for j in range(high.size):
        a, b, c = distance(high[j], low[j], top)
        seen = high[j] > -np.inf
        near = a > -NEAR
        error = slack[j]
        spoiled += near & (not error < LARGEST_SCORE_ERROR)
        spoiled += seen & (not near) & (not a + error < FAR_GAP)
        h, l, k = exp_dw(a if near else 0.0, b if near else 0.0, c if near else 0.0)  # noqa: E741
        power = power_of_two(k)
        h = h * power if near else 0.0
        l = l * power if near else 0.0  # noqa: E741
        high[j] = h
        low[j] = l
        n1, n2, n3 = cuts(h, l)
        q1 += n1
        q2 += n2
        q3 += n3
        # |exp(d) - 1| <= d (1 + d) for the d that a score may err by.
        own = h * (error * (1.0 + LARGEST_SCORE_ERROR) + (EXP_ERROR + sum_slack))
        slack[j] = own + FAR_WEIGHT if seen else 0.0
    sh, sl = total(q1, q2, q3)
    return sh, sl, np.inf if spoiled else sum_of(slack) / sh * ROUNDED_UP + _TOTAL_ERROR


@inlined
def sum_of(a: Words) -> float:
    """Sum of an array whose length is a multiple of 4, in four chains."""
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    for j in range(0, a.size, 4):
        s0 += a[j]
        s1 += a[j + 1]
        s2 += a[j + 2]
        s3 += a[j + 3]
    return (s0 + s1) + (s2 + s3)
