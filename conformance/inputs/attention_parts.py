"""Pairs of partial results of attention on which merges go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import made, split_parts
from softcert.conformance.spec import Seedling

#: From parts that weigh nearly alike to parts of which one counts for nothing.
_GAPS = (
    0.0,
    2e-5,
    -2e-4,
    2e-3,
    -0.05,
    0.5,
    -3.0,
    6.0,
    -8.0,
    11.0,
    -10.5,
    17.0,
    -17.0,
    88.0,
    -104.0,
    1e3,
    -2e4,
)


def merges(context: Context) -> Iterator[Seedling]:
    """Results on two sets of keys: halves, one key, none; and lse far apart."""
    for k, keys in enumerate((2, 5, 16, 65)):
        for kind in ("normal", "scores - 120", "4x scores", "v + 50", "ties"):
            whole = made(
                context, kind, Shape(heads=2, groups=2, queries=6, keys=keys, features=4, values=5), k
            )
            for at in sorted({0, 1, keys // 2, keys}):
                yield split_parts(whole, context, at)
    whole = made(context, "normal", Shape(queries=9, keys=8, features=4, values=5), 3)
    yield from apart(split_parts(whole, context, 4).operands)
    # as many heads as queries as columns: an axis of out that is taken for another shows nowhere else
    square = Shape(heads=5, groups=5, queries=5, keys=8, features=5, values=5)
    for k, of_batches in enumerate(((), (5,))):
        yield split_parts(made(context, "4x scores", square, k, batch=of_batches), context, 3)
    alone = Shape(queries=5, keys=8, features=5, values=5)
    yield split_parts(made(context, "4x scores", alone, 2, bare=True), context, 3)
    # next to the sizes of tiles: rows, then columns of the values
    for k, (queries, columns) in enumerate(
        ((1, 1), (17, 16), (33, 31), (65, 64), (130, 65), (257, 3), (2, 129))
    ):
        shape = Shape(heads=3, groups=3, queries=queries, keys=4, features=2, values=columns)
        yield split_parts(made(context, "normal", shape, k, batch=(2,)), context, 1 + k % 3)


def apart(operands: Sequence[Array]) -> Iterator[Seedling]:
    """Two parts whose lse differ by much or by nothing, or are empty."""
    out_a, lse_a, out_b, lse_b = operands
    kind = lse_a.dtype.type
    for gap in _GAPS:
        moved = (lse_a.astype(np.float64) + gap).astype(lse_a.dtype)
        yield Seedling((out_a, lse_a, out_b, moved), family="lse apart")
    for shift in (-120.0, 120.0, -1e4, 3e4):
        moved_a, moved_b = ((x.astype(np.float64) + shift).astype(x.dtype) for x in (lse_a, lse_b))
        yield Seedling((out_a, moved_a, out_b, moved_b), family="lse moved together")
    none, zero = np.full_like(lse_a, kind(-np.inf)), np.zeros_like(out_a)
    some = lse_a.copy()
    some[..., ::2] = kind(-np.inf)
    blank = np.where(np.isneginf(some)[..., np.newaxis], zero, out_a)
    yield Seedling((zero, none, out_b, lse_b), family="first part empty")
    yield Seedling((out_a, lse_a, zero, none), family="second part empty")
    yield Seedling((zero, none, zero.copy(), none.copy()), family="both parts empty")
    yield Seedling((blank, some, out_b, lse_b), family="some rows empty")
    yield Seedling((blank, some, blank.copy(), some.copy()), family="the same rows empty")
