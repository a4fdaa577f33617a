"""Correct softmax kernels that add the weights in unusual orders and precisions."""

import math

import numpy as np


def _weights(x):
    return np.exp(x - x.max(axis=-1, keepdims=True))


def three_pass(x, axis=-1):
    """Maximum, sum, division."""
    m = np.max(x, axis=axis, keepdims=True)
    total = np.sum(np.exp(x - m), axis=axis, keepdims=True)
    return np.exp(x - m) / total


def whole_array_default(x, axis=None):
    """SciPy's shape of signature: axis=None is the whole array."""
    e = np.exp(x - np.amax(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def keyword_only_axis(x, *, axis=-1):
    """The axis by keyword only."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    e /= e.sum(axis=axis, keepdims=True)
    return e


def names_it_dim(x, dim=-1):
    """The axis is called dim."""
    return three_pass(x, dim)


def sequential(x):
    """One addition after the other."""
    e = _weights(x)
    return e / np.add.accumulate(e, axis=-1)[..., -1:]


def reversed_scan(x):
    """From the last element to the first."""
    e = _weights(x)
    return e / np.add.accumulate(e[..., ::-1], axis=-1)[..., -1:]


def tree(x):
    """Neighbours in pairs, level by level."""
    e = _weights(x)
    s = e
    while s.shape[-1] > 1:
        if s.shape[-1] % 2:
            s = np.concatenate([s, np.zeros_like(s[..., :1])], axis=-1)
        s = s[..., ::2] + s[..., 1::2]
    return e / s


def eight_lanes(x):
    """Eight running sums, as vector registers keep them."""
    e = _weights(x)
    padded = np.concatenate([e, np.zeros((*e.shape[:-1], -e.shape[-1] % 8), dtype=e.dtype)], axis=-1)
    lanes = np.add.accumulate(padded.reshape(*e.shape[:-1], padded.shape[-1] // 8, 8), axis=-2)[..., -1, :]
    return e / lanes.sum(axis=-1, keepdims=True)


def ascending(x):
    """Smallest weights first."""
    e = _weights(x)
    return e / np.add.accumulate(np.sort(e, axis=-1), axis=-1)[..., -1:]


def descending(x):
    """Largest weights first, the worst order for rounding."""
    e = _weights(x)
    return e / np.add.accumulate(np.sort(e, axis=-1)[..., ::-1], axis=-1)[..., -1:]


def kahan(x):
    """Kahan's compensated sum."""
    e = _weights(x)
    total = np.zeros_like(e[..., 0])
    lost = np.zeros_like(total)
    for k in range(e.shape[-1]):
        term = e[..., k] - lost
        new = total + term
        lost = (new - total) - term
        total = new
    return e / total[..., None]


def neumaier(x):
    """Neumaier's compensated sum."""
    e = _weights(x)
    total = np.zeros_like(e[..., 0])
    lost = np.zeros_like(total)
    for k in range(e.shape[-1]):
        term = e[..., k]
        new = total + term
        lost = lost + np.where(np.abs(total) >= np.abs(term), (total - new) + term, (term - new) + total)
        total = new
    return e / (total + lost)[..., None]


def fsum(x):
    """math.fsum, the sum rounded once."""
    e = _weights(x)
    rows = e.reshape(-1, e.shape[-1])
    total = np.array([math.fsum(row.tolist()) for row in rows], dtype=x.dtype)
    return e / total.reshape(*e.shape[:-1], 1)


def double_inside(x):
    """Everything in float64, rounded once at the end."""
    y = x.astype(np.float64)
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)


def long_double_inside(x, axis=-1):
    """Everything in extended precision, rounded once at the end."""
    y = x.astype(np.longdouble)
    e = np.exp(y - y.max(axis=axis, keepdims=True))
    return (e / e.sum(axis=axis, keepdims=True)).astype(x.dtype)


def sum_by_einsum(x):
    """The sum as an einsum."""
    e = _weights(x)
    return np.einsum("...i,...->...i", e, 1 / np.einsum("...i->...", e))


def sum_by_matmul(x):
    """The sum as a product with ones (no such product is taken over NaN rows of other batches)."""
    e = _weights(x)
    return e / (e @ np.ones((e.shape[-1], 1), dtype=e.dtype))


def multiplied_by_reciprocal(x):
    """One division a row."""
    e = _weights(x)
    return e * (1 / e.sum(axis=-1, keepdims=True))


def distinct_values_gathered(x):
    """One exponential for each distinct logit, gathered back, ties counted by their multiplicity."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for row, o in zip(rows, out, strict=True):
        if np.isnan(row).any():
            o[:] = np.nan
            continue
        values, place, counts = np.unique(row, return_inverse=True, return_counts=True)
        e = np.exp(values - values[-1])
        o[:] = (e / (e * counts.astype(e.dtype)).sum())[place.reshape(-1)]
    return out.reshape(x.shape)


def half_input_single_sum(x):
    """Sixteen-bit rows in float32 throughout."""
    y = x.astype(np.float32)
    e = np.exp(y - y.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(x.dtype)
