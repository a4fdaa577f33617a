"""Coefficients of the exponential of the numba kernels: `python tools/exp_coefficients.py float32`.

exp(r) = 1 + r + c2 r**2 + c3 r**3 + ... for |r| <= ln(2) / 2, by least squares of the relative error in
Chebyshev's points, which is within a bit of the best. The coefficients are rounded one by one, c2 first, and
the others fitted anew after each, so that they make up for its rounding.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from mpmath import mp, mpf

#: Degree of the polynomial: the first whose error is well below a rounding of the format.
DEGREES = {"float32": 6, "float64": 11}
_POINTS = 60


def coefficients(dtype: str) -> list[float]:
    """Coefficients of r**2, r**3, ..., each a number of the dtype."""
    mp.prec = 200
    edge = mp.log(2) / 2
    points = [edge * mp.cos((2 * k + 1) * mp.pi / (2 * _POINTS)) for k in range(_POINTS)]
    found: list[float] = []
    for first in range(2, DEGREES[dtype] + 1):
        powers = range(first, DEGREES[dtype] + 1)
        rows = mp.matrix([[r**k / mp.exp(r) for k in powers] for r in points])
        left = mp.matrix([1 - value(r, found) / mp.exp(r) for r in points])
        found.append(float(np.dtype(dtype).type(float(mp.lu_solve(rows, left)[0]))))
    return found


def value(r: Any, found: list[float]) -> Any:
    """1 + r + the terms found."""
    return 1 + r + sum(mpf(c) * r ** (k + 2) for k, c in enumerate(found))


def largest_error(found: list[float]) -> float:
    """log2 of the largest relative error of the polynomial, on a grid."""
    edge = mp.log(2) / 2
    grid = [edge * k / 2000 for k in range(-2000, 2001)]
    return float(mp.log(max(abs(value(r, found) / mp.exp(r) - 1) for r in grid), 2))


if __name__ == "__main__":
    chosen = sys.argv[1] if len(sys.argv) > 1 else "float32"
    if chosen not in DEGREES:
        sys.exit(f"{chosen!r} is none of {', '.join(DEGREES)}")
    result = coefficients(chosen)
    sys.stdout.write("\n".join(c.hex() for c in result))
    sys.stdout.write(f"\nrelative error below 2**{largest_error(result):.2f}\n")
