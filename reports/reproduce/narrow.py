"""Rounding to narrow formats, with the result kept in binary32, where the sums of tensor cores are formed."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]

#: Largest finite e4m3 number (OCP 8-bit Floating Point Specification, 2023, table 1).
E4M3_LARGEST = np.float32(448.0)
_E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
_SMALLEST_FACTOR = np.finfo(np.float32).tiny


def to_single(x: NDArray[Any]) -> Single:
    """Round to nearest binary32."""
    return np.asarray(x, dtype=np.float32)


def to_half(x: NDArray[Any]) -> Single:
    """Round to nearest binary16; a magnitude beyond the largest becomes infinite."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


def to_e4m3(x: Single) -> Single:
    """Round to nearest e4m3, magnitudes beyond the largest to the largest, as a GPU's conversion does.

    Only binary32 is taken: NumPy converts binary64 by way of binary32, which rounds twice.
    """
    return np.clip(x, -E4M3_LARGEST, E4M3_LARGEST).astype(_E4M3).astype(np.float32)


def quantize(x: Single, rows: int | None = None) -> tuple[Single, Single]:
    """Scale each block of `rows` rows so that its largest magnitude is e4m3's, and round.

    Parameters
    ----------
    x : (n, d), n >= 1.
    rows : rows of a block, the last of which may be shorter; None makes the whole tensor one.

    Returns
    -------
    The e4m3 numbers, (n, d), and the factor that undoes the scaling of each row, (n, 1).
    """
    size = len(x) if rows is None else rows
    starts = np.arange(0, len(x), size)
    largest = np.maximum.reduceat(np.abs(x).max(axis=1), starts)
    # A block of zeros stays one at any scale; the least normal factor keeps the division defined.
    factor = np.maximum(largest / E4M3_LARGEST, _SMALLEST_FACTOR)
    by_row = np.repeat(factor, np.diff(np.append(starts, len(x))))[:, None]
    return to_e4m3(x / by_row), by_row
