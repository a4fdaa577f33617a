"""Kernels from functions that were not written for softcert.

The signature tells how the axis is called and where the operands go. What it leaves open (which
arrays the function wants, how many dimensions it takes) is found out on the first call, on small
arrays of harmless numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np

from softcert.backends.array_kinds import array_kinds
from softcert.backends.convert import NotAnArrayError, as_result, present, same_bits
from softcert.backends.device_clock import replayed
from softcert.backends.exception_text import UnsupportedError, call_foreign
from softcert.backends.guarded import guarded
from softcert.backends.harmless import row_operands
from softcert.backends.ops import (
    ONE_A_ROW,
    OPERANDS,
    REDUCING_OPS,
    ROW_OPTIONS,
    SAMPLERS,
    axis_moved,
    without_axis,
)
from softcert.backends.signature import Form, Role, read_forms
from softcert.backends.types import Array


@dataclass
class AdaptedKernel:
    """A kernel `(*operands, axis=-1, **options) -> ndarray` over a function of another convention.

    Attributes
    ----------
    function : the function as its author wrote it.
    op : the op that it computes.
    first_kind : which arrays it more likely wants than NumPy's, as `preferred_kind` says.
    first_call_differs : the first call that it answered, one on harmless numbers, gave other bits than
        the same call made again.
    """

    function: Callable[..., Any]
    op: str
    first_kind: str = ""
    forms: tuple[Form, ...] = field(init=False)
    first_call_differs: bool = field(default=False, init=False)
    _plan: tuple[Form, str] | None = field(default=None, init=False)
    _ranks: dict[tuple[int, str], bool] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.forms = read_forms(self.function, self.op)

    @property
    def beta(self) -> bool:
        """Whether the function takes an inverse temperature."""
        return self.forms[0].has("beta")

    @property
    def options(self) -> tuple[str, ...]:
        """Keywords of `ROW_OPTIONS` that the function takes."""
        return tuple(name for name in ROW_OPTIONS.get(self.op, ()) if self.forms[0].has(name))

    def __call__(self, *operands: Array, axis: int = -1, **options: float) -> Array:
        """Result of the function for operands (..., n, ...) of one dtype; options are those of the op.

        Raises
        ------
        NotAnArrayError : the function returned something else than numbers.
        UnsupportedError : an option was asked of a function that does not take it.
        """
        lacking = sorted(set(options) - set(self.options))
        if lacking:
            raise UnsupportedError(f"{self.op} takes no {lacking[0]}")
        plan = self.prepare(*operands)
        if plan[0].has("axis"):
            return self._invoke(plan, operands, axis, options)
        return self._without_axis(plan, operands, axis, options)

    def prepare(self, *operands: Array) -> tuple[Form, str]:
        """Find out how the function is called for operands like these, if that is not known yet."""
        operand = operands[0]
        if self._plan is None:
            self._plan = self._choose(operand.dtype)
        # Where nothing works, the real call will say why; another dtype may still fare better.
        plan: tuple[Form, str] = self._plan or (self.forms[0], self.first_kind or "numpy")
        if not plan[0].has("axis"):
            for rank in {1, 2, operand.ndim}:
                self._takes(plan, rank, operand.dtype)
            self._only_rank(plan, operand.ndim, operand.dtype)
        return plan

    def _invoke(
        self,
        plan: tuple[Form, str],
        operands: tuple[Array, ...],
        axis: int = -1,
        options: Mapping[str, float] = MappingProxyType({}),
    ) -> Array:
        form, arrays = plan
        given: dict[Role, Any] = {k: present(operand, arrays) for k, operand in enumerate(operands)}
        given["axis"] = axis
        given.update({**ROW_OPTIONS.get(self.op, {}), **options, "reduction": "none"})
        buffer = _buffer(operands[0], axis, self.op) if form.has("out") else None
        if buffer is not None:
            given["out"] = present(buffer, arrays)
        by_place, by_name = form.arguments(given)
        returned = call_foreign(self.function, *by_place, **by_name)
        if returned is None and buffer is not None:
            return buffer
        result = call_foreign(as_result, returned, operands[0].dtype)
        replayed(self.function, by_place, by_name)
        if result.size == 0 and isinstance(returned, (list, tuple)):
            # A list of nothing has lost every dimension but the first.
            return _of_nothing(result, operands[0].shape, axis, self.op)
        return result

    def _choose(self, dtype: np.dtype[Any]) -> tuple[Form, str] | None:
        """First way of calling that a harmless input survives, if there is one."""
        # A function may know its arrays and yet not the 16-bit formats.
        probe_dtype = np.dtype(np.float32) if dtype.itemsize == 2 else dtype
        kinds: Iterator[str] = chain(array_kinds(self.first_kind), ("list",))
        for arrays in kinds:
            for form in self.forms:
                for rank in (2, 1):
                    if arrays == "list" and rank == 2:
                        continue
                    first = self._try((form, arrays), _probe(self.op, rank, probe_dtype))
                    if first is not None:
                        first = first.copy()
                        again = self._try((form, arrays), _probe(self.op, rank, probe_dtype))
                        # What draws from a generator that no seed fixes never gives the same twice.
                        fixed = self.op not in SAMPLERS or form.has("seed")
                        self.first_call_differs = fixed and (again is None or not same_bits(first, again))
                        return form, arrays
        return None

    def _survives(self, plan: tuple[Form, str], operands: tuple[Array, ...]) -> bool:
        return self._try(plan, operands) is not None

    def _try(self, plan: tuple[Form, str], operands: tuple[Array, ...]) -> Array | None:
        try:
            return self._invoke(plan, guarded(operands))
        except Exception:  # noqa: BLE001 - whatever a foreign function raises is the probe's answer
            return None

    def _without_axis(
        self, plan: tuple[Form, str], operands: tuple[Array, ...], axis: int, options: Mapping[str, float]
    ) -> Array:
        """Call along the last axis, with as many dimensions at once as the function takes.

        A function of vectors alone is called row by row, one of 2, 3 or 4 dimensions alone with all
        rows in one such array. One that takes vectors and matrices is held to take any number.
        """
        moved = operands
        if axis not in (-1, operands[0].ndim - 1):
            # What lies apart in memory by our doing alone is not the function's to cope with.
            moved = tuple(map(np.ascontiguousarray, axis_moved(self.op, operands, axis, -1)))
        shape = moved[0].shape
        only = self._only_rank(plan, len(shape), moved[0].dtype)
        if only is None:
            result = self._invoke(plan, moved, options=options)
        elif only == 1:
            result = self._by_rows(plan, moved, options)
        else:
            rows = (1,) * (only - 2) + (math.prod(shape[:-1]), shape[-1])
            flat = tuple(o.reshape(rows if o.ndim == len(shape) else rows[:-1]) for o in moved)
            result = self._invoke(plan, flat, options=options)
            result = result.reshape(shape[:-1] + result.shape[only - 1 :])
        return np.moveaxis(result, -1, axis) if result.shape == shape else result

    def _only_rank(self, plan: tuple[Form, str], rank: int, dtype: np.dtype[Any]) -> int | None:
        """The number of dimensions that the function insists on, if it is not `rank`."""
        vectors, matrices = (self._takes(plan, k, dtype) for k in (1, 2))
        if vectors and (rank < 3 or not ONE_A_ROW & set(OPERANDS[self.op])):
            return None if matrices or rank == 1 else 1
        candidates = (2,) if matrices else (3, 4)
        if self._takes(plan, rank, dtype):
            return None
        return next((k for k in candidates if self._takes(plan, k, dtype)), None)

    def _by_rows(
        self, plan: tuple[Form, str], operands: tuple[Array, ...], options: Mapping[str, float]
    ) -> Array:
        batch, length = operands[0].shape[:-1], operands[0].shape[-1]
        results = [
            self._invoke(
                plan,
                tuple(np.asarray(operand[index]) for operand in operands),
                options={**options, "seed": _MOST_ROWS * int(options.get("seed", 0)) + row},
            )
            for row, index in enumerate(np.ndindex(batch))
        ]
        if not results:
            row: tuple[int, ...] = () if self.op in REDUCING_OPS else (length,)
            return np.empty(batch + row, dtype=operands[0].dtype)
        if len({result.shape for result in results}) > 1:
            raise NotAnArrayError("the kernel's results for rows of one length have different shapes")
        stacked = np.stack(results)
        return stacked.reshape(batch + stacked.shape[1:])

    def _takes(self, plan: tuple[Form, str], rank: int, dtype: np.dtype[Any]) -> bool:
        """Whether the function takes arrays of so many dimensions."""
        key = (rank, dtype.name)
        if key not in self._ranks:
            self._ranks[key] = self._survives(plan, _probe(self.op, rank, dtype))
        return self._ranks[key]


#: Rows that are drawn one by one have seeds of their own, which no other seed's rows have.
_MOST_ROWS = 1 << 16


def _buffer(operand: Array, axis: int, op: str) -> Array:
    """An output buffer full of NaN, so that an element left unwritten shows."""
    shape = without_axis(operand.shape, axis) if op in REDUCING_OPS else operand.shape
    return np.full(shape, np.nan, dtype=operand.dtype)


def _of_nothing(result: Array, shape: tuple[int, ...], axis: int, op: str) -> Array:
    """The empty result in the shape that it has for operands of a shape, if it can have it."""
    expected = without_axis(shape, axis) if op in REDUCING_OPS else shape
    return result.reshape(expected) if math.prod(expected) == 0 else result


#: Harmless numbers: near 0, no ties, exact in every format; and probabilities that sum to 1.
_LOGITS = (0.5, -1.0, 1.5, 0.25, 1.0, -0.5, 0.75, -0.25)
_WEIGHTS = (0.125, 0.5, 0.25, 0.125, 0.25, 0.125, 0.125, 0.5)


def _probe(op: str, rank: int, dtype: np.dtype[Any]) -> tuple[Array, ...]:
    """Fresh operands of an op with so many dimensions, four elements along the last."""
    shape = (4,) if rank == 1 else (2,) + (1,) * (rank - 2) + (4,)
    logits, weights = (
        np.array(row[: math.prod(shape)]).astype(dtype).reshape(shape) for row in (_LOGITS, _WEIGHTS)
    )
    given = row_operands(op, logits)
    return tuple(weights if name == "y" else a for name, a in zip(OPERANDS[op], given, strict=True))
