"""Judge one answer element by element: certified error against the bound, specials against the policy.

A violation is issued only where the lower end of the certified error exceeds the bound, so that an
enclosure too wide to decide never accuses; `margin` uses the upper end, so that it never flatters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call
from softcert.conformance.context import Context
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.policy import KIND_NAMES, ORDINARY, breaches, row_kinds
from softcert.reference import Enclosure

Float = NDArray[np.float64]

#: Errors and bounds from here on are given as distances.
_COUNTABLE = 1e300
#: Relative allowance for the roundings of an absolute comparison in binary64.
_GUARD = 2.0**-40


def judge_values(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Judge every result of a trial against the exact value of its own call."""
    return combine([judge_call(trial, k, results[k], context) for k in range(len(trial.calls))])


def judge_call(trial: Trial, position: int, value: Array, context: Context) -> Judgement:
    """Judge the result of one call of a trial."""
    call = trial.calls[position]
    if value.size == 0:
        return Judgement()
    special = _judge_special(call, position, value, context)
    ordinary = _ordinary_elements(call, value)
    if not ordinary.any():
        return replace(special, elements=int(value.size))
    truth = context.truth(call)
    lower, upper = (np.where(ordinary, e, 0.0) for e in truth.error_ulp(value))
    bound = np.where(ordinary, context.bound_ulp(ordinary_only(call), truth), np.inf)
    return combine(
        [special, _compare(call, position, value, truth, (lower, upper), bound, ordinary, context)]
    )


def ordinary_only(call: Call) -> Call:
    """The call with its special rows replaced by zeros, for functions that know only numbers."""
    kinds = row_kinds(call)
    if not kinds.any():
        return call
    axis = int(call.params["axis"])
    special = np.expand_dims(kinds != ORDINARY, axis)
    zero = call.operands[0].dtype.type(0)
    return replace(call, operands=tuple(np.where(special, zero, a) for a in call.operands))


def _ordinary_elements(call: Call, value: Array) -> NDArray[np.bool_]:
    kinds = row_kinds(call) == ORDINARY
    if call.op == "logsumexp":
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


