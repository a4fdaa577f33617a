"""Make a witness smaller: fewer rows, fewer elements, rounder numbers, as long as it breaks the clause."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.trees import heap_paths
from softcert.backends.types import Array
from softcert.conformance.examination.minimize_attention import rounder, smaller_attention
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from softcert.conformance.examination.examine import Violation

Attempt = Callable[[Seedling], "Violation | None"]

#: Smaller inputs tried where each failure costs a new worker, and a hang the whole time limit besides.
_TRIES = {"crash": 8, "memory": 2, "hang": 0}


def minimize(violation: Violation, attempt: Attempt, budget: int) -> Violation:
    """Greedy descent over smaller seedlings; each step keeps the status of the violation.

    Parameters
    ----------
    budget : calls of `attempt` at the most.
    """
    budget = min(budget, _TRIES.get(violation.finding.observed, budget))
    best = violation
    while budget > 0 and best.seedling is not None:
        for smaller in _smaller(best.seedling):
            budget -= 1
            found = attempt(smaller)
            if found is not None and found.status == violation.status:
                best = found
                break
            if budget <= 0:
                return best
        else:
            return best
    return best


def _smaller(seedling: Seedling) -> Iterator[Seedling]:
    """Smaller seedlings, the boldest first."""
    if seedling.attends:
        yield from smaller_attention(seedling)
        return
    yield from _fewer_rows(seedling)
    yield from _fewer_elements(seedling)
    if seedling.size <= 64:
        yield from rounder(seedling, _simpler)


def _with(seedling: Seedling, operands: tuple[Array, ...]) -> Seedling:
    """The seedling with other operands; the first of two is a softmax output and is made one again."""
    if len(operands) == 2 and not seedling.labelled:
        y = operands[0].astype(np.float64)
        with np.errstate(all="ignore"):
            operands = ((y / y.sum(axis=seedling.axis, keepdims=True)).astype(operands[0].dtype), operands[1])
    # An array without axes would be given one by ascontiguousarray.
    return replace(seedling, operands=tuple(np.array(a, order="C") for a in operands))


def _fewer_rows(seedling: Seedling) -> Iterator[Seedling]:
    shape = seedling.operands[0].shape
    axis = seedling.axis % len(shape) if shape else 0
    if len(shape) == 2 and axis == 1 and shape[0] > 1:
        for i in range(min(shape[0], 16)):
            yield replace(_with(seedling, (*(a[i] for a in seedling.own), *seedling.tree)), axis=-1)
    for dimension, length in enumerate(shape):
        if dimension != axis and length > 1:
            half = length // 2
            for part in (slice(None, half), slice(half, None), slice(1, None), slice(None, -1)):
                yield _with(seedling, (*_cut(seedling, dimension, part), *seedling.tree))


def _fewer_elements(seedling: Seedling) -> Iterator[Seedling]:
    shape = seedling.operands[0].shape
    if not shape:
        return
    axis = seedling.axis % len(shape)
    n = shape[axis]
    sizes = sorted({n // 2, n // 4, n // 8, 1} - {0, n}, reverse=True)
    for size in sizes:
        for start in range(0, n, size):
            kept = np.delete(np.arange(n), np.s_[start : start + size])
            if kept.size:
                yield _with(seedling, _kept_elements(seedling, kept, axis))
            if start // size >= 16:
                break


def _kept_elements(seedling: Seedling, kept: NDArray[np.intp], axis: int) -> tuple[Array, ...]:
    """Operands without some elements; a target whose class is gone becomes the class in its place.

    The nodes that are left of a tree make a balanced one.
    """
    if seedling.tree:
        s, target, *rest = seedling.own
        leaves = np.minimum(target, kept.size).astype(target.dtype)
        return (np.take(s, kept, axis=axis), leaves, *rest, *heap_paths(kept.size + 1))
    if not seedling.labelled:
        return tuple(np.take(a, kept, axis=axis) for a in seedling.operands)
    x, target, *rest = seedling.operands
    place = np.minimum(np.searchsorted(kept, target), kept.size - 1)
    classes = np.where((target >= 0) & (target < x.shape[axis]), place, target).astype(target.dtype)
    return (np.take(x, kept, axis=axis), classes, *rest)


def _cut(seedling: Seedling, dimension: int, part: slice) -> Iterator[Array]:
    """Operands with a part of a dimension, which is none of those of one number a row."""
    first = seedling.operands[0]
    for a in seedling.own:
        before = dimension - (a.ndim < first.ndim and dimension > seedling.axis % first.ndim)
        yield a[(slice(None),) * before + (part,)]


def _simpler(value: float) -> Iterator[float]:
    """Numbers with fewer digits near a value; a fixed point of each, so that descent ends."""
    if not np.isfinite(value) or value == 0.0:
        return
    yield 0.0
    if value == int(value) if abs(value) < 1e15 else True:
        return
    yield float(np.rint(value))
    for bits in (2, 6):
        rounded = float(np.rint(value * 2.0**bits) / 2.0**bits)
        if rounded != value:
            yield rounded
