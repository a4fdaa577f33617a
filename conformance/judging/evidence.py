"""Evidence for clauses that relate results to each other, and the findings they write."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from decimal import Context as DecimalContext

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call, Output
from softcert.conformance.bounds import softmax as bounds
from softcert.conformance.context import Context
from softcert.conformance.judging.compare import hex_of
from softcert.conformance.judging.judge import quantity
from softcert.conformance.judging.policy import ORDINARY, row_kinds
from softcert.conformance.judging.shapes import misshapen
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import rows_last
from softcert.reference import Enclosure

Float = NDArray[np.float64]

_GUARD = 2.0**-50
#: Distance of logarithms from which on they are subtracted.
_FAR = 0.25
#: Multiple of the smallest normal number from which on ratios are judged.
_CLEAR = 16.0
#: Exponents that decimal quotients may need; probabilities of gaps to 1e308 stay far within.
_EXPONENTS = 999_999_999_999_999_999


def log_errors(call: Call, value: Array, context: Context) -> tuple[Float, Float]:
    """Certified (lower, upper) of log(computed / exact) of a softmax call, reduced axis last.

    NaN where the exact value is not clearly a normal number of the format: there, errors are absolute and
    ratios say nothing. -inf where the answer is 0.
    """
    truth = context.truth(call)
    axis = int(call.params["axis"])
    exact = rows_last(truth.to_float64(), axis)
    low, high = (rows_last(e, axis) for e in truth.signed_error_ulp(value))
    smallest, largest = (rows_last(e, axis) for e in truth.in_ulps(context.dtype))
    normal = exact >= _CLEAR * context.arithmetic.lambda_out
    with np.errstate(all="ignore"):
        lower = np.log1p(low / np.where(low < 0, smallest, largest)) - _GUARD
        upper = np.log1p(high / np.where(high < 0, largest, smallest)) + _GUARD
        # Far from the exact value 1 + (computed - exact)/exact cancels; two logarithms do not.
        logs = np.log(rows_last(value, axis).astype(np.float64)), np.log(exact)
        apart, guard = logs[0] - logs[1], _GUARD * (1.0 + np.abs(logs[0]) + np.abs(logs[1]))
        far = np.abs(apart) > _FAR
        lower = np.where(far, apart - np.where(np.isfinite(guard), guard, 0.0), lower)
        upper = np.where(far, apart + np.where(np.isfinite(guard), guard, 0.0), upper)
    return np.where(normal, lower, np.nan), np.where(normal, upper, np.nan)


def numerator_bounds(call: Call, context: Context) -> Float:
    """Perturbation of log p that is not common to a row, reduced axis last; inf where p may become 0."""
    a = context.arithmetic
    x = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    rows = bounds.rows_of(x, float(call.params.get("beta", 1.0)), any_order=False)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        underflow = np.where(np.isfinite(rows.gap), a.underflow / np.exp(rows.log_p), 0.0)
        # Downwards: a loss of all of p has no logarithm, as where exp is computed in a narrower format.
        lost = np.where(underflow < 1.0, -np.log1p(-underflow), np.inf)
    perturbation: Float = bounds.softmax_numerator_error(rows, a) + lost
    return perturbation


def ordinary(*calls: Call) -> bool:
    """Whether every row of every call is one that the oracle judges."""
    return not any((row_kinds(call) != ORDINARY).any() for call in calls)


def relation_finding(
    call: int,
    index: tuple[int, ...] | None,
    quantity: str,
    observed: np.generic | str,
    message: str,
    *,
    exact: tuple[str, str] | None = None,
    error_ulp: tuple[float, float] | None = None,
    bound_ulp: float | None = None,
    result: int = 0,
) -> Finding:
    """Finding of a clause that compares results with each other."""
    text = observed if isinstance(observed, str) else hex_of(observed)
    return Finding(call, index, quantity, exact, text, error_ulp, bound_ulp, message, result)


def broken(finding: Finding, elements: int) -> Judgement:
    """Judgement of a trial that a relation settles."""
    error = finding.error_ulp or (np.inf, np.inf)
    bound = finding.bound_ulp or 0.0
    margin = error[1] / bound if bound else np.inf
    return Judgement(finding, error_ulp=error, bound_ulp=bound, margin=margin, elements=elements)


def ratio_judgement(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Judge that the ratios of the outputs of each row are those of the exact values.

    What all outputs of a row share, the sum and its errors, cancels in a ratio; what remains is bounded by
    the numerators alone, whatever the length of the row. Errors are counted in ulps of 1.
    """
    unit = 2.0 * context.arithmetic.u_out
    worst = Judgement()
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call):
            continue
        missing = not_numbers(position, call, value)
        if missing is not None:
            return missing
        low, high = log_errors(call, value, context)
        limit = numerator_bounds(call, context)
        judgement = _spread(position, call, value, (low, high), limit, unit, context.truth(call))
        if judgement.finding is not None:
            return judgement
        worst = max(worst, judgement, key=lambda j: j.margin)
    return worst


