"""Smaller operands of attention: fewer queries, keys, features, heads; no mask; rounder numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from softcert.backends.ops import AXES
from softcert.backends.types import Array
from softcert.conformance.inputs.attention_axes import axis_length, taken, taken_mask
from softcert.conformance.spec import Seedling

#: Numbers that are tried to be made rounder, at the most.
_MOST_ROUNDED = 48


def smaller_attention(seedling: Seedling) -> Iterator[Seedling]:
    """Smaller seedlings, the boldest first."""
    names = seedling.names
    yield from _plainer(seedling)
    if seedling.operands[0].ndim == 4:
        for half in _halves(len(seedling.operands[0])):
            yield _cut_leading(seedling, half)
    yield from _one_head(seedling, names)
    for axis in "LSDE":
        for kept in _halves(axis_length(seedling, axis)):
            yield taken(seedling, axis, kept)
    if sum(a.size for a in seedling.operands) <= _MOST_ROUNDED:
        yield from rounder(seedling, _simpler)


def _plainer(seedling: Seedling) -> Iterator[Seedling]:
    if seedling.mask is not None:
        yield replace(seedling, mask=None)
    if seedling.causal:
        yield replace(seedling, causal=False)
    if seedling.scale is not None:
        yield replace(seedling, scale=None)
    if seedling.layout != "contiguous":
        yield replace(seedling, layout="contiguous")


def _halves(length: int) -> Iterator[Array]:
    """What to keep of an axis: a half, all but a few, all but one."""
    places = np.arange(length)
    sizes = sorted({length // 2, length // 4, length // 8, 1} - {0, length}, reverse=True)
    for size in sizes:
        for start in range(0, length, size):
            kept = np.delete(places, np.s_[start : start + size])
            if kept.size:
                yield kept
            if start // size >= 12:
                break


def _cut_leading(seedling: Seedling, kept: Array) -> Seedling:
    operands = tuple(np.ascontiguousarray(np.take(a, kept, axis=0)) for a in seedling.operands)
    mask = seedling.mask
    if mask is not None and mask.ndim == seedling.operands[0].ndim and mask.shape[0] > 1:
        mask = np.ascontiguousarray(np.take(mask, kept, axis=0))
    return replace(seedling, operands=operands, mask=mask)


def _one_head(seedling: Seedling, names: tuple[str, ...]) -> Iterator[Seedling]:
    """Each head alone, with the keys that it sees."""
    first = seedling.operands[0]
    if first.ndim < 3 or first.shape[-3] < 2:
        return
    heads = first.shape[-3]
    for head in range(min(heads, 8)):
        operands = []
        for name, array in zip(names, seedling.operands, strict=True):
            axis = AXES[name][0]
            place = -len(AXES[name])
            chosen = head if axis == "H" else head * array.shape[place] // heads
            operands.append(np.ascontiguousarray(np.take(array, [chosen], axis=place)))
        mask = taken_mask(seedling.mask, "H", np.array([head]))
        yield replace(seedling, operands=tuple(operands), mask=mask)


def rounder(seedling: Seedling, simpler: Callable[[float], Iterable[float]]) -> Iterator[Seedling]:
    """One number of the operands made rounder, in each of the ways that `simpler` gives for it."""
    for k, operand in enumerate(seedling.operands):
        if operand.dtype.kind == "i":
            continue
        for place in np.ndindex(operand.shape):
            for number in simpler(float(operand[place])):
                changed = operand.copy()
                changed[place] = operand.dtype.type(number)
                if changed[place] != operand[place]:
                    operands = (*seedling.operands[:k], changed, *seedling.operands[k + 1 :])
                    yield replace(seedling, operands=operands)


def _simpler(value: float) -> Iterator[float]:
    """0, an integer, two bits after the point; 1 and -1 are as simple as 0."""
    if not np.isfinite(value) or value in {0.0, 1.0, -1.0}:
        return
    yield 0.0
    if value != np.rint(value):
        yield float(np.rint(value))
        yield float(np.rint(value * 4.0) / 4.0)
