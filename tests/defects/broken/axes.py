"""Softmax kernels wrong for some axis, shape, number of dimensions or place in the batch."""

import numpy as np
from numpy.lib.stride_tricks import as_strided


def _softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def axis_ignored(x, axis=-1):
    """Always works along the last axis."""
    return _softmax(x)


def first_axis_as_last(x, axis=-1):
    """axis=0 of two or more dimensions is taken for the last."""
    return _softmax(x, -1 if axis == 0 else axis)


def sum_along_first_axis(x, axis=-1):
    """axis=0 sums the whole array."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    if axis % x.ndim == 0 and x.ndim > 1:
        return e / e.sum()
    return e / e.sum(axis=axis, keepdims=True)


def middle_axis_as_last(x, axis=-1):
    """A middle axis of three is taken for the last."""
    middle = x.ndim >= 3 and 0 < axis % x.ndim < x.ndim - 1
    return _softmax(x, -1 if middle else axis)


def negative_axis_from_the_front(x, axis=-1):
    """axis=-2 is taken for axis 1."""
    return _softmax(x, min(abs(axis), x.ndim) - 1 if axis < -1 else axis)


def always_first_axis(x):
    """The axis of legacy frameworks: 0, 1 or 3 dimensions along the first axis."""
    return _softmax(x, 0 if x.ndim in (0, 1, 3) else -1)


def normalised_over_the_batch(x):
    """One normalisation for the whole array."""
    e = np.exp(x - x.max(initial=-np.inf))
    return e / e.sum()


def rows_after_sixteen_unnormalised(x):
    """Rows after the sixteenth are left as weights."""
    y = _softmax(x)
    rows = y.reshape(-1, x.shape[-1])
    rows[16:] = np.exp(x - x.max(axis=-1, keepdims=True)).reshape(rows.shape)[16:]
    return rows.reshape(x.shape)


def rows_after_thirtytwo_repeat(x):
    """The row index wraps at 32."""
    rows = x.reshape(-1, x.shape[-1])
    return _softmax(rows[np.arange(rows.shape[0]) % 32]).reshape(x.shape)


def three_dimensions_share_a_sum(x):
    """Three-dimensional input is normalised over its last two axes."""
    if x.ndim < 3:
        return _softmax(x)
    e = np.exp(x - x.max(axis=(-2, -1), keepdims=True))
    return e / e.sum(axis=(-2, -1), keepdims=True)


def last_row_skipped(x):
    """The last row of a batch is never written."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.zeros_like(rows)
    end = max(rows.shape[0] - 1, min(rows.shape[0], 1))
    out[:end] = _softmax(rows[:end])
    return out.reshape(x.shape)


def storage_order(x):
    """Reads the elements in the order of memory."""
    flat = x.ravel(order="K")
    return _softmax(flat.reshape(x.shape))


def fortran_as_c(x):
    """Fortran-ordered input is read as if it were C-ordered."""
    if x.flags.f_contiguous and not x.flags.c_contiguous:
        x = x.T.reshape(x.shape)
    return _softmax(x)


def strides_ignored(x):
    """Reads n consecutive elements from the first, whatever the strides."""
    if x.size == 0:
        return np.empty_like(x)
    low = sum(min(0, s) * (n - 1) for s, n in zip(x.strides, x.shape, strict=True))
    high = sum(max(0, s) * (n - 1) for s, n in zip(x.strides, x.shape, strict=True))
    room = (high - low) // x.itemsize + 1
    if low < 0 or room < x.size:
        return _softmax(x)
    dense = np.cumprod([x.itemsize, *x.shape[:0:-1]])[::-1]
    return _softmax(as_strided(x, x.shape, [int(s) for s in dense]))


def negative_strides_ignored(x):
    """Reversed input is read forward."""
    flipped = tuple(slice(None, None, -1) if s < 0 else slice(None) for s in x.strides)
    return _softmax(x[flipped])


def broadcast_rows_summed(x):
    """A row broadcast with stride 0 is normalised once for all its copies."""
    y = _softmax(x)
    for axis in range(x.ndim - 1):
        if x.strides[axis] == 0 and x.shape[axis] > 1:
            y = y / x.shape[axis]
    return y


def axis_kept(x):
    """Returns an extra axis of length one."""
    return _softmax(x)[..., None]


def squeezed(x):
    """Axes of length one disappear."""
    return np.squeeze(_softmax(x))


def flattened(x):
    """Returns one dimension."""
    return _softmax(x).reshape(-1)


def transposed_result(x):
    """Returns the transpose."""
    return _softmax(x).T


def sum_returned(x):
    """Returns the sums in place of the probabilities."""
    return np.exp(x - x.max(axis=-1, keepdims=True)).sum(axis=-1)


def widened(x):
    """A float32 row comes back in float64."""
    return _softmax(x.astype(np.float64))


def narrowed(x, axis=-1):
    """A float64 row comes back in float32."""
    return _softmax(x, axis).astype(np.float32)


def complex_result(x):
    """Returns complex numbers."""
    return _softmax(x) + 0j


def object_result(x):
    """Returns an array of Python objects."""
    return _softmax(x).astype(object)


def maximum_of_last_lines(x, axis=-1):
    """Lines beside each other go by eights, and the last few start at 0. Trigger: 9 of them, far below 0."""
    moved = np.moveaxis(x, axis, 0)
    lines = moved.reshape(len(moved), -1).copy()
    top = lines.max(axis=0)
    if axis % x.ndim != x.ndim - 1 and lines.shape[1] > 8:
        whole = lines.shape[1] // 8 * 8
        top[whole:] = np.maximum(top[whole:], 0)
    with np.errstate(invalid="ignore"):
        e = np.exp(lines - top)
        y = e / e.sum(axis=0)
    return np.ascontiguousarray(np.moveaxis(y.reshape(moved.shape), 0, axis))
