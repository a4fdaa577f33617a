"""Correct softmax kernels whose results lie unusually in memory, or that treat the batch unusually."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np


def softmax(x, axis=-1):
    """The plain kernel that the others lay out anew."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def fortran_order(x, axis=-1):
    """The result in Fortran order."""
    return np.asfortranarray(softmax(x, axis))


def strided_result(x):
    """The result is every second element of a buffer."""
    buffer = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, dtype=x.dtype)
    buffer[..., ::2] = softmax(x)
    return buffer[..., ::2]


def reversed_result(x):
    """The result has a negative stride."""
    return softmax(x[..., ::-1])[..., ::-1]


def read_only_result(x):
    """The result may not be written."""
    y = softmax(x)
    y.flags.writeable = False
    return y


def list_of_floats(x):
    """Nested lists of Python floats."""
    return softmax(x).tolist()


def list_of_rows(x):
    """A list of arrays, or of scalars for one dimension."""
    return list(softmax(x))


def copies_defensively(x):
    """Works on a copy, returns a copy."""
    y = np.array(x, order="C", copy=True)
    y -= y.max(axis=-1, keepdims=True)
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y.copy()


def row_by_row(x):
    """One row at a time into a buffer made for all."""
    rows = x.reshape(-1, x.shape[-1])
    out = np.empty_like(rows)
    for k, row in enumerate(rows):
        out[k] = softmax(row)
    return out.reshape(x.shape)


def chunks_of_three_rows(x):
    """Three rows at a time."""
    rows = x.reshape(-1, x.shape[-1])
    parts = [softmax(rows[k : k + 3]) for k in range(0, rows.shape[0], 3)]
    return np.concatenate([np.empty((0, x.shape[-1]), x.dtype), *parts]).reshape(x.shape)


def threads(x):
    """Rows are shared out to two threads."""
    rows = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    out = np.empty_like(rows)

    def work(part):
        out[part] = softmax(rows[part])

    middle = rows.shape[0] // 2
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [slice(0, middle), slice(middle, None)]))
    return out.reshape(x.shape)


def axis_moved(x, axis=-1):
    """The axis moves to the end, the rows become a matrix, and all comes back."""
    y = np.moveaxis(x, axis, -1)
    rows = softmax(y.reshape(-1, y.shape[-1]))
    return np.moveaxis(rows.reshape(y.shape), -1, axis)


def apply_along_axis(x, axis=-1):
    """np.apply_along_axis, which refuses an empty batch."""
    return np.apply_along_axis(softmax, axis, x) if x.size else np.empty_like(x)


def vectorized(x):
    """np.vectorize with a signature."""
    return np.vectorize(softmax, signature="(n)->(n)", otypes=[x.dtype])(x) if x.size else np.empty_like(x)


def one_row_only(x):
    """Takes one dimension and refuses more."""
    if x.ndim != 1:
        raise ValueError("expected one row")
    return softmax(x)


def prints_progress(x):
    """Talks on the standard output."""
    print("softmax", x.shape)  # noqa: T201 - the chatter is the point
    return softmax(x)


_POOL = {}


def pooled_workspace(x):
    """A workspace is kept between calls, the result is not part of it."""
    work = _POOL.setdefault((x.shape, x.dtype.str), np.empty(x.shape, x.dtype))
    np.subtract(x, x.max(axis=-1, keepdims=True), out=work)
    np.exp(work, out=work)
    return work / work.sum(axis=-1, keepdims=True)


class _Kernel:
    """An object that is called."""

    def __call__(self, x, axis=-1):
        return softmax(x, axis)


callable_object = _Kernel()
