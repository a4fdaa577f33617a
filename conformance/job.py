"""Examine a list of clauses on one worker: what one process of a run does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from softcert.backends import Limits, Worker
from softcert.backends.types import Contract, Failure, Reply
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.examine import Examination
from softcert.conformance.model import Trial, Verdict
from softcert.conformance.profiles import Profile
from softcert.conformance.spec import Clause

#: What each failure costs of the patience with one op and dtype; the rest of its clauses is then left out.
_COSTS = {"crash": 1, "memory": 2, "hang": 4}
_PATIENCE = 12


class Item(NamedTuple):
    """One verdict to be reached."""

    clause: str
    op: str
    dtype: str


@dataclass(frozen=True)
class Task:
    """What every process of a run needs to know; plain data, so that it can be sent to one.

    Attributes
    ----------
    subject, op, contract, limits : as for `Worker`.
    """

    subject: str
    op: str | None
    contract: Contract | None
    limits: Limits
    profile: Profile
    seed: int


@dataclass
class _Patience:
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


def examine_all(worker: Worker, task: Task, items: Iterable[Item]) -> Iterator[Verdict]:
    """Reach the verdicts of `items` in order.

    Raises
    ------
    OracleError : the two oracles disagree.
    """
    clauses = {clause.id: clause for clause in CLAUSES}
    patience, place = _Patience(worker), ("", "")
    for item in items:
        if place != (item.op, item.dtype):
            patience, place = _Patience(worker), (item.op, item.dtype)
        yield _examine(patience, task, clauses[item.clause], item)


def _examine(patience: _Patience, task: Task, clause: Clause, item: Item) -> Verdict:
    described = patience.worker.description
    context = Context(
        op=item.op,
        dtype=item.dtype,
        contract=described.contract,
        beta=described.beta,
        ops=tuple(described.ops),
        thorough=task.profile.thorough,
    )
    unfit = clause.applies(context)
    if unfit is None and patience.spent >= _PATIENCE:
        unfit = f"not examined: {item.op} {item.dtype} kept crashing, hanging or running out of memory"
    if unfit is not None:
        return Verdict(clause=clause.id, op=item.op, dtype=item.dtype, status="skip", message=unfit)
    return Examination(clause, context, patience.ask, task.profile, task.seed, task.subject).run()
