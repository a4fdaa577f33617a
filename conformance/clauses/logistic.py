"""Two classes are the logistic function, one class is certain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import Scale
from softcert.conformance.inputs.growing import from_rows, one_call
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.evidence import broken, relation_finding
from softcert.conformance.judging.judge import judge_values, quantity
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import FORWARD_OPS, Clause, Seedling
from softcert.reference import format_of


def _pairs(context: Context) -> Iterator[Seedling]:
    scale = Scale.of(context.dtype)
    steps = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 17.0, 30.0, 88.0, scale.tiny_gap, scale.tiny_gap + 2, 1e4)
    tiny = (2.0 ** (1 - scale.precision), scale.smallest)
    yield from from_rows(context, ((s * t, 0.0) for t in (*steps, *tiny) for s in (1.0, -1.0)), "logistic")
    yield from from_rows(context, ((s * t / 2, -s * t / 2) for t in steps for s in (1.0, -1.0)), "symmetric")


def _singles(context: Context) -> Iterator[Seedling]:
    scale = Scale.of(context.dtype)
    levels = (0.0, 1.0, -1.0, 0.1, 100.0, -100.0, 1e4, -1e4, scale.largest, -scale.largest, scale.smallest)
    yield from from_rows(context, ([level] for level in levels), "one class")


def _judge_single(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """One class: 1, 0 and the logit itself, exactly, or 0 for a logit that the contract lets be flushed."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    call, value = trial.calls[0], results[0]
    exact = {"softmax": 1.0, "log_softmax": 0.0, "logsumexp": float(call.operands[0].flat[0])}[call.op]
    flushed = context.contract.flush_subnormals and abs(exact) < format_of(context.dtype).min_normal
    given = value.astype(np.float64)
    if ((given == exact) | (flushed & (given == 0.0))).all():
        return values
    at = tuple(0 for _ in value.shape)
    message = f"one class must give exactly {exact:g}, not {float(value[at]):.9g}"
    lower, upper = context.truth(call)[at].bounds_decimal(30)
    finding = relation_finding(0, at, quantity(call, at), value[at], message, exact=(str(lower), str(upper)))
    return broken(finding, values.elements)


CLAUSES = (
    Clause(
        id="logistic.two-classes",
        statement="two classes give the logistic function of their difference and its complement",
        mathematics="softmax(x, 0) = (1/(1+e^-x), 1/(1+e^x)); softmax(x/2, -x/2) is the same",
        source="definition",
        in_practice="the two outputs exchanged, a sigmoid that saturates early",
        ops=FORWARD_OPS,
        directed=_pairs,
        drawn=lambda context: seedlings(context, families=("normal", "near-ties"), lengths=(2,), most=2),
        grow=one_call,
        judge=judge_values,
        effort=0.5,
    ),
    Clause(
        id="logistic.one-class",
        statement="one class has probability exactly 1, log-probability 0, and its logit is the logsumexp",
        mathematics="softmax((x)) = (1), log_softmax((x)) = (0), lse((x)) = x",
        source="definition; exp(0) = 1 exactly",
        in_practice="an epsilon in the denominator, an exponential that misses exp(0) = 1",
        ops=FORWARD_OPS,
        directed=_singles,
        grow=one_call,
        judge=_judge_single,
    ),
)
