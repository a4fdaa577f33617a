"""Examine a list of clauses on one worker: what one process of a run does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from softcert.backends import Limits, Worker
from softcert.backends.contract import Contract
from softcert.backends.ops import ATTENTION_OPTIONS, takes_scores
from softcert.backends.types import Failure, Reply
from softcert.conformance.attention_features import harmless_call, lacking
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.examine import Examination
from softcert.conformance.model import Trial, Verdict
from softcert.conformance.profiles import Profile
from softcert.conformance.spec import Clause
from softcert.conformance.worst_cases import WorstCase, fitting, shipped_cases

#: What each failure costs of the patience with one op and dtype; the rest of its clauses is then left out.
_COSTS = {"crash": 1, "memory": 2, "hang": 4}
_PATIENCE = 12
#: Exceptions by which a function says that it takes no arrays of a dtype.
_REFUSING = ("TypeError", "NotImplementedError")


class Item(NamedTuple):
    """One verdict to be reached."""

    clause: str
    op: str
    dtype: str


#: Items of one op and dtype, each with its place in the run.
Group = Sequence[tuple[int, Item]]


@dataclass(frozen=True)
class Task:
    """What every process of a run needs to know; plain data, so that it can be sent to one.

    Attributes
    ----------
    subject, op, contract, limits : as for `Worker`.
    refused : why the subject takes no arrays of a dtype, by op and dtype.
    lacks : features of attention that it refuses, and in which words, by op.
    worst : known hard cases, with which each examination begins.
    """

    subject: str
    op: str | None
    contract: Contract | None
    limits: Limits
    profile: Profile
    seed: int
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    lacks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    worst: tuple[WorstCase, ...] = ()

    def perform(self, worker: Worker, group: Group) -> Iterator[tuple[int, Any]]:
        """Reach the verdict of each item of a group; what comes of it, with the item's place in the run."""
        verdicts = examine_all(worker, self, (item for _, item in group))
        for (position, _), verdict in zip(group, verdicts, strict=True):
            yield position, verdict


@dataclass
class Patience:
    """Asks a worker, and counts what its failures cost in the op and dtype being examined."""

    worker: Worker
    spent: int = 0

    def ask(self, trial: Trial) -> tuple[Reply, ...]:
        """Make the calls of a trial; the first that fails is the answer to the later ones too."""
        replies: list[Reply] = []
        for call in trial.calls:
            reply = self.worker.call(call)
            replies.append(reply)
            if isinstance(reply, Failure):
                self.spent += _COSTS.get(reply.kind, 0)
                replies.extend([reply] * (len(trial.calls) - len(replies)))
                break
        return tuple(replies)


def refusals(worker: Worker, ops: Sequence[str], dtypes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Why the subject takes no arrays of a dtype that it was never said to take, by op and dtype.

    A function that says nothing of its dtypes and raises TypeError or NotImplementedError for harmless
    numbers of one of them, but computes with another, is a function of the other.
    """
    refused: dict[tuple[str, str], str] = {}
    for op in ops:
        found: dict[tuple[str, str], str] = {}
        for dtype in dtypes:
            reply = worker.call(harmless_call(op, dtype))
            if isinstance(reply, Failure) and reply.message.startswith(_REFUSING):
                found[op, dtype] = f"not examined: {op} refuses {dtype} ({reply.message})"
        if len(found) < len(dtypes):
            refused |= found
    return refused


def lacks_of(
    worker: Worker, ops: Sequence[str], dtypes: Sequence[str], refused: Mapping[tuple[str, str], str]
) -> dict[str, dict[str, str]]:
    """Features of attention that the subject refuses at the first dtype that it takes, by op."""
    found: dict[str, dict[str, str]] = {}
    for op in ops:
        taken = next((dtype for dtype in dtypes if (op, dtype) not in refused), None)
        if takes_scores(op) and taken is not None:
            options = worker.description.options.get(op, ATTENTION_OPTIONS)
            found[op] = lacking(op, taken, tuple(options), worker.call)
    return found


def examine_all(worker: Worker, task: Task, items: Iterable[Item]) -> Iterator[Verdict]:
    """Reach the verdicts of `items` in order.

    Raises
    ------
    OracleError : the two oracles disagree.
    """
    clauses = {clause.id: clause for clause in CLAUSES}
    patience, place = Patience(worker), ("", "")
    for item in items:
        if place != (item.op, item.dtype):
            patience, place = Patience(worker), (item.op, item.dtype)
        yield _examine(patience, task, clauses[item.clause], item)


def _examine(patience: Patience, task: Task, clause: Clause, item: Item) -> Verdict:
    facts = {"thorough": task.profile.thorough, "lacks": task.lacks.get(item.op, {})}
    context = Context.of(patience.worker.description, item.op, item.dtype, **facts)
    unfit = task.refused.get((item.op, item.dtype)) or clause.applies(context)
    if unfit is None and patience.spent >= _PATIENCE:
        unfit = f"not examined: {item.op} {item.dtype} kept crashing, hanging or running out of memory"
    if unfit is not None:
        return Verdict(clause=clause.id, op=item.op, dtype=item.dtype, status="skip", message=unfit)
    first = fitting(task.worst, clause.id, context)
    last = fitting(shipped_cases(), clause.id, context)
    return Examination(
        clause, context, patience.ask, task.profile, task.seed, task.subject, first, last
    ).run()
