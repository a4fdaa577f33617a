"""Judge the answers to a trial, each call by its own exact values: of a softmax op here, of attention beside.

What has no exact value, rows with NaN for one, is judged by the contract's policy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softcert.backends.ops import (
    ATTENTION_OPS,
    INTEGERS,
    ONE_A_ROW,
    OPERANDS,
    REDUCING_OPS,
    ROW_OPTIONS,
)
from softcert.backends.types import Array, Call
from softcert.conformance.context import Context
from softcert.conformance.judging.attention_judge import by_calls, judge_attention, part_quantity
from softcert.conformance.judging.compare import Comparison, certified_errors, combine, compare, hex_of
from softcert.conformance.judging.policy import KIND_NAMES, ORDINARY, breaches, row_kinds
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import SIMPLEX_OPS
from softcert.reference import Enclosure

Float = NDArray[np.float64]


def judge_values(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Judge every result of a trial against the exact values of its own call.

    Parameters
    ----------
    results : the arrays that the calls gave, call by call.
    """
    judged = []
    for k, values in enumerate(by_calls(trial.calls, results)):
        if trial.calls[k].op in ATTENTION_OPS:
            judged.append(judge_attention(k, trial.calls[k], values, context))
        else:
            judged.append(judge_call(trial, k, values[0], context))
    return combine(judged)


def judge_call(trial: Trial, position: int, value: Array, context: Context) -> Judgement:
    """Judge the result of one call of a softmax op in a trial."""
    call = trial.calls[position]
    if value.size == 0:
        return Judgement()
    special = _judge_special(call, position, value, context)
    ordinary = _ordinary_elements(call, value)
    if not ordinary.any():
        return replace(special, elements=int(value.size))
    truth, safe = context.truth(call), ordinary_only(call)
    bound = np.where(ordinary, context.bound_ulp(safe, truth), np.inf)
    lower, upper = (np.where(ordinary, e, 0.0) for e in certified_errors(truth, value, bound))
    absolute = None if call.op == "softmax" else context.absolute_bound(safe)
    comparison = Comparison(
        position=position,
        value=value,
        truth=truth,
        error=(lower, upper),
        bound=bound,
        ordinary=ordinary,
        absolute=absolute,
        vacuous=bool(_says_nothing(call.op, truth, (bound, absolute), context)[ordinary].all()),
        name=lambda at: quantity(call, at),
    )
    return combine([special, compare(comparison)])


def ordinary_only(call: Call) -> Call:
    """The call with its special rows replaced by zeros, for functions that know only numbers."""
    kinds = row_kinds(call)
    if not kinds.any():
        return call
    special = kinds != ORDINARY
    spread = np.expand_dims(special, int(call.params["axis"]))
    zero = call.operands[0].dtype.type(0)
    operands = (
        # A class stays what it is.
        a if name in INTEGERS else np.where(special if name in ONE_A_ROW else spread, zero, a)
        for name, a in zip(OPERANDS[call.op], call.operands, strict=True)
    )
    return replace(call, operands=tuple(operands))


def _ordinary_elements(call: Call, value: Array) -> NDArray[np.bool_]:
    kinds = row_kinds(call) == ORDINARY
    if call.op in REDUCING_OPS:
        return np.broadcast_to(kinds, value.shape)
    return np.broadcast_to(np.expand_dims(kinds, int(call.params["axis"])), value.shape)


def _judge_special(call: Call, position: int, value: Array, context: Context) -> Judgement:
    found = breaches(call, value, context.contract)
    if not found:
        return Judgement()
    first = found[0]
    observed = float(value[first.index])
    finding = Finding(
        call=position,
        index=first.index,
        quantity=quantity(call, first.index),
        exact=None,
        observed=hex_of(value[first.index]),
        error_ulp=None,
        bound_ulp=None,
        message=f"{call.op} of {KIND_NAMES[first.kind]} gives {observed:g} where it must give "
        f"{first.expected}",
    )
    return Judgement(finding=finding, error_ulp=(np.inf, np.inf), margin=np.inf)


def _says_nothing(
    op: str, truth: Enclosure, bounds: tuple[Float, Float | None], context: Context
) -> NDArray[np.bool_]:
    """Where a bound accepts anything: infinite as a distance, or of a probability as wide as [0, 1]."""
    bound, absolute = bounds
    if absolute is not None and op not in SIMPLEX_OPS:
        return ~np.isfinite(absolute)
    p = truth.to_float64()
    if absolute is not None:
        return ~(absolute < np.maximum(p, 1.0 - p))
    # In ulps at the exact value p, the range [0, 1] reaches max(p, 1 - p) / ulp(p) away from it.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        reach = truth.in_ulps(context.dtype)[0] * np.where(p > 0, np.maximum(1.0, (1.0 - p) / p), np.inf)
    return ~(bound < reach)


def quantity(call: Call, index: tuple[int, ...]) -> str:
    """Name of one result of a call, as findings print it: "softmax(x)[1, 3]"."""
    names = ", ".join(operand_names(call))
    return f"{call.op}({names})[{', '.join(map(str, index))}]"


def result_quantity(call: Call, result: int, index: tuple[int, ...]) -> str:
    """Name of one number of one of the call's results."""
    if call.op in ATTENTION_OPS:
        return part_quantity(call, call.result_names[result], index)
    return quantity(call, index)


def operand_names(call: Call) -> tuple[str, ...]:
    """Names of the call's operands, and its options where they are not the usual ones."""
    usual = ROW_OPTIONS.get(call.op, {})
    given = {name: call.params.get(name, value) for name, value in usual.items()}
    return (*OPERANDS[call.op], *(f"{k}={v!r}" for k, v in given.items() if v != usual[k]))
