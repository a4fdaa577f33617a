"""Roundings of binary64 numbers with errors to formats of at most 24 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.formats import FORMATS, FloatFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]


def decided(values: Words, error: Words, fmt: FloatFormat) -> tuple[Words, NDArray[np.bool_]]:
    """Values rounded to a format, and where their errors leave no other result."""
    known = error < np.inf
    off = np.where(known, error, 0.0) * (1.0 + 2.0**-40)
    low, high = (_rounded(np.where(known, values, 0.0) + d, fmt) for d in (-off, off))
    same = (low == high) & (np.signbit(low) == np.signbit(high))
    return low, known & same


def _rounded(x: Words, fmt: FloatFormat) -> Words:
    """Round binary64 numbers to a format of at most 24 bits as `round_dyadic` does, results in binary64."""
    if fmt == FORMATS["binary32"]:
        with np.errstate(over="ignore"):
            return x.astype(np.float32).astype(np.float64)
    _, exponent = np.frexp(x)
    unit = np.maximum(exponent - 1, fmt.emin) - (fmt.precision - 1)
    rounded = np.ldexp(np.rint(np.ldexp(x, -unit)), unit)
    top = np.ldexp(float(fmt.max_significand), fmt.emax - fmt.precision + 1)
    beyond = np.inf if fmt.has_inf else np.nan
    return np.where(np.abs(rounded) > top, np.copysign(beyond, x), rounded)
