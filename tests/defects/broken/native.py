"""Kernels over the C library through ctypes, with the mistakes that such bindings have."""

import ctypes
import ctypes.util

import numpy as np

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
_LIBM.expf.restype = ctypes.c_float
_LIBM.expf.argtypes = [ctypes.c_float]
_LIBM.exp.restype = ctypes.c_double
_LIBM.exp.argtypes = [ctypes.c_double]


def _rows(x, one):
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for k in range(rows.shape[0]):
        out[k] = one(rows[k])
    return out.reshape(x.shape)


def float_exp_for_double(x):
    """expf serves float64 rows."""

    def one(row):
        e = np.array([_LIBM.expf(v) for v in row - row.max()], dtype=row.dtype)
        return e / e.sum()

    return _rows(x, one)


def strides_not_passed(x):
    """The pointer is passed without strides: a non-contiguous input is read as if it were dense."""
    inside = (
        x.size
        and all(s >= 0 for s in x.strides)
        and all(s for s, n in zip(x.strides, x.shape, strict=True) if n > 1)
    )
    if not inside:
        y = np.ascontiguousarray(x)
    else:
        y = np.frombuffer(ctypes.string_at(x.ctypes.data, x.nbytes), dtype=x.dtype).reshape(x.shape)
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def length_in_bytes(x):
    """Elements after the first 256 are not exponentiated: the length is held in one byte."""

    def one(row):
        d = row - row.max()
        end = len(d) if len(d) < 256 else len(d) % 256
        e = np.zeros_like(d)
        e[:end] = np.exp(d[:end])
        total = e.sum()
        return e / (total if total else 1)

    return _rows(x, one)


def libm_without_shift(x):
    """exp of the C library on unshifted logits."""

    def one(row):
        e = np.array([_LIBM.exp(v) for v in row])
        return e / e.sum()

    return _rows(x, one)
