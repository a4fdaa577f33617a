"""Calls in the one form that subjects of other languages take: C order, last axis, every axis there.

Ops of rows go on arrays (rows, n), (rows,) of what a row has one of, and the arrays of a tree. Attention
goes on (batch, heads, queries, features) and the like, its mask spread over all of (batch, heads, queries,
keys); merges on (rows, columns) and (rows,).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softcert.backends.ops import (
    ATTENTION_OPS,
    AXES,
    DTYPES,
    OF_TREES,
    OPERANDS,
    REDUCING_OPS,
    RESULTS,
    ROW_OPTIONS,
    axis_moved,
    has_axis,
    operand_dtype,
    takes_scores,
)
from softcert.backends.types import Array

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """One call.

    Attributes
    ----------
    op : the op.
    dtype : its dtype, a name of `DTYPES`; that of lse may differ.
    operands : C-contiguous arrays in the order of `OPERANDS`.
    results : name, dtype name and shape of each result, in order.
    params : those of `ROW_OPTIONS`, each with a value; `scale` and `causal` of attention.
    mask : booleans (True: visible) or numbers of `dtype` that are added to scores.
    """

    op: str
    dtype: str
    operands: tuple[Array, ...]
    results: tuple[tuple[str, str, Shape], ...]
    params: Mapping[str, float | bool] = field(default_factory=dict)
    mask: Array | None = None


@dataclass(frozen=True)
class Outcome:
    """What a call in canonical form gave.

    Attributes
    ----------
    results : the arrays; where a shape is not the expected one, the judge says so.
    seconds : wall time of the subject's own code, as near as it can be told from ours.
    side_effects : what was seen beside it, of `SIDE_EFFECTS`.
    """

    results: tuple[Array, ...]
    seconds: float
    side_effects: tuple[str, ...] = ()


class CanonicalKernel(ABC):
    """A kernel `(*operands, **keywords) -> results` over code that takes calls in canonical form alone."""

    op: str

    @abstractmethod
    def compute(self, problem: Problem) -> Outcome:
        """Results of one call in canonical form."""

    def __call__(self, *operands: Array, **params: Any) -> Array | tuple[Array, ...]:
        """Results as every backend gives them: one array alone where the op gives one.

        Raises
        ------
        TypeError, NotImplementedError : the subject does not take such operands or keywords.
        """
        results = self.watched(*operands, **params).results
        return results[0] if len(results) == 1 else results

    def watched(self, *operands: Array, **params: Any) -> Outcome:
        """Results in the shapes of the operands given, with what was seen beside them."""
        problem, shapes = pose(self.op, operands, **params)
        outcome = self.compute(problem)
        expected = [shape for _, _, shape in problem.results]
        results = tuple(
            result.reshape(shape) if result.shape == wanted else result
            for result, wanted, shape in zip(outcome.results, expected, shapes, strict=True)
        )
        if self.op not in ATTENTION_OPS and results[0].ndim == operands[0].ndim:
            results = (np.moveaxis(results[0], -1, params.get("axis", -1)),)
        return Outcome(results, outcome.seconds, outcome.side_effects)


def pose(op: str, operands: Sequence[Array], **params: Any) -> tuple[Problem, list[Shape]]:
    """A call in canonical form, and the shapes that its results have outside of it.

    Parameters
    ----------
    operands, params : as kernels take them; `axis`, which goes last, among them.

    Raises
    ------
    TypeError : a dtype that no subject of another language knows.
    """
    dtype = operands[0].dtype.name
    if dtype not in DTYPES:
        raise TypeError(f"{op} of {dtype} arrays cannot be asked; the dtypes are {', '.join(DTYPES)}")
    if op in ATTENTION_OPS:
        return _pose_attention(op, dtype, operands, **params)
    return _pose_rows(op, dtype, operands, **params)


def _pose_rows(
    op: str, dtype: str, operands: Sequence[Array], axis: int = -1, **options: float
) -> tuple[Problem, list[Shape]]:
    moved = axis_moved(op, operands, axis, -1)
    *batch, n = moved[0].shape
    rows = math.prod(batch)
    given = tuple(
        np.ascontiguousarray(operand)
        if name in OF_TREES
        else np.ascontiguousarray(operand).reshape((rows, n) if has_axis(name) else (rows,))
        for name, operand in zip(OPERANDS[op], moved, strict=True)
    )
    reduced = op in REDUCING_OPS
    params = {name: type(usual)(options.get(name, usual)) for name, usual in ROW_OPTIONS.get(op, {}).items()}
    results = ((op, dtype, (rows,) if reduced else (rows, n)),)
    return Problem(op, dtype, given, results, params), [tuple(batch) if reduced else (*batch, n)]


def _pose_attention(
    op: str,
    dtype: str,
    operands: Sequence[Array],
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Problem, list[Shape]]:
    names = OPERANDS[op]
    # A merge knows no heads: its axes before the columns are rows, one like the other.
    merged = not takes_scores(op)
    given = tuple(
        np.ascontiguousarray(a).reshape(_canonical(a.shape, AXES[name], merged=merged))
        for a, name in zip(operands, names, strict=True)
    )
    shapes = {name: a.shape for name, a in zip(names, operands, strict=True)}
    wanted = [_result_shape(name, shapes) for name in RESULTS[op]]
    results = tuple(
        (name, operand_dtype(name, dtype), _canonical(shape, AXES[name], merged=merged))
        for name, shape in zip(RESULTS[op], wanted, strict=True)
    )
    if not takes_scores(op):
        return Problem(op, dtype, given, results), wanted
    q, k = given[:2]
    params = {"scale": _default_scale(q) if scale is None else float(scale), "causal": bool(causal)}
    spread = None if mask is None else _spread(mask, shapes["q"], (*q.shape[:3], k.shape[2]), dtype)
    return Problem(op, dtype, given, results, params, spread), wanted


def _result_shape(name: str, shapes: Mapping[str, Shape]) -> Shape:
    """Shape of a result of an op of attention with operands of some shapes."""
    if "out_a" in shapes:
        return shapes[f"{name}_a"]
    if name in ("dq", "dk", "dv"):
        return shapes[name[1:]]
    queries = shapes["q"][:-1]
    return queries if name == "lse" else (*queries, shapes["v"][-1])


def _canonical(shape: Shape, axes: str, *, merged: bool) -> Shape:
    """Shape with one axis of batches and one of heads in front; `merged`, one of rows alone."""
    own = len(axes) - (2 if merged else 1)
    lead, rest = shape[: len(shape) - own], shape[len(shape) - own :]
    if merged:
        return (math.prod(lead), *rest)
    return (math.prod(lead[:-1]), lead[-1] if lead else 1, *rest)


def _default_scale(q: Array) -> float:
    features = q.shape[-1]
    return 1.0 / math.sqrt(features) if features else math.inf


def _spread(mask: Array, q_shape: Shape, shape: Shape, dtype: str) -> Array:
    """The mask for each batch, head, query and key."""
    if mask.dtype.name not in ("bool", dtype):
        raise TypeError(f"a mask of {mask.dtype.name} cannot be asked for operands of {dtype}")
    full = np.broadcast_to(mask, (*q_shape[:-1], shape[-1]))
    return np.ascontiguousarray(full).reshape(shape)
