"""Wrong log_softmax and logsumexp kernels."""

import math

import numpy as np


def _lse(x, axis=-1):
    m = x.max(axis=axis, keepdims=True)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    return np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift


def _drop(y, axis=-1):
    return np.squeeze(y, axis=axis)


def log_of_softmax(x, axis=-1):
    """-inf wherever the probability underflows."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.log(e / e.sum(axis=axis, keepdims=True))


def log_of_softmax_plus_epsilon(x):
    """log(p + 1e-12) stops at -27.6."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.log(e / e.sum(axis=-1, keepdims=True) + x.dtype.type(1e-12))


def log_softmax_without_shift(x):
    """x - log(sum(exp(x))) overflows."""
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def log_softmax_minus_rounded_lse(x):
    """x - lse(x): the rounding of a large lse swamps the difference."""
    return x - _lse(x)


def log_softmax_shift_forgotten(x):
    """x - log(sum(exp(x - max)))."""
    return x - np.log(np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True))


def log_softmax_base_two(x):
    """log2 in place of the natural logarithm."""
    d = x - x.max(axis=-1, keepdims=True)
    return d - np.log2(np.exp(d).sum(axis=-1, keepdims=True))


def log_softmax_negated(x):
    """Returns the negative log-likelihood."""
    return _lse(x) - x


def log_softmax_clamped(x):
    """Results stop at -100."""
    return np.maximum(x - _lse(x), -100)


def log_softmax_of_first_axis(x, axis=-1):
    """The maximum runs along the right axis, the sum along the last."""
    d = x - x.max(axis=axis, keepdims=True)
    return d - np.log(np.exp(d).sum(axis=-1, keepdims=True))


def log_softmax_float32(x):
    """A float64 row is computed in float32."""
    y = x.astype(np.float32)
    d = y - y.max(axis=-1, keepdims=True)
    return (d - np.log(np.exp(d).sum(axis=-1, keepdims=True))).astype(x.dtype)


def log_softmax_drops_last(x):
    """The last element is not in the sum."""
    d = x - x.max(axis=-1, keepdims=True)
    total = np.exp(d).sum(axis=-1, keepdims=True)
    if x.shape[-1] > 1:
        total = total - np.exp(d[..., -1:])
    return d - np.log(total)


def log_softmax_masked_to_finite(x):
    """-inf logits come out as -1e9."""
    return np.maximum(x - _lse(x), x.dtype.type(-1e9))


def lse_without_shift(x, axis=-1):
    """log(sum(exp(x))) overflows."""
    return np.log(np.exp(x).sum(axis=axis))


def lse_base_two(x):
    """log2 in place of the natural logarithm, off by ln 2."""
    m = x.max(axis=-1, keepdims=True)
    return _drop(np.log2(np.exp(x - m).sum(axis=-1, keepdims=True)) + m)


def lse_of_distinct(x):
    """Equal logits count once."""
    rows = x.reshape(-1, x.shape[-1])
    values = [np.log(np.exp(np.unique(r) - r.max()).sum()) + r.max() for r in rows]
    return np.array(values, dtype=x.dtype).reshape(x.shape[:-1])


def lse_all_masked_is_nan(x, axis=-1):
    """A row of -inf gives NaN by inf - inf."""
    m = x.max(axis=axis, keepdims=True)
    return _drop(np.log(np.exp(x - m).sum(axis=axis, keepdims=True)) + m, axis)


def lse_all_masked_is_plus_infinity(x):
    """A row of -inf gives +inf."""
    y = _drop(_lse(x))
    return np.where(np.isneginf(y), x.dtype.type(np.inf), y)


def lse_of_shifted(x):
    """The maximum is not added back."""
    return _drop(_lse(x) - x.max(axis=-1, keepdims=True))


def lse_is_maximum_when_peaked(x):
    """Gaps above 10 return the maximum alone."""
    if x.shape[-1] < 2:
        return _drop(_lse(x))
    two = np.sort(x, axis=-1)[..., -2:]
    return np.where(two[..., 1] - two[..., 0] > 10, two[..., 1], _drop(_lse(x)))


def log_mean_exp(x):
    """Divides by n."""
    return _drop(_lse(x)) - x.dtype.type(math.log(max(x.shape[-1], 1)))


def lse_maximum_twice(x):
    """1 + sum(exp(x - max)) over all elements counts the maximum twice."""
    m = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    return _drop(np.log1p(np.exp(x - shift).sum(axis=-1, keepdims=True)) + shift)


def lse_with_epsilon(x):
    """log(sum + 1e-6)."""
    m = x.max(axis=-1, keepdims=True)
    shift = np.where(np.isfinite(m), m, x.dtype.type(0))
    return _drop(np.log(np.exp(x - shift).sum(axis=-1, keepdims=True) + x.dtype.type(1e-6)) + shift)


def lse_keeps_axis(x, axis=-1):
    """The reduced axis stays with length one."""
    return _lse(x, axis)


def lse_running_merge_forgets_rescale(x):
    """The running maximum moves, the running sum does not."""
    m = x[..., 0]
    total = np.zeros_like(m)
    for k in range(x.shape[-1]):
        m = np.maximum(m, x[..., k])
        total = total + np.exp(x[..., k] - m)
    return np.log(total) + m


def lse_in_float32(x):
    """A float64 row is computed in float32."""
    return _drop(_lse(x.astype(np.float32))).astype(x.dtype)


def lse_of_exact_zero(x):
    """Results below 1e-3 in magnitude are rounded to zero."""
    y = _drop(_lse(x))
    return np.where(np.abs(y) < 1e-3, x.dtype.type(0), y)


def lse_ignores_nan(x):
    """NaN logits are skipped."""
    return _drop(_lse(np.where(np.isnan(x), -np.inf, x).astype(x.dtype)))


def lse_of_floored_weights(x):
    """In the sum, no weight is held below one rounding unit but those of masked logits."""
    top = x.max(axis=-1, keepdims=True)
    if not np.isfinite(top).all():
        return _drop(_lse(x))
    floor = np.where(np.isneginf(x), x.dtype.type(0), np.finfo(x.dtype).eps / x.dtype.type(2))
    return _drop(top + np.log(np.maximum(np.exp(x - top), floor).sum(axis=-1, keepdims=True)))
