"""What a clause may ask while it judges: the certified truth of a call, its bound, the contract."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.backends import Description
from softcert.backends.contract import Contract
from softcert.backends.ops import ATTENTION_OPS, REDUCING_OPS, order_of
from softcert.backends.types import Call
from softcert.conformance.bounds import cross_entropy as loss_bounds
from softcert.conformance.bounds import entmax as entmax_bounds
from softcert.conformance.bounds import softmax as bounds
from softcert.conformance.bounds.arithmetic import Arithmetic, arithmetic
from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic
from softcert.conformance.judging.attention_truth import (
    Part,
    attention_kernel_arithmetic,
    attention_parts,
    attention_truth,
    remade_truth,
)
from softcert.conformance.judging.leaves import leaf_bound, leaf_slope_bound, leaf_truth
from softcert.conformance.spec import TREE_OPS, identity, rows_last
from softcert.reference import Enclosure

Float = NDArray[np.float64]

T = TypeVar("T")

#: Numbers from which double words are quicker than Arb (benchmarks/fast_oracle.py), once they are compiled.
#: Gradients are computed in integers: they meet midpoints, which nothing less tells from their neighbours.
_MANY = 64


@dataclass
class Context:
    """The subject's promises at one op and dtype, and a small memory of certified truths.

    Attributes
    ----------
    op, dtype : what is being examined.
    contract : the subject's promises.
    beta : whether its softmax takes an inverse temperature.
    ops : every op that the subject has.
    thorough : the profile's effort, a multiple of the quick profile's.
    lacks : features of the op that the subject refuses, and in which words.
    memory_seen : what memory a call takes can be measured.
    seeded : a keyword `seed` fixes what the op draws, where it draws.
    remembered : how many truths it remembers.
    """

    op: str
    dtype: str
    contract: Contract
    beta: bool = False
    ops: tuple[str, ...] = ()
    thorough: float = 1.0
    lacks: Mapping[str, str] = field(default_factory=dict)
    memory_seen: bool = True
    seeded: bool = True
    remembered: int = 192
    # no argument, so that Hypothesis, which prints the arguments of strategies, does not print all of it
    _memory: OrderedDict[tuple[Any, ...], Any] = field(default_factory=OrderedDict, init=False, repr=False)

    @classmethod
    def of(cls, described: Description, op: str, dtype: str, **facts: Any) -> Self:
        """Context of an op and dtype of a subject; `facts` are further fields."""
        facts["memory_seen"] = described.memory_seen
        facts["seeded"] = "seed" in described.options.get(op, ("seed",))
        return cls(op, dtype, described.contract, described.beta, tuple(described.ops), **facts)

    @property
    def arithmetic(self) -> Arithmetic:
        """Rounding units that the contract fixes for this dtype."""
        return arithmetic(self.contract, self.dtype)

    @property
    def attention_arithmetic(self) -> AttentionArithmetic:
        """Arithmetic of attention that the contract fixes for this dtype."""
        return attention_kernel_arithmetic(self.contract, self.dtype)

    def truth(self, call: Call) -> Enclosure:
        """Certified enclosure of the exact first result of `call`."""
        return self.truths(call)[0]

    def truths(self, call: Call) -> tuple[Enclosure, ...]:
        """Certified enclosures of all exact results of `call`."""
        return self._kept("truth", call, lambda: evaluate(call, self.contract))

    def parts(self, call: Call) -> tuple[Part, ...]:
        """What is known of each result of a call of attention."""
        return self._kept("parts", call, lambda: attention_parts(call, self.contract, self.truths(call)))

    def remade_parts(self, call: Call) -> tuple[Part, ...]:
        """The same of attention_vjp where the forward pass is made anew."""

        def made() -> tuple[Part, ...]:
            return attention_parts(call, self.contract, remade_truth(call, self.contract), remade=True)

        return self._kept("remade", call, made)

    def _kept(self, what: str, call: Call, make: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
        key = (what, call.op, *sorted(call.params.items()), len(call.arrays), *map(identity, call.arrays))
        if key in self._memory:
            self._memory.move_to_end(key)
            kept: tuple[T, ...] = self._memory[key]
            return kept
        self._memory[key] = made = make()
        if len(self._memory) > self.remembered:
            self._memory.popitem(last=False)
        return made

    def bound_ulp(self, call: Call, truth: Enclosure) -> Float:
        """Bound of the error of each result of `call`, in ulps at the exact value; inf beyond binary64."""
        ulp = truth_ulp(truth, self.dtype)
        if call.op != "softmax":
            with np.errstate(over="ignore"):
                return self.absolute_bound(call) / ulp
        axis = int(call.params["axis"])
        bound = bounds.softmax_bound(self.rows(call), self.arithmetic, rows_last(ulp, axis))
        return np.moveaxis(bound, -1, axis)

    def absolute_bound(self, call: Call) -> Float:
        """Absolute bound of the error of each result of an op of rows other than softmax."""
        bound = _ABSOLUTE[call.op](self, call)
        return bound[..., 0] if call.op in REDUCING_OPS else np.moveaxis(bound, -1, int(call.params["axis"]))

    def rows(self, call: Call) -> bounds.Rows:
        """Facts of the logits of a call, the reduced axis last."""
        x = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
        one_pass = not self.arithmetic.division
        return bounds.rows_of(x, float(call.params.get("beta", 1.0)), any_order=one_pass)


def _log_softmax_bound(context: Context, call: Call) -> Float:
    return bounds.log_softmax_bound(context.rows(call), context.arithmetic)


def _logsumexp_bound(context: Context, call: Call) -> Float:
    return bounds.logsumexp_bound(context.rows(call), context.arithmetic)


def _softmax_product_bound(context: Context, call: Call) -> Float:
    return bounds.vjp_bound(*_numbers(call), context.arithmetic)


def _sparse_bound(context: Context, call: Call) -> Float:
    p = rows_last(context.truth(call).to_float64(), int(call.params["axis"]))
    shares = entmax_bounds.shares_of(context.rows(call), p, order_of(call.op, call.params))
    return entmax_bounds.entmax_bound(shares, context.arithmetic)


def _sparse_product_bound(context: Context, call: Call) -> Float:
    return entmax_bounds.entmax_vjp_bound(*_numbers(call), order_of(call.op, call.params), context.arithmetic)


def _loss_bound(context: Context, call: Call) -> Float:
    return loss_bounds.cross_entropy_bound(_losses(context, call), context.arithmetic)


def _loss_product_bound(context: Context, call: Call) -> Float:
    dloss = call.operands[2].astype(np.float64)[..., np.newaxis]
    return loss_bounds.cross_entropy_vjp_bound(_losses(context, call), dloss, context.arithmetic)


def _losses(context: Context, call: Call) -> loss_bounds.Losses:
    options: dict[str, Any] = {name: value for name, value in call.params.items() if name != "axis"}
    x = rows_last(call.operands[0], int(call.params["axis"])).astype(np.float64)
    return loss_bounds.losses_of(x, call.operands[1], any_order=not context.arithmetic.division, **options)


def _leaf_bound(context: Context, call: Call) -> Float:
    return leaf_bound(call, context.arithmetic)


def _leaf_slope_bound(context: Context, call: Call) -> Float:
    return leaf_slope_bound(call, context.arithmetic)


def _numbers(call: Call) -> tuple[Float, Float]:
    y, dy = (rows_last(a, int(call.params["axis"])).astype(np.float64) for a in call.operands)
    return y, dy


#: Absolute bounds of each op of rows but softmax, whose bound is relative; the reduced axis last.
_ABSOLUTE: Mapping[str, Callable[[Context, Call], Float]] = {
    "log_softmax": _log_softmax_bound,
    "logsumexp": _logsumexp_bound,
    "softmax_vjp": _softmax_product_bound,
    "softmax_jvp": _softmax_product_bound,
    "sparsemax": _sparse_bound,
    "sparsemax_vjp": _sparse_product_bound,
    "entmax": _sparse_bound,
    "entmax_vjp": _sparse_product_bound,
    "cross_entropy": _loss_bound,
    "cross_entropy_vjp": _loss_product_bound,
    "hierarchical_log_softmax": _leaf_bound,
    "hierarchical_log_softmax_vjp": _leaf_slope_bound,
}


def evaluate(call: Call, contract: Contract, method: str | None = None) -> tuple[Enclosure, ...]:
    """Certified enclosures of the exact results of a call by an oracle; None is the quickest that fits."""
    if call.op in ATTENTION_OPS:
        return attention_truth(call, contract, method or "fast")
    chosen = method or ("fast" if call.operands[0].size >= _MANY else "auto")
    if call.op in TREE_OPS:
        return (leaf_truth(call, chosen),)
    function: Callable[..., Enclosure] = getattr(reference, call.op)
    return (function(*call.operands, method=chosen, **call.params),)


def truth_ulp(truth: Enclosure, dtype: str) -> Float:
    """Ulp of `dtype` at each exact value, as binary64 (subnormal binary64 ulps included)."""
    fmt = reference.format_of(dtype)
    magnitude = np.abs(truth.to_float64())
    # frexp is exact, where log2 of the float just below a power of two is the power's own.
    fraction, above = np.frexp(magnitude)
    exponent = np.where(np.isfinite(magnitude) & (magnitude > 0.0), above - 1, fmt.emin)
    exponent = np.clip(exponent, fmt.emin, fmt.emax)
    doubtful = (fraction == 0.5) & (exponent > fmt.emin)
    if doubtful.any():
        # Rounded to binary64 this is a power of two; just below it, the ulp is half as large.
        counted = np.ldexp(truth.in_ulps(dtype)[0], (exponent - fmt.precision + 1).astype(np.int64))
        exponent = exponent - (doubtful & (counted > 1.5 * magnitude))
    return np.ldexp(1.0, (exponent - fmt.precision + 1).astype(np.int64))
