"""Array-likes to exact floats: what may be given to the reference, and in which format it came."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softcert.reference.errors import DomainError
from softcert.reference.formats import FORMATS, FloatFormat, format_of

Floats = NDArray[np.float64]


def as_floats(x: ArrayLike, name: str = "x") -> tuple[Floats, FloatFormat]:
    """Turn an array-like into float64, exactly, together with the format it came in.

    Parameters
    ----------
    x : array of a known floating dtype, integers that float64 holds, or nested lists of such.
    name : how the operand is called in messages.

    Raises
    ------
    DomainError : ragged, complex, boolean, object, or an integer that float64 does not hold.
    """
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
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, OverflowError) as error:
        raise DomainError(f"{name} is not an array of numbers: {str(error).splitlines()[0]}") from None
    if array.dtype != object:
        return array
    raise DomainError(f"{name} is not an array of floating-point numbers: its elements are Python objects")


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
