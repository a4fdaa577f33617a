"""Movers of q and k, which aim at scores: their spread and level, ties, clusters, gaps, where the largest is.

Each looks at one query of one head, and works in binary64; what it makes is rounded to the dtype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from softcert.conformance.hunting.rows import some_places, ulp_of
from softcert.conformance.hunting.scene import Float, Mover, Scene
from softcert.conformance.inputs.attention_axes import taken
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

_LN2 = float(np.log(2.0))
#: Keys after which a tile of a kernel ends.
TILES = (16, 32, 64, 128)
#: By how much all scores are moved: where exp overflows or vanishes, and where an ulp becomes large.
_SHIFTS = (8.0, 40.0, 88.0, 104.0, 120.0, 1000.0)
#: Gaps to the largest score where a weight leaves the normal numbers of float16, vanishes there, leaves
#: those of float32, vanishes there; and where half the weight is left.
_GAPS = (14.0 * _LN2, 25.0 * _LN2, 126.0 * _LN2, 150.0 * _LN2, _LN2)


@dataclass(frozen=True)
class View:
    """One query: its head among all heads, the group of keys that it sees, its row, and its scores.

    Attributes
    ----------
    scores : (S,), before any mask.
    scale : by which products of q and k are multiplied.
    """

    head: int
    group: int
    row: int
    scores: Float
    scale: float

    @property
    def weights(self) -> Float:
        """softmax(scores)."""
        terms = np.exp(self.scores - self.scores.max())
        return np.asarray(terms / terms.sum())


def view(scene: Scene) -> View:
    """A query of the parent at random."""
    q, k = flat(scene.number("q")), flat(scene.number("k"))
    head, row = int(scene.rng.integers(len(q))), int(scene.rng.integers(q.shape[1]))
    group = head // (len(q) // len(k))
    scale = q.shape[-1] ** -0.5 if scene.parent.scale is None else scene.parent.scale
    return View(head, group, row, scale * (k[group] @ q[head, row]), scale)


def flat(array: Float) -> Float:
    """(..., n, m) as (heads, n, m)."""
    return array.reshape(-1, *array.shape[-2:])


def spread(scene: Scene) -> Seedling:
    """Scale queries, keys or both, all or one row of them."""
    changed = {}
    for name in (("q",), ("k",), ("q", "k"))[int(scene.rng.integers(3))]:
        moved = scene.number(name)
        rows = np.ones((*moved.shape[:-1], 1))
        if scene.rng.random() < 0.5:
            rows = np.where(scene.rng.random(rows.shape) < 0.3, 0.0, rows)
        changed[name] = moved * np.exp2(scene.rng.standard_normal() * rows)
    return scene.child(**changed)


def offset(scene: Scene) -> Seedling | None:
    """Give one feature to a shift of all scores, up or down."""
    q, k = scene.number("q"), scene.number("k")
    if q.shape[-1] < 2:
        return None
    size = scene.rng.choice(_SHIFTS) if scene.rng.random() < 0.5 else np.exp2(scene.rng.uniform(2.0, 11.0))
    shift = float(size) * float(scene.rng.choice([-1.0, 1.0]))
    scale = q.shape[-1] ** -0.5 if scene.parent.scale is None else scene.parent.scale
    if scale == 0.0:
        return None
    root = abs(shift / scale) ** 0.5
    feature = int(scene.rng.integers(q.shape[-1]))
    q[..., feature], k[..., feature] = root, np.copysign(root, shift / scale)
    return scene.child(q=q, k=k)


def ties(scene: Scene) -> Seedling:
    """Make some keys equal to the one of the largest score, and sometimes their values too."""
    seen, k, v = view(scene), scene.number("k"), scene.number("v")
    places, top = some_places(scene.rng, seen.scores.size), int(np.argmax(seen.scores))
    flat(k)[seen.group, places] = flat(k)[seen.group, top]
    if scene.rng.random() < 0.3:
        flat(v)[seen.group, places] = flat(v)[seen.group, top]
    return scene.child(k=k, v=v)


def near_maximum(scene: Scene) -> Seedling:
    """Gather some keys within a few ulps of the one of the largest score."""
    seen, k, v = view(scene), scene.number("k"), scene.number("v")
    places, top = some_places(scene.rng, seen.scores.size), int(np.argmax(seen.scores))
    block = np.broadcast_to(flat(k)[seen.group, top], (places.size, k.shape[-1]))
    steps = scene.rng.integers(-2, 3, block.shape) * (scene.rng.random(block.shape) < 0.5)
    flat(k)[seen.group, places] = block + steps * ulp_of(block, scene.scale)
    return scene.child(k=k, v=v)


def gaps(scene: Scene) -> Seedling | None:
    """Put some keys where the weight becomes subnormal, vanishes, or where exp turns its argument."""
    seen, k = view(scene), scene.number("k")
    query = flat(scene.number("q"))[seen.head, seen.row]
    length = seen.scale * float(query @ query)
    if length == 0.0 or not np.isfinite(length):
        return None
    rng, places = scene.rng, some_places(scene.rng, seen.scores.size)
    turns = 0.5 * _LN2 * rng.integers(0, 240, places.size)
    chosen = np.where(rng.random(places.size) < 0.5, rng.choice(_GAPS, places.size), turns)
    lowered = seen.scores.max() - chosen - seen.scores[places]
    flat(k)[seen.group, places] += np.outer(lowered / length, query)
    return scene.child(k=k)


def element(scene: Scene) -> Seedling:
    """Move some numbers of q or k by anything from 2^-12 to 4."""
    name = ("q", "k")[int(scene.rng.integers(2))]
    moved = scene.number(name).reshape(-1)
    places = some_places(scene.rng, moved.size)
    signs = scene.rng.choice([-1.0, 1.0], places.size)
    moved[places] += signs * np.exp2(scene.rng.uniform(-12.0, 2.0, places.size))
    return scene.child(**{name: moved.reshape(scene.number(name).shape)})


def repeated_query(scene: Scene) -> Seedling:
    """Make some queries of a head equal: what one row gets wrong, sums over rows get wrong together."""
    seen, q = view(scene), scene.number("q")
    places = some_places(scene.rng, q.shape[-2])
    flat(q)[seen.head, places] = flat(q)[seen.head, seen.row]
    return scene.child(q=q)


def order(scene: Scene) -> Seedling:
    """Sort, reverse, turn or shuffle the keys, or put that of the largest score beside the edge of a tile."""
    seen = view(scene)
    return taken(scene.parent, "S", _reordered(scene.rng, seen.scores))


def _reordered(rng: Generator, scores: Float) -> NDArray[np.int64]:
    n, kind = scores.size, int(rng.integers(7))
    if kind < 2:
        return np.argsort(scores if kind else -scores, kind="stable")
    if kind == 2:
        return np.arange(n)[::-1].copy()
    if kind == 3:
        return np.roll(np.arange(n), int(rng.integers(n)))
    if kind == 4:
        return rng.permutation(n)
    top = int(np.argmax(scores))
    edges = [at for tile in TILES for at in (tile - 1, tile) if at < n]
    place = int(rng.choice([0, n - 1, *edges])) if kind == 5 else int(rng.integers(n))
    return np.insert(np.delete(np.arange(n), top), place, top)


#: Movers of scores, by name.
MOVES: Mapping[str, Mover] = MappingProxyType(
    {
        "spread": spread,
        "offset": offset,
        "ties": ties,
        "near-maximum": near_maximum,
        "gaps": gaps,
        "element": element,
        "repeated-query": repeated_query,
        "order": order,
    }
)
