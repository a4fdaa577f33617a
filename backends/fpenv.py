"""The processor's floating-point environment: is it as IEEE 754 has it, and how to put it back.

Observed through arithmetic rather than through control registers, so that it works on every
processor; through Python's own floats, so that no error state of NumPy's can interfere.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys

#: Not constants to the compiler, which would do the arithmetic itself.
_NUMBERS = {
    "one": 1.0,
    "half": 0.5,
    "subnormal": 5e-324,
    "tiny": sys.float_info.min,
    "crumb": 2.0**-60,
}

_LIBM = ctypes.CDLL(ctypes.util.find_library("m") or "libm.so.6")
#: glibc's FE_DFL_ENV.
_DEFAULT = ctypes.c_void_p(-1)


def disturbed() -> tuple[str, ...]:
    """Names of the side effects that the environment shows now: flush-to-zero, rounding-mode."""
    n = _NUMBERS
    # A subnormal as an operand (denormals-are-zero) and as a result (flush-to-zero).
    flushed = n["subnormal"] * n["one"] == 0.0 or n["tiny"] * n["half"] == 0.0
    # 1 + 2^-60 is 1 unless rounding goes up; 1 - 2^-60 is 1 unless it goes down or toward zero.
    rounded = n["one"] + n["crumb"] != 1.0 or n["one"] - n["crumb"] != 1.0
    return ("flush-to-zero",) * flushed + ("rounding-mode",) * rounded


def restore() -> None:
    """Put the environment of the calling thread back to IEEE 754's defaults."""
    _LIBM.fesetenv(_DEFAULT)
