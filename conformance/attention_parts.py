"""Pairs of partial results of attention on which merges go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from softcert.backends.types import Array
from softcert.conformance.attention_families import Shape
from softcert.conformance.attention_growing import made, split_parts
from softcert.conformance.context import Context
from softcert.conformance.spec import Seedling


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


def apart(operands: Sequence[Array]) -> Iterator[Seedling]:
    """Two parts whose lse differ by much or by nothing, or are empty."""
    out_a, lse_a, out_b, lse_b = operands
    kind = lse_a.dtype.type
    for gap in (0.0, 0.5, -3.0, 17.0, -17.0, 88.0, -104.0, 1000.0, -20000.0):
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
