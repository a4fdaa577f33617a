"""The outputs are a probability vector, as nearly as the format allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.backends.types import Array, Call
from softcert.conformance.bounds import softmax as bounds
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import FAMILIES, make_row
from softcert.conformance.inputs.growing import one_call, operands_from, sweep
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.compare import hex_of
from softcert.conformance.judging.judge import ordinary_only, quantity
from softcert.conformance.judging.policy import ORDINARY, row_kinds
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import SIMPLEX_OPS, Clause, Seedling, rows_last

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EXACT_DIGITS = 30


def _first(where: NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(where)[0])


def _judge_range(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    call, value = trial.calls[0], results[0]
    ordinary = np.expand_dims(row_kinds(call) == ORDINARY, int(call.params["axis"]))
    number = value.astype(np.float64)
    if call.op in SIMPLEX_OPS:
        legal = (number >= 0.0) & (number <= 1.0)
    else:
        legal = ((number <= 0.0) & np.isfinite(number)) | _within_bound(call, value, context)
    broken = np.broadcast_to(ordinary, value.shape) & ~legal
    if not broken.any():
        return Judgement(elements=int(value.size))
    at = _first(broken)
    allowed = "[0, 1]" if call.op in SIMPLEX_OPS else "(-inf, 0]"
    finding = Finding(
        call=0,
        index=at,
        quantity=quantity(call, at),
        exact=None,
        observed=hex_of(value[at]),
        error_ulp=None,
        bound_ulp=None,
        message=f"{quantity(call, at)} is {float(value[at]):.9g}, outside {allowed}, for finite logits",
    )
    return Judgement(finding=finding, elements=int(value.size), margin=np.inf, error_ulp=(np.inf, np.inf))


def _within_bound(call: Call, value: Array, context: Context) -> NDArray[np.bool_]:
    """A log-probability may exceed 0 by its bound, and is -inf where the exact value rounds to that."""
    safe = ordinary_only(call)
    truth = context.truth(safe)
    error = truth.error_ulp(value)[0]
    inside: NDArray[np.bool_] = np.isfinite(error) & (error <= context.bound_ulp(safe, truth))
    return inside


def _exact_sums(terms: NDArray[np.float64], more: float) -> NDArray[np.float64]:
    """Sum of each row and one more number, rounded once (fsum sums exactly); beyond binary64 infinite."""
    sums = np.empty(terms.shape[:-1])
    for place in np.ndindex(sums.shape):
        try:
            sums[place] = math.fsum([*terms[place].tolist(), more])
        except OverflowError:
            sums[place] = np.inf
    return sums


def _judge_sum(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    call, value = trial.calls[0], results[0]
    axis = int(call.params["axis"])
    kinds = row_kinds(call)
    if (kinds != ORDINARY).any() or not np.isfinite(value.astype(np.float64)).all():
        return Judgement()
    a = context.arithmetic
    ulp = 2.0 * a.u_out
    if call.op == "softmax":
        bound = bounds.softmax_sum_bound(context.rows(call), a)[..., 0] / ulp
    else:
        bound = rows_last(context.absolute_bound(call), axis).sum(axis=-1) / ulp
    terms = rows_last(value, axis).astype(np.float64)
    distance = np.abs(_exact_sums(terms, -1.0)) / ulp
    lower, upper = distance * (1 - 2.0**-50), distance * (1 + 2.0**-50)
    broken = lower > bound
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(upper == 0.0, 0.0, upper / bound)
    at = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratio)), ratio.shape))
    finding = None
    if broken.any():
        total = float(_exact_sums(terms, 0.0)[at])
        finding = Finding(
            call=0,
            index=at,
            quantity="sum of the outputs",
            exact=("1", "1"),
            observed=total.hex(),
            error_ulp=(float(lower[at]), float(upper[at])),
            bound_ulp=float(bound[at]),
            message=(
                f"the outputs of a row sum to {total:.12g}, {float(lower[at]):.4g} ulp"
                f" of 1 away from 1; the bound is {float(bound[at]):.4g} ulp"
            ),
        )
    return Judgement(
        finding=finding,
        error_ulp=(float(lower[at]), float(upper[at])),
        mean_ulp=float(upper.mean()),
        bound_ulp=float(bound[at]),
        margin=float(ratio[at]),
        elements=int(lower.size),
        vacuous=bool((~(bound * ulp < 1.0)).all()),
    )


def _judge_positive(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    call, value = trial.calls[0], results[0]
    if (row_kinds(call) != ORDINARY).any():
        return Judgement()
    truth = context.truth(call)
    lower, _ = truth.in_ulps(context.dtype)
    a = context.arithmetic
    # Half the smallest subnormal is the rounding threshold; exp may err by its ulps below that.
    slack = 0.5 + a.exp_ulp * a.eta_compute / a.eta_out
    threshold = slack * (a.lambda_out / a.eta_out if a.flush else 1.0)
    broken = (lower >= threshold) & (value.astype(np.float64) <= 0.0)
    if not broken.any():
        return Judgement(elements=int(value.size))
    at = _first(broken)
    low, high = truth[at].bounds_decimal(_EXACT_DIGITS)
    error = float(truth.error_ulp(value)[0][at]), float(truth.error_ulp(value)[1][at])
    finding = Finding(
        call=0,
        index=at,
        quantity=quantity(call, at),
        exact=(str(low), str(high)),
        observed=hex_of(value[at]),
        error_ulp=error,
        bound_ulp=threshold,
        message=f"{quantity(call, at)} is {float(value[at]):g} where the exact value is "
        f"{str(low)[:12]}..., not 0",
    )
    return Judgement(finding=finding, elements=int(value.size), margin=np.inf, error_ulp=error)


def _directed(context: Context) -> Iterator[Seedling]:
    for family in FAMILIES:
        for n in (2, 5, 33):
            x = make_row(family, n, n, 3.0, context.dtype)
            yield Seedling(operands_from(context, x, n), family=family)
    yield from sweep(context, (7, 64, 517, 1000, 4097), ("normal", "equal", "ties"))
    if context.thorough >= 1:
        yield from sweep(context, (20001, 70001), ("normal", "equal"))


def _small_outputs(context: Context) -> Iterator[Seedling]:
    for n in (2, 3, 16, 33):
        for seed in range(6):
            for family in ("tiny-outputs", "gap-sweep"):
                x = make_row(family, n, seed, 1.0, context.dtype)
                yield Seedling((x,), family=family)


_RANGE = Clause(
    id="simplex.range",
    statement="finite logits give finite results: probabilities in [0, 1], log-probabilities at most 0",
    mathematics="0 <= p_i <= 1; log p_i <= 0 up to its bound",
    source="definition of the simplex",
    in_practice="NaN above 710 without the maximum subtracted (tt-metal#52131), probabilities above 1",
    ops=("softmax", "log_softmax"),
    directed=_directed,
    drawn=seedlings,
    grow=one_call,
    judge=_judge_range,
)

CLAUSES = (
    _RANGE,
    Clause(
        id="simplex.sum",
        statement="the exact sum of the outputs of a row is 1 within the bound",
        mathematics="|sum_i p_i - 1| <= (n - 1) u_sum + 3u + n atol (division form; exp's error cancels)",
        source="derivation: numerators and denominator share the same computed weights",
        in_practice="row sums of 2.0 at n = 4096 from a float16 accumulator (candle#3727), 0.865 "
        "(tt-metal#52045)",
        ops=("softmax",),
        directed=_directed,
        drawn=seedlings,
        grow=one_call,
        judge=_judge_sum,
    ),
    Clause(
        id="simplex.positive",
        statement="a probability that the format can hold is not rounded to zero",
        mathematics="exact p_i >= (1/2 + E) eta implies computed p_i > 0 (E: declared exp error in ulps)",
        source="IEEE 754 gradual underflow",
        in_practice="an argument clamped at -88.376, subnormal results flushed without saying so",
        ops=("softmax",),
        directed=_small_outputs,
        drawn=lambda context: seedlings(context, families=("tiny-outputs", "gap-sweep", "normal")),
        grow=one_call,
        judge=_judge_positive,
        effort=0.5,
    ),
)
