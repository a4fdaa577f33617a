"""Wrong vector-Jacobian and Jacobian-vector products of softmax."""

import numpy as np


def _dot(a, b, axis=-1):
    return (a * b).sum(axis=axis, keepdims=True)


def vjp_without_sum(y, dy):
    """Only y * dy."""
    return y * dy


def vjp_sum_of_dy(y, dy):
    """The sum lacks its weights y."""
    return y * (dy - dy.sum(axis=-1, keepdims=True))


def vjp_mean_for_sum(y, dy, axis=-1):
    """mean(y dy) in place of the sum."""
    return y * (dy - (y * dy).mean(axis=axis, keepdims=True))


def vjp_wrong_axis(y, dy, axis=-1):
    """Sums along the first axis."""
    return y * (dy - _dot(y, dy, 0))


def vjp_unsymmetric(y, dy):
    """Takes diag(y) - 1 y^T for the Jacobian."""
    return y * dy - _dot(y, dy)


def vjp_sign(y, dy, axis=-1):
    """The sign of the sum is wrong."""
    return y * (dy + _dot(y, dy, axis))


def vjp_negated(y, dy):
    """The whole gradient has the wrong sign."""
    return y * (_dot(y, dy) - dy)


def vjp_last_by_complement(y, dy):
    """The last probability is taken as 1 minus the others."""
    z = y.copy()
    z[..., -1] = 1 - y[..., :-1].sum(axis=-1)
    return z * (dy - _dot(z, dy))


def vjp_renormalised(y, dy):
    """Divides the weighted sum by n times the mean of y, in float16."""
    total = y.sum(axis=-1, keepdims=True).astype(np.float16).astype(y.dtype)
    return y * (dy - _dot(y, dy) / total * y.dtype.type(1 + 1e-5))


def vjp_float32_sum(y, dy, axis=-1):
    """The sum of a float64 row is kept in float32."""
    total = (y * dy).sum(axis=axis, keepdims=True, dtype=np.float32).astype(y.dtype)
    return y * (dy - total)


def vjp_float16_sum(y, dy):
    """The sum is kept in float16."""
    total = np.add.accumulate((y * dy).astype(np.float16), axis=-1)[..., -1:].astype(y.dtype)
    return y * (dy - total)


def vjp_drops_last(y, dy):
    """The last element is not in the sum."""
    return y * (dy - _dot(y[..., :-1], dy[..., :-1]))


def vjp_tail_of_eight(y, dy):
    """The remainder of blocks of eight is not in the sum."""
    n = y.shape[-1]
    end = n - n % 8 if n >= 8 else n
    return y * (dy - _dot(y[..., :end], dy[..., :end]))


def vjp_y_once(y, dy):
    """Lacks the factor y."""
    return dy - _dot(y, dy)


def vjp_y_squared(y, dy):
    """The factor y is applied twice to the sum."""
    return y * (dy - y * _dot(y, dy))


def vjp_sigmoid(y, dy):
    """The derivative of the logistic function for each element."""
    return y * (1 - y) * dy


def vjp_clipped(y, dy):
    """Gradients are clipped to [-1, 1]."""
    return np.clip(y * (dy - _dot(y, dy)), -1, 1)


def vjp_scaled(y, dy):
    """0.1 per cent too large."""
    return y * (dy - _dot(y, dy)) * y.dtype.type(1.001)


def vjp_epsilon(y, dy):
    """y + 1e-8 in place of y."""
    return (y + y.dtype.type(1e-8)) * (dy - _dot(y, dy))


_SEEN = {}


def vjp_stale_y(y, dy):
    """y of the first call of this shape is used for ever."""
    key = (y.shape, y.dtype.str)
    first = _SEEN.setdefault(key, y.copy())
    return first * (dy - _dot(first, dy))


def vjp_through_log(y, dy):
    """exp(log y + log|...|) loses digits and small y."""
    inner = dy - _dot(y, dy)
    return (
        np.sign(inner) * np.exp(np.log(y + y.dtype.type(1e-30)) + np.log(np.abs(inner) + y.dtype.type(1e-30)))
    ).astype(y.dtype)


def vjp_overwrites_dy(y, dy):
    """The cotangent is used as workspace."""
    dy -= _dot(y, dy)
    return y * dy


def jvp_without_sum(y, dx):
    """Only y * dx."""
    return y * dx


def jvp_mean_for_sum(y, dx):
    """mean(y dx) in place of the sum."""
    return y * (dx - (y * dx).mean(axis=-1, keepdims=True))


def jvp_plain_mean(y, dx):
    """Subtracts the plain mean of the tangent."""
    return y * (dx - dx.mean(axis=-1, keepdims=True))


def jvp_wrong_axis(y, dx, axis=-1):
    """Sums along the first axis."""
    return y * (dx - _dot(y, dx, 0))


def jvp_sign(y, dx):
    """The sign of the sum is wrong."""
    return y * (dx + _dot(y, dx))


def jvp_float32(y, dx):
    """A float64 row is computed in float32."""
    a, b = y.astype(np.float32), dx.astype(np.float32)
    return (a * (b - _dot(a, b))).astype(y.dtype)


def jvp_finite_difference(y, dx):
    """A difference quotient with step 1e-4."""
    h = y.dtype.type(1e-4)
    moved = y * np.exp(h * dx)
    return (moved / moved.sum(axis=-1, keepdims=True) - y) / h


def jvp_diagonal(y, dx, axis=-1):
    """Only the diagonal of the Jacobian."""
    return (y - y * y) * dx


def jvp_batch_sum(y, dx):
    """One sum for the whole batch."""
    return y * (dx - (y * dx).sum())


def jvp_of_square_along_last(y, dx, axis=-1):
    """The first axis of a square array is taken for the last."""
    square = y.ndim == 2 and y.shape[0] == y.shape[1]
    along = -1 if square else axis
    return y * (dx - _dot(y, dx, along))
