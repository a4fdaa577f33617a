"""Rows of softmax in plain binary64, which decides almost every rounding to binary32.

Relative error at most `NARROW_ERROR`, or `SCALED_ERROR` where beta is not 1: x - max loses 2**-53 of the gap,
at most 160, and its product with beta as much again; the reduced exponential, the integer sums, the division
and the product add less than 2**-50. The derivation stands in docs/explanation/fast.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.fast.compiled import bits_of, compiled, fma, inlined
from softcert.reference.fast.double_word import TO_INTEGER, TO_INTEGER_BITS
from softcert.reference.fast.rows import (
    BITS_1,
    BITS_2,
    CUT_1,
    CUT_2,
    UNIT_1,
    UNIT_2,
    largest,
    power_of_two,
    quotients,
    reciprocal,
    total,
    weights,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

NARROW_ERROR = 2.0**-44
SCALED_ERROR = 2.0**-43
#: What is left of the double-word error after one rounding to binary64.
ROUNDED_ERROR = 2.0**-50

#: Relative error of `exp_plain`.
EXP_ERROR = 2.0**-50
#: From here on a weight is below 2**-230, which rounds to 0.
NEGLIGIBLE = -160.0
_VANISHING = 2.0**-230
_INVERSE = 1.0 / math.log(2.0)
_LOG2_HIGH = math.floor(math.log(2.0) * 2.0**32) * 2.0**-32
_LOG2_LOW = 1.908214929270587700e-10
_C2, _C3, _C4, _C5, _C6, _C7, _C8, _C9, _C10, _C11, _C12, _C13 = (
    1.0 / math.factorial(k) for k in range(2, 14)
)


@inlined
def exp_plain(d: float) -> float:
    """exp(d) for -160 <= d <= 0, up to `EXP_ERROR`: n = round(d / log 2), then 13 terms at d - n log 2."""
    shifted = fma(d, _INVERSE, TO_INTEGER)
    n = shifted - TO_INTEGER
    r = fma(-n, _LOG2_LOW, fma(-n, _LOG2_HIGH, d))
    p = fma(r, _C13, _C12)
    p = fma(p, r, _C11)
    p = fma(p, r, _C10)
    p = fma(p, r, _C9)
    p = fma(p, r, _C8)
    p = fma(p, r, _C7)
    p = fma(p, r, _C6)
    p = fma(p, r, _C5)
    p = fma(p, r, _C4)
    p = fma(p, r, _C3)
    p = fma(p, r, _C2)
    p = fma(p, r, 1.0)
    return fma(p, r, 1.0) * power_of_two(bits_of(shifted) - TO_INTEGER_BITS)


@compiled
def narrow_weights(x: NDArray[Any], top: float, beta: float, out: NDArray[np.float64]) -> tuple[int, int]:
    """exp(beta (x - top)), and its integer sums on two grids."""
    q1, q2 = 0, 0
    for j in range(x.size):
        d = (np.float64(x[j]) - top) * beta
        w = exp_plain(d if d > NEGLIGIBLE else NEGLIGIBLE)
        w = w if d > NEGLIGIBLE else 0.0
        out[j] = w
        cut = w + CUT_1
        q1 += bits_of(cut) - BITS_1
        q2 += bits_of((w - (cut - CUT_1)) + CUT_2) - BITS_2
    return q1, q2


@compiled
def narrowed(w: NDArray[np.float64], r: float, error: float, out: NDArray[Any]) -> int:
    """Round w r to binary32 where the relative error does not matter; how often it does."""
    undecided = 0
    low, high = r * (1.0 - error), r * (1.0 + error)
    for j in range(w.size):
        below = np.float32(w[j] * low)
        undecided += below != np.float32(w[j] * high)
        out[j] = below
    return undecided


@compiled
def softmax_plain(x: NDArray[Any], beta: float, out: NDArray[np.float64], error: NDArray[np.float64]) -> None:
    """Softmax of rows in binary64, and its absolute error, infinite where nothing is known.

    Probabilities below exp(-159) are given as 2**-230 and no error, which rounds as they do to every format
    of at most 24 bits.
    """
    relative = NARROW_ERROR if beta == 1.0 else SCALED_ERROR
    for i in range(x.shape[0]):
        top, special = largest(x[i])
        if special or top == -np.inf:
            error[i] = np.inf
            continue
        q1, q2 = narrow_weights(x[i], np.float64(top), beta, out[i])
        r = 1.0 / (float(q1) * UNIT_1 + float(q2) * UNIT_2)
        for j in range(x.shape[1]):
            out[i, j] *= r
            if out[i, j] == 0.0 and x[i, j] > -np.inf:
                out[i, j], error[i, j] = _VANISHING, 0.0
            else:
                error[i, j] = out[i, j] * relative


@compiled
def softmax_binary32(
    x: NDArray[Any], beta: float, error: float, out: NDArray[Any], undecided: NDArray[np.int64]
) -> None:
    """Rounded softmax of rows, by binary64, else by double words; `undecided` as in `softmax_binary64`."""
    n = x.shape[1]
    relative = NARROW_ERROR if beta == 1.0 else SCALED_ERROR
    plain, high, low, wide, quotient = np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(x.shape[0]):
        top, special = largest(x[i])
        if special or top == -np.inf:
            undecided[i] = -1
            continue
        q1, q2 = narrow_weights(x[i], np.float64(top), beta, plain)
        r = 1.0 / (float(q1) * UNIT_1 + float(q2) * UNIT_2)
        undecided[i] = narrowed(plain, r, relative, out[i])
        if undecided[i] == 0:
            continue
        for j in range(n):
            wide[j] = x[i, j]
        q1, q2, q3, _ = weights(wide, np.float64(top), beta, high, low)
        h, l = total(q1, q2, q3)  # noqa: E741
        rh, rl = reciprocal(h, l)
        quotients(high, low, rh, rl, error, quotient)
        undecided[i] = narrowed(quotient, 1.0, ROUNDED_ERROR, out[i])
