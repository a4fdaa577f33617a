"""What a correct answer looks like before any of its numbers is judged: shapes and dtypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from softcert.backends.ops import (
    ATTENTION_OPS,
    AXES,
    OF_TREES,
    OPERANDS,
    REDUCING_OPS,
    RESULTS,
    has_tree,
    operand_dtype,
    without_axis,
)
from softcert.backends.types import Array, Call

Shape = tuple[int, ...]

#: The operands from which the axes of each result of attention are read.
_LIKE = {
    "attention": {"out": ("q", "v")},
    "attention_lse": {"out": ("q", "v"), "lse": ("q", "v")},
    "attention_vjp": {"dq": ("q", "q"), "dk": ("k", "k"), "dv": ("v", "v")},
    "attention_merge": {"out": ("out_a", "out_a"), "lse": ("lse_a", "lse_a")},
}


def expected_shape(call: Call) -> Shape:
    """Shape of a correct first result."""
    return expected_results(call)[0][0]


def expected_results(call: Call) -> tuple[tuple[Shape, str], ...]:
    """Shape and dtype name of each correct result.

    Those of an op of rows have the operand's own, without the axis where it is reduced.
    """
    dtype = call.operands[0].dtype.name
    if call.op in RESULTS:
        return tuple((_attention_shape(call, name), operand_dtype(name, dtype)) for name in RESULTS[call.op])
    shape = call.operands[0].shape
    if call.op not in REDUCING_OPS:
        return ((shape, dtype),)
    return ((without_axis(shape, int(call.params["axis"])), dtype),)


def summed_length(call: Call) -> int:
    """How many numbers one result is a sum of: elements of a row, nodes of the longest path, or keys.

    Of a merge, two parts.
    """
    if has_tree(call.op):
        return int(np.diff(call.operands[-len(OF_TREES)]).max(initial=0))
    if call.op == "attention_merge":
        return 2
    if call.op in ATTENTION_OPS:
        return int(call.operands[1].shape[-2])
    first = call.operands[0]
    return int(first.shape[int(call.params["axis"])]) if first.ndim else 1


def misshapen(call: Call, values: Sequence[Array]) -> str | None:
    """Sentence on the first result of a wrong shape or dtype, if there is one."""
    for name, value, (shape, dtype) in zip(call.result_names, values, expected_results(call), strict=True):
        if value.shape != shape or value.dtype.name != dtype:
            given = " ".join(str(a.shape) for a in call.operands)
            what = f"{call.op} of {call.operands[0].dtype} {given}"
            named = f"{name} of {what}" if len(values) > 1 else what
            verb = "is" if len(values) > 1 else "gives"
            return f"{named} {verb} {value.dtype} {value.shape}, not {dtype} {shape}"
    return None


def _attention_shape(call: Call, name: str) -> Shape:
    """Batches and leading axes of one operand, and the last axis of another."""
    shapes = dict(zip(OPERANDS[call.op], (a.shape for a in call.operands), strict=True))
    leading, last = _LIKE[call.op][name]
    if AXES[name] == "HL":
        return shapes[leading][: len(shapes[leading]) - len(AXES[leading]) + 2]
    return (*shapes[leading][:-1], shapes[last][-1])
