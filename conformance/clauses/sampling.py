"""Actions drawn by the probabilities of softmax, as reinforcement learning selects them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call
from softcert.conformance.bounds.limits import element_bound
from softcert.conformance.bounds.softmax import rows_of
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import to_dtype
from softcert.conformance.inputs.growing import grow_scaled
from softcert.conformance.judging.chance import evidence_against
from softcert.conformance.judging.evidence import broken, not_numbers, ordinary, relation_finding
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.judging.rational import ends_of
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import Clause, Seedling

Float = NDArray[np.float64]

#: Estimated rewards of the actions: one best, a near rival, two best, none better, many.
_REWARDS = (
    (1.0, 0.5, 0.25, 0.0),
    (0.0, 1.0),
    (1.0, 0.9375, 0.5, 0.0),
    (1.0, 0.25, 1.0, 0.5),
    (0.75, 0.75, 0.75),
    tuple((7 * k % 16) / 8 for k in range(16)),
)
#: Powers of two that 1/temperature takes: greedy, between, uniform.
_COLDNESSES = (10, 4, 2, 1, 0, -2, -20)
_DRAWS = 100_000
_SEED = 20261130
#: Draws from which on a count is nearly normal, as the chi-square distribution supposes.
_OFTEN = 5.0
#: -log2 of the probability that a row is accused by chance.
FALSE_ALARM_BITS = 40
_LOG_2 = math.log(2.0)
_QUANTITY = "number of draws of one action"


@lru_cache(maxsize=2)
def _uniforms(seed: int, draws: int) -> Float:
    """Numbers of [0, 1) by the standard library's generator, whose sequence its documentation promises."""
    generator = random.Random(seed)  # noqa: S311 - a statistic, not a secret
    return np.array([generator.random() for _ in range(draws)])


def drawn(probabilities: Float, uniforms: Float) -> NDArray[np.int64]:
    """How often each action is drawn by inversion: the first whose cumulated probability exceeds the number.

    Parameters
    ----------
    probabilities : (n,), not negative. The last action takes what their sum leaves.
    uniforms : (draws,) in [0, 1).
    """
    edges = np.cumsum(probabilities)[:-1]
    chosen = np.searchsorted(edges, uniforms, side="right")
    return np.bincount(chosen, minlength=probabilities.size)


def _rewards(context: Context) -> Iterator[Seedling]:
    for row in _REWARDS:
        for power in _COLDNESSES:
            x = to_dtype(np.asarray(row), context.dtype)
            yield Seedling((x,), family="rewards", extra={"factor": 2.0**power})


def _grow(seedling: Seedling, context: Context) -> Trial | None:
    trial = grow_scaled(seedling, context)
    if trial is None or seedling.operands[0].ndim != 1:
        return None
    facts = {**trial.relation, "seed": _SEED, "draws": _DRAWS}
    return Trial(trial.calls, facts, trial.family)


def _judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Each count against the binomial distribution of its certified probability."""
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call):
            continue
        missing = not_numbers(position, call, value)
        if missing is not None:
            return missing
        given = value.astype(np.float64)
        if (given < 0.0).any() or not np.isfinite(given).all():
            return judge_values(trial, results, context)
        finding = _miscounted(position, call, given, trial, context)
        if finding is not None:
            return broken(finding, int(value.size))
    return Judgement(elements=sum(int(value.size) for value in results))


def _miscounted(position: int, call: Call, given: Float, trial: Trial, context: Context) -> Finding | None:
    draws = int(trial.relation["draws"])
    counts = drawn(given, _uniforms(int(trial.relation["seed"]), draws)).tolist()
    p = ends_of(context.truth(call))
    slack = _slack(call, context)
    # Each of n counts has two tails, and together they have the false alarms of the row.
    enough = FALSE_ALARM_BITS * _LOG_2 + math.log(2.0 * len(counts))
    against = [
        evidence_against(n, draws, max(float(low) - slack, 0.0), min(float(high) + slack, 1.0))
        for n, (low, high) in zip(counts, p, strict=True)
    ]
    worst = max(range(len(counts)), key=lambda k: against[k])
    if against[worst] <= enough:
        return None
    expected = [draws * float(low) for low, _ in p]
    message = (
        f"action {worst} is drawn {counts[worst]} times of {draws}, where {expected[worst]:.6g} are "
        f"expected: by chance less often than once in 2^{math.floor(min(against[worst], 1e9) / _LOG_2)}; "
        f"{_chi_square(counts, expected)}"
    )
    return relation_finding(position, (worst,), _QUANTITY, str(counts[worst]), message)


def _chi_square(counts: list[int], expected: list[float]) -> str:
    """Pearson's statistic of the actions that are expected often enough for it, in words."""
    terms = [(n - e) ** 2 / e for n, e in zip(counts, expected, strict=True) if e >= _OFTEN]
    return f"chi-square {sum(terms):.4g} of {len(terms)} actions"


def _slack(call: Call, context: Context) -> float:
    """How far from its own an action's probability may be: the bounds, and what the sum leaves the last."""
    x = call.operands[0].astype(np.float64)
    rows = rows_of(x, float(call.params.get("beta", 1.0)), any_order=not context.arithmetic.division)
    return float(element_bound(rows, context.arithmetic).sum()) + rows.count * 2.0**-50


CLAUSES = (
    Clause(
        id="sampling.actions",
        statement="actions drawn by inversion of the probabilities come as often as the certified ones say, "
        "from greedy to uniform",
        mathematics="P(N_a >= k) <= exp(-N D(k/N, p_a)), D the relative entropy; accused below 2^-40 "
        "over all actions of a row",
        source="Chernoff's bound of the binomial distribution; p_a = exp(q_a/tau)/sum exp(q_b/tau), Sutton & "
        "Barto, Reinforcement Learning, 2nd ed. 2018, (13.2)",
        in_practice="multiplied by the temperature in place of divided, a best action that is never explored "
        "away from, two best ones of which the first is always taken",
        ops=("softmax",),
        directed=_rewards,
        grow=_grow,
        judge=_judge,
        shrinks=False,
    ),
)
