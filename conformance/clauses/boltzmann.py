"""The Boltzmann distribution: softmax and logsumexp of -beta E are its probabilities and its log Z."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call
from softcert.conformance.bounds import limits as limit_bounds
from softcert.conformance.bounds.softmax import (
    Rows,
    rows_of,
    softmax_numerator_error,
    softmax_sum_bound,
)
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import to_dtype
from softcert.conformance.inputs.growing import call_of, trial_of
from softcert.conformance.judging.evidence import broken, not_numbers, ordinary, relation_finding
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.judging.rational import ends_of, exact_of, shown
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import Clause, Seedling
from softcert.reference import heat_capacity, mean_energy

Float = NDArray[np.float64]

#: Levels in units that every format holds: two of them, degenerate ones, a ladder, a band far above.
_SYSTEMS = (
    (0.0, 1.0),
    (0.0, 1.0, 1.0, 1.0),
    (-2.0, 0.0, 2.0, 4.0, 6.0, 8.0),
    (3.0, 3.0, 3.0),
    (0.0, 0.5, 0.5, 2.0, 2.0, 2.0, 4.5),
    (0.0, *(8.0,) * 512),
)
_COLDNESSES = (0.125, 0.5, 1.0, 1.5, 2.0, 3.0, 8.0, -1.0)
_CAPACITY = "beta^2 (<E^2> - <E>^2) under softmax(-beta E)"
_SLOPE = "slope of log Z between two inverse temperatures"
_FREE = "log Z + sum p log p + beta <E>"
_WIDE = 1.0 + 2.0**-30


def _logits(energies: Array, coldness: float, dtype: str) -> Array | None:
    """-beta E where it is exact in the dtype."""
    wanted = -coldness * energies.astype(np.float64)
    x = to_dtype(wanted, dtype)
    return x if (x.astype(np.float64) == wanted).all() else None


def _systems(context: Context) -> Iterator[Seedling]:
    for levels in _SYSTEMS:
        for coldness in _COLDNESSES:
            x = to_dtype(np.asarray(levels), context.dtype)
            yield Seedling((x,), family="levels", extra={"coldness": coldness})


def _grow_one(seedling: Seedling, context: Context) -> Trial | None:
    """The logits -beta E, and the energies at -beta where the subject takes it."""
    (energies,), coldness = seedling.operands, float(seedling.extra["coldness"])
    x = _logits(energies, coldness, context.dtype)
    if x is None or not np.isfinite(x.astype(np.float64)).all():
        return None
    calls = [call_of(seedling, context, (x,))]
    if context.beta:
        calls.append(call_of(seedling, context, beta=-coldness))
    return trial_of(seedling, *calls, relation={"coldness": coldness})


def _judge_capacity(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """The variance under the answers, normalised, against the certified heat capacity."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call) or value.ndim != 1 or not value.any():
            continue
        beta = Fraction(float(call.params.get("beta", 1.0)))
        logits = [beta * v for v in exact_of(call.operands[0])]
        observed = _variance(logits, exact_of(value))
        exact = ends_of(heat_capacity(call.operands[0], -beta))[0]
        slack = _capacity_slack(call, float(max(logits) - min(logits)), float(exact[1]), context)
        if observed < exact[0] - slack or observed > exact[1] + slack:
            message = (
                f"{_CAPACITY} is {float(observed):.9g} where it is {float(exact[0]):.9g} exactly, "
                f"more than {float(slack):.3g} apart"
            )
            text = float(observed).hex()
            finding = relation_finding(position, (0,), _CAPACITY, text, message, exact=shown(exact))
            return broken(finding, values.elements)
    return values


def _variance(logits: list[Fraction], weights: list[Fraction]) -> Fraction:
    total = sum(weights, Fraction(0))
    first = sum((v * w for v, w in zip(logits, weights, strict=True)), Fraction(0)) / total
    return sum(((v - first) ** 2 * w for v, w in zip(logits, weights, strict=True)), Fraction(0)) / total


