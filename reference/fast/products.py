"""Rows of y (d - sum(y d)) in double words; the derivation stands in docs/explanation/fast.md."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from softcert.reference.fast.compiled import compiled, fma, inlined
from softcert.reference.fast.double_word import fast_two_sum, two_sum
from softcert.reference.fast.rows import MISSING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: u^2; each addition of two double words errs by 3 of these (JMP, theorem 3.1), here with room to spare.
_SQUARE = 2.0**-106
_ADDITION = 4.0 * _SQUARE
#: Magnitudes beyond which nothing is promised: products could overflow, or underflow in their low words.
_LARGEST = 2.0**480
_INFINITY = math.inf
_UNDERFLOW = 2.0**-1070


@inlined
def _add(ah: float, al: float, bh: float, bl: float) -> tuple[float, float]:
    """Sum of two double words (JMP algorithm 6, AccurateDWPlusDW)."""
    s, e = two_sum(ah, bh)
    t, f = two_sum(al, bl)
    s, e = fast_two_sum(s, e + t)
    return fast_two_sum(s, e + f)


@compiled
def product_pairs(
    y: NDArray[np.float64],
    d: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    error: NDArray[np.float64],
    exponent: NDArray[np.int64],
) -> None:
    """y (d - sum(y d)) of rows as high + low up to an absolute error; exponent `MISSING` where not given."""
    n = y.shape[1]
    for i in range(y.shape[0]):
        sh, sl, size, largest = 0.0, 0.0, 0.0, 0.0
        for j in range(n):
            p = y[i, j] * d[i, j]
            sh, sl = _add(sh, sl, p, fma(y[i, j], d[i, j], -p))
            size += abs(p)
            largest = max(largest, abs(y[i, j]), abs(d[i, j]))
        usable = largest < _LARGEST and size == size  # noqa: PLR0124 - NaN
        sum_error = n * (_ADDITION * size * (1.0 + 2.0**-30) + _UNDERFLOW)
        for j in range(n):
            s, e = two_sum(d[i, j], -sh)
            rest = e - sl
            p = y[i, j] * s
            high[i, j], low[i, j] = two_sum(p, fma(y[i, j], rest, fma(y[i, j], s, -p)))
            error[i, j] = abs(y[i, j]) * (sum_error + 4.0 * _ADDITION * (abs(s) + abs(sh))) + 2.0 * _UNDERFLOW
            known = usable and abs(high[i, j]) < _INFINITY and error[i, j] < _INFINITY
            exponent[i, j] = 0 if known else MISSING
