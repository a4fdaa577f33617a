"""Write the inputs of a profile to a file, for a machine on which no oracle is installed.

The clauses ask for their trials here as they do in a run, and get no answer: what they ask for is written
down. Where a trial depends on what the subject is, the file holds those of every kind of subject.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from softcert.backends import DTYPES, OPS, Limits, exchange
from softcert.backends.asking import COSTS
from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.context import Context
from softcert.conformance.environment import installed_versions, softcert_version
from softcert.conformance.examination.job import Item, Task, clause_named, examination_of
from softcert.conformance.inputs.features import harmless_call, probes
from softcert.conformance.model import Trial
from softcert.conformance.request import Request
from softcert.conformance.spec import Clause
from softcert.conformance.wire.files import replacing

#: What the trials that a clause draws depend on, besides softcert.
_LIBRARIES = ("numpy", "hypothesis", "ml_dtypes")
#: Failures that break a clause, and end its examination.
_FAILURES = ("exception", "output", *COSTS)

Calls = tuple[Call, ...]


@dataclass(frozen=True)
class Portion:
    """Trials of one item, as a file holds them.

    Attributes
    ----------
    clause : its id; empty for calls that find out what the subject takes.
    beta : whether it is for subjects that take an inverse temperature, or None for both kinds.
    ends_on : failures after which a run makes no more of its trials.
    """

    clause: str
    op: str
    dtype: str
    trials: tuple[Calls, ...]
    beta: bool | None = None
    ends_on: tuple[str, ...] = ()

    def packed(self) -> bytes:
        """The frame of the portion."""
        store = exchange.Store()
        trials = [
            {
                "digest": exchange.digest(calls),
                "calls": [exchange.call_to_json(call, store) for call in calls],
            }
            for calls in self.trials
        ]
        facts = {"clause": self.clause, "op": self.op, "dtype": self.dtype, "beta": self.beta}
        return exchange.packed({**facts, "ends_on": list(self.ends_on), "trials": trials}, store.arrays)


def write_cases(
    path: str | os.PathLike[str],
    request: Request,
    progress: Callable[[int, int, str], None] | None = None,
) -> int:
    """Write the cases of a request to a file, whole or not at all.

    Parameters
    ----------
    request : ops and dtypes that it does not name are all that there are.
    progress : called with the items done, the items in all, and the one at work.

    Returns
    -------
    How many trials were written.

    Raises
    ------
    RequestError : no clause speaks of what is asked for, or the file cannot be written.
    """
    kinds = _kinds(request)

    def watched() -> Iterator[Portion]:
        for number, (item, beta) in enumerate(kinds):
            if progress is not None:
                progress(number, len(kinds), f"{item.clause or 'probes'} {item.op} {item.dtype}")
            yield _portion(item, beta, request)

    return write_portions(path, {"round": 1, "request": request_to_json(request)}, watched(), len(kinds))


def request_to_json(request: Request) -> dict[str, Any]:
    """What a run and a judge need to know of a request."""
    return {
        "profile": request.profile,
        "seed": request.seed,
        "ops": request.ops and list(request.ops),
        "dtypes": request.dtypes and list(request.dtypes),
        "clauses": [clause.id for clause in request.clauses],
        "contract": request.contract and request.contract.to_mapping(),
    }


def _kinds(request: Request) -> list[tuple[Item, bool | None]]:
    """Probes of each op and dtype, then its clauses, in the order of a run; twice where beta matters."""
    dtypes = tuple(d for d in DTYPES if d in (request.dtypes or DTYPES))
    plan = request.plan(tuple(op for op in OPS if op in (request.ops or OPS)), dtypes)
    probed = dict.fromkeys((item.op, item.dtype) for item in plan)
    kinds: list[tuple[Item, bool | None]] = [(Item("", op, dtype), None) for op, dtype in probed]
    for item in plan:
        kinds += [(item, beta) for beta in ((False, True) if item.op == "softmax" else (None,))]
    return kinds


def _portion(item: Item, beta: bool | None, request: Request) -> Portion:
    if not item.clause:
        return Portion("", item.op, item.dtype, _probes(item.op, item.dtype, request))
    trials = _rehearsed(item, request, beta=bool(beta))
    return Portion(item.clause, item.op, item.dtype, trials, beta, ending(clause_named(item.clause)))


def _probes(op: str, dtype: str, request: Request) -> tuple[Calls, ...]:
    features = probes(op, dtype, request.effort.thorough)
    return tuple((call,) for call in (harmless_call(op, dtype), *features))


def ending(clause: Clause) -> tuple[str, ...]:
    """Failures that break a clause."""
    return tuple(COSTS) if clause.observes else _FAILURES


@dataclass
class _Rehearsal:
    """Takes down what is asked for, and answers nothing."""

    asked: list[Calls] = field(default_factory=list)

    def ask(self, trial: Trial) -> None:
        self.asked.append(trial.calls)


def _rehearsed(item: Item, request: Request, *, beta: bool) -> tuple[Calls, ...]:
    contract = request.contract or Contract()
    context = Context(item.op, item.dtype, contract, beta, OPS, thorough=request.effort.thorough)
    if request.contract is not None and clause_named(item.clause).applies(context):
        return ()
    task = Task("", request.op, request.contract, Limits(), request.effort, request.seed)
    rehearsal = _Rehearsal()
    examination_of(context, task, item, rehearsal.ask).rehearse()
    return tuple(rehearsal.asked)


# --- the file --------------------------------------------------------------------------------------


def write_portions(
    path: str | os.PathLike[str], facts: Mapping[str, Any], portions: Iterable[Portion], items: int
) -> int:
    """Write a file of cases, whole or not at all; return the number of its trials.

    Parameters
    ----------
    facts : the round of the exchange, and the request.
    items : how many there are, for whoever shows progress.

    Raises
    ------
    RequestError : it cannot be written.
    """
    count = 0
    head = {"schema": exchange.SCHEMA, "kind": "cases", "softcert": softcert_version(), "items": items}
    head |= {"libraries": installed_versions(_LIBRARIES), **facts}
    with replacing(path) as file:
        file.write(exchange.packed(head))
        for portion in portions:
            file.write(portion.packed())
            count += len(portion.trials)
        file.write(exchange.end())
    return count
