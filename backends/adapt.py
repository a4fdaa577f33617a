"""Kernels from functions that were not written for softcert.

The signature tells how the axis is called and where the operands go. What it leaves open (which
arrays the function wants, how many dimensions it takes) is found out on the first call, on small
arrays of harmless numbers.
"""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any, Literal

import numpy as np

from softcert.backends.convert import NotAnArrayError, as_result, same_bits, to_torch
from softcert.backends.types import OPERANDS, Array, SubjectError

AXIS_NAMES = ("axis", "dim")
#: What a function wants its operands to be.
Arrays = Literal["numpy", "torch", "list"]
_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Form:
    """How a function is called.

    Attributes
    ----------
    axis : the axis's keyword, or None where the function takes none.
    axis_positional : the axis can only be given by position, after the operands.
    by_name : the operands' keywords, or empty where they go by position.
    beta : the function takes `beta`.
    """

    axis: str | None
    axis_positional: bool = False
    by_name: tuple[str, ...] = ()
    beta: bool = False


def read_forms(function: Callable[..., Any], op: str) -> tuple[Form, ...]:
    """Forms in which a function might be called, the likeliest first; one if its signature says.

    Raises
    ------
    SubjectError : the signature cannot be the op's, and the message says why.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        # Compiled functions often have no signature.
        return (Form("axis"), Form("dim"), Form(None))
    count = len(OPERANDS[op])
    kinds = {p.kind for p in parameters}
    named = {p.name: p for p in parameters if p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)}
    axis = next((name for name in AXIS_NAMES if name in named), None)
    beta = op == "softmax" and "beta" in named
    by_name = _operand_names(list(named.values()), op, variadic=Parameter.VAR_POSITIONAL in kinds)
    taken = by_name or tuple(_positional(list(named.values()))[:count])
    _refuse_unknown_requirements(named, taken, axis, beta=beta, op=op)
    if axis is None and Parameter.VAR_KEYWORD in kinds:
        return tuple(Form(name, by_name=by_name, beta=beta) for name in (*AXIS_NAMES, None))
    positional = axis is not None and named[axis].kind is Parameter.POSITIONAL_ONLY
    return (Form(axis, positional, by_name, beta),)


def _positional(parameters: list[Parameter]) -> list[str]:
    return [p.name for p in parameters if p.kind in _POSITIONAL and p.name not in (*AXIS_NAMES, "beta")]


def _operand_names(parameters: list[Parameter], op: str, *, variadic: bool) -> tuple[str, ...]:
    """Keywords of the operands, empty where they can simply go by position."""
    wanted = OPERANDS[op]
    keyword = [p.name for p in parameters if p.kind is not Parameter.POSITIONAL_ONLY]
    if len(wanted) > 1 and set(wanted) <= set(keyword):
        return wanted
    positional = _positional(parameters)
    leading = [p.name for p in parameters[: len(wanted)] if p.kind in _POSITIONAL]
    if positional[: len(wanted)] == leading and (len(positional) >= len(wanted) or variadic):
        return ()
    others = [name for name in keyword if name not in (*AXIS_NAMES, "beta")]
    if variadic and not others:
        return ()
    if len(others) < len(wanted):
        operands = f"the operand{'s' * (len(wanted) > 1)} ({', '.join(wanted)})"
        raise SubjectError(f"its signature has no place for {operands} of {op}")
    return tuple(others[: len(wanted)])


def _refuse_unknown_requirements(
    named: dict[str, Parameter], taken: tuple[str, ...], axis: str | None, *, beta: bool, op: str
) -> None:
    known = {*taken, axis, "beta" if beta else None}
    for name, parameter in named.items():
        if parameter.default is Parameter.empty and name not in known:
            raise SubjectError(f"it requires an argument {name!r} that {op} does not have")


@dataclass
class AdaptedKernel:
    """A kernel `(*operands, axis=-1, beta=None) -> ndarray` over a function of another convention.

    Attributes
    ----------
    function : the function as its author wrote it.
    op : the op that it computes.
    torch_first : whether it more likely wants torch tensors than ndarrays.
    first_call_differs : the first call that it answered, one on harmless numbers, gave other bits than
        the same call made again.
    """

    function: Callable[..., Any]
    op: str
    torch_first: bool = False
    forms: tuple[Form, ...] = field(init=False)
    first_call_differs: bool = field(default=False, init=False)
    _plan: tuple[Form, Arrays] | None = field(default=None, init=False)
    _ranks: dict[tuple[int, str], bool] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.forms = read_forms(self.function, self.op)

    @property
    def beta(self) -> bool:
        """Whether the function takes an inverse temperature."""
        return self.forms[0].beta

    def __call__(self, *operands: Array, axis: int = -1, beta: float | None = None) -> Array:
        """Result of the function for operands (..., n, ...) of one dtype.

        Raises
        ------
        NotAnArrayError : the function returned something else than numbers.
        TypeError : `beta` was asked of a function that takes none.
        """
        if beta is not None and not self.beta:
            raise TypeError(f"{self.op} takes no beta")
        plan = self.prepare(operands[0])
        if plan[0].axis is not None:
            return self._invoke(plan, operands, axis, beta)
        return self._without_axis(plan, operands, axis, beta)

    def prepare(self, operand: Array) -> tuple[Form, Arrays]:
        """Find out how the function is called for operands like this one, if that is not known yet."""
        if self._plan is None:
            self._plan = self._choose(operand.dtype)
        # Where nothing works, the real call will say why; another dtype may still fare better.
        plan: tuple[Form, Arrays] = self._plan or (self.forms[0], "torch" if self.torch_first else "numpy")
        if plan[0].axis is None:
            for rank in {1, 2, operand.ndim}:
                self._takes(plan, rank, operand.dtype)
        return plan

    def _invoke(
        self,
        plan: tuple[Form, Arrays],
        operands: tuple[Array, ...],
        axis: int = -1,
        beta: float | None = None,
    ) -> Array:
        form, arrays = plan
        given: list[Any] = [_present(operand, arrays) for operand in operands]
        keywords: dict[str, Any] = {}
        if form.by_name:
            keywords.update(zip(form.by_name, given, strict=True))
            given = []
        if form.axis is not None and form.axis_positional:
            given.append(axis)
        elif form.axis is not None:
            keywords[form.axis] = axis
        if form.beta:
            keywords["beta"] = 1.0 if beta is None else beta
        returned = self.function(*given, **keywords)
        result = as_result(returned, operands[0].dtype)
        if result.size == 0 and isinstance(returned, (list, tuple)):
            # A list of nothing has lost every dimension but the first.
            return _of_nothing(result, operands[0].shape, axis, self.op)
        return result

    def _choose(self, dtype: np.dtype[Any]) -> tuple[Form, Arrays] | None:
        """First way of calling that a harmless input survives, if there is one."""
        # A function may know its arrays and yet not the 16-bit formats.
        probe_dtype = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
        for arrays in self._array_kinds():
            for form in self.forms:
                for rank in (2, 1):
                    if arrays == "list" and rank == 2:
                        continue
                    first = self._try((form, arrays), _probe(self.op, rank, probe_dtype))
                    if first is not None:
                        first = first.copy()
                        again = self._try((form, arrays), _probe(self.op, rank, probe_dtype))
                        self.first_call_differs = again is None or not same_bits(first, again)
                        return form, arrays
        return None

    def _array_kinds(self) -> Iterator[Arrays]:
        if self.torch_first:
            yield "torch"
        yield "numpy"
        # Asked after NumPy was tried, since a function may import torch only when it is called.
        if not self.torch_first and "torch" in sys.modules:
            yield "torch"
        yield "list"

    def _survives(self, plan: tuple[Form, Arrays], operands: tuple[Array, ...]) -> bool:
        return self._try(plan, operands) is not None

    def _try(self, plan: tuple[Form, Arrays], operands: tuple[Array, ...]) -> Array | None:
        try:
            return self._invoke(plan, operands)
        except Exception:  # noqa: BLE001 - whatever a foreign function raises is the probe's answer
            return None

    def _without_axis(
        self, plan: tuple[Form, Arrays], operands: tuple[Array, ...], axis: int, beta: float | None
    ) -> Array:
        """Call along the last axis, with as many dimensions at once as the function takes.

        A function of vectors alone is called row by row, one of matrices alone with all rows as one
        matrix. One that takes both is held to take any number of dimensions.
        """
        moved = tuple(np.moveaxis(operand, axis, -1) for operand in operands)
        shape = moved[0].shape
        rank = len(shape)
        vectors_only = (
            rank > 1 and not self._takes(plan, 2, moved[0].dtype) and self._takes(plan, 1, moved[0].dtype)
        )
        matrices_only = (
            rank != 2 and not self._takes(plan, 1, moved[0].dtype) and self._takes(plan, 2, moved[0].dtype)
        )
        if vectors_only:
            result = self._by_rows(plan, moved, beta)
        elif matrices_only and not self._takes(plan, rank, moved[0].dtype):
            rows = math.prod(shape[:-1])
            result = self._invoke(plan, tuple(o.reshape(rows, shape[-1]) for o in moved), beta=beta)
            result = result.reshape(shape[:-1] + result.shape[1:])
        else:
            result = self._invoke(plan, moved, beta=beta)
        return np.moveaxis(result, -1, axis) if result.shape == shape else result

    def _by_rows(self, plan: tuple[Form, Arrays], operands: tuple[Array, ...], beta: float | None) -> Array:
        batch, length = operands[0].shape[:-1], operands[0].shape[-1]
        results = [
            self._invoke(plan, tuple(operand[index] for operand in operands), beta=beta)
            for index in np.ndindex(batch)
        ]
        if not results:
            row: tuple[int, ...] = () if self.op == "logsumexp" else (length,)
            return np.empty(batch + row, dtype=operands[0].dtype)
        if len({result.shape for result in results}) > 1:
            raise NotAnArrayError("the kernel's results for rows of one length have different shapes")
        stacked = np.stack(results)
        return stacked.reshape(batch + stacked.shape[1:])

    def _takes(self, plan: tuple[Form, Arrays], rank: int, dtype: np.dtype[Any]) -> bool:
        """Whether the function takes arrays of so many dimensions."""
        key = (rank, dtype.name)
        if key not in self._ranks:
            self._ranks[key] = self._survives(plan, _probe(self.op, rank, dtype))
        return self._ranks[key]


def _of_nothing(result: Array, shape: tuple[int, ...], axis: int, op: str) -> Array:
    """The empty result in the shape that it has for operands of a shape, if it can have it."""
    expected = tuple(np.delete(shape, axis)) if op == "logsumexp" else shape
    return result.reshape(expected) if math.prod(expected) == 0 else result


def _present(operand: Array, arrays: Arrays) -> object:
    if arrays == "torch":
        return to_torch(operand)
    return operand.tolist() if arrays == "list" else operand


#: Harmless numbers: near 0, no ties, exact in every format; and probabilities that sum to 1.
_LOGITS = (0.5, -1.0, 1.5, 0.25, 1.0, -0.5, 0.75, -0.25)
_WEIGHTS = (0.125, 0.5, 0.25, 0.125, 0.25, 0.125, 0.125, 0.5)


def _probe(op: str, rank: int, dtype: np.dtype[Any]) -> tuple[Array, ...]:
    """Fresh operands of an op with so many dimensions, four elements along the last."""
    count = 4 if rank == 1 else 8
    shape = (4,) if rank == 1 else (2,) + (1,) * (rank - 2) + (4,)
    rows = {"x": _LOGITS, "y": _WEIGHTS, "dy": _LOGITS, "dx": _LOGITS}
    return tuple(np.array(rows[name][:count]).astype(dtype).reshape(shape) for name in OPERANDS[op])
