"""What a backend is, what it promises, and what passes between the judge and the judged.

Every type here is plain data: the judge sends a `Call`, the judged answers with a `Reply`, and
nothing else crosses the border between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from softcert.backends.rules import POSITIVE, SWITCH, Rule, instance_of, names_in, one_of, require, shown
from softcert.errors import SoftcertError

Array = NDArray[Any]
Kernel = Callable[..., Any]

#: The operands of each op, in the order in which a kernel takes them (each (..., n), along `axis`).
OPERANDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "softmax": ("x",),
        "log_softmax": ("x",),
        "logsumexp": ("x",),
        "softmax_vjp": ("y", "dy"),
        "softmax_jvp": ("y", "dx"),
    }
)
OPS: tuple[str, ...] = tuple(OPERANDS)
#: The dtypes that a softmax op may be asked to take, widest first.
DTYPES: tuple[str, ...] = ("float64", "float32", "float16", "bfloat16")
#: How an operand may lie in memory when it reaches the kernel; mixed: the first contiguous, others not.
LAYOUTS: tuple[str, ...] = ("contiguous", "strided", "reversed", "broadcast", "transposed", "mixed")


class SubjectError(SoftcertError):
    """The subject or its contract cannot be used; the message is one clear sentence."""


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
    }
)
#: The fields that may be None, for which a file without null writes "none".
_OPTIONAL = ("compute", "accumulator")


@dataclass(frozen=True)
class Contract:
    """What an implementation promises of its numerics; what it leaves unsaid is the strict default.

    Attributes
    ----------
    compute : format of the element-wise steps, a dtype name; None is the input's own format.
    accumulator : format of the sum, a dtype name; None is float32 for 16-bit inputs, else the input's.
    exp_ulp : largest error of the exponential (and logarithm), in ulps of the format computed in.
    form : "division" promises exp(x - max) / sum, whose error does not grow with an offset common to
        the whole row; "any" also allows a change of base before the subtraction and exp(x - lse).
    flush_subnormals : subnormal results may become zero.
    nan : "propagate", a NaN in the row makes the whole row NaN; "any" promises nothing.
    plus_inf : "nan", a +inf logit gives NaN at its own place; "any" promises nothing.
    all_minus_inf : what softmax gives for a row of -inf only: "nan", "zero", "uniform" or "any".
    deterministic : the same call gives the same bits.
    batch_invariant : a row's result does not depend on the batch around it.
    order_bitwise : equal logits get equal bits, and a larger logit never a smaller probability.
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

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in _FIELDS}
        require(_FIELDS, values, SubjectError, "contract field")
        # NumPy's numbers would not survive the way to the worker.
        object.__setattr__(self, "exp_ulp", float(self.exp_ulp))

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


def _are_dtypes(value: object) -> bool:
    return isinstance(value, tuple) and set(value) <= set(DTYPES)


#: What each part of a backend may be.
_PARTS: Mapping[str, Rule] = MappingProxyType(
    {
        "name": instance_of(str, "a string"),
        "ops": instance_of(Mapping, "a mapping from op names to functions"),
        "dtypes": Rule(_are_dtypes, f"some of {', '.join(DTYPES)}"),
        "contract": instance_of(Contract, "a softcert.Contract"),
        "beta": SWITCH,
        "assumed": SWITCH,
    }
)
_KERNELS: Mapping[str, Rule] = MappingProxyType(dict.fromkeys(OPS, Rule(callable, "a function")))


@dataclass(frozen=True)
class Backend:
    """An implementation under test: kernels by op name, and what it says of itself.

    Attributes
    ----------
    name : how reports call it.
    ops : kernels by op name; each takes ndarrays and keywords `axis` (and `beta`, softmax only).
    dtypes : the dtypes that it declares to take.
    contract : its promises.
    beta : whether its softmax takes an inverse temperature.
    versions : the libraries that it rests on, with their versions.
    assumed : the dtypes are the default, not the author's word.
    """

    name: str
    ops: Mapping[str, Kernel]
    dtypes: tuple[str, ...] = ("float64", "float32")
    contract: Contract = Contract()
    beta: bool = False
    versions: Mapping[str, str] = field(default_factory=dict)
    assumed: bool = False

    def __post_init__(self) -> None:
        # What is wrong here would otherwise be found by a call, and told as a failure of the kernel.
        object.__setattr__(self, "dtypes", names_in(self.dtypes, "dtypes", SubjectError))
        values = {name: getattr(self, name) for name in _PARTS}
        require(_PARTS, values, SubjectError, "backend")
        require(_KERNELS, self.ops, SubjectError, "op")


@dataclass(frozen=True)
class Call:
    """One call of one kernel.

    Attributes
    ----------
    op : a key of `OPERANDS`.
    operands : one array per operand of the op, all of one dtype and shape.
    params : keywords of the kernel: `axis` always, `beta` where it is not 1.
    layout : how the operands lie in memory when the kernel sees them, one of `LAYOUTS`.
    repeat : how often to call in a row on the same operands.
    """

    op: str
    operands: tuple[Array, ...]
    params: Mapping[str, int | float] = field(default_factory=lambda: {"axis": -1})
    layout: str = "contiguous"
    repeat: int = 1


@dataclass(frozen=True)
class Output:
    """What a kernel gave back.

    Attributes
    ----------
    value : the result of the last repetition, copied.
    seconds : wall time of the fastest repetition.
    distinct : an earlier repetition's result whose bits differ from the last one's, if there is one.
    side_effects : names of what the call disturbed, of `SIDE_EFFECTS`.
    """

    value: Array
    seconds: float = 0.0
    distinct: Array | None = None
    side_effects: tuple[str, ...] = ()


#: What a call must leave alone, with what it did to it.
SIDE_EFFECTS: Mapping[str, str] = MappingProxyType(
    {
        "input-modified": "an input array was changed by the call",
        "output-aliases-input": "the output shares memory with an input",
        "earlier-output-changed": "a result handed out earlier was changed by this call",
        "first-call-differs": "the first call in a process gave other bits than the same call made again",
        "flush-to-zero": "the call left the processor flushing subnormals to zero",
        "rounding-mode": "the call left the processor in another rounding mode",
    }
)


@dataclass(frozen=True)
class Failure:
    """Why a kernel gave nothing that can be judged.

    Attributes
    ----------
    kind : exception, crash, hang, memory (limits included), or output (not an array of numbers).
    message : one sentence, the exception's own words included.
    """

    kind: Literal["exception", "crash", "hang", "memory", "output"]
    message: str


Reply = Output | Failure


def as_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype object of a softcert dtype name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)
