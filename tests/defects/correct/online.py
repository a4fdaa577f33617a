"""Correct softmax kernels of one pass: running maximum and rescaled sum, alone, in blocks, merged."""

import numpy as np


def _guard(m):
    """The maximum to subtract: 0 while nothing but -inf was seen, so that no inf - inf arises."""
    return np.where(np.isneginf(m), m.dtype.type(0), m)


def _step(m, total, block):
    new = np.maximum(m, block.max(axis=-1, keepdims=True))
    safe = _guard(new)
    total = total * np.exp(m - safe) + np.exp(block - safe).sum(axis=-1, keepdims=True)
    return new, total


def _online(x, width, *, backwards=False):
    m = np.full_like(x[..., :1], -np.inf)
    total = np.zeros_like(m)
    starts = range(0, x.shape[-1], width)
    for k in reversed(starts) if backwards else starts:
        m, total = _step(m, total, x[..., k : k + width])
    return np.exp(x - m) / total


def element_by_element(x):
    """Milakov and Gimelshein's recurrence."""
    return _online(x, 1)


def blocks_of_seven(x):
    """Blocks that divide no usual length."""
    return _online(x, 7)


def blocks_of_64(x, axis=-1):
    """Blocks of 64 along any axis."""
    return np.moveaxis(_online(np.moveaxis(x, axis, -1), 64), -1, axis)


def blocks_backwards(x):
    """Blocks of 32 from the last to the first."""
    return _online(x, 32, backwards=True)


def rescaled_when_needed(x):
    """The reference point moves only when the maximum has grown by more than 8."""
    m = np.full_like(x[..., :1], -np.inf)
    total = np.zeros_like(m)
    for k in range(0, x.shape[-1], 16):
        block = x[..., k : k + 16]
        own = np.maximum(m, block.max(axis=-1, keepdims=True))
        new = np.where(own > m + 8, own, np.where(np.isnan(own), own, m))
        safe = _guard(new)
        total = total * np.exp(m - safe) + np.exp(block - safe).sum(axis=-1, keepdims=True)
        m = new
    top = x.max(axis=-1, keepdims=True)
    # the reference point may lie 8 below the maximum, so that both factors stay in range
    return (np.exp(x - top) / (total * np.exp(_guard(m) - top))).astype(x.dtype)


def two_halves_merged(x):
    """Two halves with their own (maximum, sum), merged at the end."""
    half = (x.shape[-1] + 1) // 2
    m, total = _step(np.full_like(x[..., :1], -np.inf), np.zeros_like(x[..., :1]), x[..., :half])
    if half < x.shape[-1]:
        rest = x[..., half:]
        own = rest.max(axis=-1, keepdims=True)
        part = np.exp(rest - _guard(own)).sum(axis=-1, keepdims=True)
        new = np.maximum(m, own)
        safe = _guard(new)
        total = total * np.exp(m - safe) + part * np.exp(own - safe)
        m = new
    return np.exp(x - m) / total


def pairs_merged_in_a_tree(x):
    """(maximum, sum) of single elements merged as a balanced tree."""
    m, total = x, np.ones_like(x)
    total = np.where(np.isneginf(x), x.dtype.type(0), total)
    while m.shape[-1] > 1:
        if m.shape[-1] % 2:
            m = np.concatenate([m, np.full_like(m[..., :1], -np.inf)], axis=-1)
            total = np.concatenate([total, np.zeros_like(total[..., :1])], axis=-1)
        new = np.maximum(m[..., ::2], m[..., 1::2])
        safe = _guard(new)
        total = total[..., ::2] * np.exp(m[..., ::2] - safe) + total[..., 1::2] * np.exp(m[..., 1::2] - safe)
        m = new
    return np.exp(x - m) / total


def lse_online(x):
    """logsumexp by the recurrence in blocks of 16."""
    m = np.full_like(x[..., :1], -np.inf)
    total = np.zeros_like(m)
    for k in range(0, x.shape[-1], 16):
        block = x[..., k : k + 16]
        new = np.maximum(m, block.max(axis=-1, keepdims=True))
        safe = np.where(np.isfinite(new), new, x.dtype.type(0))
        total = np.where(np.isneginf(m), x.dtype.type(0), total * np.exp(m - safe))
        total = total + np.exp(block - safe).sum(axis=-1, keepdims=True)
        m = new
    return np.where(np.isposinf(m), m, np.log(total) + np.where(np.isfinite(m), m, 0)).astype(x.dtype)[..., 0]
