"""Recompute what a violation rests on by mpmath: nobody is accused on the word of one oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from softcert.backends.ops import ATTENTION_OPS, SAMPLERS
from softcert.backends.types import Array, Call
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.context import Context, evaluate
from softcert.conformance.judging.attention_truth import exact_operands, seen_keys
from softcert.conformance.judging.judge import ordinary_only
from softcert.conformance.model import Finding, OracleError, Trial
from softcert.conformance.spec import rows_last


def confirm(trial: Trial, finding: Finding, context: Context) -> None:
    """Compare the truth that a finding was judged by with mpmath's.

    Raises
    ------
    OracleError : the two enclosures do not overlap.
    """
    call = trial.calls[finding.call]
    if call.op in SAMPLERS:
        call = _law_of(call)
    if call.op not in ATTENTION_OPS:
        call = ordinary_only(call)
        agree = context.truth(call).overlaps(evaluate(call, context.contract, "mpmath")[0]).all()
    elif finding.index is None or finding.exact is None:
        return
    else:
        alone, place = _alone(call, finding.result, finding.index, context)
        other = evaluate(alone, context.contract, "mpmath")[finding.result][place]
        agree = context.truths(call)[finding.result][finding.index].overlaps(other).all()
    if not agree:
        raise OracleError(
            f"mpmath and the oracle that judged disagree on {call.op} {call.params} of {call.operands!r}"
        )


def _law_of(call: Call) -> Call:
    """Softmax of a sampler's first row: all that is enclosed of it."""
    rows = rows_last(call.operands[0], int(call.params["axis"]))
    return Call("softmax", (np.ascontiguousarray(rows.reshape(-1, rows.shape[-1])[0]),), {"axis": -1})


def _alone(call: Call, result: int, index: tuple[int, ...], context: Context) -> tuple[Call, tuple[int, ...]]:
    """The call without all that one number does not depend on, and where that number is now."""
    if call.op == "attention_merge":
        row, last = index[: call.operands[1].ndim], index[call.operands[1].ndim :]
        return replace(call, operands=tuple(a[row][np.newaxis] for a in call.operands)), (0, *last)
    operands = exact_operands(call, context.contract)
    q, k, v = (a.reshape(-1, *a.shape[-2:]) for a in call.operands[:3])
    name = call.result_names[result]
    if name in {"dk", "dv"}:
        group = _number(index[:-2], call.operands[1].shape[:-2])
        heads = list(range(group * operands.sharing, (group + 1) * operands.sharing))
        key = slice(index[-2], index[-2] + 1)
        mask = np.stack([_mask(operands, head)[:, key] for head in heads])
        rest = [_heads_of(call, a)[heads] for a in call.operands[3:]]
        own = (q[heads], k[group : group + 1, key], v[group : group + 1, key])
        return _masked(call, (*own, *rest), mask), (0, 0, index[-1])
    lead = call.operands[0].shape[:-2]
    head, place = _number(index[: len(lead)], lead), index[len(lead)]
    rows, group = slice(place, place + 1), head // operands.sharing
    rest = [_heads_of(call, a)[head, rows] for a in call.operands[3:]]
    values = v[group]
    if name == "out":
        values = values[:, index[-1] : index[-1] + 1]
    alone = _masked(call, (q[head, rows], k[group], values, *rest), _mask(operands, head)[rows])
    return alone, (0,) if name == "lse" else (0, 0 if name == "out" else index[-1])


def _number(index: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(index, shape)) if shape else 0


def _heads_of(call: Call, array: Array) -> Array:
    """Of out, dout or lse, batches and heads in one axis."""
    kept = 2 if array.ndim == call.operands[0].ndim else 1
    return array.reshape(-1, *array.shape[-kept:])


def _masked(call: Call, operands: tuple[Array, ...], mask: Array) -> Call:
    """The call on other operands, with a mask that says all that is hidden."""
    params = {name: value for name, value in call.params.items() if name != "causal"}
    return replace(call, operands=operands, mask=mask, params=params, layout="contiguous")


def _mask(operands: Operands, head: int) -> Array:
    """(L, S), what hides keys of one head, the causal rule included."""
    shown = seen_keys(operands, head)
    if operands.mask is None or operands.mask.dtype == np.bool_:
        return shown
    return np.where(shown, np.asarray(operands.mask[head], dtype=np.float64), -np.inf)
