"""What subjects take and give: tensors from arrays, arrays from whatever comes back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from softcert.backends import device_clock
from softcert.backends.array_kinds import ON_DEVICE
from softcert.backends.types import Array, as_dtype

#: torch.Tensor, whose type is not known where torch is not installed.
Tensor: TypeAlias = Any
#: Kinds of NumPy dtypes that are numbers: floating, signed, unsigned, truth values.
_NUMBER_KINDS = "fiub"


class NotAnArrayError(Exception):
    """A kernel gave back something that is not an array of real numbers; the message says what."""


def to_torch(array: Array) -> Tensor:
    """Torch tensor over the memory of an array, without a copy where torch can express its strides.

    Parameters
    ----------
    array : any shape and strides, dtype float64, float32, float16 or bfloat16.

    Returns
    -------
    A CPU tensor of the same shape and format. Torch has no negative strides: such arrays are copied.
    """
    import torch

    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    if array.dtype.name == "bfloat16":
        # NumPy's bfloat16 is a type of its own that torch does not know; the bits are the same.
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def to_namespace(array: Array, name: str) -> object:
    """Array of an array API namespace, over the memory of ours where DLPack can express it.

    Parameters
    ----------
    array : any shape, strides and dtype.
    name : the module, `jax.numpy` for one.

    Raises
    ------
    TypeError : the namespace has no arrays of the dtype.
    """
    namespace = import_module(name)
    try:
        return namespace.from_dlpack(array)
    except Exception:  # noqa: BLE001 - each library refuses a device, strides or a dtype in words of its own
        return namespace.asarray(array)


def present(array: Array, kind: str) -> object:
    """The array as a function wants it: of a kind that `array_kinds` names, or a list."""
    if kind == "numpy":
        return array
    if kind == "list":
        return array.tolist()
    if kind.startswith(ON_DEVICE):
        return device_clock.moved(to_torch(array), kind.removeprefix(ON_DEVICE))
    return to_torch(array) if kind == "torch" else to_namespace(array, kind)


def wait_for(value: object) -> None:
    """Wait until results that are computed in the background are there."""
    for part in value if isinstance(value, (tuple, list)) else (value,):
        wait = getattr(part, "block_until_ready", None)
        if callable(wait):
            wait()


def from_torch(tensor: Tensor) -> Array:
    """Array over the memory of a torch tensor (copied to the host from another device).

    Raises
    ------
    NotAnArrayError : a tensor that has no dense array of its numbers (sparse, quantized).
    """
    import torch

    device_clock.leaving(tensor)
    try:
        dense = tensor.detach().cpu().resolve_conj().resolve_neg()
        if dense.dtype is torch.bfloat16:
            bits: Array = dense.view(torch.int16).numpy()
            return bits.view(as_dtype("bfloat16"))
        array: Array = dense.numpy()
    except (TypeError, RuntimeError) as error:
        raise NotAnArrayError(f"the kernel returned a tensor without a dense array: {error}") from error
    return array


def as_result(value: object, dtype: np.dtype[Any]) -> Array:
    """Array of what a kernel returned, over the same memory where it has some.

    Parameters
    ----------
    value : an array, a NumPy scalar, a tensor, anything with `__array__` or DLPack, a Python number,
        or (nested) lists of these.
    dtype : dtype of the kernel's operands, which Python numbers, having none, are given.

    Returns
    -------
    The array, of whatever dtype and shape the kernel chose, in the machine's byte order.

    Raises
    ------
    NotAnArrayError : the value is not an array of real numbers.
    """
    if isinstance(value, (list, tuple)):
        return _from_sequence(value, dtype)
    array = _as_array(value, dtype)
    if array.dtype.kind not in _NUMBER_KINDS and not _is_ml_dtype(array.dtype):
        raise NotAnArrayError(f"the kernel returned an array of {array.dtype}, not of real numbers")
    # Byte order is how numbers are stored, not which they are.
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_results(value: object, dtype: np.dtype[Any], names: Sequence[str]) -> tuple[Array, ...]:
    """Arrays of what a kernel returned: one for each name.

    Parameters
    ----------
    value : for one name what `as_result` takes, for several a tuple or list of as many.

    Raises
    ------
    NotAnArrayError : another number of results, or one that is not an array of real numbers.
    """
    if len(names) == 1:
        return (as_result(value, dtype),)
    if not isinstance(value, (tuple, list)) or len(value) != len(names):
        given = f"{len(value)} results" if isinstance(value, (tuple, list)) else _article(value)
        raise NotAnArrayError(f"the kernel returned {given}, not ({', '.join(names)})")
    return tuple(as_result(part, dtype) for part in value)


def _is_ml_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is one of ml_dtypes' number formats, which NumPy counts as opaque."""
    return dtype.type.__module__ == "ml_dtypes"


def _as_array(value: object, dtype: np.dtype[Any]) -> Array:
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, Real) and not isinstance(value, bool):
        return _numbers(float(value), dtype)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return from_torch(value)
    if hasattr(value, "__array__"):
        try:
            return np.asarray(value)
        except Exception:
            # Arrays on a device have the method, and say that they will not be copied unasked.
            if not hasattr(value, "__dlpack__"):
                raise
    if hasattr(value, "__dlpack__"):
        return _from_dlpack(value)
    raise NotAnArrayError(f"the kernel returned {_article(value)}, not an array of numbers")


def _from_dlpack(value: Any) -> Array:
    """Array over the memory of anything with DLPack; a copy on the host where that lies elsewhere."""
    try:
        return np.asarray(np.from_dlpack(value))
    except Exception as error:  # noqa: BLE001 - each library refuses in words of its own
        refusal = error
    try:
        return np.asarray(np.from_dlpack(value, device="cpu", copy=True))
    except Exception:  # noqa: BLE001 - the same; the first refusal says more than that of the second try
        raise NotAnArrayError(
            f"the kernel returned {_article(value)} that NumPy cannot read: {refusal}"
        ) from refusal


def _from_sequence(values: list[Any] | tuple[Any, ...], dtype: np.dtype[Any]) -> Array:
    """Array of a list; Python's own numbers take the operands' dtype, arrays keep theirs."""
    if all(isinstance(value, (float, int)) and not isinstance(value, bool) for value in values):
        return _numbers([float(value) for value in values], dtype)
    parts = [as_result(value, dtype) for value in values]
    if len({part.shape for part in parts}) > 1:
        raise NotAnArrayError(f"the kernel returned a {type(values).__name__} of parts of different shapes")
    return np.stack(parts)


def _numbers(values: float | list[float], dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        # ml_dtypes converts no Python lists itself; through binary64 every Python float is exact.
        return np.asarray(values, dtype=np.float64).astype(dtype)


def _article(value: object) -> str:
    name = type(value).__name__
    if value is None:
        return "None"
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def same_bits(a: Array, b: Array) -> bool:
    """Whether two arrays hold the same numbers bit by bit; any NaN is as good as another."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.tobytes() == b.tobytes():
        return True
    one, other = np.atleast_1d(a), np.atleast_1d(b)
    ours, theirs = one != one, other != other  # noqa: PLR0124 - NaN, in every dtype
    if not np.array_equal(ours, theirs):
        return False
    return bool(one[~ours].tobytes() == other[~theirs].tobytes())
