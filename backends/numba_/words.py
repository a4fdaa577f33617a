"""What differs between computing in float32 and in float64: where one vector of sums is not enough.

Each function here is chosen by the types that compiled code gives it; `work` stands for the dtype computed
in. float32 is summed in float64, half a vector at a time, so that sums err by far less than a rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import chosen_by_type, inlined
from softcert.backends.numba_.lanes import F32, first_half, fma, last_half

_COMPILED_ONLY = "only compiled code calls this"


def width(work: Any) -> int:
    """Lanes of a vector."""
    raise NotImplementedError(_COMPILED_ONLY)


def plus_first(total: Any, v: Any) -> Any:
    """Sums in float64, and the first half of v."""
    raise NotImplementedError(_COMPILED_ONLY)


def plus_last(total: Any, v: Any) -> Any:
    """Sums in float64, and the last half of v, which a vector of float64 does not have."""
    raise NotImplementedError(_COMPILED_ONLY)


def plus_first_product(total: Any, a: Any, b: Any) -> Any:
    """Sums in float64, and a * b of the first halves."""
    raise NotImplementedError(_COMPILED_ONLY)


def plus_last_product(total: Any, a: Any, b: Any) -> Any:
    """Sums in float64, and a * b of the last halves, if there are any."""
    raise NotImplementedError(_COMPILED_ONLY)


def two_words(number: float, work: Any) -> tuple[Any, Any]:
    """A float64 as a sum of two numbers of what is computed in."""
    raise NotImplementedError(_COMPILED_ONLY)


@chosen_by_type(width)
def _width(work: Any) -> Any:
    return (lambda work: 16) if work.dtype.bitwidth == 32 else (lambda work: 8)  # noqa: ARG005


@chosen_by_type(plus_first)
def _plus_first(total: Any, v: Any) -> Any:  # noqa: ARG001
    if v == F32:
        return lambda total, v: total + first_half(v)
    return lambda total, v: total + v


@chosen_by_type(plus_last)
def _plus_last(total: Any, v: Any) -> Any:  # noqa: ARG001
    if v == F32:
        return lambda total, v: total + last_half(v)
    return lambda total, v: total  # noqa: ARG005


@chosen_by_type(plus_first_product)
def _plus_first_product(total: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    if a == F32:
        return lambda total, a, b: fma(first_half(a), first_half(b), total)
    return lambda total, a, b: fma(a, b, total)


@chosen_by_type(plus_last_product)
def _plus_last_product(total: Any, a: Any, b: Any) -> Any:  # noqa: ARG001
    if a == F32:
        return lambda total, a, b: fma(last_half(a), last_half(b), total)
    return lambda total, a, b: total  # noqa: ARG005


@inlined
def _two_float32(number: float) -> tuple[Any, Any]:
    high = np.float32(number)
    return high, np.float32(number - high)


@chosen_by_type(two_words)
def _two_words(number: Any, work: Any) -> Any:  # noqa: ARG001
    if work.dtype.bitwidth == 32:
        return lambda number, work: _two_float32(number)  # noqa: ARG005
    return lambda number, work: (number, 0.0)  # noqa: ARG005
