"""Operands of attention that are no ordinary numbers, or none at all: what the stability clauses ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import made, with_operands
from softcert.conformance.inputs.families import Scale
from softcert.conformance.spec import Seedling


def broken_numbers(context: Context) -> Iterator[Seedling]:
    """A NaN in a query, a key or a value that is seen."""
    for k, place in enumerate((0, 2, 6)):
        base = made(context, "normal", Shape(queries=7, keys=7, features=4, values=4), k)
        for name, array in zip("qkv", base.operands, strict=False):
            spoilt = array.copy()
            spoilt[..., place, 1] = np.nan
            given = with_operands(base, **{name: spoilt})
            yield replace(given, family=f"NaN in {name}")
            yield replace(given, family=f"NaN in {name}", causal=True)


def magnitudes(context: Context) -> Iterator[Seedling]:
    """Subnormal and large finite operands, zeros of both signs."""
    scale = Scale.of(context.dtype)
    base = made(context, "normal", Shape(queries=4, keys=9, features=4, values=4), 2)
    q, k, v = (a.astype(np.float64) for a in base.operands[:3])
    root = float(np.sqrt(min(scale.largest, 3e38))) / 16.0
    sizes = (
        (scale.smallest * 16.0, 1.0),
        (scale.smallest * 2.0**12, scale.smallest * 2.0**12),
        (root / 64.0, 1e-3),
    )
    for of_q, of_k in sizes:
        changed = {"q": q * of_q, "k": k * of_k}
        yield replace(
            with_operands(base, **{n: a.astype(base.operands[0].dtype) for n, a in changed.items()}),
            family="extreme sizes",
        )
    zeros = {"q": np.zeros_like(base.operands[0]), "v": np.copysign(0.0, v).astype(base.operands[2].dtype)}
    yield replace(with_operands(base, **zeros), family="zeros")


def empty_arrays(context: Context) -> Iterator[Seedling]:
    """No queries, no heads."""
    for shape, batch in (
        (Shape(queries=0, keys=4, features=4, values=4), ()),
        (Shape(2, 2, 0, 3, 2, 2), (2,)),
    ):
        yield made(context, "normal", shape, 1, batch=batch)


def no_keys(context: Context) -> Iterator[Seedling]:
    """Queries, and not a single key."""
    yield made(context, "normal", Shape(queries=3, keys=0, features=4, values=4), 1)
