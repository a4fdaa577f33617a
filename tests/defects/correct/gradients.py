"""Correct vector-Jacobian and Jacobian-vector products of softmax."""

import math

import numpy as np


def textbook(y, dy, axis=-1):
    """y (dy - sum(y dy))."""
    return y * (dy - (y * dy).sum(axis=axis, keepdims=True))


def distributed(y, dy):
    """y dy - y sum(y dy)."""
    product = y * dy
    return product - y * product.sum(axis=-1, keepdims=True)


def by_matrix(y, dy):
    """The Jacobian as a matrix, in blocks of rows."""
    rows, tangents = y.reshape(-1, y.shape[-1]), dy.reshape(-1, y.shape[-1])
    out = np.empty_like(rows)
    for p, t, o in zip(rows, tangents, out, strict=True):
        if p.shape[0] > 512:
            o[:] = textbook(p, t)
        else:
            o[:] = (np.diag(p) - np.outer(p, p)) @ t
    return out.reshape(y.shape)


def by_einsum(y, dy):
    """The sum as an einsum."""
    return y * dy - np.einsum("...i,...j,...j->...i", y, y, dy, optimize=["einsum_path", (1, 2), (0, 1)])


def with_fsum(y, dy):
    """The sum of the rounded products rounded once."""
    product = (y * dy).reshape(-1, y.shape[-1])
    total = np.array([math.fsum(row) for row in product.tolist()], dtype=y.dtype)
    return y * (dy - total.reshape(*y.shape[:-1], 1))


def wide(y, dy, axis=-1):
    """In long double, rounded once."""
    a, b = y.astype(np.longdouble), dy.astype(np.longdouble)
    return (a * (b - (a * b).sum(axis=axis, keepdims=True))).astype(y.dtype)


def in_two_steps(y, dy):
    """The sum in float64, the rest in the format of the row."""
    total = np.einsum("...i,...i->...", y.astype(np.float64), dy.astype(np.float64))
    return y * (dy - total[..., None].astype(y.dtype))


def jvp_textbook(y, dx, axis=-1):
    """The Jacobian is symmetric."""
    return y * (dx - (y * dx).sum(axis=axis, keepdims=True))


def jvp_keyword_only(y, dx, *, axis=-1):
    """The axis by keyword only, the result in Fortran order."""
    return np.asfortranarray(textbook(y, dx, axis))


def jvp_loop(y, dx):
    """Pure Python."""

    def one(p, t):
        s = math.fsum(a * b for a, b in zip(p, t, strict=True))
        return [a * (b - s) for a, b in zip(p, t, strict=True)]

    rows, tangents = y.reshape(-1, y.shape[-1]).tolist(), dx.reshape(-1, y.shape[-1]).tolist()
    return np.array([one(p, t) for p, t in zip(rows, tangents, strict=True)], dtype=y.dtype).reshape(y.shape)
