"""From a seedling to the calls of a trial, and the seedlings that every run examines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from softcert.backends.ops import ATTENTION_OPS, axis_moved
from softcert.backends.types import Array, Call
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_growing import attention_call
from softcert.conformance.inputs.families import make_row, output_near, to_dtype
from softcert.conformance.inputs.losses import loss_operands
from softcert.conformance.inputs.trees import tree_operands
from softcert.conformance.model import Trial
from softcert.conformance.spec import LOSS_OPS, PRODUCT_OPS, TREE_OPS, Seedling

#: What gives the seedlings that every run examines.
Directed = Callable[[Context], Iterable[Seedling]]


def call_of(
    seedling: Seedling,
    context: Context,
    operands: tuple[Array, ...] | None = None,
    *,
    beta: float | None = None,
    repeat: int = 1,
) -> Call:
    """Call of the context's op on the seedling's operands, or on others in their place."""
    if context.op in ATTENTION_OPS:
        return attention_call(seedling, context, operands, repeat=repeat)
    params: dict[str, int | float] = {"axis": seedling.axis, **seedling.options}
    inverse_temperature = seedling.beta if beta is None else beta
    if inverse_temperature != 1.0:
        params["beta"] = inverse_temperature
    return Call(
        op=context.op,
        operands=seedling.operands if operands is None else operands,
        params=params,
        layout=seedling.layout,
        repeat=repeat,
    )


def by_family(softmax: Directed, attention: Directed) -> Directed:
    """Seedlings of one generator for the ops of softmax and of another for those of attention."""
    return lambda context: (attention if context.op in ATTENTION_OPS else softmax)(context)


def trial_of(seedling: Seedling, *calls: Call, relation: Mapping[str, Any] | None = None) -> Trial:
    """Trial of some calls, remembering the seedling's family."""
    return Trial(calls=calls, relation=relation or {}, family=seedling.family)


def one_call(seedling: Seedling, context: Context) -> Trial:
    """Trial of one plain call."""
    return trial_of(seedling, call_of(seedling, context))


def grow_scaled(seedling: Seedling, context: Context) -> Trial | None:
    """The row at inverse temperature +-2^k: by beta where the subject takes it, and by exact scaling."""
    (x,) = seedling.operands
    factor = float(seedling.extra["factor"])
    scaled = to_dtype(x.astype(np.float64) * factor, context.dtype)
    if not (scaled.astype(np.float64) == x.astype(np.float64) * factor).all():
        return None
    calls = [call_of(seedling, context, (scaled,))]
    if context.beta and context.op == "softmax" and factor != 1.0:
        calls.append(call_of(seedling, context, beta=factor))
    return trial_of(seedling, *calls, relation={"factor": factor})


def operands_from(context: Context, x: Array, seed: int = 0) -> tuple[Array, ...]:
    """Operands of the op from logits: x, with classes and a tree of them; or an output and a cotangent."""
    if context.op in LOSS_OPS:
        return loss_operands(context.op, x, seed)
    if context.op in TREE_OPS:
        return tree_operands(context.op, x, seed)
    if context.op not in PRODUCT_OPS:
        return (x,)
    rng = np.random.default_rng([seed, x.size])
    dy = np.clip(rng.standard_normal(x.shape) * 4.0, -64.0, 64.0)
    if x.size > 512:
        dy = np.rint(dy * 16.0) / 16.0
    return (output_near(context.op, x), dy.astype(x.dtype))


def from_rows(
    context: Context, rows: Iterable[Sequence[float]], family: str, *, beta: float = 1.0
) -> Iterator[Seedling]:
    """Seedlings of rows written out in a clause."""
    for row in rows:
        x = to_dtype(np.asarray(row, dtype=np.float64), context.dtype)
        yield Seedling(operands_from(context, x), beta=beta, family=family)


def sweep(
    context: Context, lengths: Iterable[int], families: Sequence[str], *, spread: float = 1.0
) -> Iterator[Seedling]:
    """One seedling a length, a row of each family in it."""
    for n in lengths:
        rows = np.stack([make_row(f, n, n, spread, context.dtype) for f in families])
        yield Seedling(operands_from(context, rows, n), family="sweep")


def stack(context: Context, shape: tuple[int, ...], axis: int, family: str, spread: float = 1.0) -> Seedling:
    """Seedling of an array of any shape, its lines along `axis` drawn from a family."""
    n = shape[axis]
    count = int(np.prod(shape)) // n if n else 0
    lines = [make_row(family, n, 1000 + i, spread, context.dtype) for i in range(count)]
    rest = shape[: axis % len(shape)] + shape[axis % len(shape) + 1 :]
    block = np.stack(lines).reshape(*rest, n)
    # An array without axes would be given one by ascontiguousarray.
    moved = axis_moved(context.op, operands_from(context, block), -1, axis)
    return Seedling(tuple(np.asarray(a, order="C") for a in moved), axis=axis, family=family)
