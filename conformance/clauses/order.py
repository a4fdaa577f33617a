"""Larger logits do not get smaller probabilities."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context, Float
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import one_call, sweep
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.evidence import (
    broken,
    not_numbers,
    numerator_bounds,
    ordinary,
    relation_finding,
)
from softcert.conformance.judging.judge import quantity
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import SPARSE_OPS, Clause, Seedling, rows_last


def _judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Sort each row by its logits; no output may fall short of an earlier one by more than both bounds."""
    call, value = trial.calls[0], results[0]
    if not ordinary(call):
        return Judgement()
    missing = not_numbers(0, call, value)
    if missing is not None:
        return missing
    axis = int(call.params["axis"])
    # Not times beta itself: logits that differ may have equal products once these are rounded.
    x = rows_last(call.operands[0], axis).astype(np.float64) * np.sign(float(call.params.get("beta", 1.0)))
    y = rows_last(value, axis).astype(np.float64)
    allowed = _allowance(trial, y, context)
    order = np.argsort(x, axis=-1, kind="stable")
    sorted_y, slack = (np.take_along_axis(a, order, axis=-1) for a in (y, allowed))
    with np.errstate(invalid="ignore"):
        ceiling = np.maximum.accumulate(sorted_y - slack, axis=-1)
        fall = np.nan_to_num(ceiling - (sorted_y + slack), nan=0.0)
    elements = int(value.size)
    if not (fall > 0.0).any():
        return Judgement(elements=elements)
    row, place = np.unravel_index(
        int(np.argmax(fall.reshape(-1, fall.shape[-1]))), (fall[..., 0].size, x.shape[-1])
    )
    low = int(order.reshape(-1, x.shape[-1])[row, place])
    line_x, line_y = (a.reshape(-1, a.shape[-1])[row] for a in (x, y))
    earlier = order.reshape(-1, x.shape[-1])[row, :place]
    high = int(earlier[np.argmax(line_y[earlier])])
    at = _index(int(row), low, x.shape[:-1], axis % value.ndim)
    finding = relation_finding(
        0,
        at,
        quantity(call, at),
        value[at],
        f"logit {line_x[low]:.9g} gets {line_y[low]:.9g} while the logit {line_x[high]:.9g}, not larger,"
        f" gets {line_y[high]:.9g}: more apart than both error bounds",
    )
    return broken(finding, elements)


def _allowance(trial: Trial, y: Float, context: Context) -> Float:
    """What two computed values of a row may differ by although their exact order is the other way."""
    call = trial.calls[0]
    a = context.arithmetic
    if context.contract.order_bitwise:
        return np.zeros_like(y)
    if call.op == "softmax":
        perturbation = numerator_bounds(call, context)
        with np.errstate(over="ignore", invalid="ignore"):
            relative = np.where(y > 0, y * np.expm1(perturbation), 0.0)
        return np.where(np.isfinite(relative), relative, np.inf) + a.underflow
    bound = rows_last(context.absolute_bound(call), int(call.params["axis"]))
    return np.where(np.isfinite(y), bound, 0.0)


def _index(row: int, place: int, shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    batch = tuple(int(i) for i in np.unravel_index(row, shape)) if shape else ()
    return (*batch[:axis], place, *batch[axis:])


def _rows(context: Context) -> Iterator[Seedling]:
    for family in ("near-ties", "ties", "normal", "increasing", "gap-sweep", "equal", "masked"):
        for n in (2, 5, 17, 33):
            for spread in (0.01, 1.0, 10.0):
                yield Seedling((make_row(family, n, n, spread, context.dtype),), family=family)
    yield from sweep(context, (65, 130, 515), ("normal", "ties", "near-ties"))


CLAUSES = (
    Clause(
        id="order.monotone",
        statement="a larger logit does not get a smaller result, nor equal logits different ones, "
        "by more than "
        "the two error bounds allow",
        mathematics="x_i >= x_j implies p_i >= p_j - (bound_i + bound_j)",
        source="monotonicity of exp; vector and scalar tails of correct libraries differ in the last bit",
        in_practice="ties given to the first of them, quantised or sorted outputs put back in the "
        "wrong places",
        ops=("softmax", "log_softmax", *SPARSE_OPS),
        directed=_rows,
        drawn=seedlings,
        grow=one_call,
        judge=_judge,
    ),
)
