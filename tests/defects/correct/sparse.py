"""Correct sparsemax and entmax in forms that other people write."""

import numpy as np


def _moved(x, axis):
    return np.moveaxis(x, axis, -1)


def sparsemax_sorted(x, axis=-1):
    """Martins & Astudillo's algorithm 1, the maximum not subtracted."""
    z = _moved(x, axis)
    if z.shape[-1] == 0:
        return x.copy()
    ordered = np.flip(np.sort(z, axis=-1), axis=-1)
    sums = np.cumsum(ordered, axis=-1)
    k = np.arange(1, z.shape[-1] + 1, dtype=z.dtype)
    size = np.count_nonzero(1 + k * ordered > sums, axis=-1)
    last = np.maximum(size, 1)[..., None] - 1
    tau = (np.take_along_axis(sums, last, axis=-1) - 1) / (last + 1).astype(z.dtype)
    tau = np.where(np.isfinite(z).any(axis=-1, keepdims=True), tau, np.nan)
    tau = np.where(
        np.isnan(z).any(axis=-1, keepdims=True) | (z == np.inf).any(axis=-1, keepdims=True), np.nan, tau
    )
    return np.moveaxis(np.maximum(z - tau, z.dtype.type(0)), -1, axis)


def sparsemax_michelot(x, axis=-1):
    """Project onto the plane, leave out what is negative, until nothing is."""
    z = _moved(x, axis)
    with np.errstate(all="ignore"):
        z = z - z.max(axis=-1, keepdims=True, initial=-np.inf)
        z = np.where(z < -2, z.dtype.type(-2), z)
        kept = np.ones_like(z, dtype=bool)
        for _ in range(z.shape[-1] + 1):
            count = kept.sum(axis=-1, keepdims=True).astype(z.dtype)
            tau = (np.where(kept, z, 0).sum(axis=-1, keepdims=True, dtype=z.dtype) - 1) / count
            fewer = kept & (z > tau)
            if (fewer == kept).all():
                break
            kept = fewer
        shares = np.maximum(z - tau, z.dtype.type(0)) if z.shape[-1] else z
        return np.moveaxis(
            np.where(np.isnan(z).any(axis=-1, keepdims=True), np.nan, shares).astype(x.dtype), -1, axis
        )


def entmax15_sorted(x, axis=-1):
    """The closed form of order 1.5, as the paper's algorithm 2 has it."""
    z = _moved(x, axis)
    if z.shape[-1] == 0:
        return x.copy()
    with np.errstate(all="ignore"):
        z = (z - z.max(axis=-1, keepdims=True)) / 2
        ordered = np.flip(np.sort(z, axis=-1), axis=-1)
        ordered = np.where(ordered > -2, ordered, z.dtype.type(-2))
        k = np.arange(1, z.shape[-1] + 1, dtype=z.dtype)
        mean = np.cumsum(ordered, axis=-1) / k
        variation = k * (np.cumsum(ordered**2, axis=-1) / k - mean**2)
        tau = mean - np.sqrt(np.maximum((1 - variation) / k, 0))
        size = np.count_nonzero(tau <= ordered, axis=-1)
        chosen = np.take_along_axis(tau, np.maximum(size, 1)[..., None] - 1, axis=-1)
        return np.moveaxis(np.maximum(z - chosen, z.dtype.type(0)) ** 2, -1, axis)


def entmax_newton(x, axis=-1, alpha=1.5):
    """Newton's steps from the left, where the sum is convex, for orders up to 2, halving beyond."""
    z = _moved(x, axis)
    if z.shape[-1] == 0:
        return x.copy()
    dtype = x.dtype.type
    with np.errstate(all="ignore"):
        step, power = dtype(alpha - 1), dtype(1 / (alpha - 1))
        z = (z - z.max(axis=-1, keepdims=True)) * step
        tau = np.full_like(z[..., :1], -1)
        if alpha <= 2:
            for _ in range(200):
                base = np.maximum(z - tau, dtype(0))
                excess = (base**power).sum(axis=-1, keepdims=True) - 1
                slope = power * np.where(base > 0, base ** (power - 1), 0).sum(axis=-1, keepdims=True)
                tau = tau + np.maximum(excess, 0) / slope
        else:
            high = np.zeros_like(tau)
            for _ in range(80):
                middle = (tau + high) / 2
                over = (np.maximum(z - middle, dtype(0)) ** power).sum(axis=-1, keepdims=True) >= 1
                tau, high = np.where(over, middle, tau), np.where(over, high, middle)
        shares = np.maximum(z - tau, dtype(0)) ** power
        return np.moveaxis(shares / shares.sum(axis=-1, keepdims=True), -1, axis).astype(x.dtype)


def sparsemax_gradient(y, dy, axis=-1):
    """diag(s) - s s^T / |S| as a product of vectors."""
    s = (y > 0).astype(y.dtype)
    return s * dy - s * ((s * dy).sum(axis=axis, keepdims=True) / s.sum(axis=axis, keepdims=True))


def entmax15_gradient(y, dy, axis=-1):
    """Of order 1.5 alone: the weights are square roots."""
    s = np.sqrt(y)
    return s * (dy - (s * dy).sum(axis=axis, keepdims=True) / s.sum(axis=axis, keepdims=True))
