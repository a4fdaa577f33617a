"""How often a running maximum may rise after each key, where scores are known to within a noise only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.compiled import compiled, inlined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]


@inlined
def _pending(high: Float, size: int, low: float) -> int:
    """How many of the keys on a stack are left when one comes before them that is at least `low`."""
    while size and high[size - 1] <= low:
        size -= 1
    return size


@compiled
def _add_rises(scores: Float, theta: Float, weights: Float, each: float, limits: Float, most: Float) -> None:
    rows, width = scores.shape
    high, often = np.empty(width), np.empty(width, np.int32)
    for row in range(rows):
        size = 0
        for key in range(width):
            often[key] = 0
            if weights[row, key] > 0.0:
                size = _pending(high, size, scores[row, key] - theta[row, key])
                often[key] = size
                high[size] = scores[row, key] + theta[row, key]
                size += 1
        size = 0
        for key in range(width - 1, -1, -1):
            if weights[row, key] > 0.0:
                noise = theta[row, key]
                size = _pending(high, size, scores[row, key] - noise)
                rescales = min(float(max(often[key], size)), limits[row, 0])
                high[size] = scores[row, key] + noise
                size += 1
                theta[row, key] = noise + each * rescales
                most[row, 0] = max(most[row, 0], rescales)


def add_rises(scores: Float, theta: Float, weights: Float, each: float, limits: Float) -> Float:
    """Add to `theta` what the most rescales of each weight cost; return the most of a row, (rows, 1).

    Parameters
    ----------
    scores : (rows, keys). theta : the same shape, at least the errors of the computed scores.
    weights : the same shape; keys of weight 0 are left out, they are hidden or 2^-1074 of the row.
    each : what one rescale costs. limits : (rows, 1), most rescales that blocks leave a row.

    Notes
    -----
    A kernel scans keys in one direction, from anywhere, in blocks of any size. Key k can raise the maximum
    after key j only if nothing from j to k certainly exceeds it: for no t is s_t - a_t >= s_k + a_k. So
    the keys after j are gone through backwards, and wait on a stack; each t takes away those on top that
    it certainly exceeds, and what still waits when j comes is no less than the rises that j may meet. Both
    directions are counted, and the greater number is taken. Starting later, stopping sooner and larger
    blocks only leave some rises out. Every key is pushed and taken away once: O(n) a row.
    """
    most = np.zeros_like(limits)
    _add_rises(scores, theta, weights, each, limits, most)
    return most


__all__ = ["add_rises"]
