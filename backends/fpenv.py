"""The processor's floating-point environment: is it as IEEE 754 has it, and how to put it back.

Observed through arithmetic rather than through control registers, so that it works on every
processor that NumPy works on.
"""

from __future__ import annotations

import ctypes
import ctypes.util

import numpy as np

_TINY = np.finfo(np.float64).tiny
#: Subnormal as an input (kept by x * 1) and as a result (tiny * 0.5); float32 flushes alike.
_FACTORS = np.array([np.finfo(np.float64).smallest_subnormal, _TINY])
_SCALES = np.array([1.0, 0.5])
_KEPT = np.array([5e-324, float.fromhex("0x1p-1023")])
#: 1 + 2^-60 is 1 unless rounding goes up, 1 - 2^-60 is 1 unless it goes down or to zero.
_ONES = np.array([1.0, 1.0])
_CRUMBS = np.array([2.0**-60, -(2.0**-60)])
_PRODUCTS = np.empty(2)
_SUMS = np.empty(2)

_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
#: FE_DFL_ENV is the pointer -1 in glibc and musl on x86; -1 in glibc everywhere.
_DEFAULT = ctypes.c_void_p(-1)


def disturbed() -> tuple[str, ...]:
    """Names of the side effects that the environment shows now: flush-to-zero, rounding-mode."""
    with np.errstate(all="ignore"):
        np.multiply(_FACTORS, _SCALES, out=_PRODUCTS)
        np.add(_ONES, _CRUMBS, out=_SUMS)
    # Compared as bits: under DAZ a subnormal also compares equal to zero.
    flushed = _PRODUCTS.tobytes() != _KEPT.tobytes()
    rounded = _SUMS.tobytes() != _ONES.tobytes()
    return ("flush-to-zero",) * flushed + ("rounding-mode",) * rounded


def restore() -> None:
    """Put the environment of the calling thread back to IEEE 754's defaults."""
    _LIBM.fesetenv(_DEFAULT)
