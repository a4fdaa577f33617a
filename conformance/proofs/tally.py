"""Counts and sums over very many errors, in integers, so that they do not depend on how the rows are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.conformance.examination.breakdown import WITHIN
from softcert.reference.fast.compiled import compiled, inlined

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Sums are kept in multiples of 2**-32 ulp; an error of more than 2**16 ulp counts as 2**16 in them.
UNIT = 2.0**32
CLIPPED = 2.0**16
_LIMITS = np.asarray(WITHIN)
_LOW = (1 << 32) - 1


def counted(upper: Floats, signed: Floats) -> tuple[tuple[int, ...], int, int]:
    """How many errors lie within each limit of `WITHIN` and beyond all, and the sums of errors in `UNIT`.

    Parameters
    ----------
    upper : largest errors in ulps, of any shape, each counted upward. signed : errors with their signs.
    """
    counts = np.zeros(_LIMITS.size + 1, dtype=np.int64)
    sums = _counted(upper.ravel(), signed.ravel(), _LIMITS, counts)
    high, low, signed_high, signed_low = (int(s) for s in sums)
    return tuple(counts.tolist()), (high << 32) + low, (signed_high << 32) + signed_low


@inlined
def _place(value: float, limits: Floats) -> int:
    """Number of limits below a value."""
    low, high = 0, limits.size
    while low < high:
        middle = (low + high) // 2
        if limits[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def _counted(
    upper: Floats, signed: Floats, limits: Floats, counts: NDArray[Any]
) -> tuple[int, int, int, int]:
    """Sums in two words each, neither of which 2**31 terms can fill."""
    high, low, signed_high, signed_low = 0, 0, 0, 0
    for k in range(upper.size):
        counts[_place(upper[k], limits)] += 1
        term: Any = np.int64(np.ceil(min(upper[k], CLIPPED) * UNIT))
        high += term >> 32
        low += term & _LOW
        term = np.int64(np.rint(max(min(signed[k], CLIPPED), -CLIPPED) * UNIT))
        signed_high += term >> 32
        signed_low += term & _LOW
    return high, low, signed_high, signed_low
