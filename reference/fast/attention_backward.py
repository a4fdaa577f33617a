"""Sums over pairs of queries and keys that the backward pass is made of, in double words.

A row is a query and its columns are keys, for dq, or the other way round, for dk and dv. Whatever belongs
to queries is 0 on the side of the keys, so that both sides can be added. The errors are derived in
docs/explanation/fast-attention.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.attention_forward import UNDERFLOW
from softcert.reference.fast.attention_weights import (
    FAR_GAP,
    FAR_WEIGHT,
    LARGEST_SCORE_ERROR,
    ROUNDED_UP,
    SCORE_ERROR,
    distance,
    scaled_score,
)
from softcert.reference.fast.compiled import compiled
from softcert.reference.fast.double_word import EXP_ERROR, exp_dw, two_sum
from softcert.reference.fast.rows import MISSING, NEAR, power_of_two, product
from softcert.reference.fast.tiles import TILE, absorb, dot_tile, gathered, weighted_sums

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]
    Integers = NDArray[np.int64]
    Triple = tuple[Words, Words, Words]

#: Weights are as large as exp of it: the lse given need not be attention's.
_LARGEST_EXPONENT = 600.0
#: Error of dP - D beyond that of its parts, in units of |dP| + |D|; the same of a product of double words.
_STEP_ERROR = 2.0**-102
#: What a slope that is not 0 is allowed to lose to underflow.
_FLOOR = 2.0**-900


@compiled
def row_dots(a: Words, b: Words, high: Words, low: Words) -> None:
    """Dot products of the rows of two arrays, (n, C), in two words."""
    for i in range(a.shape[0]):
        s, e = 0.0, 0.0
        for c in range(a.shape[1]):
            s, e = gathered(s, e, a[i, c], b[i, c])
        high[i], low[i] = two_sum(s, e)


@compiled
def _weigh(
    dots: Triple,
    slopes: Triple,
    seen: NDArray[np.bool_],
    bias: Words,
    shift: Words,
    mean: Triple,
    scale_high: float,
    scale_low: float,
    sum_slack: float,
) -> bool:
    """Turn the dot products of q and k, and of dout and v, into P and dS, in place.

    Parameters
    ----------
    dots, slopes : the dots in two words and their absolute errors, that of q k already times |scale|; out, P
        and dS in two words, and what sums of multiples of them err by.
    seen, bias : whether the pair counts, and what is added to its score.
    shift : lse. mean : D in two words, and its error.

    Returns
    -------
    Whether every pair that counts is known.
    """
    spoiled = 0
    for j in range(TILE):
        th, tl, size = scaled_score(
            dots[0][j], dots[1][j], scale_high, scale_low, bias[j] if seen[j] else 0.0
        )
        error = dots[2][j] + SCORE_ERROR * size
        a, b, c = distance(th, tl, shift[j])
        near = (a > -NEAR) & (a < _LARGEST_EXPONENT) & (error < LARGEST_SCORE_ERROR)
        spoiled += seen[j] & (not near) & (not a + error < FAR_GAP)
        h, l, k = exp_dw(a if near else 0.0, b if near else 0.0, c if near else 0.0)  # noqa: E741
        power = power_of_two(k)
        counts = near & seen[j]
        h = h * power if counts else 0.0
        l = l * power if counts else 0.0  # noqa: E741
        relative = error * (1.0 + LARGEST_SCORE_ERROR) + (EXP_ERROR + sum_slack)
        dots[0][j], dots[1][j] = h, l
        dots[2][j] = h * relative + FAR_WEIGHT if seen[j] else 0.0
        s, e = two_sum(slopes[0][j], -mean[0][j])
        xh, xl = two_sum(s, e + (slopes[1][j] - mean[1][j]))
        off = slopes[2][j] + mean[2][j] + _STEP_ERROR * (abs(slopes[0][j]) + abs(mean[0][j]))
        p, pe = product(h, l, xh, xl)
        slopes[0][j], slopes[1][j] = p, pe
        known = h * off * ROUNDED_UP + abs(p) * (relative + _STEP_ERROR)
        possible = abs(xh) + off
        slopes[2][j] = known + FAR_WEIGHT * possible + _FLOOR if seen[j] and possible > 0.0 else 0.0
    return spoiled == 0


@compiled
def add_pairs(
    row: tuple[Words, Words],
    row_facts: Words,
    row_range: tuple[Integers, Integers, int],
    columns: tuple[Words, Words],
    column_facts: Words,
    column_range: tuple[Integers, Integers],
    bias: Words,
    scale: tuple[float, float],
    slacks: tuple[float, float, float],
    sloped: tuple[Words, Words, Words, Words],
    plain: tuple[Words, Words, Words, Words],
    known: NDArray[np.bool_],
) -> None:
    """Add sum_j dS_ij a_j and sum_j P_ij b_j over the columns j that each row i meets.

    Parameters
    ----------
    row : (n, D) and (n, C): q and dout, or k and v; D and C are multiples of 4.
    columns : (T, D, TILE) and (T, C, TILE): the others.
    row_facts, column_facts : (6, n) and (6, T * TILE): norms of q or k, norms of dout or v, lse, D in two
        words, the error of D; the last four are 0 for keys.
    row_range : which columns [first, last) each row meets, and the number of the first row.
    column_range : which rows [first, last) each column meets.
    bias : (n, T * TILE), -inf where a pair is hidden; or (n, 0) where nothing is added.
    slacks : errors of both dot products over their norms, the first times |scale|; of a sum over its size.
    sloped, plain : a or b, (T * TILE, m), then sums in two words and their errors, (n, m), added to.
    known : (n,), made False where a pair is not known.
    """
    room_a = np.empty(sloped[0].shape[1]), np.empty(sloped[0].shape[1]), np.empty(sloped[0].shape[1])
    room_b = np.empty(plain[0].shape[1]), np.empty(plain[0].shape[1]), np.empty(plain[0].shape[1])
    dots = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    slopes = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    shift, mean = np.empty(TILE), (np.empty(TILE), np.empty(TILE), np.empty(TILE))
    seen, added = np.empty(TILE, dtype=np.bool_), np.zeros(TILE)
    first, last, start = row_range
    for t in range(first.min() // TILE, (last.max() + TILE - 1) // TILE):
        part = slice(t * TILE, (t + 1) * TILE)
        for i in range(first.size):
            if first[i] >= part.stop or last[i] <= part.start:
                continue
            dot_tile(row[0][i], columns[0][t], dots[0], dots[1])
            dot_tile(row[1][i], columns[1][t], slopes[0], slopes[1])
            for j in range(TILE):
                at = part.start + j
                met = (first[i] <= at) & (at < last[i])
                met = met & (column_range[0][at] <= start + i) & (start + i < column_range[1][at])
                if bias.shape[1] > 0:
                    added[j] = bias[i, at]
                seen[j] = met & (added[j] > -np.inf)
                dots[2][j] = slacks[0] * row_facts[0, i] * column_facts[0, at]
                slopes[2][j] = slacks[1] * row_facts[1, i] * column_facts[1, at]
                shift[j] = row_facts[2, i] + column_facts[2, at]
                mean[0][j] = row_facts[3, i] + column_facts[3, at]
                mean[1][j] = row_facts[4, i] + column_facts[4, at]
                mean[2][j] = row_facts[5, i] + column_facts[5, at]
            good = _weigh(dots, slopes, seen, added, shift, mean, scale[0], scale[1], slacks[2])
            known[i] = known[i] and good
            weighted_sums(slopes[0], slopes[1], slopes[2], sloped[0][part], room_a[0], room_a[1], room_a[2])
            absorb(sloped[1][i], sloped[2][i], sloped[3][i], room_a[0], room_a[1], room_a[2])
            if plain[0].shape[1] > 0:
                weighted_sums(dots[0], dots[1], dots[2], plain[0][part], room_b[0], room_b[1], room_b[2])
                absorb(plain[1][i], plain[2][i], plain[3][i], room_b[0], room_b[1], room_b[2])


@compiled
def finish(
    sums: Triple, known: NDArray[np.bool_], scale: tuple[float, float], tiny: float, exponent: Integers
) -> None:
    """Multiply sums by the scale, in place, and turn their sizes into absolute errors.

    Parameters
    ----------
    sums : (n, m). known : (n,). tiny : as in `forward`. exponent : (n, m), `MISSING` where nothing is known.
    """
    for i in range(known.size):
        for c in range(sums[0].shape[1]):
            h, l = product(sums[0][i, c], sums[1][i, c], scale[0], scale[1])  # noqa: E741
            size = sums[2][i, c]
            error = size * abs(scale[0]) * ROUNDED_UP + abs(h) * 2.0 * _STEP_ERROR
            sums[0][i, c], sums[1][i, c] = two_sum(h, l)
            sums[2][i, c] = 0.0 if scale[0] == 0.0 else error + UNDERFLOW if size > 0.0 else tiny
            exponent[i, c] = 0 if known[i] and abs(h) < np.inf and error < np.inf else MISSING
