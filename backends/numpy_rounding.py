"""The formats that the NumPy backends compute in: float32 for inputs of 16 bits, else the input's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from softcert.backends.types import Array


def widen(x: Array) -> Array:
    """`x` in the format computed in: float32 for 16-bit formats, else its own."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 else x


def narrow(result: Array, like: np.ndarray[Any, Any]) -> Array:
    """`result` rounded to the dtype of `like`."""
    return result.astype(like.dtype, copy=False)
