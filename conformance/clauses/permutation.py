"""Softmax commutes with every permutation of its row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import call_of, operands_from, trial_of
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.evidence import ratio_judgement
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import ALL_OPS, PRODUCT_OPS, Clause, Seedling

if TYPE_CHECKING:
    from numpy.typing import NDArray


def _grow(seedling: Seedling, context: Context) -> Trial | None:
    n = seedling.operands[0].shape[-1]
    if n < 2 or seedling.axis != -1:
        return None
    seed = int(seedling.extra.get("seed", 0))
    order = np.random.default_rng(seed).permutation(n) if seed else np.arange(n)[::-1]
    moved = _permuted(seedling, order)
    calls = call_of(seedling, context), call_of(seedling, context, moved)
    return trial_of(seedling, *calls, relation={"seed": seed})


def _permuted(seedling: Seedling, order: NDArray[np.intp]) -> tuple[Array, ...]:
    """Operands whose k-th element was the order[k]-th; a class, or a node, goes where its logit goes."""
    if seedling.tree:
        s, *rest = seedling.own
        starts, nodes, signs = seedling.tree
        return (np.ascontiguousarray(s[..., order]), *rest, starts, np.argsort(order)[nodes], signs)
    if not seedling.labelled:
        return tuple(np.ascontiguousarray(a[..., order]) for a in seedling.operands)
    x, target, *rest = seedling.operands
    classes = np.where((target >= 0) & (target < len(order)), np.argsort(order)[target % len(order)], target)
    return (np.ascontiguousarray(x[..., order]), classes.astype(target.dtype), *rest)


def _judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Each order of the row is within the bound of the same exact values, and so are its ratios."""
    values = judge_values(trial, results, context)
    if values.finding is not None or context.op != "softmax":
        return values
    ratios = ratio_judgement(trial, results, context)
    return values if ratios.finding is None else combine([replace(values, finding=None), ratios])


def _rows(context: Context) -> Iterator[Seedling]:
    families = (
        "normal",
        "ties",
        "increasing",
        "peak-last",
        "peak-first",
        "masked",
        "masked-first",
        "offset-down",
    )
    for family in families:
        if context.op in PRODUCT_OPS and family.startswith("masked"):
            continue
        for n in (3, 8, 9, 33, 130):
            for seed in (0, 1):
                x = make_row(family, n, n, 2.0, context.dtype)
                yield Seedling(operands_from(context, x, n), family=family, extra={"seed": seed})


CLAUSES = (
    Clause(
        id="permutation.equivariance",
        statement="a permuted row gives the permuted result, within the bounds of each",
        mathematics="softmax(P x) = P softmax(x) for every permutation P",
        source="definition; flash-attention#1930 (NaN that depends on where the -inf logits stand)",
        in_practice="a bias that grows with the position, -inf logits at the start of a row giving NaN",
        ops=ALL_OPS,
        directed=_rows,
        drawn=seedlings,
        grow=_grow,
        judge=_judge,
    ),
)
