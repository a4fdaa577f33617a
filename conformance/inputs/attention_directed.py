"""Operands on which kernels of attention go wrong: one generator of seedlings for each kind of fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from softcert.backends.types import as_dtype
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
from softcert.conformance.inputs.attention_masked import shown_keys
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
    scale = Scale.of(context.dtype)
    normal = scale.smallest * 2.0**scale.precision
    gaps = np.linspace(0.0, -np.log(normal), 160)[:, np.newaxis]
    for keys in (2, 17):
        for ahead in (0, keys - 1):
            v = np.ones((keys, 1))
            v[ahead] = 0.0
            k = 0.0 - v
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


def translation(context: Context) -> Iterator[Seedling]:
    """Scores moved together, far down and far up."""
    for k, (queries, keys) in enumerate(((1, 1), (2, 3), (4, 64), (3, 65), (1, 100), (64, 64), (5, 192))):
        base = made(context, "normal", Shape(queries=queries, keys=keys, features=7, values=5), k)
        for shift in _SHIFTS:
            yield replace(moved_scores(base, shift, context), family=f"scores moved by about {shift:g}")
    base = made(context, "normal", Shape(queries=6, keys=70, features=7, values=5), 3)
    for shift in _SHIFTS:
        moved, shown = moved_scores(base, shift, context), shown_keys(np.random.default_rng(5), (6, 70))
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
        mask = shown_keys(np.random.default_rng(k), (heads, 5, 11))
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
        mask = shown_keys(rng, varying)
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
    mask = shown_keys(np.random.default_rng(3), (2, 6, 12))
    yield made(context, "normal", Shape(2, 2, 6, 12, 8, 8), 8, mask=mask)
