"""Movers of two results on disjoint keys that are merged: how far their lse are apart, what cancels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from softcert.conformance.hunting.rows import some_places, ulp_of
from softcert.conformance.hunting.scene import Float, Mover, Scene
from softcert.conformance.inputs.attention_axes import axis_length, taken
from softcert.conformance.inputs.attention_families import KINDS, Shape
from softcert.conformance.inputs.attention_growing import made, split_parts
from softcert.conformance.inputs.families import Scale
from softcert.conformance.spec import Seedling

_LN2 = float(np.log(2.0))
#: Gaps between the lse: equal parts, half an ulp of float16 and float32, where a weight vanishes.
_GAPS = (0.0, _LN2, 12.0 * _LN2, 25.0 * _LN2, 40.0, 88.0, 104.0, 120.0)
_LEVELS = (-1000.0, -120.0, 0.0, 88.0, 120.0, 1000.0)


def _parts(scene: Scene) -> tuple[str, str]:
    """The letters of the two parts, in either order."""
    return ("a", "b") if scene.rng.random() < 0.5 else ("b", "a")


def _some(scene: Scene, array: Float) -> tuple[np.ndarray, ...]:
    return np.unravel_index(some_places(scene.rng, array.size), array.shape)


def gap(scene: Scene) -> Seedling:
    """Put one part's lse a gap below the other's, or a few ulps beside it, at some queries."""
    one, other = _parts(scene)
    near, far = scene.number(f"lse_{one}"), scene.number(f"lse_{other}")
    at = _some(scene, near)
    level = np.where(np.isfinite(near[at]), near[at], 0.0)
    moved = level - scene.rng.choice(_GAPS, level.size)
    lse = scene.parent.operands[1].dtype.name
    far[at] = moved + scene.rng.integers(-3, 4, level.size) * ulp_of(moved, Scale.of(lse))
    return scene.child(**{f"lse_{other}": far})


def level(scene: Scene) -> Seedling:
    """Move both lse together, far down or far up."""
    shift = float(scene.rng.choice(_LEVELS)) + float(scene.rng.uniform(-1.0, 1.0))
    lse_a, lse_b = scene.number("lse_a"), scene.number("lse_b")
    finite = np.isfinite(lse_a) | np.isfinite(lse_b)
    top = float(np.maximum(lse_a, lse_b)[finite].max()) if finite.any() else 0.0
    return scene.child(lse_a=lse_a - top + shift, lse_b=lse_b - top + shift)


def cancelling(scene: Scene) -> Seedling:
    """Make the merged output vanish at some numbers, or one part the negative of the other."""
    one, other = _parts(scene)
    near, far = scene.number(f"out_{one}"), scene.number(f"out_{other}")
    gap = scene.number(f"lse_{one}") - scene.number(f"lse_{other}")
    ratio = np.where(np.isfinite(gap) & (np.abs(gap) < 8.0), np.exp(np.clip(gap, -8.0, 8.0)), 1.0)
    at = _some(scene, near)
    far[at] = -(near * ratio[..., np.newaxis])[at]
    return scene.child(**{f"out_{other}": far})


def signs(scene: Scene) -> Seedling:
    """Give one part one sign, the other, or the signs of the other part."""
    one, other = _parts(scene)
    near, far = scene.number(f"out_{one}"), scene.number(f"out_{other}")
    kind = int(scene.rng.integers(3))
    pattern = (1.0, -1.0, np.where(np.signbit(near), -1.0, 1.0))[kind]
    return scene.child(**{f"out_{other}": np.abs(far) * pattern})


def sizes(scene: Scene) -> Seedling:
    """Make some of one part larger or smaller."""
    name = f"out_{_parts(scene)[0]}"
    out = scene.number(name)
    out[_some(scene, out)] *= float(np.exp2(scene.rng.uniform(-8.0, 8.0)))
    return scene.child(**{name: out})


def rows(scene: Scene) -> Seedling:
    """Fewer or more queries or columns."""
    axis = ("L", "E")[int(scene.rng.integers(2))]
    length = int(scene.rng.choice([1, 2, 3, 8, 16, 17, 32, 33, 64, 65]))
    return taken(scene.parent, axis, scene.rng.integers(0, axis_length(scene.parent, axis), length))


def new_blood(scene: Scene) -> Seedling:
    """Results on two sets of the keys of operands of any kind."""
    rng = scene.rng
    shape = Shape(1, 1, int(rng.integers(1, 18)), int(rng.integers(2, 66)), 8, int(rng.integers(1, 17)))
    kind = sorted(KINDS)[int(rng.integers(len(KINDS)))]
    whole = made(scene.context, kind, shape, int(rng.integers(1 << 16)))
    return split_parts(whole, scene.context, int(rng.integers(0, shape.keys)))


#: Movers of two parts, by name.
MOVES: Mapping[str, Mover] = MappingProxyType(
    {
        "gap": gap,
        "level": level,
        "cancelling": cancelling,
        "signs": signs,
        "sizes": sizes,
        "rows": rows,
        "kind": new_blood,
    }
)
