"""Operands of attention some of whose keys are hidden: masks, padding, numbers at hidden keys, empty rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import made, with_operands
from softcert.conformance.inputs.families import Scale
from softcert.conformance.spec import Seedling


def masks(context: Context) -> Iterator[Seedling]:
    """Boolean and additive masks, of the full shape and broadcast, with and without the causal one."""
    for k, (queries, keys) in enumerate(
        ((3, 5), (16, 16), (9, 40), (33, 65), (64, 128), (70, 130), (7, 300))
    ):
        rng = np.random.default_rng([k, queries, keys])
        shape = Shape(heads=2, groups=2, queries=queries, keys=keys, features=8, values=6)
        for place, mask in enumerate(_masks(rng, queries, keys, context.dtype)):
            kind = ("normal", "scores - 120", "4x scores")[place % 3]
            yield made(context, kind, shape, place, mask=mask)
        mask = shown_keys(rng, (2, queries, keys))
        mask[..., 0] = True
        yield made(context, "normal", shape, 9, mask=mask, causal=True)
    yield from _masks_of_batches(context)
    yield from _beyond_16_bits(context)
    yield from _far_below(context)
    yield from padded(context)


def _beyond_16_bits(context: Context) -> Iterator[Seedling]:
    """Masks of more than 2**16 places: an index of 16 bits wraps within one head."""
    shape = Shape(queries=261, keys=259, features=4, values=4)
    shown = shown_keys(np.random.default_rng(16), (261, 259))
    yield made(context, "normal", shape, 0, mask=shown)
    added = np.where(shown, 0.5, -2.0).astype(as_dtype(context.dtype))
    yield made(context, "normal", shape, 1, mask=added)


def _far_below(context: Context) -> Iterator[Seedling]:
    """Masks that add what some take for -inf, but is finite, to all keys of a query; its values are alike."""
    shape = Shape(queries=3, keys=5, features=4, values=4)
    for k, added in enumerate((-1e4, -1e9, -1e30)):
        if -added > Scale.of(context.dtype).largest:
            continue
        mask = np.zeros((3, 5), dtype=as_dtype(context.dtype))
        mask[1:] = added
        base = made(context, "normal", shape, k, mask=mask)
        alike = np.ones_like(base.operands[2])
        yield replace(with_operands(base, v=alike), family=f"a mask adds {added:g} to every key")


def _masks_of_batches(context: Context) -> Iterator[Seedling]:
    """Masks that differ from batch to batch, as padding does; some shared by heads, or by queries."""
    rng = np.random.default_rng(41)
    shape = Shape(heads=2, groups=2, queries=5, keys=9, features=8, values=6)
    for place, axes in enumerate(((2, 2, 5, 9), (2, 1, 5, 9), (2, 1, 1, 9), (2, 2, 1, 9))):
        shown = shown_keys(rng, axes)
        added = np.where(shown, rng.standard_normal(axes) * 3.0, -np.inf).astype(as_dtype(context.dtype))
        yield made(context, "normal", shape, place, batch=(2,), mask=shown)
        yield made(context, "4x scores", shape, place, batch=(2,), mask=added)
    # as many heads as batches: a mask of heads passes for one of batches
    of_heads = shown_keys(rng, (2, 5, 9))
    yield made(context, "normal", shape, 4, batch=(2,), mask=of_heads)
    shifts = rng.standard_normal(of_heads.shape) * 3.0
    yield made(context, "normal", shape, 5, batch=(2,), mask=shifts.astype(as_dtype(context.dtype)))


def _masks(rng: np.random.Generator, queries: int, keys: int, dtype: str) -> Iterator[Array]:
    full = shown_keys(rng, (2, queries, keys))
    yield full
    yield shown_keys(rng, (queries, keys))
    yield shown_keys(rng, (1, 1, keys))
    # of queries alone: stretched over all tiles of keys, which some queries see none of
    yield np.arange(2 * queries).reshape(2, queries, 1) % 3 > 0
    yield np.where(np.arange(queries)[:, None] % 2, 0.5, -np.inf).astype(as_dtype(dtype))
    yield full[:1]
    bias = rng.standard_normal((2, queries, keys)) * 3.0
    yield bias.astype(as_dtype(dtype))
    yield np.where(full, bias, -np.inf).astype(as_dtype(dtype))
    distance = np.abs(np.arange(queries)[:, None] + (keys - queries) - np.arange(keys))
    yield (-0.5 * distance).astype(as_dtype(dtype))
    yield np.where(shown_keys(rng, (1, keys)), 0.0, -np.inf).astype(as_dtype(dtype))
    single = np.zeros((2, queries, keys), dtype=bool)
    single[..., rng.integers(keys)] = True
    yield single


def shown_keys(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """About half of the keys, one for each query at least."""
    shown = rng.random(shape) < 0.5
    np.put_along_axis(shown, rng.integers(shape[-1], size=(*shape[:-1], 1)), values=True, axis=-1)
    return shown


def padded(context: Context) -> Iterator[Seedling]:
    """Keys hidden in front, behind and in whole tiles, as padding is."""
    for keys in (16, 40, 64, 96, 128, 160, 192):
        for hidden in (1, 15, 16, 17, 32, 63, 64, 65, 127, 128, 129):
            if hidden >= keys or (context.thorough < 1 and hidden > 65):
                continue
            for leading in (True, False):
                mask = np.ones((5, keys), dtype=bool)
                mask[:, slice(0, hidden) if leading else slice(keys - hidden, keys)] = False
                kind = "scores - 120" if hidden % 2 else "normal"
                shape = Shape(queries=5, keys=keys, features=8, values=4)
                yield made(context, kind, shape, hidden, mask=mask)


def hidden(context: Context) -> Iterator[Seedling]:
    """Large finite numbers at keys that are hidden, by a mask or by the causal rule."""
    largest = Scale.of(context.dtype).largest / 16.0
    for k, (queries, keys) in enumerate(((3, 6), (16, 33), (5, 129), (40, 40))):
        for sign in (1.0, -1.0):
            base = made(context, "normal", Shape(queries=queries, keys=keys, features=8, values=4), k)
            rng = np.random.default_rng([k, keys])
            shown = np.broadcast_to(shown_keys(rng, (1, keys)), (queries, keys)).copy()
            yield _littered(base, shown[0], sign, largest, mask=shown)
            added = np.where(shown, 0.0, -np.inf).astype(as_dtype(context.dtype))
            yield _littered(base, shown[0], sign, largest, mask=added)
        # above the diagonal of the first query lie all keys but those that the first query sees
        above = np.arange(keys) <= max(keys - queries, 0)
        yield _littered(base, above, 1.0, largest, causal=True, rows=1)


def _littered(
    base: Seedling,
    shown: Array,
    sign: float,
    largest: float,
    *,
    rows: int | None = None,
    mask: Array | None = None,
    causal: bool = False,
) -> Seedling:
    """The seedling with large numbers at the keys that are not shown (to the first `rows` queries)."""
    q, k, v = (a.copy() for a in base.operands[:3])
    k[..., ~shown, :] = k.dtype.type(sign * 1000.0)
    v[..., ~shown, :] = v.dtype.type(largest if rows is None else 100.0)
    q = np.abs(q) + q.dtype.type(0.25)
    given = with_operands(base, q=q, k=k, v=v)
    return replace(given, mask=mask, causal=causal, family="hidden keys hold large numbers")


def hidden_nan(context: Context) -> Iterator[Seedling]:
    """NaN and infinities at keys and values that are hidden."""
    for k, bad in enumerate((np.nan, np.inf, -np.inf)):
        base = made(context, "normal", Shape(queries=4, keys=9, features=4, values=4), k)
        shown = np.ones((4, 9), dtype=bool)
        shown[:, (2, 8)] = False
        for name, array in (("k", base.operands[1]), ("v", base.operands[2])):
            spoilt = array.copy()
            spoilt[..., (2, 8), :] = bad
            given = with_operands(base, **{name: spoilt})
            yield replace(given, mask=shown, family=f"{bad} in hidden {name}")


def empty_rows(context: Context) -> Iterator[Seedling]:
    """Queries that see no key: first, last, in the middle, all; by a mask and by the causal rule."""
    for k, (queries, keys) in enumerate(((3, 4), (17, 16), (65, 64), (6, 130))):
        shape = Shape(heads=2, groups=1, queries=queries, keys=keys, features=8, values=4)
        for place in (0, queries // 2, queries - 1):
            mask = np.ones((2, queries, keys), dtype=bool)
            mask[:, place] = False
            yield made(context, "normal", shape, k, mask=mask)
            added = np.where(mask, 0.0, -np.inf).astype(as_dtype(context.dtype))
            yield made(context, "scores - 120", shape, k, mask=added)
        whole = np.ones((2, queries, keys), dtype=bool)
        whole[0] = False
        yield made(context, "normal", shape, k, mask=whole)
    for queries, keys in ((5, 2), (33, 16), (130, 60)):
        shape = Shape(queries=queries, keys=keys, features=8, values=4)
        yield made(context, "normal", shape, queries, causal=True)