def _rows(call: Call, context: Context) -> Rows:
    x = call.operands[0].astype(np.float64)
    return rows_of(x, float(call.params.get("beta", 1.0)), any_order=not context.arithmetic.division)


def _capacity_slack(call: Call, spread: float, capacity: float, context: Context) -> Fraction:
    """C (e^4q - 1), and what underflow may add.

    C is a ratio of sum_{a < b} w_a w_b (E_a - E_b)^2 and (sum w)^2. What is common to a row cancels; weights
    within e^+-q of theirs put either sum within e^+-2q.
    """
    rows, a = _rows(call, context), context.arithmetic
    own = float(softmax_numerator_error(rows, a).max())
    lost = rows.count * a.underflow * (spread**2 + 2.0 * capacity)
    return Fraction(float(np.expm1(4.0 * own) * capacity + 2.0 * lost) * _WIDE)


def _pairs(context: Context) -> Iterator[Seedling]:
    for levels in _SYSTEMS:
        for low, high in pairwise(sorted(_COLDNESSES)):
            x = to_dtype(np.asarray(levels), context.dtype)
            yield Seedling((x,), family="levels", extra={"low": low, "high": high})


def _grow_two(seedling: Seedling, context: Context) -> Trial | None:
    """The logits at two inverse temperatures."""
    (energies,) = seedling.operands
    low, high = float(seedling.extra["low"]), float(seedling.extra["high"])
    rows = [_logits(energies, coldness, context.dtype) for coldness in (low, high)]
    if any(x is None for x in rows):
        return None
    calls = [call_of(seedling, context, (x,)) for x in rows if x is not None]
    relation = {"low": low, "high": high, "energies": [float(e).hex() for e in energies]}
    return trial_of(seedling, *calls, relation=relation)


