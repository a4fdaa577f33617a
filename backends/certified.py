"""The reference as a backend: every op correctly rounded, in every dtype, at a speed that can be used.

Double words decide almost every rounding, and Arb the others (docs/explanation/fast.md). This one file of the
room imports the reference, and only when it is asked for: the worker that runs other subjects has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flint
import numpy as np

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, lse_dtype, without_axis
from softcert.backends.trees import of_one_leaf, slopes_of_one_leaf
from softcert.backends.types import Array, Backend


def softmax(x: Array, axis: int = -1, beta: float = 1.0) -> Array:
    """Softmax along an axis, correctly rounded; an empty axis gives an empty array.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    axis : the axis that is normalized.
    beta : inverse temperature, the exact number given.

    Returns
    -------
    An array of the shape and dtype of `x`.
    """
    return _rounded(reference.softmax, x, axis=axis, beta=beta)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """Logarithm of the softmax along an axis, correctly rounded; of the shape and dtype of `x`."""
    return _rounded(reference.log_softmax, x, axis=axis)


def logsumexp(x: Array, axis: int = -1) -> Array:
    """Log-sum-exp along an axis, correctly rounded; of the dtype of `x`, -inf along an empty axis."""
    if x.size == 0:
        return np.full(without_axis(x.shape, axis), -np.inf, x.dtype)
    return _rounded(reference.logsumexp, x, axis=axis)


def softmax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """y * (dy - sum_j y_j dy_j) along an axis, correctly rounded; of the shape and dtype of `y`."""
    return _rounded(reference.softmax_vjp, y, dy, axis=axis)


def softmax_jvp(y: Array, dx: Array, axis: int = -1) -> Array:
    """Tangent of softmax at the output y, whose Jacobian is symmetric; as `softmax_vjp`."""
    return softmax_vjp(y, dx, axis)


def sparsemax(x: Array, axis: int = -1) -> Array:
    """Sparsemax along an axis, correctly rounded; of the shape and dtype of `x`."""
    return _rounded(reference.sparsemax, x, axis=axis)


def sparsemax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
    """Product with the Jacobian of sparsemax at the output y, correctly rounded; of y's shape and dtype."""
    return _rounded(reference.sparsemax_vjp, y, dy, axis=axis)


def entmax(x: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """Entmax of an order along an axis, correctly rounded; of the shape and dtype of `x`."""
    return _rounded(reference.entmax, x, axis=axis, alpha=alpha)


def entmax_vjp(y: Array, dy: Array, axis: int = -1, alpha: float = 1.5) -> Array:
    """Product with the Jacobian of entmax at the output y, correctly rounded; of y's shape and dtype."""
    return _rounded(reference.entmax_vjp, y, dy, axis=axis, alpha=alpha)


def cross_entropy(x: Array, target: Array, *, axis: int = -1, **options: float) -> Array:
    """Cross-entropy of each row's logits with its target, correctly rounded; of target's shape, x's dtype."""
    if target.size == 0:
        return np.empty(target.shape, x.dtype)
    return _rounded(reference.cross_entropy, x, target, axis=axis, **options)


def cross_entropy_vjp(x: Array, target: Array, dloss: Array, *, axis: int = -1, **options: float) -> Array:
    """Gradient of cross-entropy by the logits at cotangents dloss, correctly rounded; shaped as x."""
    return _rounded(reference.cross_entropy_vjp, x, target, dloss, axis=axis, **options)


def hierarchical_log_softmax(s: Array, leaves: Array, starts: Array, nodes: Array, signs: Array) -> Array:
    """Log-probabilities of the leaves (..., m) of a tree, correctly rounded; of the dtype of the scores s."""
    return reference.hierarchical_log_softmax(s, leaves, starts, nodes, signs).round(s.dtype)


def hierarchical_log_softmax_vjp(
    s: Array, dy: Array, leaves: Array, starts: Array, nodes: Array, signs: Array
) -> Array:
    """Their gradient by the scores at cotangents dy (..., m), correctly rounded; shaped as s."""
    return reference.hierarchical_log_softmax_vjp(s, dy, leaves, starts, nodes, signs).round(s.dtype)


def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Array:
    """Attention, correctly rounded; operands and keywords are those of `softcert.reference.attention`."""
    exact = reference.attention(q, k, v, scale=scale, causal=causal, mask=mask, method="fast")
    result: Array = exact.round(q.dtype)
    return result


def attention_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    """(out, lse) of attention, correctly rounded; lse in float32 for operands of 16 bits."""
    out, lse = reference.attention_lse(q, k, v, scale=scale, causal=causal, mask=mask, method="fast")
    return out.round(q.dtype), lse.round(lse_dtype(q.dtype.name))


def attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    dout: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, ...]:
    """(dq, dk, dv) as a function of the out and lse that are given, correctly rounded."""
    gradients = reference.attention_vjp(
        q, k, v, out, lse, dout, scale=scale, causal=causal, mask=mask, method="fast"
    )
    return tuple(gradient.round(q.dtype) for gradient in gradients)


def attention_merge(out_a: Array, lse_a: Array, out_b: Array, lse_b: Array) -> tuple[Array, Array]:
    """Attention over two disjoint sets of keys from that over each, correctly rounded."""
    out, lse = reference.attention_merge(out_a, lse_a, out_b, lse_b, method="fast")
    return out.round(out_a.dtype), lse.round(lse_a.dtype)


def _rounded(of: Callable[..., Any], *operands: Array, **options: Any) -> Array:
    if operands[0].size == 0:
        return operands[0].copy()
    result: Array = of(*operands, method="fast", **options).round(operands[0].dtype)
    return result


def certified_backend() -> Backend:
    """Backend `certified`: grade A by construction, and the measure of what correct rounding costs."""
    return Backend(
        name="certified",
        ops={
            "softmax": softmax,
            "log_softmax": log_softmax,
            "logsumexp": logsumexp,
            "softmax_vjp": softmax_vjp,
            "softmax_jvp": softmax_jvp,
            "sparsemax": sparsemax,
            "sparsemax_vjp": sparsemax_vjp,
            "entmax": entmax,
            "entmax_vjp": entmax_vjp,
            "cross_entropy": cross_entropy,
            "cross_entropy_vjp": cross_entropy_vjp,
            "hierarchical_log_softmax": of_one_leaf(hierarchical_log_softmax),
            "hierarchical_log_softmax_vjp": slopes_of_one_leaf(hierarchical_log_softmax_vjp),
            "attention": attention,
            "attention_lse": attention_lse,
            "attention_vjp": attention_vjp,
            "attention_merge": attention_merge,
        },
        dtypes=DTYPES,
        contract=Contract(
            compute="float64",
            accumulator="float64",
            exp_ulp=1.0,
            form="division",
            batch_invariant=True,
            order_bitwise=True,
            attention_weights="float64",
        ),
        beta=True,
        versions={"python-flint": flint.__version__, "numpy": np.__version__},
    )
