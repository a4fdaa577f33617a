"""Judge one answer of attention: every result by its exact values, what has none by the contract's policy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call
from softcert.conformance.context import Context, truth_ulp
from softcert.conformance.judging.attention_truth import Part, Special
from softcert.conformance.judging.compare import Comparison, certified_errors, combine, compare, hex_of
from softcert.conformance.model import Finding, Judgement

Float = NDArray[np.float64]

#: Mean of the values: a sum and a division, in any order, in the accumulator's format.
_MEAN_ULPS = 4.0
#: A certified error counted through binary64, for an lse of another base.
_CONVERSION = 2.0**-50


def judge_attention(position: int, call: Call, values: tuple[Array, ...], context: Context) -> Judgement:
    """Judge the results of one call.

    A gradient may be that of the out and lse given, or that of attention itself, for programs that make the
    forward pass anew; all three results have to be of one kind.
    """
    judged = _judge_parts(position, call, values, context.parts(call), context)
    if judged.finding is None or call.op != "attention_vjp":
        return judged
    again = _judge_parts(position, call, values, context.remade_parts(call), context)
    return again if again.finding is None else judged


def judge_given(position: int, call: Call, values: tuple[Array, ...], context: Context) -> Judgement:
    """Judge a gradient by the out and lse given alone."""
    return _judge_parts(position, call, values, context.parts(call), context)


def _judge_parts(
    position: int, call: Call, values: tuple[Array, ...], parts: tuple[Part, ...], context: Context
) -> Judgement:
    found = []
    for k, (value, part) in enumerate(zip(values, parts, strict=True)):
        if value.size:
            special = _judge_special(position, call, value, part, context)
            for judged in (special, _judge_ordinary((position, k), call, value, part)):
                finding = judged.finding
                found.append(
                    judged if finding is None else replace(judged, finding=replace(finding, result=k))
                )
    return combine(found)


def part_quantity(call: Call, name: str, index: tuple[int, ...]) -> str:
    """Name of one number, as findings print it: "lse of attention_lse(q, k, v)[0, 3]"."""
    from softcert.backends.ops import OPERANDS

    whole = f"{call.op}({', '.join(OPERANDS[call.op])})"
    named = whole if len(call.result_names) == 1 else f"{name} of {whole}"
    return f"{named}[{', '.join(map(str, index))}]"


def _errors(value: Array, part: Part, bound: Float) -> tuple[Float, Float]:
    """Certified (lower, upper) error of each element, in ulps of the result's dtype at the exact value."""
    if part.unit == 1.0:
        return certified_errors(part.truth, value, bound)
    exact = part.truth.to_float64()
    distance = np.abs(value.astype(np.float64) * part.unit - exact)
    guard = _CONVERSION * (np.abs(exact) + distance)
    ulp = truth_ulp(part.truth, part.dtype)
    return np.maximum(distance - guard, 0.0) / ulp, (distance + guard) / ulp


def _judge_ordinary(place: tuple[int, int], call: Call, value: Array, part: Part) -> Judgement:
    """Judge a result by its exact values; `place` is that of its call, and its own among the results."""
    if not part.ordinary.any():
        return Judgement(elements=int(value.size))
    # where no bound is known, overflow on the way for one, nothing is promised
    known = part.ordinary & np.isfinite(part.bound)
    absolute = np.where(known, part.bound, np.inf)
    with np.errstate(over="ignore"):
        bound = absolute / truth_ulp(part.truth, part.dtype)
    lower, upper = (np.where(known, error, 0.0) for error in _errors(value, part, bound))
    comparison = Comparison(
        position=place[0],
        value=value if part.unit == 1.0 else np.asarray(value.astype(np.float64) * part.unit),
        truth=part.truth,
        error=(lower, upper),
        bound=bound,
        ordinary=known,
        absolute=absolute,
        vacuous=bool(part.vacuous[part.ordinary].all()),
        name=lambda at: part_quantity(call, part.name, at),
        result=place[1],
    )
    return compare(comparison)


def _judge_special(position: int, call: Call, value: Array, part: Part, context: Context) -> Judgement:
    for special in part.special:
        wrong = special.where & ~_allowed(value.astype(np.float64), special, context)
        if wrong.any():
            at = tuple(int(i) for i in np.argwhere(wrong)[0])
            name = part_quantity(call, part.name, at)
            needed = f"where {special.reason}, and has to be {_WORDS[special.wanted]}"
            message = f"{name} is {float(value[at]):g} {needed}"
            finding = Finding(position, at, name, None, hex_of(value[at]), None, None, message)
            return Judgement(finding=finding, error_ulp=(np.inf, np.inf), margin=np.inf)
    return Judgement()


_WORDS = {"zero": "0", "nan": "NaN", "-inf": "-inf", "+inf": "+inf", "mean": "the mean of all values"}


def _allowed(value: Float, special: Special, context: Context) -> NDArray[np.bool_]:
    if special.mean is not None:
        mean, size = special.mean
        unit = context.attention_arithmetic.accumulator.unit_roundoff
        slack = (_MEAN_ULPS + size.shape[-2]) * unit * size
        result = context.attention_arithmetic.result
        return np.asarray(np.abs(value - mean) <= slack + result.unit_roundoff * size + result.eta)
    exact = {"zero": 0.0, "-inf": -np.inf, "+inf": np.inf}
    return np.isnan(value) if special.wanted == "nan" else np.asarray(value == exact[special.wanted])


def by_calls(trial_calls: tuple[Call, ...], results: tuple[Array, ...]) -> list[tuple[Array, ...]]:
    """The results of each call, of a flat sequence of those of all."""
    rest = iter(results)
    return [tuple(next(rest) for _ in call.result_names) for call in trial_calls]


__all__ = ["by_calls", "judge_attention", "judge_given", "part_quantity"]
