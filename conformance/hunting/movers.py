"""Movers: each makes a new input of one that came near the bound. To teach the search an op, add its row.

`MOVERS` is the table of ops; an op that is not in it is searched by the movers that know nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends import Array
from softcert.conformance.hunting import attention_scores, attention_shapes, attention_values, merging, rows
from softcert.conformance.hunting.rows import LONGEST, Float, Rearrangement, RowMover
from softcert.conformance.hunting.scene import Mover, Scene
from softcert.conformance.inputs.families import FAMILIES, Scale, make_row, probabilities, to_dtype
from softcert.conformance.inputs.growing import operands_from
from softcert.conformance.inputs.strategies import LENGTHS, SPREADS, product_is_ordinary
from softcert.conformance.spec import (
    ATTENTION_FORWARD_OPS,
    FORWARD_OPS,
    LOSS_OPS,
    PRODUCT_OPS,
    TREE_OPS,
    Seedling,
    rows_last,
)

if TYPE_CHECKING:
    from numpy.random import Generator

#: Families in which a probability vector or a cotangent has nothing to overflow.
_TAME = tuple(name for name in FAMILIES if name not in {"masked", "masked-first", "near-overflow"})
_BETAS = (1.0, 1.0, 2.0, 0.5, 0.1, 1.7, 10.0, -1.0, -0.7)


def is_sound(seedling: Seedling) -> bool:
    """Whether an input is one of numbers that a search can afford, with a finite logit in each row."""
    if seedling.attends:
        return attention_shapes.is_sound(seedling)
    first = rows_last(seedling.operands[0], seedling.axis).astype(np.float64)
    if not first.size or first.shape[-1] > LONGEST:
        return False
    numbers = (operand.astype(np.float64) for operand in seedling.own)
    ordinary = all(bool((np.isfinite(a) | (a == -np.inf)).all()) for a in numbers)
    return ordinary and bool(np.isfinite(first).any(axis=-1).all())


def _with_row(seedling: Seedling, which: int, rng: Generator, edit: Callable[[Float], Array]) -> Seedling:
    """The seedling with one row of operand `which` replaced."""
    operand = rows_last(seedling.operands[which], seedling.axis).copy()
    flat = operand.reshape(-1, operand.shape[-1])
    at = int(rng.integers(len(flat)))
    flat[at] = edit(flat[at].astype(np.float64))
    changed = np.ascontiguousarray(np.moveaxis(flat.reshape(operand.shape), -1, seedling.axis))
    operands = (*seedling.operands[:which], changed, *seedling.operands[which + 1 :])
    return replace(seedling, operands=operands)


# --- movers of logits ---


def on_logits(move: RowMover) -> Mover:
    """Mover of the first operand, whose rows are logits."""

    def moved(scene: Scene) -> Seedling:
        def edit(row: Float) -> Array:
            return to_dtype(move(scene.rng, row, scene.scale), scene.context.dtype)

        child = _with_row(scene.parent, 0, scene.rng, edit)
        if child.beta != 1.0 and not product_is_ordinary(child.operands[0], child.beta, scene.context.dtype):
            return replace(child, beta=1.0)
        return child

    return moved


def on_log_probabilities(move: RowMover) -> Mover:
    """Mover of the first operand, whose rows are probabilities, by their logarithms."""

    def moved(scene: Scene) -> Seedling:
        def edit(row: Float) -> Array:
            logits = np.where(row > 0.0, np.log(np.where(row > 0.0, row, 1.0)), -1e4)
            return probabilities(to_dtype(move(scene.rng, logits, scene.scale), scene.context.dtype))

        return _with_row(scene.parent, 0, scene.rng, edit)

    return moved


def on_cotangent(move: RowMover) -> Mover:
    """Mover of the second operand, kept to a quarter of the largest float so that no exact step overflows."""

    def moved(scene: Scene) -> Seedling:
        limit = scene.scale.largest / 4.0

        def edit(row: Float) -> Array:
            return to_dtype(np.clip(move(scene.rng, row, scene.scale), -limit, limit), scene.context.dtype)

        return _with_row(scene.parent, 1, scene.rng, edit)

    return moved


def on_places(rearrangement: Rearrangement) -> Mover:
    """Mover of all operands alike, which takes other elements or takes them in another order."""

    def moved(scene: Scene) -> Seedling:
        parent = scene.parent
        first = rows_last(parent.operands[0], parent.axis)
        flat = first.reshape(-1, first.shape[-1]).astype(np.float64)
        row = flat[int(scene.rng.integers(len(flat)))]
        places = rearrangement(scene.rng, row)
        operands = [np.take(a, places, axis=parent.axis) for a in parent.operands]
        if scene.context.op in PRODUCT_OPS:
            y = rows_last(operands[0], parent.axis).astype(np.float64)
            y = y / y.sum(axis=-1, keepdims=True)
            operands[0] = np.moveaxis(y, -1, parent.axis).astype(parent.operands[0].dtype)
        return replace(parent, operands=tuple(np.ascontiguousarray(a) for a in operands))

    return moved


def crossover(lift: Callable[[RowMover], Mover], which: int = 0) -> Mover:
    """Mover that crosses operand `which` of parent and mate."""

    def moved(scene: Scene) -> Seedling | None:
        mate = rows_last(scene.mate.operands[which], scene.mate.axis)
        row = mate.reshape(-1, mate.shape[-1])[0].astype(np.float64)
        if scene.context.op in PRODUCT_OPS and which == 0:
            row = np.log(np.maximum(row, 1e-300))
        return lift(lambda rng, own, _scale: rows.crossed(rng, own, row))(scene)

    return moved


def another_class(scene: Scene) -> Seedling:
    """Another class as the target of one row."""
    x, target, *rest = scene.parent.operands
    changed = np.array(target)
    flat = changed.reshape(-1)
    classes = x.shape[scene.parent.axis] + bool(scene.parent.tree)
    flat[int(scene.rng.integers(flat.size))] = int(scene.rng.integers(classes))
    return replace(scene.parent, operands=(x, changed, *rest))


def family(scene: Scene) -> Seedling:
    """An input of a family, new blood."""
    rng, context = scene.rng, scene.context
    names = _TAME if context.op in PRODUCT_OPS else tuple(FAMILIES)
    name = names[int(rng.integers(len(names)))]
    n = LENGTHS[int(rng.integers(len(LENGTHS)))]
    x = make_row(name, n, int(rng.integers(1 << 16)), float(rng.choice(SPREADS)), context.dtype)
    return Seedling(operands_from(context, x, int(rng.integers(1 << 16))), family=name)


def temperature(scene: Scene) -> Seedling | None:
    """Another inverse temperature, where the subject takes one."""
    if not scene.context.beta:
        return None
    beta = float(scene.rng.choice(_BETAS))
    if not product_is_ordinary(scene.parent.operands[0], beta, scene.context.dtype):
        return None
    return replace(scene.parent, beta=beta)


# --- movers that know nothing of the op ---


def anywhere(scene: Scene) -> Seedling:
    """Move one number of any operand by some ulps."""
    which = int(scene.rng.integers(len(scene.parent.operands)))
    own = scene.parent.operands[which]
    flat = own.reshape(-1).astype(np.float64)
    moved = rows.ulps(scene.rng, flat, Scale.of(own.dtype.name))
    return _with_operand(scene.parent, which, to_dtype(moved, own.dtype.name))


def stretched(scene: Scene) -> Seedling:
    """Scale one operand by a power of two."""
    which = int(scene.rng.integers(len(scene.parent.operands)))
    own = scene.parent.operands[which]
    moved = own.reshape(-1).astype(np.float64) * 2.0 ** int(scene.rng.integers(-4, 5))
    return _with_operand(scene.parent, which, to_dtype(moved, own.dtype.name))


def exchanged(scene: Scene) -> Seedling | None:
    """Take some numbers of one operand from the mate, where it has the same shape there."""
    which = int(scene.rng.integers(len(scene.parent.operands)))
    own, other = scene.parent.operands[which], scene.mate.operands[which]
    if own.shape != other.shape:
        return None
    taken = scene.rng.random(own.shape) < 0.5
    return _with_operand(scene.parent, which, np.where(taken, other, own))


def _with_operand(seedling: Seedling, which: int, values: Array) -> Seedling:
    own = seedling.operands[which]
    changed = values.reshape(own.shape).astype(own.dtype)
    operands = (*seedling.operands[:which], changed, *seedling.operands[which + 1 :])
    return replace(seedling, operands=operands)


# --- the table ---

_ROWS: Mapping[str, RowMover] = {
    "spread": rows.spread,
    "offset": rows.offset,
    "ties": rows.ties,
    "near-maximum": rows.near_maximum,
    "gaps": rows.gaps,
    "sign": rows.sign,
    "ulps": rows.ulps,
    "element": rows.element,
}
_PLACES: Mapping[str, Mover] = {"length": on_places(rows.length), "order": on_places(rows.order)}
_FORWARD: Mapping[str, Mover] = {
    **{name: on_logits(move) for name, move in _ROWS.items()},
    **_PLACES,
    "crossover": crossover(on_logits),
    "family": family,
}
_OF_CLASSES: Mapping[str, Mover] = {
    **{name: mover for name, mover in _FORWARD.items() if name not in _PLACES},
    "class": another_class,
}
_DERIVATIVE: Mapping[str, Mover] = {
    **{name: on_log_probabilities(move) for name, move in _ROWS.items() if name != "sign"},
    **{f"cotangent-{name}": on_cotangent(move) for name, move in _ROWS.items() if name != "gaps"},
    **_PLACES,
    "crossover": crossover(on_log_probabilities),
    "cotangent-crossover": crossover(on_cotangent, 1),
    "family": family,
}
#: For an op that the table does not have.
UNINFORMED: Mapping[str, Mover] = MappingProxyType(
    {"anywhere": anywhere, "stretched": stretched, "exchanged": exchanged}
)
_ATTENTION: Mapping[str, Mover] = {
    **attention_scores.MOVES,
    **attention_values.MOVES,
    **attention_shapes.MOVES,
    "ulps": anywhere,
    "crossover": exchanged,
}
#: The movers of each op, by name.
MOVERS: Mapping[str, Mapping[str, Mover]] = MappingProxyType(
    {
        **dict.fromkeys(FORWARD_OPS, _FORWARD),
        **dict.fromkeys(PRODUCT_OPS, _DERIVATIVE),
        **dict.fromkeys((*LOSS_OPS, *TREE_OPS), _OF_CLASSES),
        "softmax": {**_FORWARD, "temperature": temperature},
        **dict.fromkeys(ATTENTION_FORWARD_OPS, _ATTENTION),
        "attention_vjp": {**_ATTENTION, **attention_values.OF_COTANGENT},
        "attention_merge": {**merging.MOVES, "ulps": anywhere, "crossover": exchanged},
    }
)


def movers_of(op: str) -> Mapping[str, Mover]:
    """Movers of an op."""
    return MOVERS.get(op, UNINFORMED)
