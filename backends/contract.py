"""What an implementation promises of its numerics: the contract, field by field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, cast

from softcert.backends.ops import DTYPES
from softcert.backends.rules import POSITIVE, SWITCH, Rule, integer, one_of, require, shown
from softcert.errors import SubjectError

#: What each field of a contract may hold.
_FIELDS: Mapping[str, Rule] = MappingProxyType(
    {
        "compute": one_of(None, *DTYPES),
        "accumulator": one_of(None, *DTYPES),
        "exp_ulp": POSITIVE,
        "form": one_of("any", "division"),
        "flush_subnormals": SWITCH,
        "nan": one_of("propagate", "any"),
        "plus_inf": one_of("nan", "any"),
        "all_minus_inf": one_of("nan", "zero", "uniform", "any"),
        "deterministic": SWITCH,
        "batch_invariant": SWITCH,
        "order_bitwise": SWITCH,
        "attention_weights": one_of(None, *DTYPES),
        "attention_scores": one_of(None, *DTYPES),
        "attention_inputs": one_of(None, *DTYPES),
        "gradient_block": Rule(
            lambda value: value is None or integer(1, 2**31, "").allows(value), "a positive integer or None"
        ),
        "masked_row": one_of("zero", "nan", "mean", "any"),
        "masked_lse": one_of("-inf", "nan", "+inf", "zero", "any"),
        "masked_nan": one_of("ignored", "any"),
        "causal": one_of("bottom-right", "top-left"),
        "lse_base": one_of("e", "2"),
        "rematerialized": SWITCH,
        "memory": one_of("linear", "any"),
    }
)
#: The fields that may be None, for which a file without null writes "none".
_OPTIONAL = (
    "compute",
    "accumulator",
    "attention_weights",
    "attention_scores",
    "attention_inputs",
    "gradient_block",
)


@dataclass(frozen=True)
class Contract:
    """What an implementation promises of its numerics; what it leaves unsaid is the strict default.

    Attributes
    ----------
    compute : format of the element-wise steps, a dtype name; None is the input's own format.
    accumulator : format of the sum, a dtype name; None is float32 for 16-bit inputs, else the input's.
    exp_ulp : largest error of the exponential (and logarithm), in ulps of the format computed in.
    form : "division" promises exp(x - max) / sum, whose error does not grow with an offset common to
        the whole row; "any" also allows a change of base before the subtraction and exp(x - lse), of
        attention weights exp(score - lse). Of sparsemax and entmax, "division" promises that the maximum is
        subtracted first.
    flush_subnormals : subnormal results may become zero.
    nan : "propagate", a NaN in the row makes the whole row NaN; "any" promises nothing.
    plus_inf : "nan", a +inf logit gives NaN at its own place; "any" promises nothing.
    all_minus_inf : what softmax gives for a row of -inf only: "nan", "zero", "uniform" or "any".
    deterministic : the same call gives the same bits.
    batch_invariant : a row's result does not depend on the batch around it.
    order_bitwise : equal logits get equal bits, and a larger logit never a smaller probability.
    attention_weights : format in which attention weights and dS are held before they are multiplied by a
        matrix, a dtype name; None is the input's own.
    attention_scores : format in which scores and dP are stored; None is that of the element-wise steps.
    attention_inputs : format in which q and k are stored where the scale is applied to them, ahead of their
        product; None is that of the element-wise steps.
    gradient_block : queries, and keys, after which the sums of dq, dk and dv are stored in the input's
        format; None where they are rounded once, in the end.
    masked_row : output of a query that sees no key: "zero", "nan", "mean" (of all values) or "any".
    masked_lse : what its lse is: "-inf", "nan", "+inf", "zero" or "any".
    masked_nan : "ignored", a NaN or an infinity at a key that is hidden does not matter; "any" promises so of
        finite numbers alone.
    causal : "bottom-right", query i sees key j iff j <= i + S - L; "top-left", iff j <= i.
    lse_base : the logarithm of lse, given and taken: natural, "e", or "2".
    rematerialized : attention_vjp is a function of the out and lse that it is given; if not, it may make the
        forward pass anew.
    memory : "linear", memory beyond operands and results grows no faster than the length of the sequences;
        "any" promises nothing.
    """

    compute: str | None = None
    accumulator: str | None = None
    exp_ulp: float = 3.0
    form: Literal["any", "division"] = "any"
    flush_subnormals: bool = False
    nan: Literal["propagate", "any"] = "propagate"
    plus_inf: Literal["nan", "any"] = "nan"
    all_minus_inf: Literal["nan", "zero", "uniform", "any"] = "nan"
    deterministic: bool = True
    batch_invariant: bool = False
    order_bitwise: bool = False
    attention_weights: str | None = None
    attention_scores: str | None = None
    attention_inputs: str | None = None
    gradient_block: int | None = None
    masked_row: Literal["zero", "nan", "mean", "any"] = "zero"
    masked_lse: Literal["-inf", "nan", "+inf", "zero", "any"] = "-inf"
    masked_nan: Literal["ignored", "any"] = "any"
    causal: Literal["bottom-right", "top-left"] = "bottom-right"
    lse_base: Literal["e", "2"] = "e"
    rematerialized: bool = True
    memory: Literal["linear", "any"] = "any"

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _FIELDS}
        require(_FIELDS, values, SubjectError, "contract field")
        # NumPy's numbers would not survive the way to the worker.
        object.__setattr__(self, "exp_ulp", float(self.exp_ulp))
        if self.gradient_block is not None:
            object.__setattr__(self, "gradient_block", int(self.gradient_block))

    @classmethod
    def from_mapping(cls, declared: Mapping[str, Any]) -> Contract:
        """Contract from a mapping of field names to values, or one that holds it as "contract" alone.

        Parameters
        ----------
        declared : `compute` and `accumulator` may be "none", where a file format has no null.

        Raises
        ------
        SubjectError : no mapping, a field that no contract has, or a value that the field cannot take.
        """
        values = _contract_fields(declared)
        require(_FIELDS, values, SubjectError, "contract field")
        return cls(**values)

    def to_mapping(self) -> dict[str, Any]:
        """Return the contract as a JSON-ready mapping."""
        return asdict(self)


def as_contract(contract: object) -> Contract | None:
    """Contract from one, from a mapping of its fields, or None from None.

    Raises
    ------
    SubjectError : something else, or a mapping that is no contract.
    """
    if contract is None or isinstance(contract, Contract):
        return contract
    return Contract.from_mapping(cast("Mapping[str, Any]", contract))  # which refuses what is none


def _contract_fields(declared: object) -> dict[str, Any]:
    """Return the fields that a mapping declares, None in place of "none".

    Raises
    ------
    SubjectError : no mapping of names, or a table beside the contract's own.
    """
    if isinstance(declared, Mapping) and "contract" in declared:
        beside = sorted(str(key) for key in declared if key != "contract")
        if beside:
            raise SubjectError(
                f"a contract is its fields, or a contract table alone: {beside[0]!r} beside the table "
                "belongs into SOFTCERT in the subject's module"
            )
        declared = declared["contract"]
    if not isinstance(declared, Mapping):
        raise SubjectError(f"a contract has to be a softcert.Contract or a mapping, not {shown(declared)}")
    return {
        name: None if name in _OPTIONAL and _is_none(value) else value for name, value in declared.items()
    }


def _is_none(value: object) -> bool:
    return isinstance(value, str) and value == "none"
