"""The limits of softmax: arg max, arg min, uniform, and the tropical limit of logsumexp."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import Scale, to_dtype
from softcert.conformance.inputs.growing import call_of, one_call, trial_of
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.evidence import broken, ordinary, relation_finding
from softcert.conformance.judging.judge import judge_values, quantity
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import LOGIT_OPS, Clause, Seedling, rows_last

_ROWS = (
    (1.0, 5.0, 10.0),
    (1.0, 5.0, 5.0),
    (0.0, 10.0),
    (3.0, 3.0, 3.0, 1.0),
    (-2.0, 0.0, -2.0, 0.5, -7.0),
    (1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0),
)
_POWERS = (0, 2, 4, 6, 8, 10, 12)
_HUGE_POWERS = (20, 40, 100)


def _grow_argmax(seedling: Seedling, context: Context) -> Trial | None:
    """The row at inverse temperature +-2^k: by beta where the subject takes it, and by exact scaling."""
    (x,) = seedling.operands
    factor = float(seedling.extra["factor"])
    scaled = to_dtype(x.astype(np.float64) * factor, context.dtype)
    if not (scaled.astype(np.float64) == x.astype(np.float64) * factor).all():
        return None
    calls = [call_of(seedling, context, (scaled,))]
    if context.beta and context.op == "softmax" and factor != 1.0:
        calls.append(call_of(seedling, context, beta=factor))
    return trial_of(seedling, *calls, relation={"factor": factor})


def _judge_argmax(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Against the exact value, and against the rate: |p - argmax| <= (n - m) exp(-gap) / m + bound."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call):
            continue
        x = rows_last(call.operands[0], -1).astype(np.float64) * float(call.params.get("beta", 1.0))
        top = x == x.max(axis=-1, keepdims=True)
        count = top.sum(axis=-1, keepdims=True)
        gap = np.where(top, np.inf, x.max(axis=-1, keepdims=True) - x).min(axis=-1, keepdims=True)
        rate = (x.shape[-1] - count) * np.exp(-gap) / count
        distance = np.abs(value.astype(np.float64) - np.where(top, 1.0 / count, 0.0))
        truth = context.truth(call)
        bound = context.bound_ulp(call, truth)
        # The rate and the distance are evaluated in binary64, hence the last term; an ulp of p is at most 2u.
        allowed = rate + np.where(np.isfinite(bound), bound, np.inf) * context.arithmetic.u_out * 2.0 + 1e-12
        if (distance > allowed).any():
            at = tuple(int(i) for i in np.argwhere(distance > allowed)[0])
            message = (
                f"{quantity(call, at)} is {float(distance[at]):.4g} from the arg max limit, beyond its rate"
            )
            return broken(
                relation_finding(position, at, quantity(call, at), value[at], message), values.elements
            )
    return values


def _factors(context: Context, sign: float) -> Iterator[Seedling]:
    largest = Scale.of(context.dtype).largest
    for row in _ROWS:
        for power in (*_POWERS, *_HUGE_POWERS):
            factor = 2.0**power
            if 10.0 * factor < largest:
                x = to_dtype(np.asarray(row), context.dtype)
                yield Seedling((x,), family="limit", extra={"factor": sign * factor})


def _near_ties(context: Context) -> Iterator[Seedling]:
    ulp = 2.0 ** (1 - Scale.of(context.dtype).precision)
    for step in (1.0, 2.0, 1e-4 / ulp):
        for pair in ((1.0, 1.0 + step * ulp), (1.0, 1.0 - step * ulp), (1.0, 1.0)):
            for power in _POWERS:
                x = to_dtype(np.asarray(pair), context.dtype)
                yield Seedling((x,), family="near-tie", extra={"factor": 2.0**power})


def _diagonal(context: Context) -> Iterator[Seedling]:
    largest = Scale.of(context.dtype).largest
    for n in (1, 2, 3, 5, 7, 8, 10, 31, 64, 100, 1000, 3001):
        for level in (0.0, 1.0, -3.5, 88.0, -120.0, largest, -largest):
            yield Seedling((to_dtype(np.full(n, level), context.dtype),), family="equal")


def _judge_tropical(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Within log n above the maximum, up to the bound, and within the bound of the exact value."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    call, value = trial.calls[0], results[0]
    x = rows_last(call.operands[0], -1).astype(np.float64)
    top = x.max(axis=-1)
    slack = context.absolute_bound(call)
    answer = value.astype(np.float64)
    outside = (answer < top - slack) | (answer > top + np.log(x.shape[-1]) + slack)
    if not outside.any():
        return values
    at = tuple(int(i) for i in np.argwhere(np.atleast_1d(outside))[0]) if answer.ndim else ()
    message = f"logsumexp is {float(answer[at]):.9g}, outside [max, max + log n]"
    return combine([broken(relation_finding(0, at, quantity(call, at), value[at], message), values.elements)])


CLAUSES = (
    Clause(
        id="limits.argmax",
        statement="as beta grows, softmax tends to the arg max, ties sharing it equally, at the exact rate",
        mathematics="|p - argmax| <= (n - m) exp(-beta gap) / m, m maxima, gap to the next logit",
        source="p_i = 1/(m + R) on the maxima with R <= (n - m) exp(-beta gap), by the definition",
        in_practice="NaN for x * 1e14 (pytorch#163932), the first of two maxima given all of the weight",
        ops=("softmax",),
        directed=lambda context: _factors(context, 1.0),
        grow=_grow_argmax,
        judge=_judge_argmax,
    ),
    Clause(
        id="limits.argmin",
        statement="as beta falls to minus infinity, softmax tends to the arg min, ties sharing it equally",
        mathematics="softmax(-beta x) tends to argmin(x)",
        source="softmax(-beta x) = softmax(beta (-x))",
        in_practice="a running maximum that starts at 0, so that very negative rows give 0/0; "
        "beta (x - max x) for a negative beta, which overflows",
        ops=("softmax",),
        directed=lambda context: _factors(context, -1.0),
        grow=_grow_argmax,
        judge=_judge_argmax,
    ),
    Clause(
        id="limits.near-ties",
        statement="nearly equal logits converge as slowly as they must, equal ones not at all",
        mathematics="softmax(beta (1, 1 + d)) = (1/(1+e^(beta d)), 1/(1+e^(-beta d)))",
        source="the convergence to arg max is pointwise, not uniform",
        in_practice="an early switch to one-hot, logits rounded to a narrower format",
        ops=("softmax",),
        directed=_near_ties,
        grow=_grow_argmax,
        judge=judge_values,
    ),
    Clause(
        id="limits.diagonal",
        statement="equal logits give equal shares, at any level",
        mathematics="softmax(x, ..., x) = (1/n, ..., 1/n); lse = x + log n",
        source="definition",
        in_practice="0/0 at very negative levels, inf/inf at very large ones",
        ops=LOGIT_OPS,
        directed=_diagonal,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="limits.tropical",
        statement="logsumexp lies between the maximum and the maximum plus log n",
        mathematics="max(x) <= lse(beta x)/beta <= max(x) + log(n)/beta",
        source="Blanchard, Higham & Higham 2021, (4.2)",
        in_practice="a base-2 logarithm returned as a natural one, terms left out of the sum",
        ops=("logsumexp",),
        directed=lambda context: _factors(context, 1.0),
        grow=_grow_argmax,
        judge=_judge_tropical,
    ),
)
