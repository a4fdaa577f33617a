"""Operands that no kernel should mind, to find out what one takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from softcert.backends.ops import (
    AXES,
    INTEGERS,
    OF_TREES,
    ONE_A_ROW,
    OPERANDS,
    has_tree,
    operand_dtypes,
    takes_scores,
    without_axis,
)
from softcert.backends.trees import heap_paths
from softcert.backends.types import Array, as_dtype


def row_operands(op: str, x: Array, axis: int = -1) -> tuple[Array, ...]:
    """Operands of an op of rows: x in each place, classes in turn, its first numbers, the paths of a heap."""
    shape = without_axis(x.shape, axis)
    order = np.arange(math.prod(shape))
    classes = (order % max(x.shape[axis], 1)).reshape(shape)
    numbers = x.reshape(-1)[: order.size].reshape(shape)
    paths = dict(zip(OF_TREES, heap_paths(x.shape[axis] + 1), strict=True)) if has_tree(op) else {}
    return tuple(
        paths.get(name, classes if name in INTEGERS else numbers if name in ONE_A_ROW else x)
        for name in OPERANDS[op]
    )


def attention_operands(
    op: str,
    dtype: str,
    heads: tuple[int, ...] = (2,),
    *,
    groups: int | None = None,
    queries: int = 3,
    keys: int = 3,
    features: int = 4,
    width: int = 4,
) -> tuple[Array, ...]:
    """Fresh operands of an op of attention, of small numbers.

    Parameters
    ----------
    heads : axes before the queries, heads the last of them; none for one head without an axis.
    groups : heads of k and v, as many as of q where not given.
    width : columns of the values.
    """
    shared = heads if groups is None else (*heads[:-1], groups)
    lengths = {"L": queries, "S": keys, "D": features, "E": width}
    operands = []
    for name, kind in zip(OPERANDS[op], operand_dtypes(op, dtype), strict=True):
        axes = AXES[name]
        shape = (*(shared if axes[0] == "G" else heads), *(lengths[axis] for axis in axes[1:]))
        numbers = np.arange(math.prod(shape)) % 7 * 0.125 - 0.25
        operands.append(numbers.astype(as_dtype(kind)).reshape(shape))
    return tuple(operands)


def shares_heads(op: str, operands: Sequence[Array]) -> bool:
    """Whether heads of q share those of k and v."""
    q, k = operands[:2]
    return takes_scores(op) and q.ndim > 2 and k.ndim > 2 and q.shape[-3] != k.shape[-3]
