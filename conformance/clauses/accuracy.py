"""Certified error within the contract's bound, over families, lengths, shapes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from softcert.conformance.context import Context
from softcert.conformance.inputs.families import FAMILIES, make_row, to_dtype
from softcert.conformance.inputs.growing import from_rows, one_call, operands_from, stack, sweep
from softcert.conformance.inputs.losses import optioned_losses
from softcert.conformance.inputs.sparse import supports
from softcert.conformance.inputs.strategies import seedlings
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.spec import (
    ALL_OPS,
    LOGIT_OPS,
    LOSS_OPS,
    ORDERED_OPS,
    PRODUCT_OPS,
    Clause,
    Seedling,
)

#: Every remainder of blocks of 32, once alone and twice behind whole blocks.
_SHORT = tuple(range(1, 98))
_EDGES = (127, 128, 129, 191, 255, 256, 257, 383, 511, 512, 513, 1000, 1023, 1024, 1025)
_LONG = (2047, 2049, 4095, 4096, 4097, 8191, 8193, 16385, 32769, 65537, 131072)
_VERY_LONG = (262145, 1048577)
#: Sums of equal weights beyond float16's largest number, whatever the accumulator should be.
_BEYOND_FLOAT16 = (65521, 200003)
_SWEPT = ("normal", "peak-last", "offset-down", "offset-up")
#: The longest rows take the first two; derivatives, whose truth is summed exactly, the first.
_LONG_FAMILIES = ("peak-last", "normal", "equal", "one-hot")
_BETAS = (0.0, 0.01, 0.5, 2.0, 1.7, 10.0, -1.0, -0.3, -10.0)
_BATCHES = ((2, 3, 7), (3, 2, 2, 5), (17, 9), (33, 5), (65, 16), (130, 3), (257, 4), (1025, 2))
#: More rows than a grid's second axis holds, and than 16 bits count.
_MANY_ROWS = (65537, 2)


def _families(context: Context) -> Iterator[Seedling]:
    yield from from_rows(context, ([0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 2.0, 8.0]), "simple")
    for family in FAMILIES:
        if context.op in PRODUCT_OPS and family in {"masked", "masked-first", "near-overflow"}:
            continue
        for n in (3, 8, 37):
            for spread in (1.0, 10.0):
                x = make_row(family, n, n, spread, context.dtype)
                yield Seedling(operands_from(context, x, n), family=family)
    if context.op in ORDERED_OPS:
        yield from supports(context)
    if context.op in LOSS_OPS:
        yield from optioned_losses(context)
    if context.beta and context.op == "softmax":
        for beta in _BETAS:
            for family, n in (("normal", 9), ("gap-sweep", 37), ("offset-up", 5)):
                x = make_row(family, n, 3, 3.0, context.dtype)
                yield Seedling((x,), beta=beta, family=family)


def _lengths(context: Context) -> Iterator[Seedling]:
    yield from sweep(context, _SHORT, _SWEPT)
    yield from sweep(context, _EDGES, _SWEPT)
    long = _LONG if context.thorough >= 1 else _LONG[:5]
    for n in (*long, *(_VERY_LONG if context.thorough > 1 else ())):
        for family in _LONG_FAMILIES if n <= 8193 else _LONG_FAMILIES[: 2 if context.op in LOGIT_OPS else 1]:
            x = make_row(family, n, n, 1.0, context.dtype)
            yield Seedling(operands_from(context, x, n), family=family)

    for n in _BEYOND_FLOAT16:
        x = make_row("equal", n, 3, 1.0, context.dtype)
        yield Seedling(operands_from(context, x, n), family="equal")


def _shapes(context: Context) -> Iterator[Seedling]:
    for shape in _BATCHES:
        yield stack(context, shape, -1, "normal")
    if context.thorough >= 1:
        x = np.random.default_rng(_MANY_ROWS).standard_normal(_MANY_ROWS)
        yield Seedling(operands_from(context, to_dtype(x, context.dtype)), family="many rows")


CLAUSES = (
    Clause(
        id="accuracy.certified",
        statement="every result is within the contract's bound of the exact value, over every "
        "family of inputs",
        mathematics="|computed - exact| <= bound(format, accumulator, exp error, n, gaps) in ulps at exact",
        source="Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4) 2021, "
        "doi:10.1093/imanum/draa038, repaired",
        in_practice="a polynomial exp of low degree, an epsilon in the denominator, a clamped argument: "
        "all invisible to allclose at 1e-2",
        ops=ALL_OPS,
        directed=_families,
        drawn=seedlings,
        grow=one_call,
        judge=judge_values,
        accuracy=True,
        effort=2.0,
    ),
    Clause(
        id="accuracy.length",
        statement="the bound holds at every length, next to powers of two and block sizes too",
        mathematics="the same bound, n from 1 to 131072 and beyond",
        source="as accuracy.certified; lengths after pytorch#143644 (n = 517) and NNPACK#174 (n mod 8)",
        in_practice="a wrong tail, a padded key that enters the sum, an accumulator that stops "
        "growing at 2048 or overflows at 65520",
        ops=ALL_OPS,
        directed=_lengths,
        grow=one_call,
        judge=judge_values,
        accuracy=True,
    ),
    Clause(
        id="accuracy.batch",
        statement="every row of a batch gets its own result, whatever the number and shape of the rows",
        mathematics="f(X)[r] within the bound of f(X[r]) for each row r",
        source="derivation: the ops act on each row alone",
        in_practice="rows past the first block or past 65535 wrong, one maximum or one sum for all",
        ops=ALL_OPS,
        directed=_shapes,
        grow=one_call,
        judge=judge_values,
        accuracy=True,
    ),
)
