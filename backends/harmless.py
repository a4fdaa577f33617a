"""Operands of attention that no kernel should mind, to find out what one takes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from softcert.backends.ops import AXES, OPERANDS, operand_dtypes, takes_scores
from softcert.backends.types import Array, as_dtype


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
