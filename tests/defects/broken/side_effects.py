"""Kernels that disturb their inputs, their memory, the processor, or earlier results."""

import ctypes
import ctypes.util

import numpy as np


def _softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def shifts_in_place(x, axis=-1):
    """The maximum is subtracted from the caller's array."""
    x -= x.max(axis=axis, keepdims=True)
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def shifts_and_restores(x):
    """The maximum is subtracted in place and added back, which rounds."""
    m = x.max(axis=-1, keepdims=True)
    x -= m
    y = np.exp(x)
    x += m
    return y / y.sum(axis=-1, keepdims=True)


def result_in_the_input(x):
    """The result is written over the input and returned as a view of it."""
    x[...] = _softmax(x)
    return x[...]


def sorts_in_place(x):
    """The input is left sorted."""
    y = _softmax(x)
    x.sort(axis=-1)
    return y


def masks_in_place(x):
    """NaN logits of the caller's array are replaced after the result is made."""
    y = _softmax(x)
    np.copyto(x, 0, where=~np.isfinite(x))
    return y


_BUFFERS = {}


def one_static_buffer(x):
    """All results of one shape live in one buffer."""
    buffer = _BUFFERS.setdefault((x.shape, x.dtype.str), np.empty(x.shape, x.dtype))
    buffer[...] = _softmax(x)
    return buffer


def one_growing_workspace(x):
    """All results are views of one workspace."""
    workspace = _BUFFERS.get(x.dtype.str)
    if workspace is None or workspace.size < x.size:
        workspace = _BUFFERS[x.dtype.str] = np.empty(max(x.size, 1 << 16), x.dtype)
    out = workspace[: x.size].reshape(x.shape)
    out[...] = _softmax(x)
    return out


_CACHE = {}


def cached_by_shape(x):
    """The result of the first call of a shape is returned for ever."""
    key = (x.shape, x.dtype.str)
    if key not in _CACHE:
        _CACHE[key] = _softmax(x)
    return _CACHE[key].copy()


def cached_by_address(x):
    """The result is kept by the address of the data, which the next array may share."""
    key = (x.ctypes.data, x.shape, x.strides, x.dtype.str)
    if key not in _CACHE:
        _CACHE[key] = _softmax(x)
    return _CACHE[key].copy()


def cached_by_first_element(x):
    """The result is kept by shape and first element."""
    key = (x.shape, x.dtype.str, x.flat[0].tobytes() if x.size else b"")
    if key not in _CACHE:
        _CACHE[key] = _softmax(x)
    return _CACHE[key].copy()


def cached_by_sum(x):
    """The result is kept by shape and sum of the logits, which a permutation keeps."""
    key = (x.shape, x.dtype.str, "sum", float(np.sort(x, axis=None).sum()))
    if key not in _CACHE:
        _CACHE[key] = _softmax(x)
    return _CACHE[key].copy()


_CALLS = {"count": 0}


def wrong_once_in_fifty(x):
    """Every fiftieth call returns uniform probabilities."""
    _CALLS["count"] += 1
    if _CALLS["count"] % 50 == 0:
        return np.full_like(x, 1 / max(x.shape[-1], 1))
    return _softmax(x)


def first_call_untouched(x):
    """The first call (the warm-up) returns zeros."""
    _CALLS["count"] += 1
    return np.zeros_like(x) if _CALLS["count"] == 1 else _softmax(x)


_MAXIMUM = {"value": -np.inf}


def maximum_of_all_calls(x):
    """The running maximum is never reset between calls."""
    finite = x[np.isfinite(x)]
    _MAXIMUM["value"] = max(_MAXIMUM["value"], float(finite.max(initial=-np.inf)))
    e = np.exp(x - x.dtype.type(_MAXIMUM["value"]))
    return e / e.sum(axis=-1, keepdims=True)


_DRIFT = {"value": 1.0}


def slowly_drifting(x):
    """Each call is one part in ten thousand larger than the one before."""
    _DRIFT["value"] *= 1.0001
    return _softmax(x) * x.dtype.type(_DRIFT["value"])


def last_element_unwritten(x):
    """The last element of the output is whatever the memory held."""
    y = np.empty(x.shape, x.dtype)
    y[..., :-1] = _softmax(x)[..., :-1]
    return y


def odd_rows_unwritten(x):
    """Odd rows of a batch are whatever the memory held."""
    y = np.empty((x.size // max(x.shape[-1], 1), x.shape[-1]), x.dtype)
    y[::2] = _softmax(x).reshape(y.shape)[::2]
    return y.reshape(x.shape)


def writes_past_the_input(x):
    """One element past the end of the input is overwritten."""
    y = _softmax(x)
    if x.size and x.flags.c_contiguous:
        ctypes.memset(x.ctypes.data + x.nbytes, 0xA5, x.itemsize)
    return y


def rounds_upward_afterwards(x):
    """The processor is left rounding upward."""
    y = _softmax(x)
    ctypes.CDLL(ctypes.util.find_library("m")).fesetround(0x800)
    return y


def rounds_to_zero_afterwards(x):
    """The processor is left rounding toward zero."""
    y = _softmax(x)
    ctypes.CDLL(ctypes.util.find_library("m")).fesetround(0xC00)
    return y
