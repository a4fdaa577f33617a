"""Whether a measured time is worth anything: the answer is right, and no machine could have been faster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.ops import ATTENTION_OPS, AXES, OPERANDS, own_changed
from softcert.conformance.context import Context
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.judging.shapes import misshapen
from softcert.conformance.model import Trial
from softcert.reports.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softcert.backends import Description
    from softcert.backends.types import Array, Call
    from softcert.reports.speed.limits import Limits
    from softcert.reports.speed.problems import Problem

#: A copy counts a byte read and one written alike, but a store costs a core up to three times a load (its
#: line is fetched first, and there are fewer ports for it): what mostly reads may be so much faster.
COPY_FACTOR = 3.0
#: NumPy's library of products may be far from the machine's best; two times its rate is out of reach.
MATRIX_FACTOR = 2.0
#: Formats that NumPy multiplies as fast as the machine can; units of its own for others may be faster.
_MULTIPLIED = frozenset({"float64", "float32"})
#: Rows, or queries, of an answer that are judged.
_ROWS = 3


@dataclass(frozen=True)
class Examined:
    """What judging an answer that was timed came to.

    Attributes
    ----------
    wrong : in one sentence, or empty.
    error_ulp : largest certified error of what was judged, its upper end.
    margin : largest error / bound, its upper end.
    """

    wrong: str
    error_ulp: float = np.inf
    margin: float = np.inf


class Examiner:
    """Judges a part of each answer by the certified reference and the subject's own contract.

    A few rows of softmax, a few queries of one head, of the gradient a whole head: none depends on another,
    so that a part has the exact values of the whole. Subjects of one contract share these.
    """

    def __init__(self) -> None:
        self._contexts: dict[tuple[str, str, str], Context] = {}

    def examine(self, call: Call, values: Sequence[Array], described: Description, dtype: str) -> Examined:
        """Judge what a subject answered to a call."""
        wrong = misshapen(call, values)
        if wrong:
            return Examined(wrong)
        key = (call.op, dtype, repr(sorted(described.contract.to_mapping().items())))
        if key not in self._contexts:
            self._contexts[key] = Context.of(described, call.op, dtype, remembered=4)
        part, answer = _part(call, values)
        judged = judge_values(Trial((part,)), answer, self._contexts[key])
        wrong = judged.finding.message if judged.finding else ""
        return Examined(wrong, float(judged.error_ulp[1]), float(judged.margin))


def _part(call: Call, values: Sequence[Array]) -> tuple[Call, tuple[Array, ...]]:
    """The call on a part of its operands, and the part of its results that belongs to it."""
    if call.op not in ATTENTION_OPS:
        picked = _few(call.operands[0].shape[0])
        part = replace(call, operands=own_changed(call.op, call.operands, lambda a: a[picked]))
        return part, tuple(value[picked] for value in values)
    rows = call.operands[0].shape[1]
    queries = np.arange(rows) if call.op == "attention_vjp" else _few(rows)

    def cut(name: str, array: Array) -> Array:
        last_head = array[-1:]
        return last_head[:, queries] if "L" in AXES[name] else last_head

    operands = tuple(cut(name, a) for name, a in zip(OPERANDS[call.op], call.operands, strict=True))
    results = tuple(cut(name, a) for name, a in zip(call.result_names, values, strict=True))
    return replace(call, operands=operands), results


def _few(count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    return np.unique(np.linspace(0, count - 1, _ROWS).astype(np.intp))


def beyond_limits(problem: Problem, traffic: int, slowest: float, limits: Sequence[Limits]) -> str:
    """Why a time cannot be true, in one sentence, or empty.

    Parameters
    ----------
    traffic : bytes that a call moves at least.
    slowest : the upper end of the interval of the time, seconds: what noise allows is on the subject's side.
    limits : those of each round, of which the fastest counts.
    """
    copy = max(limit.copy for limit in limits)
    if traffic > COPY_FACTOR * copy * slowest:
        times = number(traffic / slowest / copy, 3)
        return (
            f"it moves its bytes {times} times as fast as a copy in the same cache ({COPY_FACTOR:g} at most)"
        )
    matrix = max((limit.matrix for limit in limits if limit.matrix is not None), default=None)
    if matrix is None or problem.flops is None or problem.dtype not in _MULTIPLIED:
        return ""
    if problem.flops > MATRIX_FACTOR * matrix * slowest:
        times = number(problem.flops / slowest / matrix, 3)
        return f"it multiplies {times} times as fast as NumPy's matrix product ({MATRIX_FACTOR:g} at most)"
    return ""
