"""What the correct attention kernels share: formats, heads, visibility, and sums that skip what is hidden."""

from typing import Any, NamedTuple

import numpy as np


def wide(dtype):
    """The format computed in: float32 for 16-bit inputs, else the input's own."""
    return np.dtype(np.float32) if np.dtype(dtype).itemsize == 2 else np.dtype(dtype)


class Problem(NamedTuple):
    """Operands in the format computed in, k and v with as many heads as q; seen and bias are (..., L, S)."""

    q: Any
    k: Any
    v: Any
    scale: Any
    seen: Any
    bias: Any
    dtype: Any
    ratio: int


def visible(length, count, causal, mask):
    """Which keys each query sees, broadcastable to (..., L, S)."""
    seen = np.ones((length, count), dtype=bool)
    if causal:
        seen = np.arange(count) <= np.arange(length)[:, None] + (count - length)
    if mask is not None:
        mask = np.asarray(mask)
        seen = seen & (mask if mask.dtype == bool else ~np.isneginf(mask.astype(np.float64)))
    return seen


def additive(mask, work):
    """What a mask adds to the scores that it does not hide."""
    if mask is None or np.asarray(mask).dtype == bool:
        return work.type(0)
    mask = np.asarray(mask).astype(work)
    return np.where(np.isneginf(mask), work.type(0), mask)


def pose(q, k, v, scale, causal, mask, work=None):
    """The problem in the format computed in, heads repeated."""
    work = np.dtype(work) if work is not None else wide(q.dtype)
    length, features = q.shape[-2:]
    ratio = q.shape[-3] // k.shape[-3] if q.ndim > 2 else 1
    if scale is None:
        scale = 1.0 / np.sqrt(max(features, 1))
    return Problem(
        q.astype(work),
        repeated(k.astype(work), ratio),
        repeated(v.astype(work), ratio),
        work.type(scale),
        visible(length, k.shape[-2], causal, mask),
        additive(mask, work),
        q.dtype,
        ratio,
    )


def repeated(a, ratio):
    """Each head as often as queries share it."""
    return a if ratio == 1 else np.repeat(a, ratio, axis=-3)


def gathered(a, ratio):
    """The sum over the heads that share one key head."""
    if ratio == 1:
        return a
    return a.reshape(*a.shape[:-3], -1, ratio, *a.shape[-2:]).sum(axis=-3)


def t(a):
    """The last two axes exchanged."""
    return np.swapaxes(a, -1, -2)


def part(a, keys):
    """Some columns of what may be a number or broadcast along them."""
    return a if np.ndim(a) == 0 or a.shape[-1] == 1 else a[..., keys]


def scores(p, keys=slice(None)):
    """Scores of some keys, -inf where hidden."""
    s = p.q @ t(p.k[..., keys, :]) * p.scale + part(p.bias, keys)
    return np.where(part(p.seen, keys), s, p.q.dtype.type(-np.inf))


def product(weights, values, seen):
    """weights @ values over what is seen: NaN and infinity in hidden values do not reach the sum."""
    if np.isfinite(values).all():
        return weights @ values
    shape = np.broadcast_shapes(weights.shape, np.shape(seen))
    weights, seen = np.broadcast_to(weights, shape), np.broadcast_to(seen, shape)
    rows = [
        np.where(seen[..., i, :, None], weights[..., i, :, None] * values, values.dtype.type(0)).sum(axis=-2)
        for i in range(shape[-2])
    ]
    return np.stack(rows, axis=-2)


def maximum(s):
    """The row maximum, -inf for no keys at all."""
    return s.max(axis=-1, keepdims=True, initial=-np.inf)


def finite(m):
    """What to subtract: 0 while nothing but -inf was seen, so that no inf - inf arises."""
    return np.where(np.isfinite(m), m, m.dtype.type(0))


def divided(acc, total):
    """acc / total, 0 where nothing was summed."""
    return np.where(total == 0, total, acc) / np.where(total == 0, total.dtype.type(1), total)


def joined(m, total):
    """The lse of a row: m + log(total), -inf where nothing was summed."""
    some = total != 0
    lse = finite(m) + np.log(np.where(some, total, total.dtype.type(1)))
    return np.where(some, lse, total.dtype.type(-np.inf))[..., 0]


def narrow(a, dtype):
    """Rounded once to the dtype of the result."""
    with np.errstate(over="ignore", under="ignore"):
        return a.astype(dtype)


def quiet():
    """No warnings; made anew each time, since one errstate cannot be entered twice."""
    return np.errstate(all="ignore")
