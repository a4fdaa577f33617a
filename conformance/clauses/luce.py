"""Luce's choice axiom: the ratio of two probabilities does not depend on the other choices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.conformance.context import Context
from softcert.conformance.inputs.families import FAMILIES, make_row
from softcert.conformance.inputs.growing import call_of, sweep, trial_of
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.evidence import ratio_judgement
from softcert.conformance.model import Trial
from softcert.conformance.spec import Clause, Seedling


def _grow(seedling: Seedling, context: Context) -> Trial | None:
    """The whole row, and the row of every other choice."""
    (x,) = seedling.operands
    if x.shape[-1] < 4 or seedling.axis != -1:
        return None
    subset = np.ascontiguousarray(x[..., ::2])
    if (subset.astype(np.float64).max(axis=-1) == -np.inf).any():
        return None
    return trial_of(seedling, call_of(seedling, context), call_of(seedling, context, (subset,)))


def _rows(context: Context) -> Iterator[Seedling]:
    for family in FAMILIES:
        yield Seedling((make_row(family, 9, 4, 3.0, context.dtype),), family=family)
    yield from sweep(context, (4, 17, 64, 257, 1025, 4097), ("normal", "ties", "peak-last"))
    if context.thorough >= 1:
        yield from sweep(context, (32769,), ("normal",))


CLAUSES = (
    Clause(
        id="luce.ratio",
        statement="the ratio of two probabilities depends on their own logits alone, not on the "
        "rest of the row",
        mathematics="p_i / p_j = exp(beta (x_i - x_j)) in the whole row and in every subset of it",
        source="R. D. Luce, Individual Choice Behavior, 1959; the sum cancels, so the bound has no n in it",
        in_practice="truncation to the k largest, small probabilities dropped and the rest renormalised, "
        "mixing with the uniform distribution",
        ops=("softmax",),
        directed=_rows,
        drawn=seedlings,
        grow=_grow,
        judge=ratio_judgement,
    ),
)
