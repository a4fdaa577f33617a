"""Gumbel-softmax as a sampler: the law of its draws, and their independence.

A draw has no exact value, but its law has. A trial of one clause accuses a sampler of that law with a
probability of 2^-40 at most: each statistic of `judging/sampling.py` bounds its own by a theorem. Rounding is
allowed for: of x + g where a class is chosen in the format in which the contract promises sums, else in that
of the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from softcert.backends.types import Array, Call
from softcert.conformance.context import Context
from softcert.conformance.inputs.draws import (
    DRAWS,
    FIRST_SEED,
    SECOND_SEED,
    cold,
    grow_draws,
    grow_with,
    masked_and_special,
    soft,
    soft_and_hard,
)
from softcert.conformance.judging import gumbel_samples, sampling
from softcert.conformance.judging.draws import draws_of, logits_of, tau_of, unbroken
from softcert.conformance.judging.evidence import broken, not_numbers, relation_finding
from softcert.conformance.judging.judge import quantity
from softcert.conformance.judging.policy import KIND_NAMES, ORDINARY, breaches, row_kinds
from softcert.conformance.judging.sampling import Departure
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import SAMPLING_OPS, Clause, Judge, rows_last

#: -log2 of the probability that a trial is accused by chance.
FALSE_ALARM_BITS = 40
_ENOUGH = -FALSE_ALARM_BITS * math.log(2.0)
#: Distances of rows whose draws are compared: neighbours, the rows of two blocks of threads, two halves.
_LAGS = (1, 256, DRAWS // 2)


def _by_law(test: Callable[[Array, Array, Call, Context], Departure | None]) -> Judge:
    """Judge of each result by a statistic of its rows (draws, n) and their logits (n,)."""

    def judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
        for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
            missing = not_numbers(position, call, value)
            if missing is not None:
                return missing
            departure = test(draws_of(call, value), logits_of(call), call, context)
            accused = _accused(position, departure, int(value.size))
            if accused is not None:
                return accused
        return unbroken(results)

    return judge


def _accused(position: int, departure: Departure | None, elements: int) -> Judgement | None:
    if departure is None or departure.log_chance > _ENOUGH:
        return None
    bits = -departure.log_chance / math.log(2.0)
    rarity = f": by chance less often than once in 2^{math.floor(bits)}" if math.isfinite(bits) else ""
    what = f"{departure.test} of {departure.samples} samples"
    finding = relation_finding(
        position, None, what, repr(departure.statistic), f"{departure.message}{rarity}"
    )
    return broken(finding, elements)


def _exchanged(x: Array, call: Call, context: Context) -> float:
    """How often rounding may choose the second largest for the largest, at most."""
    kept, a = x[np.isfinite(x.astype(np.float64))], context.arithmetic
    # Of one-hot samples the shares may be what is compared, and x + g is what they are the shares of.
    unit = a.u_offset if call.params.get("hard") else a.u_out
    error = gumbel_samples.mean_sum_error(kept, unit)
    error += gumbel_samples.mean_share_error(tau_of(call), a.u_out)
    return gumbel_samples.exchanged(error, len(kept))


def _choice(y: Array, x: Array, call: Call, context: Context) -> Departure | None:
    return sampling.argmax_departure(np.argmax(y, axis=-1), x, _exchanged(x, call, context))


def _law(y: Array, x: Array, call: Call, _context: Context) -> Departure | None:
    return gumbel_samples.shares_departure(y, x, tau_of(call))


def _law_of_masked(y: Array, x: Array, call: Call, context: Context) -> Departure | None:
    """Classes of one-hot samples, and of soft ones all: a class of logit -inf is never drawn, and is 0."""
    impossible = np.argwhere(y[:, np.isneginf(x.astype(np.float64))] != 0)
    if impossible.size:
        message = f"sample {impossible[0, 0]} is not 0 where the logit is -inf"
        return Departure("number", len(y), math.nan, -math.inf, message)
    law = None if call.params.get("hard") else _law(y, x, call, context)
    return sampling.worst([law, _choice(y, x, call, context)])


def _judge_special(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """What the contract says of rows without a law, and rows beside them; the law, where all have one."""
    (call,), (value,) = trial.calls, results
    if trial.family != "special":
        return _by_law(_law_of_masked)(trial, results, context)
    found = breaches(call, value, context.contract)
    if found:
        at = found[0].index
        given = f"gives {float(value[at]):g} where it must give {found[0].expected}"
        message = f"{call.op} of {KIND_NAMES[found[0].kind]} {given}"
        return broken(relation_finding(0, at, quantity(call, at), value[at], message), int(value.size))
    axis = int(call.params["axis"])
    ordinary = row_kinds(call) == ORDINARY
    rows, logits = (rows_last(a, axis)[ordinary].astype(np.float64) for a in (value, call.operands[0]))
    wrong = ~np.isfinite(rows) | (np.isneginf(logits) & (rows != 0.0))
    if not wrong.any():
        return unbroken(results)
    message = f"an ordinary row beside special ones gives {rows[0].tolist()}"
    finding = relation_finding(0, None, "an ordinary row", repr(rows[0].tolist()), message)
    return broken(finding, int(value.size))


def _judge_independent(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Rows of one call at some distances, and the same or the next row of two seeds, by pairs of classes."""
    call, x = trial.calls[0], logits_of(trial.calls[0])
    for position, value in enumerate(results):
        missing = not_numbers(position, trial.calls[position], value)
        if missing is not None:
            return missing
    rows = [draws_of(call, value) for value in results]
    error = _exchanged(x, call, context)
    first, second = (np.argmax(y, axis=-1) for y in rows)
    place = np.arange(first.size)
    pairs = [(first, second), (first[1:], second[:-1]), (first[:-1], second[1:])]
    for lag in _LAGS:
        starts = place[(place // lag % 2 == 0) & (place + lag < place.size)]
        pairs += [(first[starts], first[starts + lag])] if starts.size else []
    departure = sampling.worst([sampling.pairs_departure(*pair, x, error) for pair in pairs])
    return _accused(0, departure, int(results[0].size)) or unbroken(results)


_CONCRETE = "E. Jang, S. Gu & B. Poole, arXiv:1611.01144; C. Maddison et al., arXiv:1611.00712"
_DERIVED = "derivation and error probabilities in docs/explanation/sampling.md"

CLAUSES = (
    Clause(
        id="gumbel.choice",
        statement="each class is the largest of a sample, or the 1 of a one-hot one, as often as softmax "
        "says, at every temperature",
        mathematics="P(argmax_i y_i = k) = softmax(x)_k; N D(counts / N, p) of k cells exceeds t with a "
        "probability of exp(-t) (e t / (k - 1))^(k - 1) at most; accused below 2^-40",
        source="C. Maddison, D. Tarlow & T. Minka, arXiv:1411.0030; R. Agrawal, arXiv:1904.02291",
        in_practice="probabilities taken for logits, normal noise, a logarithm too few, the first of tied "
        "sums preferred where noise is added to large logits in 16 bits",
        ops=SAMPLING_OPS,
        directed=soft_and_hard,
        grow=grow_draws,
        judge=_by_law(_choice),
        shrinks=False,
    ),
    Clause(
        id="gumbel.law",
        statement="soft samples have the Gumbel-softmax density: neighbouring pairs of shares, the least of "
        "them, and not the same ones again",
        mathematics="tau log(y_i / y_j) - (x_i - x_j) is logistic; the shares v of exp(x_i) y_i^-tau are "
        "uniform on the simplex, P(min v > t) = (1 - n t)^(n - 1); sup |F_N - F| > d with a probability of "
        "2 exp(-2 N d^2) at most; accused below 2^-40",
        source=f"{_CONCRETE}; P. Massart, Ann. Probab. 18 (1990); {_DERIVED}",
        in_practice="the temperature on the logits or the noise alone, clipped noise, one noise for all "
        "classes, noise of few bits",
        ops=SAMPLING_OPS,
        directed=soft,
        grow=grow_draws,
        judge=_by_law(_law),
        shrinks=False,
    ),
    Clause(
        id="gumbel.independent",
        statement="the rows of a call are drawn independently, and so are those of two seeds",
        mathematics="P(k in row r, l in row s) = softmax(x)_k softmax(x)_l; accused as by gumbel.choice",
        source=f"R. Agrawal, arXiv:1904.02291; {_DERIVED}",
        in_practice="one noise broadcast over the batch, blocks of threads with the same counter, the "
        "seed added to the number of the row, a generator made anew from a constant in every call",
        ops=SAMPLING_OPS,
        directed=cold,
        grow=grow_with({"seed": FIRST_SEED}, {"seed": SECOND_SEED}),
        judge=_judge_independent,
        shrinks=False,
    ),
    Clause(
        id="gumbel.special",
        statement="a class of logit -inf is 0 and never drawn; a row with NaN, +inf or nothing but -inf "
        "gives what the contract says, and changes no other row",
        mathematics="exp(-inf) = 0; NaN and the contract's fields nan, plus_inf and all_minus_inf",
        source="IEEE 754 propagation; masks are written this way",
        in_practice="-inf clipped to a number that noise may lift, an argmax that makes an answer of NaN",
        ops=SAMPLING_OPS,
        directed=masked_and_special,
        grow=grow_draws,
        judge=_judge_special,
        shrinks=False,
    ),
)
