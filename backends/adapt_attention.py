"""Kernels from functions of attention that were not written for softcert.

What the signature leaves open (which arrays the function wants, how many axes it takes) is found out on
the first call, on small arrays of harmless numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from softcert.backends.array_kinds import array_kinds
from softcert.backends.convert import NotAnArrayError, as_results, present, same_bits
from softcert.backends.device_clock import replayed
from softcert.backends.exception_text import UnsupportedError, call_foreign
from softcert.backends.guarded import guarded
from softcert.backends.harmless import attention_operands, shares_heads
from softcert.backends.ops import ATTENTION_OPTIONS, AXES, OPERANDS, RESULTS
from softcert.backends.signature_attention import AttentionForm, read_attention_forms
from softcert.backends.types import Array, as_dtype

#: Numbers of axes of q that are tried, the commonest first: heads, batches and heads, one head alone.
_RANKS = (3, 4, 2)
_WITH_BATCHES = 4


@dataclass
class AdaptedAttention:
    """A kernel `(*operands, scale=None, causal=False, mask=None) -> results` over another's function.

    Attributes
    ----------
    function : the function as its author wrote it.
    op : the op of attention that it computes.
    first_kind : which arrays it more likely wants than NumPy's, as `preferred_kind` says.
    first_call_differs : the first call that it answered, one on harmless numbers, gave other bits than
        the same call made again.
    """

    function: Callable[..., Any]
    op: str
    first_kind: str = ""
    forms: tuple[AttentionForm, ...] = field(init=False)
    first_call_differs: bool = field(default=False, init=False)
    beta: bool = field(default=False, init=False)
    _plan: tuple[AttentionForm, str] | None = field(default=None, init=False)
    _ranks: dict[tuple[int, str], bool] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.forms = read_attention_forms(self.function, self.op)

    @property
    def options(self) -> tuple[str, ...]:
        """Which keywords of attention the function takes."""
        return tuple(name for name in ATTENTION_OPTIONS if name in self.forms[0].options)

    def __call__(self, *operands: Array, **options: Any) -> Array | tuple[Array, ...]:
        """Results of the function, one array alone where the op gives one.

        Raises
        ------
        NotAnArrayError : the function returned something else than the op's arrays.
        UnsupportedError : heads that share keys, asked of a function that takes one head at a time.
        """
        results = self._results(operands, options)
        return results[0] if len(results) == 1 else results

    def _results(self, operands: Sequence[Array], options: Mapping[str, Any]) -> tuple[Array, ...]:
        plan = self.prepare(*operands)
        rank = operands[0].ndim
        accepted = self._rank_for(plan, rank, operands[0].dtype.name)
        if accepted == rank:
            return self._invoke(plan, operands, options)
        if accepted > rank:
            extra = (np.newaxis,) * (accepted - rank)
            wider = tuple(a[extra] for a in operands)
            results = self._invoke(plan, wider, _mask_as(options, lambda m: _axes_of(m, accepted)))
            return tuple(_without_leading(result, len(extra)) for result in results)
        return self._one_by_one(plan, operands, options, rank - accepted)

    def prepare(self, *operands: Array) -> tuple[AttentionForm, str]:
        """Find out how the function is called for operands like these, if that is not known yet."""
        dtype = operands[0].dtype.name
        if self._plan is None:
            self._plan = self._choose(dtype)
        # Where nothing works, the real call will say why; another dtype may still fare better.
        plan: tuple[AttentionForm, str] = self._plan or (
            self.forms[0],
            self.first_kind or "numpy",
        )
        self._rank_for(plan, operands[0].ndim, dtype)
        return plan

    def _choose(self, dtype: str) -> tuple[AttentionForm, str] | None:
        """First way of calling that a harmless input survives, if there is one."""
        # A function may know its arrays and yet not the 16-bit formats.
        harmless = "float32" if as_dtype(dtype).itemsize == 2 else dtype
        kinds = list(array_kinds(self.first_kind))
        behind = [replace(form, heads_behind=True) for form in self.forms if self.op == "attention"]
        for forms in (self.forms, behind):
            for kind, form, rank in product(kinds, forms, _RANKS):
                plan = form, kind
                if self._survives_twice(plan, rank, harmless):
                    self.forms = (form,)
                    return plan
        return None

    def _survives_twice(self, plan: tuple[AttentionForm, str], rank: int, dtype: str) -> bool:
        """Whether harmless operands get an answer, which `first_call_differs` compares with the second."""
        options = {"scale": 0.5} if "scale" in plan[0].options else {}
        first = self._harmless(plan, rank, dtype, options)
        if first is None:
            return False
        kept = [part.copy() for part in first]
        again = self._harmless(plan, rank, dtype, options)
        self.first_call_differs = again is None or not all(map(same_bits, kept, again))
        return True

    def _harmless(
        self, plan: tuple[AttentionForm, str], rank: int, dtype: str, options: Mapping[str, Any]
    ) -> tuple[Array, ...] | None:
        """Results for harmless operands, if the function takes so many axes."""
        operands = _probe(self.op, rank, dtype)
        if not plan[0].heads_behind:
            return self._try(plan, operands, options)
        # Four axes alone leave no doubt which one is which, and only the right shape shows that they are.
        results = self._try(plan, operands, options) if rank == _WITH_BATCHES else None
        wanted = (*operands[0].shape[:-1], operands[2].shape[-1])
        return results if results is not None and results[0].shape == wanted else None

    def _try(
        self, plan: tuple[AttentionForm, str], operands: Sequence[Array], options: Mapping[str, Any]
    ) -> tuple[Array, ...] | None:
        try:
            return self._invoke(plan, guarded(operands), options)
        except Exception:  # noqa: BLE001 - whatever a foreign function raises is the probe's answer
            return None

    def _invoke(
        self, plan: tuple[AttentionForm, str], operands: Sequence[Array], options: Mapping[str, Any]
    ) -> tuple[Array, ...]:
        form, arrays = plan
        given: dict[str, Any] = _mask_as(options, lambda mask: present(mask, arrays))
        if "mask" in options and "bias" in form.options and options["mask"].dtype != np.bool_:
            given["bias"] = given.pop("mask")
        if "gqa" in form.options and shares_heads(self.op, operands):
            given["gqa"] = True
        placed = [np.swapaxes(a, -2, -3) for a in operands] if form.heads_behind else operands
        by_place, by_name = form.arguments([present(operand, arrays) for operand in placed], given)
        returned = call_foreign(self.function, *by_place, **by_name)
        results = call_foreign(as_results, returned, operands[0].dtype, RESULTS[self.op])
        replayed(self.function, by_place, by_name)
        if form.heads_behind and all(result.ndim >= _WITH_BATCHES - 1 for result in results):
            return tuple(np.swapaxes(result, -2, -3) for result in results)
        return results

    def _rank_for(self, plan: tuple[AttentionForm, str], rank: int, dtype: str) -> int:
        """Number of axes with which the function is called for operands of `rank`; `rank` if it takes it."""
        if self._takes(plan, rank, dtype):
            return rank
        others = sorted((r for r in {2, 3, 4} - {rank} if self._takes(plan, r, dtype)), reverse=True)
        wider = [r for r in others if r > rank]
        return wider[-1] if wider else others[0] if others else rank

    def _takes(self, plan: tuple[AttentionForm, str], rank: int, dtype: str) -> bool:
        key = (rank, dtype)
        if key not in self._ranks:
            self._ranks[key] = self._harmless(plan, rank, dtype, {}) is not None
        return self._ranks[key]

    def _one_by_one(
        self,
        plan: tuple[AttentionForm, str],
        operands: Sequence[Array],
        options: Mapping[str, Any],
        leading: int,
    ) -> tuple[Array, ...]:
        """Call for each index of the first axes."""
        if shares_heads(self.op, operands) and operands[0].ndim - leading < 3:
            raise UnsupportedError("the function takes one head at a time, and here heads share their keys")
        batch = operands[0].shape[:leading]
        names = OPERANDS[self.op]
        full = [
            _axes_of(a, operands[0].ndim - (AXES[n] == "HL")) for a, n in zip(operands, names, strict=True)
        ]
        parts = []
        for index in np.ndindex(batch):
            own: Callable[[Array], Array] = partial(
                _mask_of, batch=batch, index=index, rank=operands[0].ndim - leading
            )
            chosen = _mask_as(options, own)
            parts.append(self._invoke(plan, tuple(a[index] for a in full), chosen))
        if any(len({part[k].shape for part in parts}) > 1 for k in range(len(RESULTS[self.op]))):
            raise NotAnArrayError("the kernel's results for heads of one shape have different shapes")
        return tuple(
            np.stack([part[k] for part in parts]).reshape(*batch, *parts[0][k].shape)
            for k in range(len(RESULTS[self.op]))
        )


def _mask_of(mask: Array, batch: tuple[int, ...], index: tuple[int, ...], rank: int) -> Array:
    """Part of a mask, which may broadcast over the batches, that belongs to one of them."""
    return np.asarray(np.broadcast_to(mask, (*batch, *mask.shape[-rank:]))[index])


def _mask_as(options: Mapping[str, Any], change: Callable[[Array], Any]) -> dict[str, Any]:
    """The options with the mask changed, where there is one."""
    return {name: change(value) if name == "mask" else value for name, value in options.items()}


def _axes_of(array: Array, rank: int) -> Array:
    """The array with axes of length 1 put in front until it has `rank` of them."""
    return array[(np.newaxis,) * max(rank - array.ndim, 0)]


def _without_leading(result: Array, count: int) -> Array:
    return result.reshape(result.shape[count:]) if result.shape[:count] == (1,) * count else result


def _probe(op: str, rank: int, dtype: str) -> tuple[Array, ...]:
    """Fresh operands of an op: two queries, three keys and four features, of harmless numbers."""
    heads = (1,) * (rank - 3) + (2,) * (rank > 2)
    return attention_operands(op, dtype, heads, queries=2)
