"""Softmax kernels that choose, compute or apply the shift wrongly."""

import numpy as np


def _normalise(e):
    return e / e.sum(axis=-1, keepdims=True)


def no_shift(x, axis=-1):
    """The textbook formula, overflowing at 88.7 (float32) or 709.7 (float64)."""
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def shift_by_mean(x):
    """Subtracts the mean: one large logit still overflows."""
    return _normalise(np.exp(x - x.mean(axis=-1, keepdims=True)))


def shift_by_minimum(x):
    """Subtracts the minimum: wide rows overflow."""
    return _normalise(np.exp(x - x.min(axis=-1, keepdims=True)))


def shift_by_absolute_maximum(x):
    """Subtracts max |x|: rows far below zero underflow to 0/0."""
    return _normalise(np.exp(x - np.abs(x).max(axis=-1, keepdims=True)))


def shift_by_batch_maximum(x):
    """One maximum for the whole batch: rows far below it underflow to 0/0."""
    return _normalise(np.exp(x - x.max())) if x.size else x.copy()


def shift_by_first_row(x):
    """Every row is shifted by the maximum of the first."""
    rows = x.reshape(-1, x.shape[-1])
    return _normalise(np.exp(rows - rows[:1].max(axis=-1, keepdims=True))).reshape(x.shape)


def shift_by_first_element(x):
    """Subtracts the first logit in place of the largest."""
    return _normalise(np.exp(x - x[..., :1]))


def maximum_of_first_eight(x):
    """The maximum looks at one vector register only."""
    return _normalise(np.exp(x - x[..., :8].max(axis=-1, keepdims=True)))


def maximum_starts_at_zero(x):
    """The running maximum starts at 0: rows far below zero are 0/0."""
    return _normalise(np.exp(x - x.max(axis=-1, keepdims=True, initial=0)))


def maximum_starts_at_smallest_normal(x, axis=-1):
    """The C++ slip of numeric_limits<float>::min(), which is positive."""
    m = np.maximum(x.max(axis=axis, keepdims=True), np.finfo(x.dtype).tiny)
    e = np.exp(x - m)
    return e / e.sum(axis=axis, keepdims=True)


def maximum_starts_at_minus_ten_thousand(x):
    """A finite mask value as the start of the maximum."""
    return _normalise(np.exp(x - x.max(axis=-1, keepdims=True, initial=-1e4)))


def sentinel_of_fifty_thousand(x):
    """Logits at or below -5e4 count as masked."""
    kept = np.where(x <= -5e4, -np.inf, x).astype(x.dtype)
    m = kept.max(axis=-1, keepdims=True)
    e = np.exp(kept - np.where(np.isfinite(m), m, 0)).astype(x.dtype)
    total = e.sum(axis=-1, keepdims=True)
    return (e / np.where(total == 0, 1, total)).astype(x.dtype)


def maximum_in_half_precision(x):
    """The maximum is held in float16 and is infinite above 65504."""
    m = x.max(axis=-1, keepdims=True).astype(np.float16).astype(x.dtype)
    return _normalise(np.exp(x - m))


def maximum_as_integer(x):
    """The maximum is converted to a 32-bit integer."""
    m = x.max(axis=-1, keepdims=True)
    whole = np.clip(np.nan_to_num(m), -(2**31), 2**31 - 1).astype(np.int32)
    return _normalise(np.exp(x - whole.astype(x.dtype)))


def clamp_at_88(x):
    """Differences are clamped at -88.376, as one widely used float32 kernel's exponential does."""
    return _normalise(np.exp(np.maximum(x - x.max(axis=-1, keepdims=True), x.dtype.type(-88.376))))


def clamp_at_50(x, axis=-1):
    """Differences are clamped at -50."""
    e = np.exp(np.clip(x - x.max(axis=axis, keepdims=True), -50, 0))
    return e / e.sum(axis=axis, keepdims=True)


def clamp_at_30(x):
    """Differences are clamped at -30."""
    return _normalise(np.exp(np.maximum(x - x.max(axis=-1, keepdims=True), -30)))


def logits_clipped_to_100(x):
    """Logits are clipped to [-100, 100] in place of a shift."""
    return _normalise(np.exp(np.clip(x, -80, 80)))


def base_changed_before_shift(x):
    """x log2(e) overflows for logits near the largest float, before the maximum is subtracted."""
    scaled = x * x.dtype.type(1.4426950408889634)
    return _normalise(np.exp2(scaled - scaled.max(axis=-1, keepdims=True)))


def shift_of_half_the_maximum(x):
    """Subtracts half the maximum, which only doubles the range."""
    return _normalise(np.exp(x - x.max(axis=-1, keepdims=True) / 2))


def shifted_twice(x):
    """Subtracts the maximum from logits already shifted by their mean, rounding twice."""
    y = (x - x.mean(axis=-1, keepdims=True)).astype(np.float32).astype(x.dtype)
    return _normalise(np.exp(y - y.max(axis=-1, keepdims=True)))


def integer_logits(x):
    """Logits are truncated to integers."""
    y = np.trunc(x)
    return _normalise(np.exp(y - y.max(axis=-1, keepdims=True)))


def positive_logits_only(x):
    """Works with |x|, right only where no logit is negative."""
    y = np.abs(x)
    return _normalise(np.exp(y - y.max(axis=-1, keepdims=True)))


def squares(x):
    """Exponentiates x * x."""
    y = x * x
    return _normalise(np.exp(y - y.max(axis=-1, keepdims=True)))
