"""Softmax does not see a constant added to its row, and does see a factor."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import call_of, operands_from, trial_of
from softcert.conformance.inputs.strategies import LENGTHS
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial
from softcert.conformance.spec import (
    FORWARD_OPS,
    LOGIT_OPS,
    LOSS_OPS,
    PRODUCT_OPS,
    Clause,
    Seedling,
)
from softcert.reference import format_of

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

_SHIFTS = (1.0, -1.0, 8.0, -120.0, 120.0, -1000.0, 1000.0, -30000.0, 50000.0, -1e5, 1e7, -1e7, 1e12, -1e30)
_GRID = 2.0**-3


def _on_grid(context: Context, n: int, seed: int) -> Array:
    """Logits on a dyadic grid, so that moderate shifts are exact in the format."""
    rng = np.random.default_rng([seed, n])
    row: Array = (np.rint(rng.standard_normal(n) / _GRID) * _GRID).astype(as_dtype(context.dtype))
    return row


def _grow_shift(seedling: Seedling, context: Context) -> Trial | None:
    """The row and the row moved, where the move is exact for every element."""
    x, *rest = seedling.operands
    shift = as_dtype(context.dtype).type(seedling.extra["shift"])
    with np.errstate(all="ignore"):
        moved = (x + shift).astype(x.dtype)
    if not _is_exact_sum(x, float(shift), moved):
        return None
    moved_call = call_of(seedling, context, (moved, *rest))
    return trial_of(seedling, call_of(seedling, context), moved_call, relation={"shift": float(shift)})


def _is_exact_sum(x: Array, shift: float, moved: Array) -> bool:
    """Whether moved = x + shift holds without rounding, decided in rational arithmetic."""
    if not np.isfinite(moved.astype(np.float64)).all():
        return False
    pairs = zip(x.ravel().tolist(), moved.ravel().tolist(), strict=True)
    return all(Fraction(float(m)) == Fraction(float(a)) + Fraction(shift) for a, m in pairs)


def _shifts(context: Context) -> Iterator[Seedling]:
    top = format_of(context.dtype).emax
    for n in (2, 3, 9, 33):
        for shift in _SHIFTS:
            if abs(shift) < 2.0**top:
                # Coarser grids admit larger shifts: integers, then multiples of the shift's own spacing.
                for spacing in (_GRID, 1.0, 2.0**16):
                    x = (_on_grid(context, n, 5).astype(np.float64) / _GRID * spacing).astype(
                        as_dtype(context.dtype)
                    )
                    yield Seedling(operands_from(context, x, n), family="grid", extra={"shift": shift})


@st.composite
def _drawn_shift(draw: DrawFn, context: Context) -> Seedling:
    n = draw(st.integers(1, 12))
    steps = draw(st.lists(st.integers(-64, 64), min_size=n, max_size=n))
    x = (np.asarray(steps, dtype=np.float64) * _GRID).astype(as_dtype(context.dtype))
    limit = 2 ** min(format_of(context.dtype).precision - 5, 20)
    shift = draw(st.integers(-limit, limit)) * _GRID
    return Seedling(operands_from(context, x, n), family="drawn", extra={"shift": shift})


def _grow_derivative(seedling: Seedling, context: Context) -> Trial | None:
    """A cotangent and the cotangent moved by a constant, at probabilities that sum to exactly 1."""
    y, dy = seedling.operands
    shift = as_dtype(context.dtype).type(seedling.extra["shift"])
    moved = (dy + shift).astype(dy.dtype)
    if not _is_exact_sum(dy, float(shift), moved):
        return None
    calls = call_of(seedling, context), call_of(seedling, context, (y, moved))
    return trial_of(seedling, *calls, relation={"shift": float(shift)})


def _derivative_shifts(context: Context) -> Iterator[Seedling]:
    dtype = as_dtype(context.dtype)
    for n in (2, 3, 5, 8):
        weights = 2.0 ** -np.minimum(np.arange(1, n + 1), n - 1)
        for shift in (1.0, -3.0, 24.0, -120.0, 120.0):
            dy = np.rint(np.random.default_rng(n).standard_normal(n) * 4.0)
            yield Seedling((weights.astype(dtype), dy.astype(dtype)), family="dyadic", extra={"shift": shift})


def _grow_scaling(seedling: Seedling, context: Context) -> Trial | None:
    (x,) = seedling.operands
    doubled = (x.astype(np.float64) * 2.0).astype(x.dtype)
    if not np.isfinite(doubled.astype(np.float64)).all():
        return None
    return trial_of(seedling, call_of(seedling, context), call_of(seedling, context, (doubled,)))


def _scaled_rows(context: Context) -> Iterator[Seedling]:
    dtype = as_dtype(context.dtype)
    for row in ([0.0, 1.0], [0.0, 2.0], [1.0, 2.0, 3.0], [-1.0, 0.5, 4.0, 2.0]):
        yield Seedling((np.asarray(row).astype(dtype),), family="seed text")
    for n in LENGTHS[4:12]:
        yield Seedling((make_row("normal", n, 2, 1.0, context.dtype),), family="normal")


CLAUSES = (
    Clause(
        id="translation.exact-shift",
        statement="adding a constant, where the addition is exact, moves logsumexp by the constant, and "
        "leaves every other op as it is",
        mathematics="softmax(x + c) = softmax(x); log_softmax(x + c) = log_softmax(x); lse(x + c) "
        "= lse(x) + c; entmax(x + c) = entmax(x); the loss and its gradient stay",
        source="definition; pytorch#38839, pytorch#196678, flashinfer#4401",
        in_practice="log_softmax(x - 1e7) = [-1, -1, -1]; a padded key scored 0 that a shift by "
        "-120 exposes; "
        "a mask sentinel of -5e4 that real logits reach",
        ops=(*LOGIT_OPS, *LOSS_OPS),
        directed=_shifts,
        drawn=_drawn_shift,
        grow=_grow_shift,
        judge=judge_values,
    ),
    Clause(
        id="translation.derivative",
        statement="a constant added to the cotangent or tangent does not change the derivative",
        mathematics="vjp(y, dy + c) = vjp(y, dy) where sum(y) = 1 exactly, of sparse ones anywhere",
        source="the Jacobians diag(y) - y y^T and diag(s) - s s^T / sum(s) have the null vector 1",
        in_practice="the sum term forgotten, or taken over the wrong elements",
        ops=PRODUCT_OPS,
        directed=_derivative_shifts,
        grow=_grow_derivative,
        judge=judge_values,
    ),
    Clause(
        id="translation.scaling",
        statement="softmax is not invariant under scaling: a doubled row gives its own, different result",
        mathematics="softmax((0, 1)) = (1/(1+e), e/(1+e)), softmax((0, 2)) = (1/(1+e^2), e^2/(1+e^2))",
        source="definition",
        in_practice="logits normalised by their range or norm before the exponential",
        ops=FORWARD_OPS,
        directed=_scaled_rows,
        grow=_grow_scaling,
        judge=judge_values,
        effort=0.5,
    ),
)
