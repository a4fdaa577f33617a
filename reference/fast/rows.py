"""Rows of softmax in double words: weights, exact sums, quotients, and which roundings they decide.

A sum of weights is exact up to 2**-129 a term and the same in any order: each weight, at most 1, is cut
into multiples of 2**-42, 2**-85 and 2**-128, which are added as integers. A row may have 2**20 terms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.fast.compiled import bits_of, compiled, fma, from_bits, inlined, larger
from softcert.reference.fast.double_word import LARGEST_GAP, exp_dw, fast_two_sum, two_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Longest row whose integer sums cannot overflow.
LONGEST = 1 << 20
#: Gaps from here on are left to the slower loop: their weights' low words could become subnormal.
NEAR = 640.0
#: Exponent of a quotient below exp(-2**20): no format tells it from any other so small.
VANISHING = -(1 << 40)
#: Stands for the exponent of a quotient that was not computed.
MISSING = 1 << 40

_EXPONENT_BIAS = 1023
_GRIDS = (-42, -85, -128)
CUT_1, CUT_2, _CUT_3 = (1.5 * 2.0 ** (52 + g) for g in _GRIDS)
BITS_1, BITS_2, _BITS_3 = (int(np.float64(c).view(np.int64)) for c in (CUT_1, CUT_2, _CUT_3))
UNIT_1, UNIT_2, _UNIT_3 = (2.0**g for g in _GRIDS)
_HALF_WORD = 2.0**32
_LOW_HALF = (1 << 32) - 1


@inlined
def power_of_two(k: int) -> float:
    """2**k for normal numbers."""
    return from_bits((k + _EXPONENT_BIAS) << 52)


@inlined
def _scaled_gap(x: float, top: float, beta: float) -> tuple[float, float, float]:
    """beta (x - top) in three words: exact but for one rounding of the third."""
    d, dl = two_sum(x, -top)
    a = beta * d
    ae = fma(beta, d, -a)
    b = beta * dl
    be = fma(beta, dl, -b)
    s, t = two_sum(ae, b)
    return a, s, t + be


@compiled
def largest(x: NDArray[Any]) -> tuple[float, bool]:
    """(largest logit, whether one is NaN or +inf)."""
    top = x[0]
    special = 0
    for j in range(x.size):
        top = larger(top, x[j])
        special += not x[j] < np.inf
    return top, special > 0


@inlined
def cuts(h: float, l: float) -> tuple[int, int, int]:  # noqa: E741
    """h + l, at most about 1, as multiples of 2**-42, 2**-85 and 2**-128: exact but for the last cut."""
    one = h + CUT_1
    s, e = two_sum(h - (one - CUT_1), l)
    two = s + CUT_2
    three = ((s - (two - CUT_2)) + e) + _CUT_3
    return bits_of(one) - BITS_1, bits_of(two) - BITS_2, bits_of(three) - _BITS_3


@compiled
def weights(
    x: NDArray[np.float64], top: float, beta: float, high: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[int, int, int, int]:
    """exp(beta (x - top)) into high + low; integer sums, and how many finite gaps are `NEAR` or larger."""
    q1, q2, q3, deep = 0, 0, 0, 0
    for j in range(x.size):
        d, dl, dll = _scaled_gap(x[j], top, beta)
        near = d > -NEAR
        deep += (not near) & (x[j] > -np.inf)
        h, l, k = exp_dw(d if near else 0.0, dl if near else 0.0, dll if near else 0.0)  # noqa: E741
        scale = power_of_two(k)
        h = h * scale if near else 0.0
        l = l * scale if near else 0.0  # noqa: E741
        high[j] = h
        low[j] = l
        n1, n2, n3 = cuts(h, l)
        q1 += n1
        q2 += n2
        q3 += n3
    return q1, q2, q3, deep


@inlined
def total(q1: int, q2: int, q3: int) -> tuple[float, float]:
    """The sum of a row in a double word, from its integer sums."""
    s, e = fast_two_sum(float(q1 >> 32) * (_HALF_WORD * UNIT_1), float(q1 & _LOW_HALF) * UNIT_1)
    s, f = two_sum(s, float(q2 >> 32) * (_HALF_WORD * UNIT_2))
    e, g = two_sum(e, f)
    return fast_two_sum(s, e + (g + (float(q2 & _LOW_HALF) * UNIT_2 + float(q3) * _UNIT_3)))


@inlined
def reciprocal(h: float, l: float) -> tuple[float, float]:  # noqa: E741
    """1 / (h + l) in a double word, by one step of Newton."""
    r = 1.0 / h
    return r, r * fma(-r, l, fma(-r, h, 1.0))


@inlined
def product(ah: float, al: float, bh: float, bl: float) -> tuple[float, float]:
    """(ah + al)(bh + bl) in a double word (JMP algorithm 12 without its last, negligible term)."""
    p = ah * bh
    return p, fma(al, bh, fma(ah, bl, fma(ah, bh, -p)))


@compiled
def quotients(
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    rh: float,
    rl: float,
    error: float,
    out: NDArray[np.float64],
) -> int:
    """Round (high + low)(rh + rl) to binary64 where the relative error does not matter; how often it does."""
    undecided = 0
    for j in range(high.size):
        p, e = product(high[j], low[j], rh, rl)
        below = p + (e - error * p)
        undecided += below != p + (e + error * p)
        out[j] = below
    return undecided


@compiled
def softmax_binary64(
    x: NDArray[np.float64], beta: float, error: float, out: NDArray[np.float64], undecided: NDArray[np.int64]
) -> None:
    """Rounded softmax of rows; `undecided` counts, per row, what this could not round (all of it: -1)."""
    high, low = np.empty(x.shape[1]), np.empty(x.shape[1])
    for i in range(x.shape[0]):
        top, special = largest(x[i])
        if special or top == -np.inf:
            undecided[i] = -1
            continue
        q1, q2, q3, deep = weights(x[i], top, beta, high, low)
        h, l = total(q1, q2, q3)  # noqa: E741
        rh, rl = reciprocal(h, l)
        undecided[i] = quotients(high, low, rh, rl, error, out[i]) if deep == 0 else -1


@compiled
def softmax_pairs(
    x: NDArray[np.float64],
    beta: float,
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    exponent: NDArray[np.int64],
) -> None:
    """Softmax of rows as (high + low) 2**exponent; exponent `MISSING` where this cannot give it."""
    for i in range(x.shape[0]):
        top, special = largest(x[i])
        if special or top == -np.inf:
            exponent[i] = MISSING
            continue
        q1, q2, q3, deep = weights(x[i], top, beta, high[i], low[i])
        h, l = total(q1, q2, q3)  # noqa: E741
        rh, rl = reciprocal(h, l)
        for j in range(x.shape[1]):
            p, e = product(high[i, j], low[i, j], rh, rl)
            high[i, j], low[i, j] = fast_two_sum(p, e)
            exponent[i, j] = 0
        if deep == 0:
            continue
        for j in range(x.shape[1]):
            d, dl, dll = _scaled_gap(x[i, j], top, beta)
            if d > -NEAR or x[i, j] == -np.inf:
                continue
            if d >= -LARGEST_GAP:
                wh, wl, k = exp_dw(d, dl, dll)
                p, e = product(wh, wl, rh, rl)
                high[i, j], low[i, j] = fast_two_sum(p, e)
                exponent[i, j] = k
            else:
                high[i, j], low[i, j], exponent[i, j] = 1.0, 0.0, VANISHING
