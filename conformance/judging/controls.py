"""Wrong answers on purpose: every verdict also judges these in the subject's place.

A clause that cannot tell the subject from a control has shown nothing by passing it, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from softcert.backends.ops import ATTENTION_OPS, REDUCING_OPS, SAMPLERS, axis_moved, order_of
from softcert.backends.types import Array, Call
from softcert.conformance.context import Context, truth_ulp
from softcert.conformance.judging.attention_controls import attention_control
from softcert.conformance.judging.judge import ordinary_only
from softcert.conformance.judging.leaves import without_last_node
from softcert.conformance.judging.shapes import expected_shape
from softcert.conformance.spec import (
    LOSS_OPS,
    ORDERED_OPS,
    PRODUCT_OPS,
    SAMPLING_OPS,
    SIMPLEX_OPS,
    SPARSE_DERIVATIVE_OPS,
    SPARSE_OPS,
    TREE_OPS,
)

Float = NDArray[np.float64]
Control = Callable[[Call, Context], "Array | None"]
Answers = tuple[Array, ...]


def _cast(values: Float, call: Call) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(call.operands[0].dtype)


def _zeros(call: Call, _context: Context) -> Array:
    return np.zeros(expected_shape(call), dtype=call.operands[0].dtype)


def _nan(call: Call, _context: Context) -> Array:
    return np.full(expected_shape(call), np.nan).astype(call.operands[0].dtype)


def _uniform(call: Call, _context: Context) -> Array:
    """The answer for equal logits: 1/n, -log n, max + log n; for derivatives the cotangent's own copy."""
    axis = int(call.params["axis"])
    n = max(call.operands[0].shape[axis], 1)
    shape = expected_shape(call)
    if call.op in PRODUCT_OPS:
        return call.operands[1].copy()
    if call.op in LOSS_OPS:
        return _uniform_loss(call)
    if call.op in TREE_OPS:
        return _uniform_leaves(call)
    if call.op == "logsumexp":
        top = call.operands[0].astype(np.float64).max(axis=axis, initial=-np.inf)
        return _cast(top + np.log(n), call)
    return _cast(np.full(shape, 1.0 / n if call.op in SIMPLEX_OPS else -np.log(n)), call)


def _uniform_loss(call: Call) -> Array:
    """log n, and its gradient (1/n - [j = t]) dloss, of ignored rows too."""
    axis = int(call.params["axis"])
    n = call.operands[0].shape[axis]
    if call.op == "cross_entropy":
        return _cast(np.full(call.operands[1].shape, np.log(max(n, 1))), call)
    own = np.arange(n) == call.operands[1][..., np.newaxis]
    slopes = (1.0 / max(n, 1) - own) * call.operands[2].astype(np.float64)[..., np.newaxis]
    return _cast(np.moveaxis(slopes, -1, axis), call)


def _uniform_leaves(call: Call) -> Array:
    """-log K whatever the path is; of the gradient half the cotangent at every node, on the path or not."""
    axis = int(call.params["axis"])
    nodes = call.operands[0].shape[axis]
    if call.op == "hierarchical_log_softmax":
        return _cast(np.full(call.operands[1].shape, -np.log(nodes + 1)), call)
    slopes = np.broadcast_to(
        call.operands[2].astype(np.float64)[..., np.newaxis], (*call.operands[2].shape, nodes)
    )
    return _cast(np.moveaxis(slopes / 2.0, -1, axis), call)


def _doubled_bound(call: Call, context: Context) -> Array | None:
    """The exact value moved away by a little more than twice its bound; samples have none."""
    if call.op in SAMPLERS:
        return None
    safe = ordinary_only(call)
    truth = context.truth(safe)
    bound = context.bound_ulp(safe, truth)
    exact = truth.to_float64()
    with np.errstate(over="ignore", invalid="ignore"):
        moved = exact + (2.0 * bound + 1.0) * truth_ulp(truth, context.dtype)
    return _cast(np.where(np.isfinite(moved), moved, exact), call)


def _last_dropped(call: Call, _context: Context) -> Array:
    """The result with the last element, or node of a path, left out of the sum."""
    axis = int(call.params["axis"])
    with np.errstate(all="ignore"):
        result = without_last_node(call) if call.op in TREE_OPS else _rows_without_last(call, axis)
    if call.op not in REDUCING_OPS:
        result = np.moveaxis(result, -1, axis)
    return _cast(result, call)


def _rows_without_last(call: Call, axis: int) -> Float:
    moved = axis_moved(call.op, call.operands, axis, -1)
    rows = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in moved]
    given = () if call.op not in ORDERED_OPS else (order_of(call.op, call.params),)
    return _DROPPED[call.op](*rows, *given)


