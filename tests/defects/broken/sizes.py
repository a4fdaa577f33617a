"""Softmax kernels wrong for some number of rows, some length or some remainder only."""

import numpy as np

_rng = np.random.default_rng()


def _weights(x):
    work = np.float32 if x.dtype.itemsize == 2 else x.dtype
    y = x.astype(work)
    with np.errstate(all="ignore"):
        return np.exp(y - y.max(axis=-1, keepdims=True, initial=-np.inf))


def _divided(e, total, x):
    with np.errstate(all="ignore"):
        return (e / total).astype(x.dtype)


def _softmax(x):
    e = _weights(x)
    return _divided(e, e.sum(axis=-1, keepdims=True), x)


def remainder_17_of_32_behind_blocks(x):
    """The last of 17 elements behind whole blocks of 32 is not summed."""
    e = _weights(x)
    n = x.shape[-1]
    return _divided(e, e[..., : n - (n > 32 and n % 32 == 17)].sum(axis=-1, keepdims=True), x)


def rows_beyond_65535(x):
    """The rows are an axis of the grid that ends at 65535."""
    out = _softmax(x)
    if x.size:
        out.reshape(-1, x.shape[-1])[65535:] = 0
    return out


def row_number_of_16_bits(x):
    """The number of a row is a signed integer of 16 bits."""
    out = _softmax(x)
    if x.size:
        rows = out.reshape(-1, x.shape[-1])
        rows[32768:] = rows[: max(len(rows) - 32768, 0)]
    return out


def blocks_in_any_order(x):
    """Rows beyond 1024 are summed by several blocks, whose sums are added as they come."""
    e = _weights(x)
    if x.shape[-1] <= 1024:
        return _divided(e, e.sum(axis=-1, keepdims=True), x)
    starts = _rng.permutation(range(0, x.shape[-1], 256))
    return _divided(e, sum(e[..., k : k + 256].sum(axis=-1, keepdims=True) for k in starts), x)


def first_axis_1024_long(x, axis=-1):
    """The kernel for axes that are not the last sums 1024 elements."""
    e = _weights(np.moveaxis(x, axis, -1))
    last = axis % x.ndim == x.ndim - 1
    return np.moveaxis(_divided(e, e[..., : None if last else 1024].sum(axis=-1, keepdims=True), x), -1, axis)
