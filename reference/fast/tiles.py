"""The two products that attention is made of, tile by tile, in double words.

Scores are dot products and outputs weighted sums of rows. Both add in the manner of Ogita, Rump & Oishi,
Accurate sum and dot product, SIAM J. Sci. Comput. 26(6), 2005, algorithm 5.3 (Dot2): TwoSum and 2Prod leave
sum and rounding errors, exactly, and the errors are added in plain binary64. What that loses is derived in
docs/explanation/fast-attention.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from softcert.reference.fast.compiled import compiled, fma, inlined
from softcert.reference.fast.double_word import fast_two_sum, two_sum

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Keys, or queries, of one tile: a tile of 64 features stays in the first cache.
TILE = 64

_UNIT = 2.0**-53
_SQUARE = _UNIT * _UNIT


def dot_error(n: int) -> float:
    """Error of `dot_tile` over n features, in units of sum |a b|."""
    return 2.0 * (n + 2.0) ** 2 * _SQUARE


def sum_error(rows: int) -> float:
    """Error of `weighted_sums` and `absorb` over so many rows, in units of sum |w row|."""
    tiles = rows // TILE + 2.0
    return (2.0 * (TILE + 2.0) ** 2 + 4.0 * tiles) * _SQUARE


def plain_dot_error(n: int) -> float:
    """Error of `plain_dot_tile` over n features, in units of sum |a b|."""
    return (n + 4.0) * _UNIT * (1.0 + 2.0**-20)


def plain_sum_error(rows: int) -> float:
    """Error of `plain_sums` and their addition over so many rows, in units of sum |weight row|."""
    return (TILE + rows // TILE + 4.0) * _UNIT * (1.0 + 2.0**-20)


@inlined
def gathered(s: float, e: float, a: float, b: float) -> tuple[float, float]:
    """s + e + a b, e being the sum of the errors so far."""
    p = a * b
    t, f = two_sum(s, p)
    return t, e + (f + fma(a, b, -p))


@compiled
def dot_tile(a: Words, b: Words, high: Words, low: Words) -> None:
    """Dot products of one row with the columns of a tile.

    Parameters
    ----------
    a : (D,), D a multiple of 4. b : (D, TILE). high, low : (TILE,), the normalized results.
    """
    for j in range(TILE):
        high[j] = 0.0
        low[j] = 0.0
    for d in range(0, a.size, 4):
        a0, a1, a2, a3 = a[d], a[d + 1], a[d + 2], a[d + 3]
        b0, b1, b2, b3 = b[d], b[d + 1], b[d + 2], b[d + 3]
        for j in range(TILE):
            s, e = high[j], low[j]
            s, e = gathered(s, e, a0, b0[j])
            s, e = gathered(s, e, a1, b1[j])
            s, e = gathered(s, e, a2, b2[j])
            s, e = gathered(s, e, a3, b3[j])
            high[j] = s
            low[j] = e
    for j in range(TILE):
        high[j], low[j] = two_sum(high[j], low[j])


@compiled
def plain_dot_tile(a: Words, b: Words, sums: Words) -> None:
    """Dot products as `dot_tile`'s, in binary64 alone."""
    for j in range(TILE):
        sums[j] = 0.0
    for d in range(0, a.size, 4):
        a0, a1, a2, a3 = a[d], a[d + 1], a[d + 2], a[d + 3]
        b0, b1, b2, b3 = b[d], b[d + 1], b[d + 2], b[d + 3]
        for j in range(TILE):
            sums[j] = fma(a3, b3[j], fma(a2, b2[j], fma(a1, b1[j], fma(a0, b0[j], sums[j]))))


@compiled
def plain_sums(weight: Words, size: Words, rows: Words, sums: Words, sizes: Words) -> None:
    """Sums over a tile of weight times rows, and of size times |rows|, in binary64 alone.

    Parameters
    ----------
    weight, size : (TILE,). rows : (TILE, C). sums, sizes : (C,).
    """
    for c in range(sums.size):
        sums[c] = 0.0
        sizes[c] = 0.0
    for j in range(0, TILE, 4):
        w0, w1, w2, w3 = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        m0, m1, m2, m3 = size[j], size[j + 1], size[j + 2], size[j + 3]
        r0, r1, r2, r3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
        for c in range(sums.size):
            x0, x1, x2, x3 = r0[c], r1[c], r2[c], r3[c]
            sums[c] += fma(w1, x1, w0 * x0) + fma(w3, x3, w2 * x2)
            sizes[c] += fma(m1, abs(x1), m0 * abs(x0)) + fma(m3, abs(x3), m2 * abs(x2))


@inlined
def _weighted(
    s: float, e: float, m: float, high: float, low: float, size: float, x: float
) -> tuple[float, float, float]:
    """s + e + (high + low) x, and m + size |x|."""
    p = high * x
    t, f = two_sum(s, p)
    return t, e + (f + fma(low, x, fma(high, x, -p))), fma(size, abs(x), m)


@compiled
def weighted_sums(high: Words, low: Words, size: Words, rows: Words, sh: Words, sl: Words, sm: Words) -> None:
    """Sum of (high + low) rows over a tile, and of size |rows|, in plain binary64.

    Parameters
    ----------
    high, low, size : (TILE,). rows : (TILE, C). sh, sl, sm : (C,), the sums; sh and sl are not normalized.
    """
    for c in range(sh.size):
        sh[c] = 0.0
        sl[c] = 0.0
        sm[c] = 0.0
    for j in range(0, TILE, 4):
        h0, h1, h2, h3 = high[j], high[j + 1], high[j + 2], high[j + 3]
        l0, l1, l2, l3 = low[j], low[j + 1], low[j + 2], low[j + 3]
        m0, m1, m2, m3 = size[j], size[j + 1], size[j + 2], size[j + 3]
        r0, r1, r2, r3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
        for c in range(sh.size):
            s, e, m = sh[c], sl[c], sm[c]
            s, e, m = _weighted(s, e, m, h0, l0, m0, r0[c])
            s, e, m = _weighted(s, e, m, h1, l1, m1, r1[c])
            s, e, m = _weighted(s, e, m, h2, l2, m2, r2[c])
            s, e, m = _weighted(s, e, m, h3, l3, m3, r3[c])
            sh[c] = s
            sl[c] = e
            sm[c] = m


@compiled
def absorb(high: Words, low: Words, size: Words, sh: Words, sl: Words, sm: Words) -> None:
    """Add the sums of a tile to those of the tiles before (JMP algorithm 6, AccurateDWPlusDW)."""
    for c in range(high.size):
        ah, al = two_sum(sh[c], sl[c])
        s, e = two_sum(high[c], ah)
        t, f = two_sum(low[c], al)
        s, e = fast_two_sum(s, e + t)
        high[c], low[c] = fast_two_sum(s, e + f)
        size[c] += sm[c]