def _compare(
    call: Call,
    position: int,
    value: Array,
    truth: Enclosure,
    error: tuple[Float, Float],
    bound: Float,
    ordinary: NDArray[np.bool_],
    context: Context,
) -> Judgement:
    lower, upper = error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(upper == 0.0, 0.0, upper / bound)
    # 0/0 and inf/inf: no error is within every bound, an infinite one is within none.
    ratio = np.where(np.isnan(ratio), np.where(upper > 0.0, np.inf, 0.0), ratio)
    broken = (lower > bound) | (np.isinf(lower) & ordinary)
    if call.op != "softmax":
        facts = value, truth, upper, context.absolute_bound(ordinary_only(call))
        ratio, broken = _decide_absolutely(ratio, broken, facts, bound)
    worst = np.unravel_index(int(np.argmax(np.where(broken, np.inf, ratio))), ratio.shape)
    at = tuple(int(i) for i in worst)
    finding = None
    if broken.any():
        ranking = np.where(broken, np.where(np.isfinite(ratio), ratio, np.finfo(np.float64).max), -1.0)
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(ranking)), ranking.shape))
        finding = _value_finding(call, position, value, truth, at, (lower, upper), bound)
    finite = upper[ordinary & np.isfinite(upper)]
    largest = int(np.argmax(upper))
    return Judgement(
        finding=finding,
        error_ulp=(float(lower.flat[largest]), float(upper.flat[largest])),
        mean_ulp=float(finite.mean()) if finite.size else 0.0,
        bound_ulp=float(bound[at]),
        margin=float(ratio[at]) if finding is None else float(max(ratio[at], 1.0)),
        elements=int(value.size),
        vacuous=_is_vacuous(call, truth, bound, ordinary, context),
        errors=tuple(finite.tolist())
        if finite.size <= 4096
        else tuple(finite[:: finite.size // 4096].tolist()),
    )


def _decide_absolutely(
    ratio: Float, broken: NDArray[np.bool_], facts: tuple[Array, Enclosure, Float, Float], bound: Float
) -> tuple[Float, NDArray[np.bool_]]:
    """Decide by absolute errors where an error or a bound in ulps is beyond binary64.

    Results that are exactly 0 have the smallest subnormal as their ulp: an absolute bound of 1e-9 is then
    more ulps than binary64 can count, and so may be an error that is well within it. There the exact value
    is below 2^-900 of the error or of the bound, so that its own rounding to binary64 does not matter.
    """
    value, truth, upper, absolute = facts
    answer, exact = value.astype(np.float64), truth.to_float64()
    beyond = np.isinf(upper) | (np.isinf(bound) & (upper > 0.0))
    undecided = np.isfinite(answer) & np.isfinite(exact) & np.isfinite(absolute) & beyond
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        share = np.where(undecided, np.abs(answer - exact) / absolute, 0.0)
    settled = np.where(undecided, share * (1.0 - _GUARD) > 1.0, broken)
    return np.where(undecided, share * (1.0 + _GUARD), ratio), settled


def _is_vacuous(
    call: Call, truth: Enclosure, bound: Float, ordinary: NDArray[np.bool_], context: Context
) -> bool:
    limit = np.where(ordinary, bound, 0.0)
    if call.op == "softmax":
        # In ulps at the exact value p, the range [0, 1] reaches max(p, 1 - p) / ulp(p) away from it.
        p = truth.to_float64()
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            reach = truth.in_ulps(context.dtype)[0] * np.where(p > 0, np.maximum(1.0, (1.0 - p) / p), np.inf)
        return bool((~(limit < reach))[ordinary].all())
    return bool((~np.isfinite(limit))[ordinary].all())


def _value_finding(
    call: Call,
    position: int,
    value: Array,
    truth: Enclosure,
    at: tuple[int, ...],
    error: tuple[Float, Float],
    bound: Float,
) -> Finding:
    lower_text, upper_text = truth[at].bounds_decimal(30)
    observed = float(value[at])
    interval = (float(error[0][at]), float(error[1][at]))
    name = quantity(call, at)
    exact, allowed = _short(str(lower_text)), float(bound[at])
    # More ulps than binary64 counts: the exact value is next to nothing, and the distance is the answer.
    countable = not np.isfinite(observed) or (interval[0] < _COUNTABLE and allowed < _COUNTABLE)
    message = (
        f"{interval[0]:.4g} ulp from the exact {exact}; the bound is {allowed:.4g} ulp"
        if countable
        else f"the exact value is {exact}: more apart than the absolute bound"
    )
    return Finding(
        call=position,
        index=at,
        quantity=name,
        exact=(str(lower_text), str(upper_text)),
        observed=hex_of(value[at]),
        error_ulp=interval if countable else None,
        bound_ulp=allowed if countable else None,
        message=f"{name} is {observed:.9g}, {message}",
    )


def quantity(call: Call, index: tuple[int, ...]) -> str:
    """Name of one result of a call, as findings print it: "softmax(x)[1, 3]"."""
    names = ", ".join(operand_names(call))
    return f"{call.op}({names})[{', '.join(map(str, index))}]"


def operand_names(call: Call) -> tuple[str, ...]:
    """Names of the call's operands, beta where it is not 1."""
    from softcert.backends.types import OPERANDS

    beta = call.params.get("beta", 1.0)
    return (*OPERANDS[call.op], *((f"beta={beta!r}",) if beta != 1.0 else ()))


def hex_of(number: np.generic) -> str:
    """Hexadecimal of a float of any supported format; binary64 holds them all exactly."""
    return float(number).hex()


def _short(decimal: str) -> str:
    mantissa, _, exponent = decimal.partition("e")
    return mantissa[:14] + (f"e{exponent}" if exponent else "")


def combine(judgements: list[Judgement]) -> Judgement:
    """One judgement of several: the worst finding, the largest errors, all the elements."""
    if not judgements:
        return Judgement()
    counted = [j for j in judgements if j.elements]
    finding = next((j.finding for j in judgements if j.finding is not None), None)
    by_error = max(judgements, key=lambda j: j.error_ulp[1])
    by_margin = max(judgements, key=lambda j: j.margin)
    elements = sum(j.elements for j in judgements)
    mean = sum(j.mean_ulp * j.elements for j in judgements) / elements if elements else 0.0
    return Judgement(
        finding=finding,
        error_ulp=by_error.error_ulp,
        mean_ulp=mean,
        bound_ulp=by_margin.bound_ulp,
        margin=by_margin.margin,
        elements=elements,
        vacuous=bool(counted) and all(j.vacuous for j in counted),
        errors=tuple(e for j in judgements for e in j.errors),
    )
