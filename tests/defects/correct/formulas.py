"""Correct softmax kernels by other formulas: base two, exp(x - lse), two classes, beta."""

import numpy as np

_LOG2E = 1.4426950408889634


def base_two_after_shift(x):
    """exp2((x - max) log2(e))."""
    e = np.exp2((x - x.max(axis=-1, keepdims=True)) * x.dtype.type(_LOG2E))
    return e / e.sum(axis=-1, keepdims=True)


def base_two_in_two_parts(x):
    """log2(e) in a high and a low part."""
    d = x - x.max(axis=-1, keepdims=True)
    high = x.dtype.type(np.float16(_LOG2E))
    low = x.dtype.type(_LOG2E - float(high))
    e = np.exp2(d * high + d * low)
    return e / e.sum(axis=-1, keepdims=True)


def log_of_sum_subtracted(x):
    """exp(x - max - log(sum)), without a division."""
    d = x - x.max(axis=-1, keepdims=True)
    return np.exp(d - np.log(np.exp(d).sum(axis=-1, keepdims=True)))


def exp_of_x_minus_lse(x, axis=-1):
    """exp(x - lse) with a shifted lse, as backward kernels rebuild the weights."""
    m = x.max(axis=axis, keepdims=True)
    lse = np.log(np.exp(x - m).sum(axis=axis, keepdims=True)) + m
    return np.exp(x - lse)


def two_classes_logistic(x):
    """Two classes by the logistic function of both signs of the difference."""
    if x.shape[-1] != 2:
        return base_two_after_shift(x)
    d = x[..., ::-1] - x
    with np.errstate(over="ignore"):
        grown = np.exp(-np.abs(d))
    return np.where(d > 0, grown / (1 + grown), 1 / (1 + grown))


def two_classes_tanh(x):
    """Two classes near a tie by tanh, elsewhere by the exponential."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    if x.shape[-1] != 2:
        return y
    d = x - x[..., ::-1]
    return np.where(np.abs(d) < 1, x.dtype.type(0.5) + x.dtype.type(0.5) * np.tanh(d / 2), y)


def with_beta(x, axis=-1, beta=1.0):
    """An inverse temperature applied in float64."""
    y = x.astype(np.float64) * beta
    e = np.exp(y - y.max(axis=axis, keepdims=True))
    return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype)


def with_beta_after_shift(x, axis=-1, beta=1.0):
    """beta times the distance from the end of the row that wins."""
    wide = x.astype(np.longdouble)
    top = wide.max(axis=axis, keepdims=True) if beta >= 0 else wide.min(axis=axis, keepdims=True)
    e = np.exp((wide - top) * np.longdouble(beta))
    return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype)


def infinity_handled_by_name(x):
    """+inf and NaN rows are answered with NaN before anything is computed."""
    bad = np.isnan(x).any(axis=-1, keepdims=True) | np.isposinf(x).any(axis=-1, keepdims=True)
    y = np.where(bad, x.dtype.type(0), x)
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    return np.where(bad, x.dtype.type(np.nan), e / e.sum(axis=-1, keepdims=True))


def all_masked_to_nan(x):
    """-inf rows by an explicit test, the others with a finite stand-in for -inf."""
    masked = np.isneginf(x)
    e = np.exp(np.where(masked, x.dtype.type(0), x - x.max(axis=-1, keepdims=True)))
    e = np.where(masked, x.dtype.type(0), e)
    with np.errstate(invalid="ignore"):
        return e / e.sum(axis=-1, keepdims=True)


def power_of_e(x):
    """np.power of the constant in long double."""
    e = np.power(np.exp(np.longdouble(1)), (x - x.max(axis=-1, keepdims=True)).astype(np.longdouble))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)


def expm1_series(x):
    """1 / sum(exp(x_j - x_i)), each output by its own differences."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for row, o in zip(rows, out, strict=True):
        if row.shape[0] > 128:
            wide = row.astype(np.longdouble)
            e = np.exp(wide - wide.max())
            o[:] = e / e.sum()
        else:
            masked = np.isneginf(row)
            differences = np.subtract.outer(row, row).astype(np.longdouble).T
            o[:] = 1 / np.exp(differences).sum(axis=1)
            o[masked] = 0 if not masked.all() and not np.isnan(row).any() else np.nan
    return out.reshape(x.shape)
