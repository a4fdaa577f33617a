"""What sparsemax and entmax are for: shares that are exactly 0, and points of the simplex left alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.ops import order_of
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import to_dtype
from softcert.conformance.inputs.growing import one_call
from softcert.conformance.inputs.sparse import at_thresholds
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.inputs.variants import variants
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.spec import SPARSE_OPS, Clause, Seedling

_PETERS = "B. Peters, V. Niculae and A. Martins, arXiv:1905.05702"
_MARTINS = "A. Martins and R. Astudillo, arXiv:1602.02068"
#: Leads of the largest logit, in units of that from which on it has the whole weight.
_LEADS = (0.5, 0.9375, 1.0, 1.0625, 2.0, 100.0)


def _supports(context: Context) -> Iterator[Seedling]:
    for options in variants(context):
        yield from at_thresholds(context, options)
        margin = 1.0 / (order_of(context.op, options) - 1.0)
        for lead in _LEADS:
            for others in (1, 2, 40):
                row = np.append(np.zeros(others), lead * margin)
                yield Seedling((to_dtype(row, context.dtype),), family="lead", options=options)


def _pairs(context: Context) -> Iterator[Seedling]:
    for options in variants(context):
        for t in (0.0, 2.0**-9, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 2.0, 3.0, 16.0, 60.0):
            for pair in ((t, 0.0), (0.0, t), (-t, 0.0), (t / 2, -t / 2)):
                x = to_dtype(np.asarray(pair), context.dtype)
                yield Seedling((x,), family="two classes", options=options)


def _points(context: Context) -> Iterator[Seedling]:
    """Points of the simplex: vertices, edges, faces, and one with every coordinate above 0."""
    for n in (1, 2, 3, 5, 9):
        for support in sorted({1, 2, n} & set(range(1, n + 1))):
            point = np.zeros(n)
            point[:support] = 2.0 ** -np.minimum(np.arange(1, support + 1), max(support - 1, 1))
            point[0] += 1.0 - point.sum()
            for row in (point, np.roll(point, 1)):
                yield Seedling((to_dtype(row, context.dtype),), family="simplex")


CLAUSES = (
    Clause(
        id="sparse.support",
        statement="what is below the threshold gets exactly 0, and what is above it keeps its share",
        mathematics="p_i = 0 where (alpha - 1) x_i <= tau; one-hot as soon as the largest logit leads "
        "by 1/(alpha - 1)",
        source=f"{_PETERS}, proposition 2; {_MARTINS}, proposition 1",
        in_practice="a support cut off at the k largest, 1e-9 where 0 was promised, a threshold that is "
        "searched for with too few steps",
        ops=SPARSE_OPS,
        directed=_supports,
        drawn=lambda context: seedlings(context, families=("near-ties", "ties", "normal")),
        grow=one_call,
        judge=judge_values,
        effort=0.5,
    ),
    Clause(
        id="sparse.two-classes",
        statement="two classes give the clipped line of sparsemax, or the curve of entmax",
        mathematics="sparsemax(t, 0)_1 = min(max((t + 1)/2, 0), 1); entmax of order 3/2, for |t| <= 2: "
        "(1 + t sqrt(2 - t^2/4) / 2) / 2",
        source=f"{_MARTINS}, section 2.3; derivation: (u + v)^2 + (u - v)^2 = 1 with v = t/4",
        in_practice="an order that is off by one, logits halved twice",
        ops=SPARSE_OPS,
        directed=_pairs,
        drawn=lambda context: seedlings(context, families=("normal", "near-ties"), lengths=(2,), most=2),
        grow=one_call,
        judge=judge_values,
        effort=0.5,
    ),
    Clause(
        id="sparse.fixed-points",
        statement="sparsemax leaves a point of the simplex where it is",
        mathematics="sparsemax(p) = p for p >= 0, sum p = 1",
        source=f"{_MARTINS}, equation 1: it is the Euclidean projection",
        in_practice="a renormalised softmax, an offset of 1/n left out",
        ops=("sparsemax",),
        directed=_points,
        grow=one_call,
        judge=judge_values,
        effort=0.5,
    ),
)
