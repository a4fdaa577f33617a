"""Kernels that treat NaN, infinities and subnormals otherwise than the default contract."""

import numpy as np


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def nan_to_zero(x):
    """NaN results are replaced by 0."""
    return np.nan_to_num(_softmax(x), nan=0.0)


def nan_logits_masked(x):
    """NaN logits count as masked: the rest of the row is finite."""
    return _softmax(np.where(np.isnan(x), -np.inf, x).astype(x.dtype))


def nan_ignoring_maximum(x):
    """fmax and a sum that skips NaN keep the NaN at its own place."""
    e = np.exp(x - np.fmax.reduce(x, axis=-1, keepdims=True))
    return e / np.nansum(e, axis=-1, keepdims=True)


def all_masked_is_uniform(x):
    """A row of -inf gives 1/n, undeclared."""
    y = _softmax(x)
    return np.where(
        np.isneginf(x).all(axis=-1, keepdims=True), x.dtype.type(1) / x.dtype.type(x.shape[-1]), y
    )


def all_masked_is_zero(x, axis=-1):
    """A row of -inf gives zeros, undeclared."""
    m = x.max(axis=axis, keepdims=True)
    e = np.exp(x - np.where(np.isneginf(m), x.dtype.type(0), m))
    total = e.sum(axis=axis, keepdims=True)
    return e / np.where(total == 0, x.dtype.type(1), total)


def plus_infinity_takes_all(x):
    """A +inf logit gets probability 1, undeclared."""
    top = np.isposinf(x)
    shared = top / np.maximum(top.sum(axis=-1, keepdims=True), 1)
    return np.where(top.any(axis=-1, keepdims=True), shared.astype(x.dtype), _softmax(x))


def infinities_to_finite(x):
    """Infinite logits become the largest finite floats."""
    limit = np.finfo(x.dtype).max
    return _softmax(np.clip(x, -limit, limit))


def online_with_leading_minus_infinity(x):
    """exp(m_old - m_new) is NaN while both maxima are still -inf."""
    m = np.full_like(x[..., :1], -np.inf)
    total = np.zeros_like(m)
    for k in range(x.shape[-1]):
        column = x[..., k : k + 1]
        new = np.maximum(m, column)
        total = total * np.exp(m - new) + np.exp(column - new)
        m = new
    return np.exp(x - m) / total


def block_of_minus_infinity(x):
    """Blocks of four that are wholly -inf poison the row."""
    m = np.full_like(x[..., :1], -np.inf)
    total = np.zeros_like(m)
    for k in range(0, x.shape[-1], 4):
        block = x[..., k : k + 4]
        own = block.max(axis=-1, keepdims=True)
        part = np.exp(block - own).sum(axis=-1, keepdims=True)
        new = np.maximum(m, own)
        total = np.where(np.isneginf(m), 0, total * np.exp(m - new)) + part * np.exp(own - new)
        m = new
    return (np.exp(x - m) / total).astype(x.dtype)


def any_minus_infinity_is_nan(x):
    """0 * -inf in the shift makes a row with one -inf all NaN."""
    return _softmax(x + 0 * x.min(axis=-1, keepdims=True))


def minus_infinity_gets_smallest(x):
    """A -inf logit gets the smallest normal float instead of exactly 0."""
    return np.maximum(_softmax(x), np.finfo(x.dtype).tiny)


def subnormal_results_flushed(x):
    """Subnormal probabilities become 0, undeclared."""
    y = _softmax(x)
    return np.where(y < np.finfo(x.dtype).tiny, x.dtype.type(0), y)


def subnormal_weights_flushed(x):
    """Subnormal weights become 0 before the division."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    e = np.where(e < np.finfo(x.dtype).tiny, x.dtype.type(0), e)
    return e / e.sum(axis=-1, keepdims=True)


def negative_zero_masked(x):
    """A logit of -0.0 counts as masked."""
    return _softmax(np.where((x == 0) & np.signbit(x), -np.inf, x).astype(x.dtype))


def large_logits_are_nan(x):
    """Logits beyond half the range are refused with NaN."""
    return _softmax(np.where(np.abs(x) > np.finfo(x.dtype).max / 2, np.nan, x).astype(x.dtype))


def wide_rows_overflow(x):
    """x - min overflows for rows wider than the largest float, and inf - inf follows."""
    low = x.min(axis=-1, keepdims=True)
    y = x - np.where(np.isfinite(low), low, x.dtype.type(0))
    return _softmax(y)


def raises_on_nan(x):
    """A NaN in the row raises."""
    if np.isnan(x).any():
        raise ValueError("softmax of NaN")
    return _softmax(x)
