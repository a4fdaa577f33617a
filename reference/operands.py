"""Array-likes to exact floats: what may be given to the reference, and in which format it came."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softcert.reference.environment import require_ieee
from softcert.reference.errors import DomainError
from softcert.reference.formats import FORMATS, FloatFormat, format_of
from softcert.reference.tensors import is_tensor, tensor_as_array

Floats = NDArray[np.float64]

#: What is in arrays that hold no numbers, by their dtype's kind.
_NOT_NUMBERS = {"U": "text", "S": "bytes", "M": "dates", "m": "durations", "b": "True and False"}


def as_floats(x: ArrayLike, name: str = "x") -> tuple[Floats, FloatFormat]:
    """Turn an array-like into float64, exactly, together with the format it came in.

    Parameters
    ----------
    x : array or PyTorch tensor of a known floating dtype, integers that float64 holds, or nested lists of
        such.
    name : how the operand is called in messages.

    Raises
    ------
    DomainError : ragged, masked, complex, boolean, object, or an integer that float64 does not hold.
    AlteredArithmetic : subnormals would be flushed on the way.
    """
    require_ieee()
    array = _as_array(x, name)
    if array.dtype.kind in "iu":
        return _exact_integers(array, name), FORMATS["binary64"]
    try:
        fmt = _format_of_dtype(array.dtype)
    except DomainError as error:
        raise DomainError(f"{name} cannot be taken as exact reals: {error}") from None
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return array.astype(np.float64), fmt  # exact: every format is a subset of binary64


#: The same as `format_of`, remembered: a dtype's name costs more than a short row's error.
_format_of_dtype = lru_cache(maxsize=None)(format_of)


def _as_array(x: ArrayLike, name: str) -> NDArray[Any]:
    if type(x) is np.ndarray:
        array = x
    elif isinstance(x, np.ma.MaskedArray):
        raise DomainError(f"{name} is a masked array, whose masked elements have no value; fill them first")
    else:
        array = tensor_as_array(x, name) if is_tensor(x) else _converted(x, name)
    what = _what_it_holds(array)
    if what:
        raise DomainError(f"{name} is not an array of numbers: it holds {what}")
    return array


def _converted(x: ArrayLike, name: str) -> NDArray[Any]:
    try:
        return np.asarray(x)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        if isinstance(x, (list, tuple)) and "sequence" in str(error):
            raise DomainError(f"{name} is ragged: its parts have different lengths") from None
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DomainError(f"{name} is not an array of numbers: {reason}") from None


def _what_it_holds(array: NDArray[Any]) -> str:
    """What an array holds in place of numbers, or nothing."""
    if array.dtype.kind != "O":
        return _NOT_NUMBERS.get(array.dtype.kind, "")
    first = next((v for v in array.ravel().tolist() if type(v) is not float), None)
    if isinstance(first, int) and not isinstance(first, bool):
        return "an integer of more than 64 bits"
    return "None" if first is None else f"Python objects of type {type(first).__name__}"


def _exact_integers(array: NDArray[Any], name: str) -> Floats:
    with np.errstate(all="ignore"):
        floats = array.astype(np.float64)
    inexact = [
        int(n) for n, f in zip(array.ravel().tolist(), floats.ravel().tolist(), strict=True) if n != int(f)
    ]
    if inexact:
        raise DomainError(f"{name} holds the integer {inexact[0]}, which float64 does not hold exactly")
    return floats


def rows_along(array: Floats, axis: int, name: str = "x") -> tuple[Floats, tuple[int, ...]]:
    """Rows along `axis` as a (count, length) array, and the shape with `axis` moved last.

    Raises
    ------
    DomainError : no such axis.
    """
    if array.ndim == 0:
        raise DomainError(f"{name} is a single number, which has no axis to work along")
    if isinstance(axis, bool) or not isinstance(axis, (int, np.integer)):
        raise DomainError(f"axis={axis!r} is not an integer")
    if not -array.ndim <= axis < array.ndim:
        raise DomainError(f"axis={axis} does not exist in {name} of shape {array.shape}")
    moved = array if axis in (-1, array.ndim - 1) else np.moveaxis(array, int(axis), -1)
    count = int(np.prod(moved.shape[:-1], dtype=np.int64))
    return moved.reshape(count, moved.shape[-1]), moved.shape


def as_integers(x: ArrayLike, name: str) -> NDArray[np.int64]:
    """Turn an array-like of integers, such as class indices, into int64.

    Raises
    ------
    DomainError : ragged, masked, or of anything but integers that int64 holds.
    """
    array = _as_array(x, name)
    if array.dtype.kind not in "iu":
        raise DomainError(f"{name} is not an array of integers, but of {array.dtype}")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise DomainError(f"{name} holds {int(array.max())}, which is no index")
    return array.astype(np.int64)
