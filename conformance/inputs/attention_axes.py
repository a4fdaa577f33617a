"""Axes of attention's operands by their letters: their lengths, and seedlings that take other places."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert.backends.ops import AXES
from softcert.backends.types import Array
from softcert.conformance.spec import Seedling

#: Which places of an axis are taken, in order; a place may be taken more than once.
Places = NDArray[np.integer[Any]]


def place_of(name: str, axis: str) -> int:
    """Where the axis of a letter of `AXES` is in an array, counted from the end."""
    return AXES[name].index(axis) - len(AXES[name])


def axis_length(seedling: Seedling, axis: str) -> int:
    """Length of an axis; 0 where no operand has it."""
    for name, array in zip(seedling.names, seedling.operands, strict=True):
        if axis in AXES[name] and array.ndim >= -place_of(name, axis):
            return int(array.shape[place_of(name, axis)])
    return 0


def taken(seedling: Seedling, axis: str, places: Places) -> Seedling:
    """The seedling with some places of an axis, in every operand that has it and in the mask."""
    operands = tuple(
        np.ascontiguousarray(np.take(array, places, axis=place_of(name, axis)))
        if axis in AXES[name]
        else array
        for name, array in zip(seedling.names, seedling.operands, strict=True)
    )
    return replace(seedling, operands=operands, mask=taken_mask(seedling.mask, axis, places))


def taken_mask(mask: Array | None, axis: str, places: Places) -> Array | None:
    """The mask with some places of an axis, or as it was where it is broadcast along it."""
    if mask is None or axis not in AXES["mask"]:
        return mask
    place = place_of("mask", axis)
    if mask.ndim < -place or mask.shape[place] == 1:
        return mask
    return np.ascontiguousarray(np.take(mask, places, axis=place))


__all__ = ["Places", "axis_length", "place_of", "taken", "taken_mask"]
