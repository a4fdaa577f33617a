"""Operands on which kernels of attention go wrong: one generator of seedlings for each kind of fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from softcert.backends.types import Array, as_dtype
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import (
    every_kind,
    made,
    moved_scores,
    split_parts,
    with_cotangent,
    with_operands,
)
from softcert.conformance.inputs.families import Scale
from softcert.conformance.spec import Seedling

_SHAPES: tuple[dict[str, int], ...] = (
    {"queries": 1, "keys": 1, "features": 1, "values": 1},
    {"queries": 1, "keys": 2, "features": 3, "values": 2},
    {"queries": 5, "keys": 7, "features": 4, "values": 4},
    {"queries": 17, "keys": 33, "features": 16, "values": 16},
    {"queries": 40, "keys": 96, "features": 32, "values": 8, "heads": 2, "groups": 1},
)
#: Around the tiles of kernels.
_EDGES = (*range(1, 18), 23, 24, 25, 31, 32, 33, 47, 48, 49, 63, 64, 65, 79, 80, 81, 95, 96, 97)
#: The other remainders of tiles of 16, 32 and 64, behind whole tiles.
_REMAINDERS = tuple(n for n in range(18, 128) if n not in _EDGES)
_LARGER_EDGES = (111, 112, 113, 127, 128, 129, 159, 160, 191, 192, 193, 255, 256, 257, 320, 383, 384, 385)
_LONG = (511, 512, 513, 640, 1000, 1023, 1025, 2047, 2049, 4097)
_VERY_LONG = (16385, 65537, 131072)
_WIDTHS = (*range(1, 25), 31, 32, 33, 40, 48, 56, 63, 64, 65, 72, 80, 88, 96, 112, 127, 128, 129)
_LARGER_WIDTHS = (160, 192, 255, 256, 257)
_MANY_BATCHES = 65537
_SHIFTS = (-8.0, 8.0, -120.0, 120.0, -1000.0, 1000.0, -30000.0, 30000.0, -1e5, 1e5)


def plain(context: Context) -> Iterator[Seedling]:
    """Every kind of operands, small and larger; and keys behind one key by every gap that leaves a weight."""
    yield from every_kind(context, _SHAPES)
    yield from _gaps(context)


def _gaps(context: Context) -> Iterator[Seedling]:
    """One key ahead, whose value is 0: the output shows by how much the small weights of the others err."""
    # weights below the normal numbers are softmax's matter: many a kernel takes them for 0, as it may
    normal = Scale.of(context.dtype).smallest * 2.0 ** Scale.of(context.dtype).precision
    gaps = np.linspace(0.0, -np.log(normal), 160)[:, np.newaxis]
    for keys in (2, 17):
        k = np.full((keys, 1), -1.0)
        for ahead in (0, keys - 1):
            v = np.ones((keys, 1))
            k[...], k[ahead], v[ahead] = -1.0, 0.0, 0.0
            operands = tuple(a.astype(as_dtype(context.dtype))[np.newaxis] for a in (gaps, k, v))
            seedling = Seedling(operands, scale=1.0, family="one key ahead")
            yield with_cotangent(seedling, context, keys)


def lengths(context: Context) -> Iterator[Seedling]:
    """Numbers of queries and of keys around the tiles of kernels, scores far below 0 among them."""
    edges = (*_EDGES, *(_LARGER_EDGES if context.thorough >= 1 else _LARGER_EDGES[3:6]))
    for n in edges:
        yield made(context, "scores - 120", Shape(queries=3, keys=n, features=8, values=5), n)
        yield made(context, "normal", Shape(queries=n, keys=n, features=8, values=8), n, causal=True)
        yield made(context, "increasing", Shape(queries=n, keys=6, features=4, values=3), n)
        yield made(context, "normal", Shape(queries=2, keys=n, features=8, values=4), n)
    for n in _REMAINDERS:
        yield made(context, "increasing", Shape(queries=1 + n % 2, keys=n, features=4, values=3), n)
        yield made(context, "normal", Shape(queries=n, keys=18, features=4, values=3), n)
    for n in _LONG if context.thorough >= 1 else _LONG[:3]:
        yield made(context, "scores - 120", Shape(queries=2, keys=n, features=8, values=4), n)
        yield made(context, "normal", Shape(queries=n, keys=65, features=8, values=4), n, causal=True)
        yield made(context, "4x scores", Shape(queries=65, keys=n, features=8, values=4), n, causal=True)
        yield made(context, "increasing", Shape(queries=2, keys=n, features=4, values=3), n)
    for n in _VERY_LONG if context.thorough >= 1 else ():
        yield made(context, "normal", Shape(queries=1, keys=n, features=4, values=2), n)
        yield made(context, "ties", Shape(queries=1, keys=n, features=2, values=2), n)
    for n in _VERY_LONG[:2] if context.thorough >= 1 else ():
        yield made(context, "normal", Shape(queries=n, keys=3, features=2, values=2), n)


def widths(context: Context) -> Iterator[Seedling]:
    """Numbers of features and of columns of values, alike and not."""
    for n in (*_WIDTHS, *(_LARGER_WIDTHS if context.thorough >= 1 else _LARGER_WIDTHS[3:4])):
        shape = Shape(queries=9, keys=19, features=n, values=n)
        yield made(context, "normal", shape, n)
        narrow, wide = replace(shape, values=max(n // 2, 1)), replace(shape, features=max(n // 2, 1))
        yield made(context, "scores - 120", narrow, n, causal=True, alike=False)
        yield made(context, "normal", wide, n + 1, alike=False)


def causal(context: Context) -> Iterator[Seedling]:
    """Causal attention of as many queries as keys, of more and of fewer."""
    pairs = ((1, 1), (1, 5), (2, 2), (3, 8), (8, 3), (5, 5), (7, 16), (16, 7), (16, 16), (17, 33), (33, 17))
    larger = (
        (31, 32),
        (64, 64),
        (65, 64),
        (64, 65),
        (63, 129),
        (129, 63),
        (128, 128),
        (128, 200),
        (200, 128),
    )
    for k, (queries, keys) in enumerate((*pairs, *larger)):
        for kind in ("normal", "increasing", "scores - 120"):
            yield made(context, kind, Shape(queries=queries, keys=keys, features=8, values=8), k, causal=True)


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
        mask = _shown(rng, (2, queries, keys))
        mask[..., 0] = True
        yield made(context, "normal", shape, 9, mask=mask, causal=True)
    yield from _masks_of_batches(context)
    yield from _far_below(context)
    yield from padded(context)


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
        shown = _shown(rng, axes)
        added = np.where(shown, rng.standard_normal(axes) * 3.0, -np.inf).astype(as_dtype(context.dtype))
        yield made(context, "normal", shape, place, batch=(2,), mask=shown)
        yield made(context, "4x scores", shape, place, batch=(2,), mask=added)
    # as many heads as batches: a mask of heads passes for one of batches
    of_heads = _shown(rng, (2, 5, 9))
    yield made(context, "normal", shape, 4, batch=(2,), mask=of_heads)
    shifts = rng.standard_normal(of_heads.shape) * 3.0
    yield made(context, "normal", shape, 5, batch=(2,), mask=shifts.astype(as_dtype(context.dtype)))


def _masks(rng: np.random.Generator, queries: int, keys: int, dtype: str) -> Iterator[Array]:
    full = _shown(rng, (2, queries, keys))
    yield full
    yield _shown(rng, (queries, keys))
    yield _shown(rng, (1, 1, keys))
    # of queries alone: stretched over all tiles of keys, which some queries see none of
    yield np.arange(2 * queries).reshape(2, queries, 1) % 3 > 0
    yield np.where(np.arange(queries)[:, None] % 2, 0.5, -np.inf).astype(as_dtype(dtype))
    yield full[:1]
    bias = rng.standard_normal((2, queries, keys)) * 3.0
    yield bias.astype(as_dtype(dtype))
    yield np.where(full, bias, -np.inf).astype(as_dtype(dtype))
    distance = np.abs(np.arange(queries)[:, None] + (keys - queries) - np.arange(keys))
    yield (-0.5 * distance).astype(as_dtype(dtype))
    yield np.where(_shown(rng, (1, keys)), 0.0, -np.inf).astype(as_dtype(dtype))
    single = np.zeros((2, queries, keys), dtype=bool)
    single[..., rng.integers(keys)] = True
    yield single


def _shown(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
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
            shown = np.broadcast_to(_shown(rng, (1, keys)), (queries, keys)).copy()
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


def translation(context: Context) -> Iterator[Seedling]:
    """Scores moved together, far down and far up."""
    for k, (queries, keys) in enumerate(((1, 1), (2, 3), (4, 64), (3, 65), (1, 100), (64, 64), (5, 192))):
        base = made(context, "normal", Shape(queries=queries, keys=keys, features=7, values=5), k)
        for shift in _SHIFTS:
            yield replace(moved_scores(base, shift, context), family=f"scores moved by about {shift:g}")
    base = made(context, "normal", Shape(queries=6, keys=70, features=7, values=5), 3)
    for shift in _SHIFTS:
        moved, shown = moved_scores(base, shift, context), _shown(np.random.default_rng(5), (6, 70))
        yield replace(moved, mask=shown, family=f"masked scores moved by {shift:g}")
        yield replace(moved, causal=True, family=f"causal scores moved by {shift:g}")


def values(context: Context) -> Iterator[Seedling]:
    """Values that are constant, of one sign, of one column only, far from 0, very large and very small."""
    scale = Scale.of(context.dtype)
    for k, (queries, keys) in enumerate(((2, 3), (9, 20), (6, 129))):
        base = made(context, "normal", Shape(queries=queries, keys=keys, features=8, values=4), k)
        v = base.operands[2]
        dtype = v.dtype.type
        for constant in (1.0, -3.0, 0.1, 1000.0):
            given = with_operands(base, v=np.full_like(v, dtype(constant)))
            yield replace(given, family="constant values")
        yield replace(with_operands(base, v=np.abs(v)), family="values of one sign")
        yield replace(with_operands(base, v=v + dtype(50.0)), family="values + 50")
        single = np.zeros_like(v)
        single[..., keys // 2, :] = dtype(1.0)
        yield replace(with_operands(base, v=single), family="one value")
        large = (v.astype(np.float64) * (scale.largest / 64.0)).astype(v.dtype)
        yield replace(with_operands(base, v=large), family="large values")
        small = (v.astype(np.float64) * (scale.smallest * 2.0**8)).astype(v.dtype)
        yield replace(with_operands(base, v=small), family="subnormal values")
    for keys in (1100, 4100) if context.thorough >= 1 else (1100,):
        # every tile raises the maximum: what one rescale loses of constant values adds up
        base = made(context, "increasing", Shape(queries=2, keys=keys, features=4, values=2), keys)
        yield replace(with_operands(base, v=np.ones_like(base.operands[2])), family="constant values")


def shared(context: Context) -> Iterator[Seedling]:
    """Heads that share keys, batches, arrays without an axis of heads."""
    for k, (heads, groups) in enumerate(
        ((1, 1), (2, 1), (4, 4), (4, 2), (4, 1), (6, 2), (6, 3), (8, 2), (9, 3))
    ):
        shape = Shape(heads=heads, groups=groups, queries=5, keys=11, features=8, values=8)
        yield made(context, "normal", shape, k, causal=bool(k % 2))
        yield made(context, "scores - 120", shape, k, batch=(2,))
        mask = _shown(np.random.default_rng(k), (heads, 5, 11))
        yield made(context, "normal", shape, k, mask=mask)
    yield from _batch_masks(context)
    for keys in (7, 37, 130):
        # one query, as a decoder has it, where heads that share keys take the place of queries
        decoded = Shape(heads=6, groups=2, queries=1, keys=keys, features=8, values=8)
        yield made(context, "increasing", decoded, keys, batch=(2,), causal=bool(keys % 2))
    long = Shape(heads=4, groups=2, queries=20, keys=20, features=8, values=8)
    yield made(context, "normal", long, 3, causal=True)
    yield made(context, "normal", Shape(queries=6, keys=9, features=5, values=5), 4, bare=True)
    yield made(context, "normal", Shape(queries=6, keys=9, features=5, values=3), 4, bare=True, causal=True)
    yield made(
        context, "normal", Shape(heads=3, groups=3, queries=2, keys=3, features=4, values=4), 5, batch=(7,)
    )
    many = Shape(heads=130, groups=130, queries=1, keys=3, features=2, values=2)
    yield made(context, "normal", many, 6)
    if context.thorough >= 1:
        # more than the second axis of a grid of blocks has room for; repeated, so that truth is cheap
        base = made(context, "normal", replace(many, heads=1, groups=1, keys=2), 6, batch=(61,))
        operands = tuple(a[np.arange(_MANY_BATCHES) % 61] for a in base.operands)
        yield replace(base, operands=operands, family="65537 batches")


def _batch_masks(context: Context) -> Iterator[Seedling]:
    """Masks that differ from batch to batch: for all heads and queries alike, as padding is, and not."""
    rng = np.random.default_rng(11)
    shape = Shape(heads=4, groups=2, queries=5, keys=19, features=8, values=8)
    for k, varying in enumerate(((3, 1, 1, 19), (3, 1, 5, 19), (3, 4, 5, 19))):
        mask = _shown(rng, varying)
        added = np.where(mask, 0.5, -np.inf).astype(as_dtype(context.dtype))
        yield made(context, "normal", shape, k, batch=(3,), mask=mask)
        yield made(context, "normal", shape, k, batch=(3,), mask=added)


def packed(context: Context) -> Iterator[Seedling]:
    """Sequences one behind the other, each of which sees itself alone."""
    for k, pieces in enumerate(((3, 5, 2), (1, 1, 1), (16, 1, 17), (33, 31), (64, 3, 61))):
        ends = np.cumsum((0, *pieces))
        total = int(ends[-1])
        mask = np.zeros((total, total), dtype=bool)
        for start, end in pairwise(ends.tolist()):
            mask[start:end, start:end] = True
        shape = Shape(queries=total, keys=total, features=8, values=4)
        yield made(context, "normal", shape, k, mask=mask)
        yield made(context, "scores - 120", shape, k, mask=np.tril(mask))


def scales(context: Context) -> Iterator[Seedling]:
    """Scales given, among them 0, negative ones and one that is no short number; and the default one."""
    for k, scale in enumerate((None, 1.0, 0.5, 0.0, -1.0, 0.08838834764831845, 2.0, 0.3)):
        shape = Shape(queries=5, keys=9, features=6, values=3)
        yield made(context, "normal", shape, k, scale=scale)
        yield made(context, "common mode", shape, k, scale=scale, causal=True)
        yield made(context, "normal", replace(shape, features=3, values=12), k, scale=scale)
    for k, scale in enumerate((-1.0, -64.0)):
        # the largest score is the one of the smallest product, and far from the others
        for kind in ("normal", "4x scores", "increasing"):
            yield made(context, kind, Shape(queries=5, keys=40, features=6, values=6), k, scale=scale)


def limits(context: Context) -> Iterator[Seedling]:
    """Scores so far apart that one key, or several alike, take all the weight."""
    for k, (queries, keys) in enumerate(((3, 4), (8, 33), (5, 130))):
        base = made(context, "normal", Shape(queries=queries, keys=keys, features=8, values=4), k)
        for scale in (8.0, 64.0, 512.0):
            yield replace(base, scale=scale, family="one key takes all")
        twins = base.operands[1].copy()
        twins[..., 1::2, :] = twins[..., : 2 * (keys // 2) : 2, :]
        yield replace(with_operands(base, k=twins), scale=64.0, family="two keys share all")
        yield made(context, "ties", Shape(queries=queries, keys=keys, features=8, values=4), k)


def orders(context: Context) -> Iterator[Seedling]:
    """Operands whose keys and features are permuted; `extra` names the seed of the permutation."""
    for k, (keys, features) in enumerate(((2, 2), (7, 5), (33, 16), (65, 33), (130, 8))):
        for kind in ("normal", "increasing", "scores - 120"):
            shape = Shape(queries=4, keys=keys, features=features, values=5)
            yield replace(made(context, kind, shape, k), extra={"permutation": k})


def few(context: Context) -> Iterator[Seedling]:
    """A handful of ordinary operands, for clauses that look at how a call behaves."""
    if context.op == "attention_merge":
        for k, keys in enumerate((4, 33)):
            whole = made(
                context, "normal", Shape(heads=2, groups=2, queries=6, keys=keys, features=4, values=5), k
            )
            yield split_parts(whole, context, keys // 2)
        return
    for k, (queries, keys) in enumerate(((1, 3), (5, 8), (17, 65), (64, 64), (130, 70))):
        yield made(
            context, "normal", Shape(heads=2, groups=2, queries=queries, keys=keys, features=8, values=8), k
        )
    shape = Shape(heads=4, groups=4, queries=33, keys=33, features=16, values=16)
    yield made(context, "normal", shape, 7, causal=True)
    mask = _shown(np.random.default_rng(3), (2, 6, 12))
    yield made(context, "normal", Shape(2, 2, 6, 12, 8, 8), 8, mask=mask)
