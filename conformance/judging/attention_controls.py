"""Wrong answers on purpose to calls of attention: see `controls.py`.

"uniform" is attention that does not look at its keys, "last dropped" one that does not see the last key;
of a merge, one that does not look at lse, and one that drops the second part.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softcert.backends.ops import OPERANDS
from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.context import Context, truth_ulp
from softcert.conformance.judging.shapes import expected_results

Answers = tuple[Array, ...]


def attention_control(name: str, call: Call, context: Context) -> Answers | None:
    """What a control answers to a call of attention, or None where it has no wrong answer to give."""
    if name in {"zeros", "nan"}:
        fill = 0.0 if name == "zeros" else np.nan
        return tuple(np.full(shape, fill).astype(as_dtype(dtype)) for shape, dtype in expected_results(call))
    if name == "twice the bound":
        return _moved(call, context)
    if name == "back to front":
        exact = (truth.to_float64() for truth in context.truths(call))
        return _cast([np.flip(e, axis=-1) for e in exact], call)
    other = _merge_otherwise(name, call) if call.op == "attention_merge" else _otherwise(name, call)
    return None if other is None else _cast([e.to_float64() for e in context.truths(other)], call)


def _cast(values: list[np.ndarray], call: Call) -> Answers:
    with np.errstate(all="ignore"):
        return tuple(
            np.broadcast_to(value, shape).astype(as_dtype(dtype))
            for value, (shape, dtype) in zip(values, expected_results(call), strict=True)
        )


def _moved(call: Call, context: Context) -> Answers:
    """The exact values moved away by a little more than twice their bounds."""
    moved = []
    for part in context.parts(call):
        exact = part.truth.to_float64()
        away = exact + 2.0 * part.bound + truth_ulp(part.truth, part.dtype)
        moved.append(np.where(np.isfinite(away), away, exact) / part.unit)
    return _cast(moved, call)


def _otherwise(name: str, call: Call) -> Call | None:
    """The call with other operands, whose exact results are the wrong answer."""
    q, k, *rest = call.operands
    if name == "uniform":
        return replace(call, operands=(np.zeros_like(q), k, *rest))
    if k.shape[-2] < 2:
        return None
    shown = np.ones(k.shape[-2], dtype=bool)
    shown[-1] = False
    if call.mask is None:
        return replace(call, mask=np.broadcast_to(shown, (q.shape[-2], k.shape[-2])))
    hidden = False if call.mask.dtype == np.bool_ else call.mask.dtype.type(-np.inf)
    return replace(call, mask=np.where(shown, call.mask, hidden))


def _merge_otherwise(name: str, call: Call) -> Call | None:
    given = dict(zip(OPERANDS[call.op], call.operands, strict=True))
    if name == "uniform":
        given["lse_b"] = given["lse_a"]
    else:
        given["lse_b"] = np.full_like(given["lse_b"], -np.inf)
    return replace(call, operands=tuple(given.values()))
