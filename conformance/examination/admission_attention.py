"""Which calls of attention an op may get: see `admission.py`."""

from __future__ import annotations

import numpy as np

from softcert.backends.ops import AXES, OPERANDS, operand_dtypes, takes_scores
from softcert.backends.rules import shown
from softcert.backends.types import Call


def operands_complaint(call: Call, dtype: str) -> str:
    """What makes the operands those of no call at `dtype`; empty if nothing."""
    names, given = OPERANDS[call.op], call.operands
    if len(given) != len(names):
        return f"gives {len(given)} operands to {call.op}, which takes {len(names)}"
    for name, array, wanted in zip(names, given, operand_dtypes(call.op, dtype), strict=True):
        if array.dtype.name != wanted:
            return f"has {name} of {array.dtype.name}, which has to be of {wanted}"
        if array.ndim < len(AXES[name]) - 1:
            return f"has {name} with too few axes"
    return "" if _fit_together(call) else "has operands whose shapes do not fit together"


def _fit_together(call: Call) -> bool:
    """Whether every axis has one length, and heads are a multiple of those that share them."""
    lengths: dict[str, set[int]] = {}
    leading: dict[str, set[tuple[int, ...]]] = {}
    for name, array in zip(OPERANDS[call.op], call.operands, strict=True):
        first, *others = list(AXES[name])
        leading.setdefault(first, set()).add(array.shape[: array.ndim - len(others)])
        for axis, length in zip(others, array.shape[array.ndim - len(others) :], strict=True):
            lengths.setdefault(axis, set()).add(length)
    if any(len(found) > 1 for found in lengths.values()) or any(len(f) > 1 for f in leading.values()):
        return False
    heads = next(iter(leading["H"]))
    shared = next(iter(leading.get("G", {heads})))
    if not heads or not shared:
        return heads == shared
    return heads[:-1] == shared[:-1] and shared[-1] > 0 and heads[-1] % shared[-1] == 0


def options_complaint(call: Call, dtype: str) -> str:
    """What is wrong with the keywords; empty if nothing."""
    allowed = {"scale", "causal"} if takes_scores(call.op) else set()
    unknown = sorted(set(call.params) - allowed)
    if unknown:
        return f"gives {unknown[0]!r}, which {call.op} does not take"
    scale, causal = call.params.get("scale", 1.0), call.params.get("causal", False)
    if isinstance(scale, bool) or not np.isfinite(float(scale)):
        return f"has scale={shown(scale)}, which is not finite"
    if not isinstance(causal, bool):
        return f"has causal={shown(causal)}, which is neither true nor false"
    return "" if call.mask is None else _mask_complaint(call, call.mask, dtype)


def _mask_complaint(call: Call, mask: np.ndarray, dtype: str) -> str:
    if not takes_scores(call.op):
        return f"gives a mask to {call.op}, which takes none"
    if mask.dtype.name not in {"bool", dtype}:
        return f"has a mask of {mask.dtype.name}, which has to be of bool or of {dtype}"
    whole = (*call.operands[0].shape[:-1], call.operands[1].shape[-2])
    try:
        np.broadcast_to(np.empty(mask.shape, dtype=bool), whole)
    except ValueError:
        return f"has a mask of shape {mask.shape}, which does not broadcast to {whole}"
    return ""
