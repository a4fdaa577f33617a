"""Softmax kernels whose beta (inverse temperature) is wrong."""

import numpy as np


def _softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def beta_ignored(x, axis=-1, beta=1.0):
    """Takes beta and does not use it."""
    return _softmax(x, axis)


def beta_twice(x, axis=-1, beta=1.0):
    """Applies beta before and after the shift."""
    y = x * x.dtype.type(beta)
    return _softmax((y - y.max(axis=axis, keepdims=True)) * x.dtype.type(beta), axis)


def beta_as_temperature(x, *, axis=-1, beta=1.0):
    """Divides by beta."""
    return _softmax(x / x.dtype.type(beta), axis)


def beta_in_half_precision(x, axis=-1, beta=1.0):
    """Rounds beta to float16."""
    return _softmax(x * x.dtype.type(np.float16(beta)), axis)


def beta_after_the_maximum(x, axis=-1, beta=1.0):
    """beta (x - max x): for negative beta the shift is the wrong end and overflows."""
    e = np.exp(x.dtype.type(beta) * (x - x.max(axis=axis, keepdims=True)))
    return e / e.sum(axis=axis, keepdims=True)


def beta_on_logits_only(x, axis=-1, beta=1.0):
    """beta x - max x: the shift is not scaled, and large rows overflow or vanish."""
    e = np.exp(x.dtype.type(beta) * x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def absolute_beta(x, axis=-1, beta=1.0):
    """The sign of beta is lost."""
    return _softmax(x * x.dtype.type(abs(beta)), axis)


def beta_fused_with_the_shift(x, axis=-1, beta=1.0):
    """exp(fma(x, beta, -max(beta x))), the maximum rounded: what rounding took off is exponentiated."""
    scaled = x * x.dtype.type(beta)
    top = np.where(np.isneginf(scaled.max(axis=axis, keepdims=True)), 0, scaled.max(axis=axis, keepdims=True))
    exact = x.astype(np.longdouble) * np.longdouble(x.dtype.type(beta)) - top
    e = np.exp(exact.astype(x.dtype))
    return e / e.sum(axis=axis, keepdims=True)


def beta_zero_is_not_given(x, axis=-1, beta=None):
    """beta = 0 is taken for no beta at all."""
    return _softmax(x * x.dtype.type(beta or 1.0), axis)


def coldest_temperature(x, axis=-1, beta=1.0):
    """A temperature is held at 10 at most, so beta of either sign stays away from 0."""
    return _softmax(x * x.dtype.type(np.copysign(max(abs(beta), 0.1), beta)), axis)
