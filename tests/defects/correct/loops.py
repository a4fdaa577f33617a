"""Correct kernels in pure Python, Decimal, Fraction and ctypes."""

import ctypes
import ctypes.util
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np

_LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
_LIBM.exp.restype = ctypes.c_double
_LIBM.exp.argtypes = [ctypes.c_double]


def _special(row):
    """The whole answer where NaN or +inf are there, or -inf alone; else None."""
    top = max(row)
    if any(math.isnan(v) for v in row) or not math.isfinite(top):
        return [math.nan] * len(row)
    return None


def math_loop(x):
    """math.exp over one row; the result is a list of Python floats."""
    if np.ndim(x) != 1:
        raise TypeError("expected one row")
    row = [float(v) for v in x]
    answer = _special(row)
    if answer is None:
        m = max(row)
        e = [math.exp(v - m) for v in row]
        s = sum(e)
        answer = [v / s for v in e]
    return answer


def _along_rows(x, one):
    rows = x.reshape(-1, x.shape[-1]).tolist()
    return np.array([_special(row) or one(row) for row in rows], dtype=x.dtype).reshape(x.shape)


def math_loop_rows(x):
    """math.exp and math.fsum over all rows."""

    def one(row):
        m = max(row)
        e = [math.exp(v - m) for v in row]
        s = math.fsum(e)
        return [v / s for v in e]

    return _along_rows(x, one)


def decimal_rows(x):
    """Decimal arithmetic of 30 digits; weights below 1e-400 count as zero."""

    def one(row):
        with localcontext() as context:
            context.prec = 30
            m = max(row)
            e = [(Decimal(v) - Decimal(m)).exp() if v - m > -900 else Decimal(0) for v in row]
            s = sum(e)
            return [float(v / s) for v in e]

    return _along_rows(x, one)


def fraction_rows(x):
    """Weights of the C library added and divided as fractions."""

    def one(row):
        m = max(row)
        e = [Fraction(math.exp(v - m)) for v in row]
        s = sum(e)
        return [float(v / s) for v in e]

    return _along_rows(x, one)


def libm_rows(x):
    """The C library's exp through ctypes."""

    def one(row):
        m = max(row)
        e = [_LIBM.exp(v - m) for v in row]
        s = math.fsum(e)
        return [v / s for v in e]

    return _along_rows(x, one)


def frompyfunc(x):
    """math.exp as a ufunc of objects."""
    with np.errstate(invalid="ignore"):
        d = (x - x.max(axis=-1, keepdims=True)).astype(np.float64)
    e = np.frompyfunc(math.exp, 1, 1)(d).astype(np.float64)
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
