"""Sparsemax and entmax with one fault each."""

import numpy as np


def _parts(x, axis, step=1.0):
    z = np.moveaxis(x, axis, -1)
    return (z - z.max(axis=-1, keepdims=True, initial=-np.inf)) * x.dtype.type(step)


def _threshold(z, power, halvings=80):
    low, high = np.full_like(z[..., :1], -1), np.zeros_like(z[..., :1])
    for _ in range(halvings):
        middle = (low + high) / 2
        over = (np.maximum(z - middle, 0) ** power).sum(axis=-1, keepdims=True) >= 1
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return low


def _of(x, axis, alpha, threshold=_threshold, step=None):
    with np.errstate(all="ignore"):
        power = x.dtype.type(1 / (alpha - 1))
        z = _parts(x, axis, alpha - 1 if step is None else step)
        shares = np.maximum(z - threshold(z, power), 0) ** power
        return np.moveaxis(shares, -1, axis).astype(x.dtype)


def sparsemax_strict_support(x, axis=-1):
    """The support ends one logit early where there is more than one."""
    with np.errstate(all="ignore"):
        z = _parts(x, axis)
        ordered = np.flip(np.sort(z, axis=-1), axis=-1)
        sums = np.cumsum(ordered, axis=-1) - 1
        k = np.arange(1, z.shape[-1] + 1, dtype=z.dtype)
        size = np.maximum((k * ordered > sums).sum(axis=-1, keepdims=True) - 1, 1)
        if not z.shape[-1]:
            return x.copy()
        tau = np.take_along_axis(sums, size - 1, axis=-1) / size.astype(z.dtype)
        return np.moveaxis(np.maximum(z - tau, 0), -1, axis).astype(x.dtype)


def sparsemax_of_the_64_largest(x, axis=-1):
    """A partial sort that is never continued: more than 64 shares do not sum to 1."""

    def threshold(z, power):
        return _threshold(np.flip(np.sort(z, axis=-1), axis=-1)[..., :64], power)

    return _of(x, axis, 2.0, threshold)


def sparsemax_few_steps(x, axis=-1):
    """Twelve halvings: right to 1e-4."""
    return _of(x, axis, 2.0, lambda z, power: _threshold(z, power, 12))


def sparsemax_never_zero(x, axis=-1):
    """An epsilon against a division by 0 that nobody makes."""
    return _of(x, axis, 2.0) + x.dtype.type(1e-9)


def sparsemax_scaled(x, axis=-1):
    """The projection of half the logits."""
    return _of(x, axis, 2.0, step=0.5)


def entmax_unscaled(x, axis=-1, alpha=1.5):
    """alpha - 1 left out, as in the paper's first line of the derivation."""
    return _of(x, axis, alpha, step=1.0)


def entmax_always_15(x, axis=-1, alpha=1.5):
    """The order is taken and not looked at."""
    return _of(x, axis, 1.5)


def entmax_power_inverted(x, axis=-1, alpha=1.5):
    """alpha - 1 in place of its inverse: the same for order 2."""
    with np.errstate(all="ignore"):
        z, power = _parts(x, axis, alpha - 1), x.dtype.type(alpha - 1)
        shares = np.maximum(z - _threshold(z, power), 0) ** power
        return np.moveaxis(shares, -1, axis).astype(x.dtype)


def entmax_unshifted_threshold(x, axis=-1, alpha=1.5):
    """The bracket of tau is that of logits whose largest is 0, and the maximum is not taken from them."""
    with np.errstate(all="ignore"):
        z, power = np.moveaxis(x, axis, -1) * x.dtype.type(alpha - 1), x.dtype.type(1 / (alpha - 1))
        shares = np.maximum(z - _threshold(z, power), 0) ** power
        return np.moveaxis(shares, -1, axis).astype(x.dtype)


def sparsemax_gradient_of_softmax(y, dy, axis=-1):
    """The Jacobian diag(y) - y y^T."""
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


def sparsemax_gradient_mean_of_all(y, dy, axis=-1):
    """The mean of the whole cotangent in place of the support's."""
    return np.where(y > 0, dy - dy.mean(axis=axis, keepdims=True), 0).astype(y.dtype)


def sparsemax_gradient_outside(y, dy, axis=-1):
    """The mean is also taken from what is outside the support."""
    s = y > 0
    mean = np.where(s, dy, 0).sum(axis=axis, keepdims=True) / s.sum(axis=axis, keepdims=True)
    return (np.where(s, dy, 0) - mean).astype(y.dtype)


def entmax_gradient_squared(y, dy, axis=-1, alpha=1.5):
    """y in place of y^(2 - alpha)."""
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True) / y.sum(axis=axis, keepdims=True))


def entmax_gradient_not_normalised(y, dy, axis=-1, alpha=1.5):
    """The weights are not divided by their sum."""
    s = np.where(y > 0, y ** y.dtype.type(2 - alpha), 0).astype(y.dtype)
    return s * (dy - (s * dy).sum(axis=axis, keepdims=True))
