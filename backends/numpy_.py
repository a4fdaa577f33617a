"""The softmax ops in NumPy: the safe ones, written to be read, and the naive one as a warning.

The safe kernels subtract the row maximum first, so that no exponential overflows and the largest
term of the sum is exactly 1 (Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038). 16-bit
inputs are computed and summed in float32 and rounded once at the end.
"""

from __future__ import annotations

import numpy as np

from softcert.backends import (
    numpy_attention,
    numpy_cross_entropy,
    numpy_sparse,
    numpy_standard,
)
from softcert.backends.contract import Contract
from softcert.backends.numpy_hierarchical import hierarchical_log_softmax, hierarchical_log_softmax_vjp
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.ops import DTYPES
from softcert.backends.trees import of_one_leaf, slopes_of_one_leaf
from softcert.backends.types import Array, Backend


def softmax(x: Array, axis: int = -1, beta: float = 1.0) -> Array:
    """Softmax exp(beta x_i) / sum_j exp(beta x_j) along an axis, by subtracting the maximum.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.
    beta : inverse temperature, finite; negative ones favour the smallest logit.

    Returns
    -------
    An array of the shape and dtype of `x`. A NaN or +inf logit, and a row of -inf only, make the
    whole row NaN; a -inf logit among finite ones gets exactly 0. An empty axis gives an empty array.
    """
    with np.errstate(all="ignore"):
        terms = np.exp(_exponents(widen(x), axis, beta))
        return narrow(terms / np.sum(terms, axis=axis, keepdims=True), x)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Logarithm of the softmax, (x_i - max) - log sum_j exp(x_j - max), along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`; special values as for `softmax`, 0 becoming -inf.
    """
    with np.errstate(all="ignore"):
        shifted = _exponents(widen(x), axis, 1.0)
        return narrow(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)), x)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp, max + log sum_j exp(x_j - max), along an axis.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is summed over.

    Returns
    -------
    An array of the dtype of `x` without that axis: -inf for a row of -inf only and for an empty
    one, +inf where a logit is +inf, NaN where one is NaN.
    """
    with np.errstate(all="ignore"):
        wide = widen(x)
        largest = np.max(wide, axis=axis, keepdims=True, initial=-np.inf)
        # A maximum of +-inf would turn into inf - inf; the plain sum is right (0 or inf) there.
        pivot = np.where(np.isfinite(largest), largest, wide.dtype.type(0))
        total = np.sum(np.exp(wide - pivot), axis=axis)
        return narrow(np.asarray(np.log(total) + np.squeeze(pivot, axis=axis)), x)


def softmax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """Gradient of softmax, y * (dy - sum_j y_j dy_j), as a function of the output y given.

    Parameters
    ----------
    y : softmax outputs (..., n, ...) of a floating dtype.
    dy : cotangent of the outputs, shape and dtype of `y`.
    axis : the axis that was normalized.

    Returns
    -------
    An array of the shape and dtype of `y`.
    """
    with np.errstate(all="ignore"):
        weights, slopes = widen(y), widen(dy)
        mean = np.sum(weights * slopes, axis=axis, keepdims=True)
        return narrow(weights * (slopes - mean), y)


def softmax_jvp(y: Array, dx: Array, axis: int = -1) -> Array:
    """Tangent of softmax at the output y given; its Jacobian diag(y) - y y^T is symmetric.

    Parameters
    ----------
    y : softmax outputs (..., n, ...) of a floating dtype.
    dx : tangent of the logits, shape and dtype of `y`.
    axis : the axis that was normalized.

    Returns
    -------
    An array of the shape and dtype of `y`.
    """
    return softmax_vjp(y, dx, axis)


def naive_softmax(x: Array, axis: int = -1) -> Array:
    """Softmax as the formula reads, exp(x_i) / sum_j exp(x_j): wrong as soon as exp overflows.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.

    Returns
    -------
    An array of the shape and dtype of `x`: NaN for logits above 88.7 in float32 (709.8 in
    float64), and NaN again when every exponential underflows to 0.
    """
    with np.errstate(all="ignore"):
        terms = np.exp(widen(x))
        return narrow(terms / np.sum(terms, axis=axis, keepdims=True), x)


def naive_logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp as the formula reads, log sum_j exp(x_j): infinite as soon as exp overflows.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is summed over.

    Returns
    -------
    An array of the dtype of `x` without that axis.
    """
    with np.errstate(all="ignore"):
        return narrow(np.asarray(np.log(np.sum(np.exp(widen(x)), axis=axis))), x)


def numpy_backend() -> Backend:
    """Backend `numpy`: the safe kernels here and in the modules beside this one, in every dtype."""
    # It builds on the softmax of this module.
    from softcert.backends import numpy_gumbel

    return Backend(
        name="numpy",
        ops={
            "softmax": softmax,
            "log_softmax": log_softmax,
            "logsumexp": logsumexp,
            "softmax_vjp": softmax_vjp,
            "softmax_jvp": softmax_jvp,
            "sparsemax": numpy_sparse.sparsemax,
            "sparsemax_vjp": numpy_sparse.sparsemax_vjp,
            "entmax": numpy_sparse.entmax,
            "entmax_vjp": numpy_sparse.entmax_vjp,
            "cross_entropy": numpy_cross_entropy.cross_entropy,
            "cross_entropy_vjp": numpy_cross_entropy.cross_entropy_vjp,
            "hierarchical_log_softmax": of_one_leaf(hierarchical_log_softmax),
            "hierarchical_log_softmax_vjp": slopes_of_one_leaf(hierarchical_log_softmax_vjp),
            "gumbel_softmax": numpy_gumbel.seeded_gumbel_softmax,
            "attention": numpy_attention.attention,
            "attention_lse": numpy_attention.attention_lse,
            "attention_vjp": numpy_attention.attention_vjp,
            "attention_merge": numpy_attention.attention_merge,
        },
        dtypes=DTYPES,
        contract=Contract(form="division", memory="linear"),
        beta=True,
        versions={"numpy": np.__version__},
    )


def naive_backend() -> Backend:
    """Backend `numpy-naive`: no maximum is subtracted; shipped to be seen failing."""
    return Backend(
        name="numpy-naive",
        ops={
            "softmax": naive_softmax,
            "logsumexp": naive_logsumexp,
            "attention": numpy_standard.naive_attention,
        },
        dtypes=DTYPES,
        versions={"numpy": np.__version__},
    )


def _exponents(x: Array, axis: int, beta: float) -> Array:
    """beta * (x - pivot), the pivot making every exponent <= 0."""
    if beta == 1.0:
        # `initial` gives an empty axis a maximum.
        shifted: Array = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
        return shifted
    if beta < 0.0:
        pivot = np.min(x, axis=axis, keepdims=True, initial=np.inf)
    else:
        pivot = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    # Small |beta| makes logits at both ends of the range comparable, whose difference overflows;
    # that of their halves does not, and halving is exact (but for subnormals, far below one ulp here).
    half = 0.5 if abs(beta) < 1.0 else 1.0
    scale = np.float64(beta / half)
    # In binary64 so that beta itself is not rounded to a narrower format.
    product: Array = np.multiply(x * x.dtype.type(half) - pivot * x.dtype.type(half), scale, dtype=np.float64)
    return product.astype(x.dtype, copy=False)