def _reversed(call: Call, context: Context) -> Array | None:
    """The exact result of each row, put down back to front; not of one number, nor of a sample."""
    if call.op in {*REDUCING_OPS, *SAMPLERS}:
        return None
    exact = context.truth(ordinary_only(call)).to_float64()
    return _cast(np.flip(exact, axis=int(call.params["axis"])), call)


def _lse_without_last(x: Float) -> Float:
    kept = x[..., :-1] if x.shape[-1] > 1 else x
    top = kept.max(axis=-1, keepdims=True, initial=-np.inf)
    return np.asarray(top + np.log(np.exp(kept - top).sum(axis=-1, keepdims=True)))


def _vjp_without_last(y: Float, dy: Float) -> Float:
    return np.asarray(y * (dy - (y * dy)[..., :-1].sum(axis=-1, keepdims=True)))


def _loss_without_last(x: Float, target: Array) -> Float:
    """Of ignored rows the loss of class 0, which no ignored row has; neither smoothed nor with a z-loss."""
    own = np.where((target >= 0) & (target < x.shape[-1]), target, 0)[..., np.newaxis]
    return np.asarray((_lse_without_last(x) - np.take_along_axis(x, own, axis=-1))[..., 0])


def _loss_product_without_last(x: Float, target: Array, dloss: Float) -> Float:
    own = np.arange(x.shape[-1]) == target[..., np.newaxis]
    slopes = np.exp(x - _lse_without_last(x)) - own
    return np.asarray(slopes * dloss[..., np.newaxis])


def _sparse_without_last(x: Float, alpha: float) -> Float:
    """The threshold of all but the last, by halving, and every share above it."""
    depth = (alpha - 1.0) * (x.max(axis=-1, keepdims=True, initial=-np.inf) - x)
    kept = depth[..., :-1] if x.shape[-1] > 1 else depth
    low, high = np.zeros_like(depth[..., :1]), np.ones_like(depth[..., :1])
    for _ in range(60):
        middle = (low + high) / 2.0
        over = (np.maximum(middle - kept, 0.0) ** (1.0 / (alpha - 1.0))).sum(axis=-1, keepdims=True) > 1.0
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.asarray(np.maximum(high - depth, 0.0) ** (1.0 / (alpha - 1.0)))


def _sparse_product_without_last(y: Float, dy: Float, alpha: float) -> Float:
    weights = np.where(y > 0.0, np.where(y > 0.0, y, 1.0) ** (2.0 - alpha), 0.0)
    mean = (weights * dy)[..., :-1].sum(axis=-1, keepdims=True) / weights.sum(axis=-1, keepdims=True)
    return np.asarray(weights * (dy - mean))


_DROPPED: Mapping[str, Callable[..., Float]] = MappingProxyType(
    {
        **dict.fromkeys(("softmax", *SAMPLING_OPS), lambda x: np.exp(x - _lse_without_last(x))),
        "log_softmax": lambda x: x - _lse_without_last(x),
        "logsumexp": lambda x: _lse_without_last(x)[..., 0],
        "softmax_vjp": _vjp_without_last,
        "softmax_jvp": _vjp_without_last,
        "cross_entropy": _loss_without_last,
        "cross_entropy_vjp": _loss_product_without_last,
        **dict.fromkeys(SPARSE_OPS, _sparse_without_last),
        **dict.fromkeys(SPARSE_DERIVATIVE_OPS, _sparse_product_without_last),
    }
)

#: Name and maker of every control, in the order in which reports list them.
CONTROLS: Mapping[str, Control] = MappingProxyType(
    {
        "zeros": _zeros,
        "nan": _nan,
        "uniform": _uniform,
        "last dropped": _last_dropped,
        "back to front": _reversed,
        "twice the bound": _doubled_bound,
    }
)


#: Controls that start from the exact result, which knows beta.
_EXACT = frozenset({"back to front", "twice the bound"})


def unscaled(call: Call) -> Call:
    """The call with beta folded into its logits, for controls that know only logits."""
    beta = float(call.params.get("beta", 1.0))
    if beta == 1.0:
        return call
    scaled = _cast(call.operands[0].astype(np.float64) * beta, call)
    return replace(call, operands=(scaled,))


def control_answer(name: str, call: Call, context: Context) -> Answers | None:
    """What the control `name` answers to a call, or None where it has no wrong answer to give."""
    if call.op in ATTENTION_OPS:
        return attention_control(name, call, context)
    answer = CONTROLS[name](call if name in _EXACT else unscaled(call), context)
    return None if answer is None else (answer,)
