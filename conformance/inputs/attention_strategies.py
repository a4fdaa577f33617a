"""Hypothesis strategies of seedlings of attention: small arrays by number, larger ones by kind and seed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import KINDS, Shape
from softcert.conformance.inputs.attention_growing import (
    made,
    moved_scores,
    split_parts,
    wants_alike,
    with_cotangent,
)
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

_LENGTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129)
_WIDTHS = (1, 2, 3, 4, 7, 8, 16, 17, 32, 64)
_HEADS = ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (3, 1))


@st.composite
def _shapes(draw: DrawFn) -> Shape:
    heads, groups = draw(st.sampled_from(_HEADS))
    queries, keys = draw(st.sampled_from(_LENGTHS)), draw(st.sampled_from(_LENGTHS))
    features, values = draw(st.sampled_from(_WIDTHS)), draw(st.sampled_from(_WIDTHS))
    return Shape(heads, groups, queries, keys, features, values)


@st.composite
def _small(draw: DrawFn, context: Context) -> Seedling:
    """q, k and v of a few numbers each, drawn one by one on a coarse grid, so that shrinking reads well."""
    queries, keys = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    features, width = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    width = features if wants_alike(context) else width
    number = st.one_of(
        st.floats(-16.0, 16.0, width=16), st.sampled_from((0.0, 1.0, -1.0, 0.5, 30.0, -30.0, 1e-3))
    )

    def drawn(rows: int, columns: int) -> Array:
        numbers = draw(st.lists(number, min_size=rows * columns, max_size=rows * columns))
        return np.asarray(numbers).reshape(1, rows, columns).astype(as_dtype(context.dtype))

    operands = drawn(queries, features), drawn(keys, features), drawn(keys, width)
    base = Seedling(operands, family="drawn", causal=draw(st.booleans()))
    return with_cotangent(base, context, draw(st.integers(0, 99)))


@st.composite
def _large(draw: DrawFn, context: Context) -> Seedling:
    kind, shape = draw(st.sampled_from(sorted(KINDS))), draw(_shapes())
    seed, causal = draw(st.integers(0, 2**16)), draw(st.booleans())
    return made(context, kind, shape, seed, causal=causal)


def drawn_operands(context: Context) -> SearchStrategy[Seedling]:
    """q, k and v of any kind, causal or not."""
    return st.one_of(_small(context), _large(context), _large(context))


@st.composite
def drawn_masks(draw: DrawFn, context: Context) -> Seedling:
    """Operands with a mask, boolean or additive, some of whose rows may be empty."""
    base = draw(drawn_operands(context))
    q, k = base.operands[:2]
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    whole = (*q.shape[:-1], k.shape[-2])
    shape = draw(st.sampled_from((whole, whole[-2:], (1, *whole[-2:]), (1, 1, whole[-1]))))
    shown = rng.random(shape) < draw(st.sampled_from((0.5, 0.9, 0.1)))
    if draw(st.booleans()):
        return replace(base, mask=shown)
    bias = rng.standard_normal(shape) * draw(st.sampled_from((1.0, 10.0)))
    return replace(base, mask=np.where(shown, bias, -np.inf).astype(q.dtype))


@st.composite
def drawn_shifts(draw: DrawFn, context: Context) -> Seedling:
    """Operands whose scores are moved."""
    base = draw(drawn_operands(context))
    shift = draw(st.sampled_from((-120.0, 120.0, -1000.0, 1000.0, -40.0, 40.0, -1e4, 1e4)))
    return moved_scores(base, shift, context)


@st.composite
def drawn_merges(draw: DrawFn, context: Context) -> Seedling:
    """Results on two sets of keys."""
    kind, shape = draw(st.sampled_from(sorted(KINDS))), draw(_shapes())
    whole = made(context, kind, replace(shape, queries=min(shape.queries, 33)), draw(st.integers(0, 2**16)))
    return split_parts(whole, context, draw(st.integers(0, shape.keys)))
