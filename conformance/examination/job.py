"""Examine a list of clauses on one worker: what one process of a run does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple, Protocol

from softcert.backends import Description, Limits, Worker
from softcert.backends.asking import PATIENCE, answers, cost_of, worn_out
from softcert.backends.contract import Contract
from softcert.backends.ops import options_known
from softcert.backends.types import Call, Reply
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.examination.examine import Ask, Examination
from softcert.conformance.hunting.worst_cases import WorstCase, fitting, shipped_cases
from softcert.conformance.inputs.features import (
    REFUSING_DTYPES,
    features_of,
    harmless_call,
    lacking,
    refuses,
)
from softcert.conformance.model import Trial, Verdict
from softcert.conformance.profiles import Profile
from softcert.conformance.spec import Clause


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
    lacks : features of its ops that it refuses, and in which words, by op and dtype.
    worst : known hard cases, with which each examination begins.
    """

    subject: str
    op: str | None
    contract: Contract | None
    limits: Limits
    profile: Profile
    seed: int
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    lacks: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    worst: tuple[WorstCase, ...] = ()

    def perform(self, worker: Worker, group: Group) -> Iterator[tuple[int, Any]]:
        """Reach the verdict of each item of a group; what comes of it, with the item's place in the run."""
        verdicts = examine_all(Live(worker), self, (item for _, item in group))
        for (position, _), verdict in zip(group, verdicts, strict=True):
            yield position, verdict


class Source(Protocol):
    """Where answers come from: a subject at work, or a recording of one."""

    @property
    def description(self) -> Description:
        """What the subject is."""

    def call(self, call: Call) -> Reply:
        """Reply to a call that belongs to no item."""

    def answers(self, item: Item, trial: Trial) -> tuple[Reply, ...] | None:
        """Replies to the calls of a trial of an item, or None where they are not known."""


@dataclass(frozen=True)
class Live:
    """A subject at work, as a source of answers."""

    worker: Worker

    @property
    def description(self) -> Description:
        """What the subject is."""
        return self.worker.description

    def call(self, call: Call) -> Reply:
        """Reply to a call that belongs to no item."""
        return self.worker.call(call)

    def answers(self, _item: Item, trial: Trial) -> tuple[Reply, ...]:
        """Replies to the calls of a trial."""
        return answers(trial.calls, self.worker.call)


@dataclass
class Patience:
    """Asks a source, and counts what its failures cost in the op and dtype being examined."""

    source: Source
    spent: int = 0

    def asking(self, item: Item) -> Ask:
        """What asks for the trials of an item."""

        def ask(trial: Trial) -> tuple[Reply, ...] | None:
            replies = self.source.answers(item, trial)
            self.spent += cost_of(replies or ())
            return replies

        return ask


def refusals(source: Source, ops: Sequence[str], dtypes: Sequence[str]) -> dict[tuple[str, str], str]:
    """Why the subject takes no arrays of a dtype that it was never said to take, by op and dtype.

    A function that says nothing of its dtypes and raises TypeError or NotImplementedError for harmless
    numbers of one of them, but computes with another, is a function of the other.
    """
    refused: dict[tuple[str, str], str] = {}
    for op in ops:
        found: dict[tuple[str, str], str] = {}
        for dtype in dtypes:
            reply = source.call(harmless_call(op, dtype))
            if refuses(reply, REFUSING_DTYPES):
                found[op, dtype] = f"not examined: {op} refuses {dtype} ({reply.message})"
        if len(found) < len(dtypes):
            refused |= found
    return refused


def lacks_of(
    source: Source,
    ops: Sequence[str],
    dtypes: Sequence[str],
    refused: Mapping[tuple[str, str], str],
    thorough: float,
) -> dict[tuple[str, str], dict[str, str]]:
    """Features of its ops that the subject refuses, by op and dtype: wide heads fit in 16 bits first."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for op, dtype in product(filter(features_of, ops), dtypes):
        if (op, dtype) not in refused:
            options = source.description.options.get(op, options_known(op))
            found[op, dtype] = lacking(op, dtype, tuple(options), source.call, thorough)
    return found


def examine_all(source: Source, task: Task, items: Iterable[Item]) -> Iterator[Verdict]:
    """Reach the verdicts of `items` in order.

    Raises
    ------
    OracleError : the two oracles disagree.
    """
    patience, place = Patience(source), ("", "")
    for item in items:
        if place != (item.op, item.dtype):
            patience, place = Patience(source), (item.op, item.dtype)
        yield _examine(patience, task, item)


def context_of(described: Description, task: Task, item: Item) -> Context:
    """What the clause of an item may ask."""
    facts = {"thorough": task.profile.thorough, "lacks": task.lacks.get((item.op, item.dtype), {})}
    return Context.of(described, item.op, item.dtype, **facts)


def examination_of(context: Context, task: Task, item: Item, ask: Ask) -> Examination:
    """Examination of an item, with the known hard cases of its clause."""
    first = fitting(task.worst, item.clause, context)
    last = fitting(shipped_cases(), item.clause, context)
    clause = clause_named(item.clause)
    return Examination(clause, context, ask, task.profile, task.seed, task.subject, first, last)


def clause_named(name: str) -> Clause:
    """Clause of an id; KeyError where there is none."""
    return {clause.id: clause for clause in CLAUSES}[name]


def _examine(patience: Patience, task: Task, item: Item) -> Verdict:
    context = context_of(patience.source.description, task, item)
    unfit = task.refused.get((item.op, item.dtype)) or clause_named(item.clause).applies(context)
    if unfit is None and patience.spent >= PATIENCE:
        unfit = f"not examined: {worn_out(item.op, item.dtype)}"
    if unfit is not None:
        return Verdict(clause=item.clause, op=item.op, dtype=item.dtype, status="skip", message=unfit)
    return examination_of(context, task, item, patience.asking(item)).run()