def _judge_slope(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """log Z is convex in beta, with slope -<E>: its difference lies between those of the two ends."""
    values = judge_values(trial, results, context)
    if values.finding is not None or not all(ordinary(call) for call in trial.calls):
        return values
    low, high = (Fraction(float(trial.relation[name])) for name in ("low", "high"))
    energies = np.array([float.fromhex(e) for e in trial.relation["energies"]])
    rise = Fraction(float(results[1])) - Fraction(float(results[0]))
    slack = sum((Fraction(context.absolute_bound(call).item()) for call in trial.calls), Fraction(0))
    step = high - low
    least = -ends_of(mean_energy(energies, low))[0][1]
    most = -ends_of(mean_energy(energies, high))[0][0]
    if least * step - slack <= rise <= most * step + slack:
        return values
    message = (
        f"the {_SLOPE}, {float(low):g} and {float(high):g}, is {float(rise / step):.9g}, "
        f"not between minus the mean energies, {float(least):.9g} and {float(most):.9g}"
    )
    text = float(rise / step).hex()
    finding = relation_finding(1, (), _SLOPE, text, message, exact=shown((least, most)))
    return broken(finding, values.elements)


def _grow_free(seedling: Seedling, context: Context) -> Trial | None:
    """Softmax and logsumexp of the same logits."""
    coldness = float(seedling.extra["coldness"])
    x = _logits(seedling.operands[0], coldness, context.dtype)
    if x is None:
        return None
    calls = (Call(op, (x,), {"axis": -1}) for op in ("softmax", "logsumexp"))
    return trial_of(seedling, *calls, relation={"coldness": coldness})


def _judge_free(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """log Z = H(p) - beta <E> of the two answers, up to the bound of log Z and terms of second order.

    With s = sum p^, l = log Z - max and r = p^/p: log p = -d - l, so log Z^ - max + sum p^ (d + log p^) is
    (log Z^ - log Z) + (1 - s)(l - 1) + sum p (r log r - r + 1), and each term of the last sum is at least 0.
    """
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        missing = not_numbers(position, call, value) if ordinary(call) else Judgement()
        if missing is not None:
            return missing
    probabilities, log_z = results[0].astype(np.float64), Fraction(float(results[1]))
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        return judge_values(trial, results, context)
    logits = exact_of(trial.calls[0].operands[0])
    observed = _free(logits, probabilities, log_z)
    slack = _free_slack(trial.calls, context)
    if abs(observed) <= slack:
        return judge_values(trial, results, context)
    message = (
        f"{_FREE}, with the entropy and the mean energy of softmax, is {float(observed):.6g} and not 0; "
        f"the bound is {float(slack):.3g}"
    )
    finding = relation_finding(0, (0,), _FREE, float(observed).hex(), message, exact=("0", "0"))
    return broken(finding, int(results[0].size))


def _free(logits: list[Fraction], probabilities: Float, log_z: Fraction) -> Fraction:
    """log Z - max + sum p (max - x) + sum p log p, exact but for the logarithms: see `_free_slack`."""
    top = max(logits)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(probabilities > 0.0, probabilities * np.log(probabilities), 0.0)
    gaps = (Fraction(p) * (top - x) for p, x in zip(probabilities.tolist(), logits, strict=True))
    return log_z - top + sum(gaps, Fraction(0)) + Fraction(math.fsum(terms))


def _free_slack(calls: tuple[Call, ...], context: Context) -> Fraction:
    """Bound of log Z, of the sum's distance from 1 times |l - 1|, and of the terms of second order."""
    rows, a = _rows(calls[0], context), context.arithmetic
    log_sum, each = float(rows.log_sum[0]), limit_bounds.element_bound(rows, a)
    total = float(softmax_sum_bound(rows, a)[0])
    with np.errstate(divide="ignore", over="ignore"):
        # b^2/p, or b log(1 + b/p) and the p that is lost, where b exceeds p
        small = each**2 * np.exp(-rows.log_p)
        large = each * (np.log(2.0) + np.maximum(np.log(each) - rows.log_p, 0.0)) + each
    second = float(np.minimum(small, large).sum())
    logarithms = 2.0**-49 * (1.0 + log_sum + float((np.exp(rows.log_p) * rows.gap).sum()))
    bound = float(context.absolute_bound(calls[1]).item()) + total * max(1.0, log_sum) + second + logarithms
    return Fraction(bound * _WIDE)


CLAUSES = (
    Clause(
        id="boltzmann.heat-capacity",
        statement="the variance of the energy under softmax(-beta E) is the heat capacity, "
        "what is common to a row apart",
        mathematics="beta^2 (<E^2> - <E>^2) = C/k = beta^2 d^2 log Z / d beta^2",
        source="d^2 log Z / d beta^2 = Var(E), derived by sympy for a symbolic number of states; "
        "docs/explanation/boltzmann.md",
        in_practice="weights of excited states too light, the sign of the energy lost, degenerate states "
        "counted once",
        ops=("softmax",),
        directed=_systems,
        grow=_grow_one,
        judge=_judge_capacity,
    ),
    Clause(
        id="boltzmann.free-energy",
        statement="logsumexp and softmax of the same energies belong to one free energy",
        mathematics="log Z = H(p) - beta <E>, H(p) = -sum p log p; F = <E> - T S",
        source="-log p_i = beta E_i + log Z, averaged; docs/explanation/boltzmann.md",
        in_practice="logsumexp in another base, or at another temperature, than softmax",
        ops=("softmax",),
        directed=_systems,
        grow=_grow_free,
        judge=_judge_free,
        applies=lambda c: None if "logsumexp" in c.ops else "the subject has no logsumexp",
    ),
    Clause(
        id="boltzmann.mean-energy",
        statement="the slope of log Z = logsumexp(-beta E) in beta is minus the mean energy",
        mathematics="-<E>(b1) <= (log Z(b2) - log Z(b1))/(b2 - b1) <= -<E>(b2) for b1 < b2, "
        "log Z being convex",
        source="d log Z / d beta = -<E>, derived by sympy for a symbolic number of states",
        in_practice="a logarithm to another base, a state missing from the sum",
        ops=("logsumexp",),
        directed=_pairs,
        grow=_grow_two,
        judge=_judge_slope,
    ),
)
