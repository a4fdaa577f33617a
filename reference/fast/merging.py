"""The merge of two partial results of attention in double words: attention with two keys.

With t the larger lse and w = exp(other lse - t), out = (out_t + w out_other) / (1 + w) and
lse = t + log(1 + w). docs/explanation/fast-attention.md derives the errors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.attention_heads import LARGEST
from softcert.reference.fast.compiled import compiled, fma
from softcert.reference.fast.double_word import exp_dw, fast_two_sum, two_sum
from softcert.reference.fast.logs import lse_of
from softcert.reference.fast.rows import MISSING, NEAR, power_of_two, product, reciprocal

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Of |out_t| + w |out_other| before the division, and of the result after it.
_ERROR = 2.0**-100
#: What a weight left out because its gap is beyond `NEAR` may have been, and products may lose to underflow.
_LEFT_OUT = 2.0**-920
_UNDERFLOW = 2.0**-1060


@compiled
def merge(
    out_a: Words,
    lse_a: Words,
    out_b: Words,
    lse_b: Words,
    out: tuple[Words, Words, Words],
    exponent: NDArray[np.int64],
    lse: tuple[Words, Words, Words],
    lse_exponent: NDArray[np.int64],
) -> None:
    """Merge the results of n queries, (n, C) and (n,); results as `forward`'s."""
    for i in range(lse_a.size):
        a, b = lse_a[i], lse_b[i]
        swapped = b > a
        top, below = (b, a) if swapped else (a, b)
        large, small = (out_b[i], out_a[i]) if swapped else (out_a[i], out_b[i])
        exponent[i] = 0
        lse_exponent[i] = 0
        if not (a < np.inf and b < np.inf):
            out[0][i] = np.nan
            lse[0][i] = np.nan
            continue
        if below == -np.inf:
            for c in range(large.size):
                counts = top > -np.inf
                out[0][i, c] = large[c] if counts else 0.0
                if counts and not abs(large[c]) < np.inf:
                    out[0][i, c] = np.nan
            lse[0][i] = top
            continue
        wh, wl, left_out = _weight(top, below)
        s, e = two_sum(1.0, wh)
        sh, sl = fast_two_sum(s, e + wl)
        rh, rl = reciprocal(sh, sl)
        for c in range(large.size):
            x, y = large[c], small[c]
            p = wh * y
            s, e = two_sum(x, p)
            nh, nl = fast_two_sum(s, e + fma(wl, y, fma(wh, y, -p)))
            h, l = product(nh, nl, rh, rl)  # noqa: E741
            out[0][i, c], out[1][i, c] = two_sum(h, l)
            size = abs(x) + abs(p) + left_out * abs(y)
            lost = left_out * (abs(x) + abs(y)) + _UNDERFLOW if x != 0.0 or y != 0.0 else 0.0
            out[2][i, c] = _ERROR * (size + abs(h)) + lost
            if not (abs(x) < np.inf and abs(y) < np.inf):
                out[0][i, c] = np.nan
            elif max(abs(x), abs(y)) > LARGEST:
                exponent[i, c] = MISSING
        lse[0][i], lse[1][i], error, good = lse_of(top, sh, sl)
        lse[2][i] = error + _ERROR + left_out
        if not (good and abs(lse[0][i]) < np.inf):
            lse_exponent[i] = MISSING


@compiled
def _weight(top: float, below: float) -> tuple[float, float, float]:
    """exp(below - top) in two words, and what it is off by beyond its relative error."""
    gap, rest = two_sum(below, -top)
    if not gap > -NEAR:
        return 0.0, 0.0, _LEFT_OUT
    h, l, k = exp_dw(gap, rest, 0.0)  # noqa: E741
    power = power_of_two(k)
    return h * power, l * power, 0.0
