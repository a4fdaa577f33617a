"""What each field of a contract can promise, the strictest first, and which clauses speak of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softcert.backends.contract import Contract
from softcert.backends.ops import ATTENTION_OPS, DTYPES, OPS, ROW_OPS
from softcert.conformance.bounds.arithmetic import default_accumulator
from softcert.conformance.spec import FORWARD_OPS
from softcert.reference import format_of

Names = tuple[str, ...]

_FORWARD_ATTENTION = ("attention", "attention_lse", "attention_merge")
_SCORES = ("attention", "attention_lse", "attention_vjp")
#: Clauses whose bounds follow from the arithmetic.
_BOUNDED = (
    "accuracy",
    "attention",
    "attention-gradient",
    "bias",
    "boltzmann",
    "jacobian",
    "limits",
    "luce",
    "order",
    "simplex",
    "stability.attention-magnitudes",
    "stability.magnitude",
    "stability.subnormal",
    "translation",
)
_SMALLEST = (
    "accuracy.certified",
    "attention-gradient.definition",
    "attention.definition",
    "simplex.positive",
    "stability.attention-magnitudes",
    "stability.subnormal",
)
#: The formats of 16 bits, the least that arithmetic can promise.
NARROW = ("float16", "bfloat16")
#: Errors of the exponential that are tried, in ulps: two digits, so that what is measured is rounded up.
EXP_ULPS: tuple[float, ...] = tuple(
    step * 2.0**power for power in range(-1, 12) for step in (1.0, 1.25, 1.5, 1.75)
)
#: Fields that are laxer than usual only where the arithmetic of a subject is.
ARITHMETIC = (
    "flush_subnormals",
    "gradient_block",
    "attention_inputs",
    "attention_scores",
    "attention_weights",
    "accumulator",
    "compute",
)
#: What is assumed of the exponential while formats are chosen, and where that is not enough.
USUAL_EXP_ULP, LARGEST_EXP_ULP = 3.0, 64.0


@dataclass(frozen=True)
class ContractField:
    """One field.

    Attributes
    ----------
    values : what it may promise, the strictest first.
    clauses : ids and groups of the clauses that speak of it.
    ops : the ops of which it speaks.
    alternatives : none of the values is stricter than another, but for "any", which is none.
    forward : it is decided by what a forward pass gives, since inputs of attention_vjp depend on it.
    """

    name: str
    values: tuple[Any, ...]
    clauses: tuple[str, ...]
    ops: tuple[str, ...] = OPS
    alternatives: bool = False
    forward: bool = False

    @property
    def usual(self) -> int:
        """Place of the value that a contract has where it says nothing."""
        return self.values.index(getattr(Contract(), self.name))

    def covers(self, one: Any, other: Any) -> bool:
        """Whether whoever promises one value promises the other too."""
        if self.alternatives:
            return other in (one, "any")
        if other == NARROW[1] and one != other:
            # Of fewer digits than float16 and of a wider range: neither allows all that the other does.
            return one in DTYPES[:2]
        return self.values.index(one) <= self.values.index(other)

    def spoken_of(self, clause: str, op: str) -> bool:
        """Whether a clause says anything of the field at an op."""
        return op in self.ops and bool({clause, clause.partition(".")[0]} & set(self.clauses))


def fields_for(dtypes: Sequence[str]) -> tuple[ContractField, ...]:
    """The fields but `exp_ulp`, in the order in which they are made as strict as can be.

    Parameters
    ----------
    dtypes : what is examined; a format is the stricter, the more digits it has beyond theirs.
    """
    return (*_conventions(), *_promises(), *_arithmetic(dtypes))


def _conventions() -> tuple[ContractField, ...]:
    """What a forward pass of attention gives, by one convention or another."""

    def field(
        name: str, values: tuple[str, ...], clauses: tuple[str, ...], ops: tuple[str, ...]
    ) -> ContractField:
        return ContractField(name, values, clauses, ops, alternatives=True, forward=True)

    empty = ("attention.empty-rows", "attention-gradient.empty-rows")
    with_lse = tuple(op for op in ATTENTION_OPS if op != "attention")
    return (
        field("causal", ("bottom-right", "top-left"), ("attention.causal",), _SCORES),
        field("lse_base", ("e", "2"), ("attention", "attention-gradient"), with_lse),
        field("masked_row", ("zero", "nan", "mean", "any"), empty, _SCORES),
        field("masked_lse", ("-inf", "nan", "+inf", "any"), empty, ("attention_lse",)),
    )


def _promises() -> tuple[ContractField, ...]:
    """What holds or does not, whatever the arithmetic."""
    empty_rows = ("nan", "zero", "uniform", "any")
    repeated = ("determinism.repeat", "purity.side-effects", "purity.stateless")
    made_anew = ("attention-gradient.rematerialization",)
    return (
        ContractField("nan", ("propagate", "any"), ("stability.nan", "stability.attention-nan")),
        ContractField("plus_inf", ("nan", "any"), ("stability.plus-inf",), FORWARD_OPS),
        ContractField(
            "all_minus_inf", empty_rows, ("stability.all-minus-inf",), FORWARD_OPS, alternatives=True
        ),
        ContractField("masked_nan", ("ignored", "any"), ("attention.hidden-nan",), _SCORES),
        ContractField("deterministic", (True, False), repeated),
        ContractField("batch_invariant", (True, False), ("determinism.batch-invariance",)),
        ContractField("order_bitwise", (True, False), ("order",), ("softmax", "log_softmax")),
        ContractField("rematerialized", (True, False), made_anew, ("attention_vjp",)),
        ContractField("memory", ("linear", "any"), ("memory.growth",), _SCORES),
    )


def _arithmetic(dtypes: Sequence[str]) -> tuple[ContractField, ...]:
    """What bounds follow from, but for the error of the exponential."""
    sums = {dtype: default_accumulator(dtype) for dtype in dtypes}
    own = {dtype: dtype for dtype in dtypes}
    blocks = (None, *(2**k for k in range(12, 3, -1)))
    return (
        ContractField("flush_subnormals", (False, True), _SMALLEST),
        ContractField("compute", _formats(own), _BOUNDED),
        ContractField("accumulator", _formats(sums), _BOUNDED),
        ContractField("form", ("division", "any"), _BOUNDED, (*ROW_OPS, *_FORWARD_ATTENTION)),
        ContractField("attention_weights", _formats(own), _BOUNDED, _SCORES),
        ContractField("attention_scores", _formats(sums, widest=None), _BOUNDED, _SCORES),
        ContractField("attention_inputs", _formats(sums, widest=None), _BOUNDED, _SCORES),
        ContractField("gradient_block", blocks, ("attention-gradient",), ("attention_vjp",)),
    )


def exp_field(values: Sequence[float] = EXP_ULPS) -> ContractField:
    """The field `exp_ulp`."""
    return ContractField("exp_ulp", tuple(values), _BOUNDED)


def _formats(unsaid: dict[str, str], widest: str | None = DTYPES[0]) -> tuple[str | None, ...]:
    """Formats by the digits that they have over the dtypes, most first; None is what `unsaid` says."""

    def digits(name: str | None) -> int:
        return sum(format_of(name or unsaid[dtype]).precision for dtype in unsaid)

    others = [name for name in DTYPES if digits(name) != digits(None) and digits(name) <= digits(widest)]
    return tuple(sorted((None, *others), key=digits, reverse=True))


def laxest(fields: Sequence[ContractField], narrow: str, **fixed: Any) -> Contract:
    """The contract that promises least, but for the fields that are fixed.

    Parameters
    ----------
    narrow : the format of `NARROW` in which everything may be held.
    """
    values = {field.name: field.values[-1] for field in fields} | {"exp_ulp": EXP_ULPS[-1]}
    held = {field.name: narrow for field in fields if {narrow, NARROW[1]} <= set(field.values)}
    return Contract(**(values | held | fixed))


def at_least_as_strict(one: Contract, other: Contract, fields: Sequence[ContractField]) -> bool:
    """Whether a contract promises all that another does."""
    return one.exp_ulp <= other.exp_ulp and all(
        field.covers(getattr(one, field.name), getattr(other, field.name)) for field in fields
    )
