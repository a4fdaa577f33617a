"""Correct cross-entropy and gradients in forms that other people write."""

import numpy as np


def _rows(x, target, axis, ignore_index):
    z = np.moveaxis(x, axis, -1)
    ignored = target == ignore_index
    return z, np.where(ignored, 0, target)[..., None], ignored


def loss_from_lse(x, target, axis=-1, ignore_index=-100):
    """lse - x_t, as Optax and the fused kernels of large vocabularies do; no smoothing, no z-loss."""
    z, own, ignored = _rows(x, target, axis, ignore_index)
    with np.errstate(all="ignore"):
        top = z.max(axis=-1, keepdims=True)
        pivot = np.where(np.isfinite(top), top, 0)
        lse = np.log(np.exp(z - pivot).sum(axis=-1)) + pivot[..., 0]
        loss = lse - np.take_along_axis(z, own, axis=-1)[..., 0]
        return np.where(ignored, 0, loss).astype(x.dtype)


def loss_online(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
    """One pass over the classes, the sum rescaled as the maximum grows."""
    z, own, ignored = _rows(x, target, axis, ignore_index)
    n = z.shape[-1]
    with np.errstate(all="ignore"):
        top, total = np.full(z.shape[:-1], -np.inf, x.dtype), np.zeros(z.shape[:-1], x.dtype)
        summed = np.zeros(z.shape[:-1], x.dtype)
        for j in range(n):
            raised = np.where(np.isnan(z[..., j]) | np.isnan(top), np.nan, np.maximum(top, z[..., j]))
            scale = np.where(top == raised, 1, np.exp(top - raised))
            total = total * scale + np.where(z[..., j] == -np.inf, 0, np.exp(z[..., j] - raised))
            summed, top = summed + z[..., j] / x.dtype.type(n), raised
        log_total = np.log(total)
        plain = top - np.take_along_axis(z, own, axis=-1)[..., 0] + log_total
        loss = x.dtype.type(1 - label_smoothing) * plain if label_smoothing < 1 else np.zeros_like(plain)
        if label_smoothing:
            loss = loss + x.dtype.type(label_smoothing) * (top - summed + log_total)
        if z_loss:
            loss = loss + x.dtype.type(z_loss) * (top + log_total) ** 2
        return np.where(ignored, 0, loss).astype(x.dtype)


def loss_of_one_hot_vectors(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100):
    """The product with a smoothed one-hot vector, where a class of probability 0 without a weight adds 0."""
    z, own, ignored = _rows(x, target, axis, ignore_index)
    with np.errstate(all="ignore"):
        shifted = z - z.max(axis=-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        weights = (
            np.where(np.arange(z.shape[-1]) == own, 1 - label_smoothing, 0) + label_smoothing / z.shape[-1]
        )
        terms = np.where(weights > 0, weights.astype(x.dtype) * log_p, 0)
        whole = np.where(np.isnan(log_p).any(axis=-1), np.nan, -terms.sum(axis=-1, dtype=x.dtype))
        return np.where(ignored, 0, whole).astype(x.dtype)


def gradient_from_log_probabilities(
    x, target, dloss, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0
):
    """exp(log p), with the weights taken from it, as autograd does."""
    z, own, ignored = _rows(x, target, axis, ignore_index)
    dtype = x.dtype.type
    with np.errstate(all="ignore"):
        top = z.max(axis=-1, keepdims=True)
        log_total = np.log(np.exp(z - top).sum(axis=-1, keepdims=True))
        p = np.exp(z - top - log_total)
        if z_loss:
            p = p * (1 + dtype(2 * z_loss) * (top + log_total))
        p = p - dtype(label_smoothing / z.shape[-1]) if label_smoothing else p
        slopes = np.where(np.arange(z.shape[-1]) == own, p - dtype(1 - label_smoothing), p) * dloss[..., None]
        return np.moveaxis(np.where(ignored[..., None], 0, slopes).astype(x.dtype), -1, axis)


def gradient_in_place(x, target, dloss, axis=-1, ignore_index=-100):
    """softmax, of which 1 is taken at the targets one by one; no smoothing, no z-loss."""
    z, own, ignored = _rows(x, target, axis, ignore_index)
    with np.errstate(all="ignore"):
        terms = np.exp(z - z.max(axis=-1, keepdims=True))
        p = terms / terms.sum(axis=-1, keepdims=True)
        for place in np.ndindex(target.shape):
            p[(*place, own[(*place, 0)])] -= 1
        slopes = p * dloss[..., None]
        slopes[ignored] = 0
        return np.moveaxis(slopes.astype(x.dtype), -1, axis)
