"""The gradient of attention equals the symbolic one, made anew from out and lse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.clauses.attention import grow_permuted
from softcert.conformance.context import Context
from softcert.conformance.inputs import attention_directed as directed
from softcert.conformance.inputs import attention_masked as masked
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import attend_once, attention_call, made
from softcert.conformance.inputs.attention_strategies import drawn_masks, drawn_operands, drawn_shifts
from softcert.conformance.judging.attention_judge import by_calls, judge_given
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import Clause, Seedling

_OPS = ("attention_vjp",)
_GRADIENT = (
    "P = exp(s - lse), dV = P^T dO, dS = P (dO V^T - D), D = rowsum(dO O), dQ = scale dS K, dK = scale dS^T Q"
)
_DAO = "T. Dao et al., arXiv:2205.14135, algorithm 4; derived by sympy, docs/explanation/attention-bounds.md"
_SHIFTS = (0.0, 0.5, -1.0, 3.0)
_GIVEN = (
    "; out and lse are taken as they are given, those of more keys for one"
    " (a kernel that makes the forward pass anew says so: rematerialized = false in its contract)"
)


def _grow_other_forward(seedling: Seedling, context: Context) -> Trial:
    """The gradient for the out and lse of more keys than the call is given, as ring attention asks for it."""
    call = attention_call(seedling, context)
    q, k, v, out, lse, dout = call.operands
    moved = lse.astype(np.float64) + float(seedling.extra["lse"])
    part = (out.astype(np.float64) * float(seedling.extra.get("part", 0.5))).astype(out.dtype)
    other = replace(call, operands=(q, k, v, part, moved.astype(lse.dtype), dout))
    return Trial((other,), seedling.extra, seedling.family)


def _other_forwards(context: Context) -> Iterator[Seedling]:
    for k, (queries, keys) in enumerate(((1, 2), (5, 8), (17, 33), (6, 130))):
        shape = Shape(queries=queries, keys=keys, features=8, values=4)
        for shift in _SHIFTS:
            base = made(context, "normal", shape, k)
            yield replace(base, extra={"lse": shift})
        # D is large beside dP - D: what rounds it shows nowhere else, since out itself is rounded as coarsely
        base = made(context, "v + 50", shape, k)
        yield replace(base, extra={"lse": 0.0, "part": 1.0})


def _judge_given(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    answers = by_calls(trial.calls, results)
    judged = combine([judge_given(k, c, answers[k], context) for k, c in enumerate(trial.calls)])
    if judged.finding is None:
        return judged
    return replace(judged, finding=replace(judged.finding, message=judged.finding.message + _GIVEN))


def _remade(context: Context) -> str | None:
    return None if context.contract.rematerialized else "the contract says that the forward pass is made anew"


CLAUSES = (
    Clause(
        id="attention-gradient.definition",
        statement="dq, dk and dv equal the symbolic gradient, within the bound of the contract",
        mathematics=_GRADIENT,
        source=_DAO,
        in_practice="D forgotten, dP transposed, the scale missing on one of dq and dk",
        ops=_OPS,
        directed=directed.plain,
        drawn=drawn_operands,
        grow=attend_once,
        judge=judge_values,
        accuracy=True,
    ),
    Clause(
        id="attention-gradient.lengths",
        statement="the number of queries and of keys does not matter, next to every block size too",
        mathematics=_GRADIENT + ", L and S from 1 to 131072",
        source="pytorch#196678 (L mod 128 = 64), flash-attention#2611, flash-attention#334",
        in_practice="NaN from padded keys where lse is far below 0; sums of blocks stored in 16 bits",
        ops=_OPS,
        directed=directed.lengths,
        grow=attend_once,
        judge=judge_values,
        accuracy=True,
    ),
    Clause(
        id="attention-gradient.features",
        statement="the number of features, and of columns of the values, does not matter",
        mathematics=_GRADIENT + ", D and Dv from 1 to 257",
        source="flash-attention PR #2864",
        in_practice="columns beyond a tile left out",
        ops=_OPS,
        directed=directed.widths,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.causal",
        statement="the causal mask of the forward pass is that of the gradient",
        mathematics="dk_j and dv_j sum over the queries that see key j alone",
        source="definition; flash-attention#2528",
        in_practice="dk of the diagonal missing, the other alignment where L != S",
        ops=_OPS,
        directed=directed.causal,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.mask",
        statement="hidden keys get exactly no gradient, the others their own",
        mathematics="dk_j = dv_j = 0 where no query sees key j",
        source="definition; pytorch#103963",
        in_practice="a finite sentinel that lets small gradients through",
        ops=_OPS,
        directed=masked.masks,
        drawn=drawn_masks,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.hidden-keys",
        statement="what hidden keys and values hold does not matter, as long as it is finite",
        mathematics="the gradient does not depend on k_j, v_j where mask_ij = -inf",
        source="definition; pytorch#101967",
        in_practice="0 * inf from an exponential taken before the mask",
        ops=_OPS,
        directed=masked.hidden,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.empty-rows",
        statement="a query that sees no key has gradient 0, and disturbs no other",
        mathematics="dq_i = 0, and no term of dk and dv",
        source="pytorch#41508, pytorch#109517",
        in_practice="one fully masked row makes all gradients NaN",
        ops=_OPS,
        directed=masked.empty_rows,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.translation",
        statement="scores moved together, far down or far up, leave the gradient as it is",
        mathematics="P = exp((s + c) - (lse + c))",
        source="pytorch#196678, cudnn-frontend#1072 (lse below -88)",
        in_practice="exp(0 - lse) of a padded key overflows; exp(s) and exp(lse) taken apart",
        ops=_OPS,
        directed=directed.translation,
        drawn=drawn_shifts,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.values",
        statement="constant values give no gradient of q and k, and large and small ones their own",
        mathematics="dS is unmoved by a shift of v",
        source="rows of the softmax Jacobian sum to 0; arXiv:2510.04212",
        in_practice="D from another rounding of out than dP: a bias that grows with training",
        ops=_OPS,
        directed=directed.values,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.order",
        statement="the order of the keys does not matter, nor that of the features of q and k together",
        mathematics="dk(q, P k, P v) = P dk(q, k, v)",
        source="sums do not depend on the order of their terms",
        in_practice="gradients of a tile added to the wrong keys",
        ops=_OPS,
        directed=directed.orders,
        grow=grow_permuted,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.heads",
        statement="every head of every batch has its own gradient, and shared keys the sum over their heads",
        mathematics="dk_g = sum over the heads h of q with h // (Hq / Hk) = g",
        source="J. Ainslie et al., GQA, arXiv:2305.13245",
        in_practice="only the last head's gradient kept, or shared in turn",
        ops=_OPS,
        directed=directed.shared,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.packed",
        statement="sequences packed behind each other give each other no gradient",
        mathematics="a block-diagonal mask gives each block's own gradient",
        source="T. Dao, arXiv:2307.08691 (variable length)",
        in_practice="gradients that cross the border of two sequences",
        ops=_OPS,
        directed=directed.packed,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.scale",
        statement="the scale enters dq and dk once, the default one and any other",
        mathematics=_GRADIENT,
        source=_DAO,
        in_practice="the scale missing in dk, or applied twice in dq",
        ops=_OPS,
        directed=directed.scales,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention-gradient.rematerialization",
        statement="the gradient is a function of the out and lse that are given, of more keys for one",
        mathematics="P = exp(s - lse) and D = rowsum(dO O) of the lse and out given",
        source="the op's definition; ring attention, H. Liu et al., arXiv:2310.01889",
        in_practice="weights normalized anew over the keys at hand; D rounded to 16 bits",
        ops=_OPS,
        directed=_other_forwards,
        grow=_grow_other_forward,
        judge=_judge_given,
        applies=_remade,
    ),
)
