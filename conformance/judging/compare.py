"""Compare one result with its exact values: certified error against bound, element by element.

A violation is issued only where the lower end of the certified error exceeds the bound, so that an
enclosure too wide to decide never accuses; `margin` uses the upper end, so that it never flatters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array
from softcert.conformance.model import Compared, Finding, Judgement
from softcert.reference import Enclosure

Float = NDArray[np.float64]

#: Errors and bounds from here on are given as distances.
_COUNTABLE = 1e300
#: So many errors of a result, the largest, are made certain if they are known to a factor of two only: more
#: than are in any result that was seen, where all gradients are what is left of weights below e^-100.
_SHARPENED = 1 << 15
#: So many are, if it is open whether they exceed half an ulp, as correct rounding never does: ties are many.
_TIES, _ROUNDED = 1024, 0.5
#: Relative allowance for the roundings of an absolute comparison in binary64.
_GUARD = 2.0**-40


@dataclass(frozen=True)
class Comparison:
    """One result beside its exact value.

    Attributes
    ----------
    position : of its call in the trial.
    error : certified (lower, upper) in ulps.
    bound : in ulps, infinite where none is promised.
    ordinary : which elements count.
    absolute : the bound as a distance, which decides where ulps cannot be counted; None where they can.
    vacuous : the bound accepts everything.
    name : of the element at a place, as findings print it.
    result : which of the call's results it is.
    """

    position: int
    value: Array
    truth: Enclosure
    error: tuple[Float, Float]
    bound: Float
    ordinary: NDArray[np.bool_]
    absolute: Float | None
    vacuous: bool
    name: Callable[[tuple[int, ...]], str]
    result: int = 0


def certified_errors(truth: Enclosure, value: Array, bound: Float) -> tuple[Float, Float]:
    """(lower, upper) error of each element in ulps, by the exact path where the fast one leaves it open.

    Weights far below others, e^-600 of them, are known to few digits only by double words, and so is what is
    left where all but nothing cancels: the largest errors that a run prints would be none of the subject's.
    """
    # Of one number arithmetic makes a scalar, which nothing can be written into.
    lower, upper = map(np.array, truth.error_ulp(value))
    open_ = np.array((lower <= bound) & (upper > bound))
    large, wide = upper > _ROUNDED, lower < upper / 2.0
    unknown = np.flatnonzero(large & wide)
    open_.flat[unknown[np.argsort(upper.flat[unknown])[-_SHARPENED:]]] = True
    open_.flat[np.flatnonzero(large & ~wide & (lower <= _ROUNDED))[:_TIES]] = True
    if open_.any():
        exact, answer = truth[open_].exactly(), value[open_]
        low, high = exact.error_ulp(answer)
        # An error of half an ulp less e^-900 has an upper end beyond it: the rounding itself decides.
        nearest = (low <= _ROUNDED) & (high > _ROUNDED)
        if nearest.any():
            right = exact[nearest].round(value.dtype) == answer[nearest]
            high[nearest] = np.where(right, _ROUNDED, high[nearest])
        lower[open_], upper[open_] = low, high
    return lower, upper


def compare(c: Comparison) -> Judgement:
    """Judge the elements of one result that have an exact value."""
    lower, upper = c.error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(upper == 0.0, 0.0, upper / c.bound)
    # 0/0 and inf/inf: no error is within every bound, an infinite one is within none.
    ratio = np.where(np.isnan(ratio), np.where(upper > 0.0, np.inf, 0.0), ratio)
    broken = (lower > c.bound) | (np.isinf(lower) & c.ordinary)
    if c.absolute is not None:
        facts = c.value, c.truth, upper, c.absolute
        ratio, broken = _decide_absolutely(ratio, broken, facts, c.bound)
    worst = np.unravel_index(int(np.argmax(np.where(broken, np.inf, ratio))), ratio.shape)
    at = tuple(int(i) for i in worst)
    finding = None
    if broken.any():
        ranking = np.where(broken, np.where(np.isfinite(ratio), ratio, np.finfo(np.float64).max), -1.0)
        at = tuple(int(i) for i in np.unravel_index(int(np.argmax(ranking)), ranking.shape))
        finding = _value_finding(c, at)
    finite = upper[c.ordinary & np.isfinite(upper)]
    largest = int(np.argmax(upper))
    return Judgement(
        finding=finding,
        error_ulp=(float(lower.flat[largest]), float(upper.flat[largest])),
        mean_ulp=float(finite.mean()) if finite.size else 0.0,
        bound_ulp=float(c.bound[at]),
        margin=float(ratio[at]) if finding is None else float(max(ratio[at], 1.0)),
        elements=int(c.value.size),
        vacuous=c.vacuous,
        errors=tuple(finite.tolist())
        if finite.size <= 4096
        else tuple(finite[:: finite.size // 4096].tolist()),
        compared=(Compared(c.position, c.result, upper, ratio, c.ordinary),),
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


def _value_finding(c: Comparison, at: tuple[int, ...]) -> Finding:
    lower_text, upper_text = c.truth[at].bounds_decimal(30)
    observed = float(c.value[at])
    interval = (float(c.error[0][at]), float(c.error[1][at]))
    name = c.name(at)
    exact, allowed = _short(str(lower_text)), float(c.bound[at])
    # More ulps than binary64 counts: the exact value is next to nothing, and the distance is the answer.
    countable = not np.isfinite(observed) or (interval[0] < _COUNTABLE and allowed < _COUNTABLE)
    message = (
        f"{interval[0]:.4g} ulp from the exact {exact}; the bound is {allowed:.4g} ulp"
        if countable
        else f"the exact value is {exact}: more apart than the absolute bound"
    )
    return Finding(
        call=c.position,
        index=at,
        quantity=name,
        exact=(str(lower_text), str(upper_text)),
        observed=hex_of(c.value[at]),
        error_ulp=interval if countable else None,
        bound_ulp=allowed if countable else None,
        message=f"{name} is {observed:.9g}, {message}",
    )


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
        errors=tuple(chain.from_iterable(j.errors for j in judgements)),
        compared=tuple(chain.from_iterable(j.compared for j in judgements)),
    )
