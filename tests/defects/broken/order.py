"""Softmax kernels that break ties, order, limits, the choice axiom or permutation."""

import numpy as np


def _softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def ties_to_first(x):
    """The first of equal maxima takes the weight of all of them."""
    y = _softmax(x)
    top = x == x.max(axis=-1, keepdims=True)
    first = top & (np.cumsum(top, axis=-1) == 1)
    mass = np.where(top, y, 0).sum(axis=-1, keepdims=True)
    return np.where(first, mass, np.where(top, x.dtype.type(0), y)).astype(x.dtype)


def ties_change_sign(x):
    """Outputs at a tied maximum come out negative."""
    y = _softmax(x)
    top = x == x.max(axis=-1, keepdims=True)
    return np.where(top & (top.sum(axis=-1, keepdims=True) > 1), -y, y)


def one_hot_beyond_twenty(x):
    """A gap of 20 between the two largest gives exactly one-hot."""
    if x.shape[-1] < 2:
        return _softmax(x)
    two = np.sort(x, axis=-1)[..., -2:]
    peaked = (two[..., 1:] - two[..., :1]) > 20
    return np.where(peaked, (x == two[..., 1:]).astype(x.dtype), _softmax(x))


def argmin_at_the_limit(x):
    """Rows wider than 1000 put all mass on the minimum."""
    wide = (x.max(axis=-1, keepdims=True) - x.min(axis=-1, keepdims=True)) > 1000
    return np.where(wide, (x == x.min(axis=-1, keepdims=True)).astype(x.dtype), _softmax(x))


def hardmax_when_cold(x, axis=-1, beta=1.0):
    """Beta above 30 is taken for infinite."""
    if axis not in (-1, x.ndim - 1):
        return np.moveaxis(hardmax_when_cold(np.moveaxis(x, axis, -1), -1, beta), -1, axis)
    if beta <= 30:
        return _softmax(x * x.dtype.type(beta))
    top = (x == x.max(axis=-1, keepdims=True)).astype(x.dtype)
    return top / top.sum(axis=-1, keepdims=True)


def near_equal_swapped(x):
    """The two largest outputs change places when their logits are within 0.1."""
    if x.shape[-1] < 2:
        return _softmax(x)
    y = _softmax(x)
    order = np.argsort(x, axis=-1)
    a, b = order[..., -1:], order[..., -2:-1]
    close = np.take_along_axis(x, a, -1) - np.take_along_axis(x, b, -1) < 0.1
    ya, yb = np.take_along_axis(y, a, -1), np.take_along_axis(y, b, -1)
    np.put_along_axis(y, a, np.where(close, yb, ya), -1)
    np.put_along_axis(y, b, np.where(close, ya, yb), -1)
    return y


def position_bias(x):
    """Each position adds 1e-6 to its logit (a tie breaker left in)."""
    ramp = np.arange(x.shape[-1], dtype=x.dtype) * x.dtype.type(1e-6)
    return _softmax(x + ramp)


def last_position_favoured(x):
    """The last position of rows longer than 4 weighs 0.1 per cent more."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    if x.shape[-1] > 4:
        e[..., -1] *= x.dtype.type(1.001)
    return e / e.sum(axis=-1, keepdims=True)


def top_sixteen(x):
    """Only the sixteen largest logits keep probability."""
    y = _softmax(x)
    if x.shape[-1] <= 16:
        return y
    edge = np.partition(y, -16, axis=-1)[..., -16:-15]
    y = np.where(y < edge, x.dtype.type(0), y)
    return y / y.sum(axis=-1, keepdims=True)


def small_dropped_and_renormalised(x):
    """Probabilities below 1e-6 are dropped and the rest renormalised."""
    y = _softmax(x)
    y = np.where(y < 1e-6, x.dtype.type(0), y)
    return y / y.sum(axis=-1, keepdims=True)


def floor_of_1e10(x):
    """Every probability is at least 1e-10."""
    return np.maximum(_softmax(x), x.dtype.type(1e-10))


def label_smoothing_left_on(x):
    """A smoothing of 1e-4 toward uniform is left on."""
    return _softmax(x) * x.dtype.type(1 - 1e-4) + x.dtype.type(1e-4 / max(x.shape[-1], 1))


def two_classes_swapped(x):
    """The shortcut for two classes has the sign of its difference wrong."""
    if x.shape[-1] != 2:
        return _softmax(x)
    p = 1 / (1 + np.exp(x[..., 0] - x[..., 1]))
    return np.stack([1 - p, p], axis=-1)[..., ::-1].copy()


def two_classes_by_complement(x):
    """The second of two classes is 1 - p, which loses its small digits."""
    if x.shape[-1] != 2:
        return _softmax(x)
    p = _softmax(x)[..., :1]
    return np.concatenate([p, 1 - p], axis=-1)


def last_by_complement(x):
    """The last probability is 1 minus the others, so that the row sums to exactly one."""
    y = _softmax(x)
    y[..., -1] = 1 - y[..., :-1].sum(axis=-1)
    return y


def residue_on_the_largest(x):
    """Rows of more than 8 put 1e-5 of the mass back on the largest."""
    y = _softmax(x)
    if x.shape[-1] > 8:
        y = y * x.dtype.type(1 - 1e-5) + (x == x.max(axis=-1, keepdims=True)) * x.dtype.type(1e-5)
    return y.astype(x.dtype)


def sorted_and_left_sorted(x):
    """The row is sorted for a better sum and never put back."""
    return _softmax(np.sort(x, axis=-1))


def unsorted_by_the_same_order(x):
    """The inverse permutation is confused with the permutation."""
    order = np.argsort(x, axis=-1, kind="stable")
    y = _softmax(np.take_along_axis(x, order, -1))
    return np.take_along_axis(y, order, -1)


def rotated_by_one(x):
    """Outputs are shifted by one place in rows longer than 64."""
    y = _softmax(x)
    return np.roll(y, 1, axis=-1) if x.shape[-1] > 64 else y


def sparsemax(x):
    """The Euclidean projection to the simplex, another function."""
    z = np.sort(x, axis=-1)[..., ::-1]
    k = np.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    cumulative = np.cumsum(z, axis=-1) - 1
    support = (z * k > cumulative).sum(axis=-1, keepdims=True)
    tau = np.take_along_axis(cumulative, np.maximum(support - 1, 0), -1) / np.maximum(support, 1)
    return np.maximum(x - tau, 0).astype(x.dtype)


def uniform(x):
    """Always 1/n."""
    return np.full(x.shape, x.dtype.type(1) / max(x.shape[-1], 1), dtype=x.dtype)


def zeros(x, axis=-1):
    """Always 0."""
    return np.zeros_like(x)


def all_nan(x):
    """Always NaN, which a careless comparison calls equal."""
    return np.full_like(x, np.nan)


def linear(x):
    """Divides the shifted logits by their sum without exponentiating."""
    y = x - x.min(axis=-1, keepdims=True) + 1
    return y / y.sum(axis=-1, keepdims=True)


def minus_x(x):
    """softmax(-x): softmin."""
    return _softmax(-x)


def base_two(x):
    """2**x in place of exp(x)."""
    e = np.exp2(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
