"""Magnitudes, subnormals, NaN and infinities, empty arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.backends.types import as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_growing import attend_once
from softcert.conformance.inputs.attention_specials import broken_numbers, empty_arrays, magnitudes, no_keys
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import one_call, operands_from
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.evidence import judge_shape
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Judgement
from softcert.conformance.spec import (
    ALL_OPS,
    ATTENTION_FORWARD_OPS,
    DERIVATIVE_OPS,
    LOGIT_OPS,
    LOSS_OPS,
    PRODUCT_OPS,
    TREE_OPS,
    Clause,
    Seedling,
)

_LENGTHS = (1, 2, 3, 8, 9, 17, 33, 70)
#: Rows of several blocks of every usual size, and the blocks' starts.
_LONG = (300, 1100, 2200)
_BLOCKS = (32, 64, 128, 256, 512, 1024)


def _from(families: tuple[str, ...], context: Context) -> Iterator[Seedling]:
    for family in families:
        for n in _LENGTHS:
            for seed in range(3):
                x = make_row(family, n, seed, 1.0, context.dtype)
                yield Seedling(operands_from(context, x, seed), family=family)


def _with(context: Context, special: float) -> Iterator[Seedling]:
    """The special value at the first, last and middle place of a row, alone and inside a batch."""
    for n in _LENGTHS:
        for place in sorted({0, n // 2, n - 1}):
            row = make_row("normal", n, n, 1.0, context.dtype)
            poisoned = row.copy()
            poisoned[place] = special
            yield _planted(context, poisoned, special)
            yield _planted(context, np.stack([row, poisoned, row[::-1]]), special)
    for n in _LONG:
        for place in sorted({n - 1, *(b for b in _BLOCKS if b < n), *(b - 1 for b in _BLOCKS if b < n)}):
            poisoned = make_row("normal", n, n, 1.0, context.dtype)
            poisoned[place] = special
            yield _planted(context, poisoned, special)


def _planted(context: Context, x: np.ndarray, special: float) -> Seedling:
    if context.op not in PRODUCT_OPS:
        return Seedling(operands_from(context, x, x.size), family=f"{special} planted")
    where = ~np.isfinite(x.astype(np.float64))
    y, dy = operands_from(context, np.where(where, as_dtype(context.dtype).type(0), x))
    return Seedling(
        (y, np.where(where, as_dtype(context.dtype).type(special), dy)), family=f"{special} planted"
    )


def _masked(context: Context) -> Iterator[Seedling]:
    for n in _LENGTHS[1:]:
        row = make_row("normal", n, n, 1.0, context.dtype)
        for kept in sorted({1, n // 2, n - 1} - {0}):
            for masked in (slice(None, n - kept), slice(kept, None)):
                x = row.copy()
                x[masked] = -np.inf
                yield Seedling(operands_from(context, x, kept), family="masked")
                yield Seedling(operands_from(context, np.stack([row, x]), kept), family="masked")
    for n in _LONG:
        row = make_row("normal", n, n, 1.0, context.dtype)
        for block in (b for b in _BLOCKS if b < n):
            for masked in (slice(None, block), slice(block, None), slice(block, 2 * block)):
                x = row.copy()
                x[masked] = -np.inf
                yield Seedling(operands_from(context, x, block), family="masked blocks")
    yield from _from(("masked", "masked-first"), context)


def _all_masked(context: Context) -> Iterator[Seedling]:
    dtype = as_dtype(context.dtype)
    for n in _LENGTHS:
        masked = np.full(n, -np.inf).astype(dtype)
        yield Seedling(operands_from(context, masked, n), family="all -inf")
        row = make_row("normal", n, n, 1.0, context.dtype)
        yield Seedling(operands_from(context, np.stack([masked, row, masked]), n), family="all -inf")


def _empty_batch(context: Context) -> Iterator[Seedling]:
    for shape in ((0, 1), (0, 5), (2, 0, 3), (0, 3, 4)):
        yield _empty(context, shape, "empty batch")


def _empty_axis(context: Context) -> Iterator[Seedling]:
    for shape in ((0,), (2, 0)):
        yield _empty(context, shape, "empty axis")


def _empty(context: Context, shape: tuple[int, ...], family: str) -> Seedling:
    zero = np.zeros(shape, dtype=as_dtype(context.dtype))
    if context.op in PRODUCT_OPS:
        return Seedling((zero, zero), family=family)
    return Seedling(operands_from(context, zero), family=family)


CLAUSES = (
    Clause(
        id="stability.magnitude",
        statement="logits up to the largest float of the format give the right result, not NaN or infinity",
        mathematics="the accuracy bound for |x| up to the largest finite number, gaps up to twice it",
        source="safe softmax: exp(x - max)",
        in_practice="inf/inf without the maximum subtracted; x * log2(e) overflowing before the subtraction",
        ops=(*LOGIT_OPS, *LOSS_OPS, *TREE_OPS),
        directed=lambda context: _from(("near-overflow", "wide", "offset-up", "offset-down"), context),
        drawn=lambda context: seedlings(context, families=("near-overflow", "wide")),
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.subnormal",
        statement="subnormal logits, and results in the subnormal range, are computed and not flushed",
        mathematics="the accuracy bound with its underflow term",
        source="IEEE 754 gradual underflow; flushing only where the contract declares it",
        in_practice="flush-to-zero compiled in by -ffast-math, an argument clamped short of the "
        "underflow threshold",
        ops=(*LOGIT_OPS, *LOSS_OPS, *TREE_OPS),
        directed=lambda context: _from(("subnormal-logits", "tiny-outputs", "gap-sweep"), context),
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.nan",
        statement="a NaN that a row's result depends on makes that row NaN, and no other row",
        mathematics="NaN in row r gives NaN in all of row r; the other rows keep their exact "
        "values; of a tree, NaN on the path of row r",
        source="IEEE 754 propagation; the contract's nan field",
        in_practice="a maximum that ignores NaN and a result that looks healthy; a NaN leaking "
        "into the next row",
        ops=(*LOGIT_OPS, *DERIVATIVE_OPS, *LOSS_OPS, "hierarchical_log_softmax"),
        directed=lambda context: _with(context, np.nan),
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.plus-inf",
        statement="a +inf logit gives NaN at its place, and disturbs no other row",
        mathematics="inf - inf is undefined: softmax NaN at +inf; lse +inf or NaN",
        source="the contract's plus_inf field; vendors differ (scipy#23225, jax#21495)",
        in_practice="[1, 0] invented for a row that has no answer",
        ops=(*LOGIT_OPS, *LOSS_OPS),
        directed=lambda context: _with(context, np.inf),
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.minus-inf",
        statement="-inf among finite logits gives exactly 0 (log_softmax: -inf) and changes nothing else",
        mathematics="exp(-inf) = 0",
        source="IEEE 754; masks are written this way",
        in_practice="NaN when the masked logits come first and the running maximum is still -inf "
        "(vllm#56578)",
        ops=(*LOGIT_OPS, *LOSS_OPS),
        directed=_masked,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.all-minus-inf",
        statement="a row of -inf only gives what the contract says (default: NaN; its logsumexp is -inf)",
        mathematics="0/0; log 0 = -inf",
        source="the contract's all_minus_inf field; IEEE 754-2019 section 9.2.1 for log 0",
        in_practice="one masked row making every gradient of the batch NaN (pytorch#41508); a silent mean",
        ops=(*LOGIT_OPS, *LOSS_OPS),
        directed=_all_masked,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="stability.empty-batch",
        statement="a batch of no rows gives a result of no rows",
        mathematics="shape (0, n) in, shape (0, n) out; logsumexp (0, n) in, (0,) out",
        source="array semantics",
        in_practice="a crash on the last, empty batch of a data set",
        ops=ALL_OPS,
        directed=_empty_batch,
        grow=one_call,
        inspect=judge_shape,
    ),
    Clause(
        id="stability.empty-axis",
        statement="what an empty axis gives is observed and reported; only a crash or a hang is wrong",
        mathematics="softmax of nothing is nothing; its logsumexp is -inf, the sum's neutral element",
        source="no standard speaks of it: libraries raise, or return an empty array",
        in_practice="a segmentation fault from reading the first element of nothing",
        ops=ALL_OPS,
        directed=_empty_axis,
        grow=one_call,
        inspect=lambda _trial, outputs, _context: Judgement(elements=sum(o.value.size for o in outputs)),
        observes=True,
        shrinks=False,
    ),
    Clause(
        id="stability.attention-nan",
        statement="a NaN that a query sees comes out, and spoils no query that does not see it",
        mathematics="out_i is NaN where q_i or a k_j that it sees holds one, column c where v_jc does",
        source="the contract's nan field; IEEE 754 propagation",
        in_practice="a maximum that ignores NaN hides the fault; one NaN spoils the whole tile",
        ops=ATTENTION_FORWARD_OPS,
        directed=broken_numbers,
        grow=attend_once,
        judge=judge_values,
        applies=lambda c: None if c.contract.nan == "propagate" else "the contract does not promise it",
    ),
    Clause(
        id="stability.attention-magnitudes",
        statement="subnormal, zero and large finite operands give their own result",
        mathematics="the bound of the contract, underflow included",
        source="docs/explanation/attention-bounds.md",
        in_practice="subnormals flushed, 0 * inf after an overflow",
        ops=(*ATTENTION_FORWARD_OPS, "attention_vjp"),
        directed=magnitudes,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="stability.attention-empty",
        statement="no queries and no heads give empty results of the right shape",
        mathematics="F^(0, D) -> F^(0, Dv)",
        source="array semantics",
        in_practice="a division by a number of tiles that is 0",
        ops=(*ATTENTION_FORWARD_OPS, "attention_vjp"),
        directed=empty_arrays,
        grow=attend_once,
        inspect=judge_shape,
        observes=True,
    ),
    Clause(
        id="stability.attention-no-keys",
        statement="what queries without a single key give is observed and reported",
        mathematics="S = 0",
        source="no standard says it",
        in_practice="0, NaN, an exception: all are met",
        ops=ATTENTION_FORWARD_OPS,
        directed=no_keys,
        grow=attend_once,
        inspect=judge_shape,
        observes=True,
    ),
)
