"""Cross-entropy of logits and its gradient: targets, ignored rows, label smoothing, z-loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import one_call
from softcert.conformance.inputs.losses import IGNORED, fits, loss_operands
from softcert.conformance.judging.evidence import broken, ordinary, relation_finding
from softcert.conformance.judging.judge import judge_values, ordinary_only
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import LOSS_OPS, Clause, Seedling

#: What an ignored row may hold; the last stands for an ordinary row.
_HELD = (np.nan, np.inf, -np.inf, 3e4, 0.0)
_SMOOTHINGS = (0.0, 2.0**-20, 0.1, 0.5, 0.9, 1.0)
_FACTORS = (0.0, 1e-4, 0.0625, 1.0)
#: Numbers of classes beyond 8 and 16 bits.
_MANY_CLASSES = (300, 40_000, 70_000)


def _rows(context: Context, n: int, count: int, spread: float = 2.0) -> Array:
    return np.stack([make_row("normal", n, seed, spread, context.dtype) for seed in range(count)])


def _ignoring(context: Context) -> Iterator[Seedling]:
    """Ignored rows first, last, between, alone and all, whatever is in them, under each usual mark."""
    for mark in (IGNORED, -1, 1):
        options = {} if mark == IGNORED else {"ignore_index": mark}
        for held in _HELD:
            for which in ([0], [4], [1, 2, 3], [0, 1, 2, 3, 4]):
                x = _rows(context, 6, 5)
                x[which, ::2] = as_dtype(context.dtype).type(held)
                x, target, *rest = loss_operands(context.op, x, 2)
                # A class that is the mark would ignore more rows than those named.
                target = np.where(target < 2, 2, target)
                target[which] = mark
                yield Seedling((x, target, *rest), family=f"ignored {held:g}", options=options)


def _targets(context: Context) -> Iterator[Seedling]:
    """Every class of a row in turn, and the first and last of very many."""
    for n in (1, 2, 3, 9, 17, 33):
        x = np.broadcast_to(_rows(context, n, 1), (n, n)).copy()
        yield _aimed(context, x, np.arange(n))
    for n in _MANY_CLASSES[: 3 if context.thorough >= 1 else 2]:
        x = np.broadcast_to(make_row("increasing", n, n, 1.0, context.dtype), (3, n)).copy()
        yield _aimed(context, x, np.array([0, n // 2, n - 1]))


def _aimed(context: Context, x: Array, target: Array) -> Seedling:
    _, _, *rest = loss_operands(context.op, x, len(x))
    return Seedling((x, target.astype(np.int64), *rest), family="each class")


def _smoothed(context: Context) -> Iterator[Seedling]:
    yield from _optioned(context, ({"label_smoothing": s} for s in _SMOOTHINGS))


def _squared(context: Context) -> Iterator[Seedling]:
    """The z-loss of small and large sums; beside smoothing, which does not touch it."""
    yield from _optioned(
        context, ({"z_loss": z, "label_smoothing": s} for z in _FACTORS for s in (0.0, 0.25))
    )


def _optioned(context: Context, each: Iterator[dict[str, float]]) -> Iterator[Seedling]:
    for options in each:
        given = {name: value for name, value in options.items() if value}
        for n, spread in ((1, 1.0), (2, 3.0), (3, 10.0), (9, 1.0), (40, 5.0)):
            x = _rows(context, n, 6, spread)
            if fits(x, given, context.dtype):
                yield Seedling(loss_operands(context.op, x, n), family="smoothing", options=given)


def _summed(context: Context) -> Iterator[Seedling]:
    yield from _targets(context)
    yield from _smoothed(context)
    yield from (replace(seedling, family="z-loss") for seedling in _squared(context))


def _judge_sums(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """The sum of each row's slopes within the sum of their bounds, then each slope within its own."""
    (call,), (slopes,) = trial.calls, results
    bounds = context.absolute_bound(ordinary_only(call))
    finite = np.isfinite(bounds).all() and np.isfinite(slopes.astype(np.float64)).all()
    if finite and ordinary(call) and not call.params.get("z_loss"):
        rows, allowed = (a.reshape(-1, a.shape[-1]).astype(np.float64) for a in (slopes, bounds))
        for r, (row, bound) in enumerate(zip(rows, allowed, strict=True)):
            total, most = (sum(map(Fraction, a.tolist()), Fraction(0)) for a in (row, bound))
            if abs(total) > most:
                message = f"the gradient of row {r} sums to {float(total):.4g}, not 0"
                finding = relation_finding(0, None, f"sum of row {r}", repr(float(total)), message)
                return broken(finding, int(slopes.size))
    return judge_values(trial, results, context)


CLAUSES = (
    Clause(
        id="cross-entropy.target",
        statement="the loss is that of the class that the target names, the first, the last, of very many",
        mathematics="loss = lse(x) - x_t; gradient (p_j - [j = t]) dloss",
        source="definition; torch.nn.functional.cross_entropy",
        in_practice="an index kept in 8 or 16 bits, a target off by one, a gather from the row before",
        ops=LOSS_OPS,
        directed=_targets,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="cross-entropy.ignored",
        statement="a row whose target is the ignored index has the loss 0 and the gradient 0, whatever it "
        "holds, and changes no other row",
        mathematics="t = ignore_index: loss = 0, gradient = 0",
        source="torch.nn.functional.cross_entropy, ignore_index; the derivative of a constant",
        in_practice="padding of -inf or NaN that reaches the gradient; a class that happens to be the index "
        "counted all the same; a gather out of bounds",
        ops=LOSS_OPS,
        directed=_ignoring,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="cross-entropy.smoothing",
        statement="label smoothing s puts 1 - s on the target and s / n on every class, the target included",
        mathematics="loss = (1 - s) (lse - x_t) + (s / n) sum_j (lse - x_j)",
        source="C. Szegedy et al., arXiv:1512.00567, section 7; torch.nn.functional.cross_entropy",
        in_practice="s / (n - 1) on the other classes alone; a sum of n log-probabilities that overflows in "
        "16 bits",
        ops=LOSS_OPS,
        directed=_smoothed,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="cross-entropy.z-loss",
        statement="the z-loss adds z times the square of logsumexp, which smoothing does not touch",
        mathematics="loss + z lse(x)^2; gradient + 2 z lse p_j dloss",
        source="A. Chowdhery et al., PaLM, arXiv:2204.02311, section 5",
        in_practice="the square of the sum without its maximum, a gradient without the factor 2",
        ops=LOSS_OPS,
        directed=_squared,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="cross-entropy.gradient-sum",
        statement="without a z-loss the gradient of every row sums to 0, as no shift of the logits is felt",
        mathematics="sum_j (p_j - c_j) = 0, since both are distributions",
        source="derivation: the loss does not change when a constant is added to x",
        in_practice="a p of the target rounded to 1 while the other classes are still pushed away",
        ops=("cross_entropy_vjp",),
        directed=_summed,
        grow=one_call,
        judge=_judge_sums,
    ),
)
