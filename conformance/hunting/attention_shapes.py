"""Movers of what frames attention: numbers of queries, keys and columns, heads, masks, the scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from softcert.conformance.hunting.attention_scores import TILES
from softcert.conformance.hunting.scene import Mover, Scene
from softcert.conformance.inputs.attention_axes import Places, axis_length, taken
from softcert.conformance.inputs.attention_families import KINDS, Shape
from softcert.conformance.inputs.attention_growing import made, wants_alike
from softcert.conformance.inputs.families import to_dtype
from softcert.conformance.spec import Seedling

#: Products that the scores and the output of an input may take: 64 queries and keys of 128 and 128.
MOST_PRODUCTS = 1 << 20
_WIDTHS = (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
_MOST_HEADS = 8


def is_sound(seedling: Seedling) -> bool:
    """Whether an input of attention is one of numbers, and no more work than a search can afford."""
    if not all(array.size for array in seedling.operands):
        return False
    merged = "lse_a" in seedling.names
    for name, array in zip(seedling.names, seedling.operands, strict=True):
        numbers = array.astype(np.float64)
        fine = np.isfinite(numbers) | (numbers == -np.inf) if name.startswith("lse") else np.isfinite(numbers)
        if not fine.all():
            return False
    if merged:
        return seedling.operands[0].size <= MOST_PRODUCTS
    return products(seedling) <= MOST_PRODUCTS


def products(seedling: Seedling) -> int:
    """How many products of two numbers the scores and the output take."""
    heads = int(np.prod(seedling.operands[0].shape[:-2]))
    width = axis_length(seedling, "D") + axis_length(seedling, "E")
    return heads * axis_length(seedling, "L") * axis_length(seedling, "S") * width


def _edge(scene: Scene) -> int:
    """A multiple of a tile, or one beside it; a small number sometimes."""
    if scene.rng.random() < 0.25:
        return int(scene.rng.integers(1, 10))
    tile = int(scene.rng.choice(TILES, p=(0.4, 0.3, 0.2, 0.1)))
    return max(1, tile * int(scene.rng.integers(1, 4)) + int(scene.rng.integers(-1, 2)))


def _resized(scene: Scene, axis: str, length: int) -> Seedling:
    return taken(scene.parent, axis, _places(scene, axis_length(scene.parent, axis), length))


def _places(scene: Scene, n: int, wanted: int) -> Places:
    if wanted <= n:
        start = int(scene.rng.integers(n - wanted + 1))
        return np.arange(start, start + wanted)
    return np.concatenate([np.arange(n), scene.rng.integers(0, n, wanted - n)])


def queries(scene: Scene) -> Seedling:
    """Another number of queries, at or beside the edge of a tile."""
    return _resized(scene, "L", _edge(scene))


def keys(scene: Scene) -> Seedling:
    """Another number of keys, at or beside the edge of a tile."""
    return _resized(scene, "S", _edge(scene))


def square(scene: Scene) -> Seedling:
    """As many queries as keys, at or beside the edge of a tile, under the causal mask."""
    length = _edge(scene)
    whole = replace(scene, parent=_resized(scene, "S", length))
    return replace(_resized(whole, "L", length), causal=True)


def widths(scene: Scene) -> Seedling:
    """Another number of features, of columns of the values, or of both where the subject wants them alike."""
    n = int(scene.rng.choice(_WIDTHS))
    if wants_alike(scene.context):
        return _resized(replace(scene, parent=_resized(scene, "D", n)), "E", n)
    return _resized(scene, ("D", "E")[int(scene.rng.integers(2))], n)


def heads(scene: Scene) -> Seedling | None:
    """Several heads that share keys, or one head alone."""
    parent = scene.parent
    if parent.operands[0].ndim < 3:
        return None
    count, groups = axis_length(parent, "H"), axis_length(parent, "G")
    if count > 1 and scene.rng.random() < 0.5:
        return taken(taken(parent, "H", np.arange(1)), "G", np.arange(1))
    if groups > 1 and scene.rng.random() < 0.5:
        return taken(parent, "G", np.arange(1))
    times = int(scene.rng.integers(2, 4))
    if count * times > _MOST_HEADS:
        return None
    more = taken(parent, "H", np.repeat(np.arange(count), times))
    # equal heads would show nothing new
    q = more.operands[0].astype(np.float64)
    factors = np.exp2(scene.rng.uniform(-1.0, 1.0, (*q.shape[:-2], 1, 1)))
    return replace(scene, parent=more).child(q=q * factors)


def masked(scene: Scene) -> Seedling:
    """The causal mask or none, a mask at random, a window, or one that adds; each query keeps a key."""
    parent, rng = scene.parent, scene.rng
    kind = int(rng.integers(6))
    if kind < 2:
        return replace(parent, causal=not parent.causal)
    if kind == 2:
        return replace(parent, mask=None)
    shape = (*parent.operands[0].shape[:-1], axis_length(parent, "S"))
    if kind == 3:
        width = int(rng.integers(1, shape[-1] + 1))
        distance = np.arange(shape[-1]) - np.arange(shape[-2])[:, np.newaxis]
        shown = np.broadcast_to(np.abs(distance) < width, shape).copy()
    else:
        shown = rng.random(shape) < float(rng.choice([0.9, 0.5, 0.1]))
    # the first key is seen under the causal mask too, if any key is
    shown[..., 0] = True
    if kind < 5:
        return replace(parent, mask=shown)
    bias = rng.standard_normal(shape) * float(rng.choice([1.0, 10.0]))
    added = to_dtype(np.where(shown, bias, -np.inf), scene.context.dtype)
    return replace(parent, mask=added)


def scaled(scene: Scene) -> Seedling:
    """The scale by default, a power of two, or any other."""
    kind = int(scene.rng.integers(3))
    if kind == 0:
        return replace(scene.parent, scale=None)
    power = float(np.exp2(scene.rng.integers(-4, 2)))
    return replace(scene.parent, scale=power if kind == 1 else power * float(scene.rng.uniform(0.5, 1.0)))


def new_blood(scene: Scene) -> Seedling:
    """Operands of any kind."""
    rng = scene.rng
    groups = int(rng.choice([1, 1, 2]))
    shape = Shape(
        groups * int(rng.choice([1, 1, 2])),
        groups,
        int(rng.choice([1, 2, 3, 7, 16, 17, 33, 64])),
        int(rng.choice([1, 2, 3, 5, 15, 16, 17, 33, 64, 65, 129])),
        int(rng.choice([1, 2, 4, 8, 16, 32, 64])),
        int(rng.choice([1, 2, 4, 8, 16])),
    )
    kind = sorted(KINDS)[int(rng.integers(len(KINDS)))]
    return made(scene.context, kind, shape, int(rng.integers(1 << 16)), causal=bool(rng.integers(2)))


#: Movers of the frame, by name.
MOVES: Mapping[str, Mover] = MappingProxyType(
    {
        "queries": queries,
        "keys": keys,
        "square": square,
        "widths": widths,
        "heads": heads,
        "mask": masked,
        "scale": scaled,
        "kind": new_blood,
    }
)