def _spread(
    position: int,
    call: Call,
    value: Array,
    error: tuple[Float, Float],
    limit: Float,
    unit: float,
    truth: Enclosure,
) -> Judgement:
    low, high = error
    usable = ~(np.isnan(low) | np.isnan(high)) & np.isfinite(limit)
    if not (usable.sum(axis=-1) >= 2).any():
        return Judgement()
    above = np.where(usable, low - limit, -np.inf)
    below = np.where(usable, high + limit, np.inf)
    excess = above.max(axis=-1) - below.min(axis=-1)
    row = np.unravel_index(int(np.argmax(excess)), excess.shape) if excess.ndim else ()
    up, down = int(np.argmax(above[row])), int(np.argmin(below[row]))
    spread = (float(low[row][up] - high[row][down]), float(high[row][up] - low[row][down]))
    allowed = float(limit[row][up] + limit[row][down])
    certified = (
        max(0.0, np.nextafter(spread[0], -np.inf)) / unit,
        max(0.0, np.nextafter(spread[1], np.inf)) / unit,
    )
    margin = certified[1] * unit / allowed if allowed else 0.0
    finding = None
    if float(excess[row]) > 0.0:
        exact = _exact_ratio(truth, call, (*map(int, row),), (up, down))
        finding = _ratio_finding(
            position, call, value, (*map(int, row),), (up, down), certified, allowed / unit, exact
        )
    return Judgement(
        finding=finding,
        error_ulp=certified,
        bound_ulp=allowed / unit,
        margin=max(margin, 1.0) if finding else min(margin, 1.0),
        elements=int(value.size),
        vacuous=allowed >= 64.0,
    )


def _ratio_finding(
    position: int,
    call: Call,
    value: Array,
    row: tuple[int, ...],
    pair: tuple[int, int],
    error: tuple[float, float],
    bound: float,
    exact: tuple[str, str],
) -> Finding:
    axis = int(call.params["axis"]) % value.ndim
    places = [(*row[:axis], k, *row[axis:]) for k in pair]
    name = f"softmax(x){list(places[0])} / softmax(x){list(places[1])}"
    first, second = (float(value[p]) for p in places)
    return Finding(
        call=position,
        index=places[0],
        quantity=name,
        exact=exact,
        observed=f"{first.hex()} / {second.hex()}",
        error_ulp=error,
        bound_ulp=bound,
        message=(
            f"the ratio {name} = {_quotient(first, second):.9g} is {error[0]:.4g} ulp of 1 from "
            "exp(x_i - x_j), more than"
            f" the numerators' bound of {bound:.4g} ulp"
        ),
    )


def _quotient(first: float, second: float) -> float:
    return first / second if second else float("inf")


def _exact_ratio(
    truth: Enclosure, call: Call, row: tuple[int, ...], pair: tuple[int, int]
) -> tuple[str, str]:
    """Enclosure of p_i / p_j in decimal, 30 digits, rounded outwards."""
    axis = int(call.params["axis"]) % (len(row) + 1)
    (top, bottom) = (truth[(*row[:axis], k, *row[axis:])].bounds_decimal(40) for k in pair)
    down, up = (
        DecimalContext(prec=30, rounding=r, Emin=-_EXPONENTS, Emax=_EXPONENTS)
        for r in (ROUND_FLOOR, ROUND_CEILING)
    )
    low = down.divide(Decimal(str(top[0])), Decimal(str(bottom[1])))
    high = up.divide(Decimal(str(top[1])), Decimal(str(bottom[0])))
    return str(low), str(high)


def not_numbers(position: int, call: Call, value: Array) -> Judgement | None:
    """Judgement of an answer with NaN for an ordinary call: no relation holds for it."""
    where = np.isnan(value.astype(np.float64))
    if not where.any():
        return None
    at = tuple(int(i) for i in np.argwhere(np.atleast_1d(where))[0]) if where.ndim else ()
    name = quantity(call, at)
    finding = relation_finding(
        position, at, name, value[at], f"{name} is NaN, for logits that have an exact result"
    )
    return broken(finding, int(value.size))


def judge_shape(trial: Trial, outputs: tuple[Output, ...], _context: Context) -> Judgement:
    """Judge that the results have the shapes and dtypes of their op."""
    call, values = trial.calls[0], outputs[0].values
    message = misshapen(call, values)
    if message is None:
        return Judgement(elements=sum(int(value.size) for value in values))
    given = ", ".join(f"{value.dtype} {value.shape}" for value in values)
    return broken(relation_finding(0, None, "shape and dtype", given, message), 1)
