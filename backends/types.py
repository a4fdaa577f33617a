"""What a backend is, what it promises, and what passes between the judge and the judged.

Every type here is plain data: the judge sends a `Call`, the judged answers with a `Reply`, and
nothing else crosses the border between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, OPS, RESULTS
from softcert.backends.rules import SWITCH, Rule, instance_of, names_in, require
from softcert.errors import SubjectError

Array = NDArray[Any]
Kernel = Callable[..., Any]

#: How an operand may lie in memory when it reaches the kernel; mixed: the first contiguous, others not.
LAYOUTS: tuple[str, ...] = ("contiguous", "strided", "reversed", "broadcast", "transposed", "mixed")


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
    ops : kernels by op name; each takes ndarrays, and `axis` and the keywords of `ROW_OPTIONS`, or those of
        attention, or as many of them as its attribute `options` or else its signature names.
    dtypes : the dtypes that it declares to take.
    contract : its promises.
    beta : whether its softmax takes an inverse temperature.
    versions : the libraries that it rests on, with their versions.
    assumed : the dtypes are the default, not the author's word.
    """

    name: str
    ops: Mapping[str, Kernel]
    dtypes: tuple[str, ...] = ("float64", "float32")
    contract: Contract = field(default_factory=Contract)
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
    operands : one array per operand of the op; of one dtype and shape for the ops of rows, but for those of
        `ONE_A_ROW`; of the shapes of `AXES` for those of attention. Dtypes are those of `operand_dtype`.
    params : keywords of the kernel: `axis` always; of `ROW_OPTIONS`, `scale` and `causal` those that are not
        the default.
    mask : of attention; booleans or numbers that are added to scores.
    layout : how the operands lie in memory when the kernel sees them, one of `LAYOUTS`.
    repeat : how often to call in a row on the same operands.
    measured : whether the memory that the call takes is to be measured.
    timed : its time is what is asked for, so that work on a GPU is timed by the GPU itself; memory is then
        measured around the kernel alone.
    """

    op: str
    operands: tuple[Array, ...]
    params: Mapping[str, int | float] = field(default_factory=lambda: {"axis": -1})
    layout: str = "contiguous"
    repeat: int = 1
    mask: Array | None = None
    measured: bool = False
    timed: bool = False

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Every array of the call: the operands, then the mask."""
        return self.operands if self.mask is None else (*self.operands, self.mask)

    @property
    def result_names(self) -> tuple[str, ...]:
        """Names of the arrays that the op gives back."""
        return RESULTS.get(self.op, (self.op,))


@dataclass(frozen=True)
class Output:
    """What a kernel gave back.

    Attributes
    ----------
    values : the results of the last repetition, copied.
    seconds : wall time of the fastest repetition.
    distinct : an earlier repetition's results some bits of which differ from the last one's.
    side_effects : names of what the call disturbed, of `SIDE_EFFECTS`.
    peak_bytes : how much memory the process took at most beyond what it had before, where that was asked.
    kept_bytes : how much of it it holds when the calls are over, the same.
    clock : what `seconds` was measured with: "wall", around the kernel; on a GPU, where the call was `timed`,
        "cuda-events" or "cuda-graph", around its work there alone.
    """

    values: tuple[Array, ...]
    seconds: float = 0.0
    distinct: tuple[Array, ...] | None = None
    side_effects: tuple[str, ...] = ()
    peak_bytes: int | None = None
    kept_bytes: int | None = None
    clock: str = "wall"

    @property
    def value(self) -> Array:
        """The first result."""
        return self.values[0]


#: What a call must leave alone, with what it did to it.
SIDE_EFFECTS: Mapping[str, str] = MappingProxyType(
    {
        "input-modified": "an input array was changed by the call",
        "output-aliases-input": "the output shares memory with an input",
        "wrote-outside": "the call wrote outside the memory of its output",
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
    by_subject : an exception was raised by the subject, or says what it does not take; if not, by what
        softcert does around it.
    """

    kind: Literal["exception", "crash", "hang", "memory", "output"]
    message: str
    by_subject: bool = True


Reply = Output | Failure


def as_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype object of a softcert dtype name; bfloat16 comes from ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return dtype
    return np.dtype(name)
