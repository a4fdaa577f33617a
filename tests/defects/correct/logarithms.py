"""Correct log_softmax and logsumexp kernels."""

import math

import numpy as np
from scipy.special import log_softmax as scipy_log_softmax
from scipy.special import logsumexp as scipy_logsumexp
from scipy.special import softmax as scipy_softmax

__all__ = ["scipy_log_softmax", "scipy_logsumexp", "scipy_softmax"]


def _parts(x, axis=-1):
    """A finite shift and the sum of the weights after it."""
    m = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    return shift, np.exp(x - shift).sum(axis=axis, keepdims=True)


def log_softmax_two_differences(x, axis=-1):
    """(x - max) - log(sum)."""
    d = x - x.max(axis=axis, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=axis, keepdims=True))


def log_softmax_log1p(x):
    """(x - max) - log1p(sum of the others)."""
    m = x.max(axis=-1, keepdims=True)
    d = x - m
    e = np.exp(d)
    np.put_along_axis(e, x.argmax(axis=-1, keepdims=True), x.dtype.type(0), -1)
    return np.where(np.isfinite(m), d - np.log1p(e.sum(axis=-1, keepdims=True)), x.dtype.type(np.nan))


def log_softmax_wide(x):
    """In long double."""
    y = x.astype(np.longdouble)
    d = y - y.max(axis=-1, keepdims=True)
    return (d - np.log(np.exp(d).sum(axis=-1, keepdims=True))).astype(x.dtype)


def lse_plain(x, axis=-1):
    """log(sum) + max."""
    shift, total = _parts(x, axis)
    return np.squeeze(np.log(total) + shift, axis=axis)


def lse_default_none(x, axis=None):
    """The whole array by default."""
    shift, total = _parts(x, axis)
    return np.squeeze(np.log(total) + shift, axis=axis)


def lse_log1p(x):
    """The maximum left out of the sum and put back by log1p."""
    m = x.max(axis=-1)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    e = np.exp(x - shift[..., None])
    np.put_along_axis(e, x.argmax(axis=-1)[..., None], x.dtype.type(0), -1)
    return np.where(np.isfinite(m), np.log1p(e.sum(axis=-1)) + m, m).astype(x.dtype)


def lse_logaddexp_tree(x):
    """np.logaddexp in pairs, on the shifted row."""
    m = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    y = x - shift
    while y.shape[-1] > 1:
        if y.shape[-1] % 2:
            y = np.concatenate([y, np.full_like(y[..., :1], -np.inf)], axis=-1)
        y = np.logaddexp(y[..., ::2], y[..., 1::2])
    return (y + shift)[..., 0]


def lse_logaddexp_wide(x):
    """np.logaddexp.reduce in long double."""
    return np.logaddexp.reduce(x.astype(np.longdouble), axis=-1).astype(x.dtype)


def lse_loop(x):
    """math.fsum over each row."""

    def one(row):
        m = max(row)
        if any(math.isnan(v) for v in row):
            return math.nan
        return m + math.log(math.fsum(math.exp(v - m) for v in row)) if math.isfinite(m) else m

    rows = x.reshape(-1, x.shape[-1]).tolist()
    return np.array([one(row) for row in rows], dtype=x.dtype).reshape(x.shape[:-1])
