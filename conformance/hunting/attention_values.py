"""Movers of v and of the cotangent: signs, cancelling values, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from softcert.conformance.hunting.attention_scores import flat, view
from softcert.conformance.hunting.rows import some_places
from softcert.conformance.hunting.scene import Float, Mover, Scene
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from numpy.random import Generator


def _signed(rng: Generator, array: Float) -> Float:
    """All positive, all negative, in turn by key, in turn by column, or at random."""
    size, kind = np.abs(array), int(rng.integers(5))
    rows = (-1.0) ** np.arange(array.shape[-2])[:, np.newaxis]
    columns = (-1.0) ** np.arange(array.shape[-1])
    signs = (1.0, -1.0, rows, columns)[kind] if kind < 4 else rng.choice([-1.0, 1.0], array.shape)
    return np.asarray(size * signs)


def _sized(rng: Generator, array: Float) -> Float:
    """Some rows, some columns or all of it, made larger or smaller; or all rows alike."""
    moved, kind = array.copy(), int(rng.integers(4))
    factor = float(np.exp2(rng.uniform(-6.0, 6.0)))
    if kind == 0:
        moved[..., some_places(rng, array.shape[-2]), :] *= factor
    elif kind == 1:
        moved[..., some_places(rng, array.shape[-1])] *= factor
    elif kind == 2:
        moved *= factor
    else:
        moved[:] = moved[..., :1, :]
    return moved


def signs(scene: Scene) -> Seedling:
    """Give the values another pattern of signs."""
    return scene.child(v=_signed(scene.rng, scene.number("v")))


def sizes(scene: Scene) -> Seedling:
    """Make some values larger or smaller, or all alike."""
    return scene.child(v=_sized(scene.rng, scene.number("v")))


def cancelling(scene: Scene) -> Seedling:
    """Make the output of one query vanish, or each value the negative of the one before it."""
    v = scene.number("v")
    if scene.rng.random() < 0.3:
        half = v.shape[-2] // 2
        v[..., 1 : 2 * half : 2, :] = -v[..., 0 : 2 * half : 2, :]
        return scene.child(v=v)
    seen = view(scene)
    flat(v)[seen.group] -= seen.weights @ flat(v)[seen.group]
    return scene.child(v=v)


def level(scene: Scene) -> Seedling:
    """Add the same number to all values: large outputs that differ little."""
    shift = float(scene.rng.choice([-1.0, 1.0])) * float(np.exp2(scene.rng.uniform(-2.0, 6.0)))
    return scene.child(v=scene.number("v") + shift)


def cotangent_signs(scene: Scene) -> Seedling:
    """Give the cotangent another pattern of signs."""
    return scene.child(dout=_signed(scene.rng, scene.number("dout")))


def cotangent_sizes(scene: Scene) -> Seedling:
    """Make some of the cotangent larger or smaller, or all queries' alike."""
    return scene.child(dout=_sized(scene.rng, scene.number("dout")))


def cotangent_along_values(scene: Scene) -> Seedling:
    """Point the cotangent of a query along one value: dP is large there, and D as large."""
    seen, dout = view(scene), scene.number("dout")
    value = flat(scene.number("v"))[seen.group, int(scene.rng.integers(seen.scores.size))]
    flat(dout)[seen.head, seen.row] = value
    return scene.child(dout=dout)


#: Movers of values, by name.
MOVES: Mapping[str, Mover] = MappingProxyType(
    {"signs": signs, "sizes": sizes, "cancelling": cancelling, "level": level}
)
#: Those of the cotangent besides.
OF_COTANGENT: Mapping[str, Mover] = MappingProxyType(
    {
        "cotangent-signs": cotangent_signs,
        "cotangent-sizes": cotangent_sizes,
        "cotangent-along-values": cotangent_along_values,
    }
)
