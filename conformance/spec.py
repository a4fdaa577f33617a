"""What a clause is: one named requirement, where its inputs come from, and how an answer is judged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.backends.ops import DTYPES, OF_TREES, OPERANDS, OPS, ROW_OPS, SAMPLERS
from softcert.backends.types import Array, Output

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

    from softcert.conformance.context import Context
    from softcert.conformance.model import Judgement, Trial

#: The ops of softmax that take logits, and those that take a probability vector and a tangent or cotangent.
FORWARD_OPS = ("softmax", "log_softmax", "logsumexp")
DERIVATIVE_OPS = ("softmax_vjp", "softmax_jvp")
#: The same of its sparse relatives, and of both.
SPARSE_OPS = ("sparsemax", "entmax")
SPARSE_DERIVATIVE_OPS = ("sparsemax_vjp", "entmax_vjp")
LOGIT_OPS = (*FORWARD_OPS, *SPARSE_OPS)
PRODUCT_OPS = (*DERIVATIVE_OPS, *SPARSE_DERIVATIVE_OPS)
#: Ops of an order alpha; that of sparsemax is 2.
ORDERED_OPS = (*SPARSE_OPS, *SPARSE_DERIVATIVE_OPS)
#: Ops of a loss, whose second operand is a class a row.
LOSS_OPS = ("cross_entropy", "cross_entropy_vjp")
#: Ops of one leaf a row of a tree that all rows share.
TREE_OPS = ("hierarchical_log_softmax", "hierarchical_log_softmax_vjp")
#: Ops whose result is drawn: samples are judged by their law, and have no exact value.
SAMPLING_OPS = tuple(op for op in OPS if op in SAMPLERS)
#: Those whose result is a probability vector.
SIMPLEX_OPS = ("softmax", *SPARSE_OPS, *SAMPLING_OPS)
#: Every op that acts on each row alone and has an exact value, for clauses that look at rows.
ALL_OPS = tuple(op for op in ROW_OPS if op not in SAMPLERS)
#: Every op that has an exact value, for clauses that look at how a call behaves.
EVERY_OP = tuple(op for op in OPS if op not in SAMPLERS)
#: The ops of attention that take scores forward.
ATTENTION_FORWARD_OPS = ("attention", "attention_lse")


_MERGED = OPERANDS["attention_merge"]
_GRADIENT = {3: OPERANDS["attention"], 4: ("q", "k", "v", "dout"), 6: OPERANDS["attention_vjp"]}


#: Bytes from which a digest is shorter and as good: what is remembered of a run are many arrays.
_KEPT_WHOLE = 64


@dataclass(frozen=True)
class Seedling:
    """The operands that a trial grows from, small enough to be shrunk on their own.

    Attributes
    ----------
    operands : arrays in the order of `OPERANDS[op]`; for attention_vjp q, k, v and dout may do, to which the
        trial adds the out and lse of a correct forward pass.
    beta : inverse temperature; 1.0 where the subject takes none.
    axis : the reduced axis.
    layout : how the operands lie in memory.
    family : the family of inputs that they were drawn from.
    options : keywords of the op beside beta and those of attention, where they are not the usual ones.
    mask, scale, causal : of attention.
    extra : JSON-ready facts for the clause that grows the trial (a shift, a subset, a permutation seed).
    """

    operands: tuple[Array, ...]
    beta: float = 1.0
    axis: int = -1
    layout: str = "contiguous"
    family: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    mask: Array | None = None
    scale: float | None = None
    causal: bool = False
    options: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of elements of one operand."""
        return int(self.operands[0].size)

    @property
    def attends(self) -> bool:
        """Whether the operands are attention's, which has three or more of them."""
        return len(self.operands) > 2 and not self.labelled

    @property
    def labelled(self) -> bool:
        """Whether a row has a class, as the operands of losses and of trees do."""
        return len(self.operands) > 1 and self.operands[1].dtype.kind == "i"

    @property
    def tree(self) -> tuple[Array, ...]:
        """The paths of a tree that the rows share, where the op is about one."""
        return self.operands[-len(OF_TREES) :] if self.labelled and len(self.operands) > len(OF_TREES) else ()

    @property
    def own(self) -> tuple[Array, ...]:
        """The operands that rows do not share."""
        return self.operands[: len(self.operands) - len(self.tree)]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of attention's operands: of a merge, of a gradient with or without its forward pass."""
        merged = len(self.operands) == 4 and self.operands[1].ndim < self.operands[0].ndim
        return _MERGED if merged else _GRADIENT[len(self.operands)]

    def key(self) -> tuple[Any, ...]:
        """Hashable identity, bit for bit."""
        given = self.operands if self.mask is None else (*self.operands, self.mask)
        arrays = tuple(map(identity, given))
        options = (self.beta, self.axis, self.scale, self.causal, self.layout)
        return (arrays, options, tuple(sorted(self.extra.items())), tuple(sorted(self.options.items())))


Grow = Callable[[Seedling, "Context"], "Trial | None"]
Judge = Callable[["Trial", tuple[Array, ...], "Context"], "Judgement"]
Inspect = Callable[["Trial", tuple[Output, ...], "Context"], "Judgement"]


@dataclass(frozen=True)
class Clause:
    """One named requirement.

    Attributes
    ----------
    id : stable, `group.name`.
    statement : what must hold, one line.
    mathematics : the same in symbols.
    source : paper, standard or derivation that it rests on.
    in_practice : what a violation looks like in real software.
    ops, dtypes : what it speaks of.
    directed : seedlings that every run examines, smallest first.
    drawn : strategy of the seedlings that Hypothesis draws, or None.
    grow : the trial of a seedling, or None where the seedling does not fit the clause.
    judge : what the answers to a trial amount to; only answers of the right shape and dtype reach it.
    inspect : the same for clauses that look at how the answer came about; any array reaches it.
    applies : whether the subject can be asked at all, by its context.
    accuracy : its largest error grades the op.
    effort : multiple of the profile's number of drawn examples.
    shrinks : a violation may be made smaller; a statistic over many rows may not.
    observes : an exception or any array is as good as another and is reported; only a crash, a hang or
        running out of memory breaks the clause.
    """

    id: str
    statement: str
    mathematics: str
    source: str
    in_practice: str
    ops: tuple[str, ...]
    grow: Grow
    directed: Callable[[Context], Iterable[Seedling]]
    judge: Judge | None = None
    inspect: Inspect | None = None
    drawn: Callable[[Context], SearchStrategy[Seedling]] | None = None
    dtypes: tuple[str, ...] = DTYPES
    applies: Callable[[Context], str | None] = lambda _context: None
    accuracy: bool = False
    effort: float = 1.0
    shrinks: bool = True
    observes: bool = False

    @property
    def group(self) -> str:
        """The part of the id before the dot."""
        return self.id.partition(".")[0]


def identity(array: Array) -> tuple[Any, ...]:
    """Hashable identity of an array, bit for bit; of a large one a digest stands for the bits."""
    bits = array.tobytes()
    if len(bits) > _KEPT_WHOLE:
        bits = hashlib.sha256(bits).digest()
    return (array.dtype.str, array.shape, bits)


def rows_last(array: Array, axis: int) -> Array:
    """View of `array` with the reduced axis last."""
    return np.moveaxis(array, axis, -1)
