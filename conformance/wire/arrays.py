"""Arrays as JSON: every number a hexadecimal float, so that nothing is lost and anyone can read it.

A binary64 holds every number of every narrower format, so the numbers of all floating dtypes are
written as `float.hex` writes them. What that notation cannot say is written beside it: the bits of a
NaN that is not the default one (`nan_bits`), and the raw bytes of a dtype that is no binary float of
at most 64 bits, which only a subject that answers in a wrong dtype produces (`bytes`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

#: The dtypes whose numbers are written as hexadecimal floats.
FLOATS: tuple[str, ...] = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


class ArrayError(ValueError):
    """An array in a file is inconsistent; the message says how."""


def array_to_json(array: Array) -> dict[str, Any]:
    """Return an array as a JSON-ready mapping from which `array_from_json` makes the same bits.

    Parameters
    ----------
    array : any shape, 0-d and empty included, of any dtype but Python objects.

    Raises
    ------
    ArrayError : an array of Python objects.
    """
    array = np.asarray(array)
    document: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    if array.dtype.name not in FLOATS:
        if array.dtype.hasobject:
            raise ArrayError(f"an array of dtype {array.dtype.name} has no bits to write")
        little = array.dtype.newbyteorder("<")
        return document | {"dtype": _readable_name(little), "bytes": array.astype(little).tobytes().hex()}
    document["hex"] = [_hex(number) for number in _widened(array).tolist()]
    bits = _nan_bits(array)
    if bits:
        document["nan_bits"] = bits
    return document


def array_from_json(document: Mapping[str, Any]) -> Array:
    """Return the array that `document` holds, contiguous, in C order.

    Raises
    ------
    ArrayError : numbers that do not fill the shape, or that the dtype does not hold.
    """
    shape = tuple(document["shape"])
    if "bytes" in document:
        return _from_bytes(document["dtype"], shape, document["bytes"])
    dtype = _dtype(document["dtype"])
    numbers = document["hex"]
    size = math.prod(shape)
    if len(numbers) != size:
        raise ArrayError(f"shape {list(shape)} needs {size} numbers, and {len(numbers)} are there")
    try:
        wide = np.array([float.fromhex(number) for number in numbers], dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise ArrayError(f"a number is not a hexadecimal float of binary64 ({error})") from error
    with np.errstate(all="ignore"):
        narrow = wide.astype(dtype)
        same = _widened(narrow)
    different = np.flatnonzero(~((same == wide) | (np.isnan(same) & np.isnan(wide))))
    if different.size:
        raise ArrayError(f"{document['dtype']} does not hold the number {numbers[different[0]]}")
    _restore_nans(narrow, wide, document.get("nan_bits", {}))
    return narrow.reshape(shape)


def _dtype(name: str) -> np.dtype[Any]:
    if name not in FLOATS:
        raise ArrayError(f"dtype {name!r} is not one of {', '.join(FLOATS)}")
    return np.dtype(getattr(ml_dtypes, name) if name.startswith(("bfloat", "float8")) else name)


def _widened(array: Array) -> NDArray[np.float64]:
    """Return the numbers in C order as binary64, which holds each of them exactly."""
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(array).reshape(-1).astype(np.float64)


def _hex(number: float) -> str:
    # float.hex drops the sign of a NaN.
    return "-nan" if math.isnan(number) and math.copysign(1.0, number) < 0 else number.hex()


def _as_bits(array: Array) -> NDArray[Any]:
    """View a C-contiguous array of floats as unsigned integers."""
    return array.view(np.dtype(f"uint{8 * array.dtype.itemsize}"))


def _default_nans(dtype: np.dtype[Any], negative: NDArray[np.bool_]) -> Array:
    nans = np.where(negative, -np.float64(np.nan), np.float64(np.nan))
    return nans.astype(dtype)


def _nan_bits(array: Array) -> dict[str, str]:
    """Bits of the NaNs that "nan" and "-nan" do not say, by position in C order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    places = np.flatnonzero(np.isnan(_widened(flat)))
    nans = flat[places]
    default = _default_nans(flat.dtype, np.signbit(_widened(nans)))
    other = np.flatnonzero(_as_bits(nans) != _as_bits(default))
    return {str(int(places[i])): hex(int(_as_bits(nans)[i])) for i in other}


def _restore_nans(narrow: Array, wide: NDArray[np.float64], bits: Mapping[str, str]) -> None:
    places = np.flatnonzero(np.isnan(wide))
    narrow[places] = _default_nans(narrow.dtype, np.signbit(wide[places]))
    integers = _as_bits(narrow)
    for place, pattern in bits.items():
        index, value = int(place), int(pattern, 16)
        if index >= wide.size or not math.isnan(wide[index]):
            raise ArrayError(f"nan_bits names position {place}, which holds no NaN")
        if value >= 1 << (8 * narrow.dtype.itemsize):
            raise ArrayError(f"nan_bits {pattern} has more bits than the dtype")
        integers[index] = value
        if not math.isnan(float(_widened(narrow[index : index + 1])[0])):
            raise ArrayError(f"nan_bits {pattern} is not a NaN")


def _readable_name(dtype: np.dtype[Any]) -> str:
    """Return the name of a dtype if NumPy reads it back, else its type string."""
    try:
        return dtype.name if np.dtype(dtype.name) == dtype else dtype.str
    except TypeError:
        return dtype.str


def _from_bytes(name: str, shape: tuple[int, ...], text: str) -> Array:
    try:
        dtype = np.dtype(name)
        raw = bytes.fromhex(text)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ArrayError(f"dtype {name!r} or its bytes cannot be read ({error})") from error
    if dtype.hasobject or len(raw) != dtype.itemsize * math.prod(shape):
        raise ArrayError(f"shape {list(shape)} of dtype {name!r} does not fit {len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype).reshape(shape).copy()
