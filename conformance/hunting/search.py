"""Search for the inputs that come nearest to the bound, keep them, and say what breaks it."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

from softcert.backends import Backend, Limits, Worker
from softcert.backends.contract import Contract
from softcert.backends.rules import POSITIVE, Rule, integer, require
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.environment import describe
from softcert.conformance.examination.examine import Examination
from softcert.conformance.examination.examiner import Described, examiners
from softcert.conformance.examination.job import (
    Group,
    Item,
    Live,
    Patience,
    Task,
    clause_named,
    context_of,
)
from softcert.conformance.examination.parallel import arriving
from softcert.conformance.hunting.choosing import elite
from softcert.conformance.hunting.hunt import Budget, Hunt
from softcert.conformance.hunting.state import State, fresh_random, read_state, write_state
from softcert.conformance.hunting.worst_cases import (
    KEPT,
    Paths,
    WorstCase,
    fitting,
    keep,
    shipped_cases,
)
from softcert.conformance.model import RequestError, Run, Verdict
from softcert.conformance.request import Names, Request, Subject, as_spec
from softcert.conformance.spec import Clause
from softcert.conformance.wire.runs import witness_to_json, write_document

#: Inputs judged for each op and dtype where nothing else is said.
EVALUATIONS = 2000
#: How often the state is written while a search runs, in seconds.
_SAVED_EVERY = 2.0

#: What the arguments that are the search's own may be.
RULES: Mapping[str, Rule] = {
    "evaluations": integer(1, 10**12, "an integer of at least 1"),
    "seconds": POSITIVE,
    "progress": Rule(lambda value: value is None or callable(value), "a function or None"),
}


@dataclass(frozen=True)
class Step:
    """How far the search at one op and dtype is.

    Attributes
    ----------
    position, total : which op and dtype of how many, counted from 0.
    evaluations : inputs judged there so far.
    worst : the worst case there so far, or None.
    """

    position: int
    total: int
    op: str
    dtype: str
    evaluations: int
    worst: WorstCase | None


@dataclass(frozen=True)
class Found:
    """What the search at one op and dtype came to.

    Attributes
    ----------
    evaluations : inputs judged, those before a resumption included.
    worst : the worst cases, the worst first.
    movers : for each mover the recent weights of success and failure.
    witness : file of the witness, where the clause is broken.
    """

    verdict: Verdict
    evaluations: int
    worst: tuple[WorstCase, ...]
    movers: Mapping[str, tuple[float, float]]
    witness: Path | None = None


@dataclass(frozen=True)
class Search:
    """What a search came to: the run of its verdicts, and what was found at each op and dtype."""

    run: Run
    found: tuple[Found, ...]


@dataclass(frozen=True)
class Store:
    """The folder of a search: worst cases, states to go on from, witnesses."""

    folder: Path

    def worst(self, op: str, dtype: str) -> Path:
        """File of the worst cases of an op and dtype."""
        return self.folder / f"{op}-{dtype}.json"

    def state(self, subject: str, op: str, dtype: str) -> Path:
        """File of the state of a search."""
        return self.folder / "state" / f"{_stem(subject)}-{op}-{dtype}.json"

    def witness(self, subject: str, verdict: Verdict) -> Path:
        """File of the witness that a search found."""
        name = f"{_stem(subject)}-{verdict.clause}-{verdict.op}-{verdict.dtype}"
        return self.folder / "witnesses" / f"{name}.json"


def _stem(subject: str) -> str:
    """Name for files: readable, and another one for every subject."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", subject).strip("_.-")[-60:]
    if readable == subject:
        return readable
    return f"{readable or 'subject'}-{zlib.crc32(subject.encode(errors='replace')):08x}"


@dataclass(frozen=True)
class SearchTask(Task):
    """What every process of a search needs to know; see `Task`.

    Attributes
    ----------
    name : how reports call the subject.
    store : folder of what is kept, or None to keep nothing.
    resume : go on from the state in the store, where there is one.
    """

    name: str = ""
    budget: Budget = field(default_factory=Budget)
    store: Store | None = None
    resume: bool = False

    def perform(self, worker: Worker, group: Group) -> Iterator[tuple[int, Any]]:
        """Search each op and dtype of a group; yields steps, and what was found last."""
        for position, item in group:
            for result in _searched(worker, self, item):
                yield position, result


def search(
    subject: Subject,
    *,
    op: str | None = None,
    ops: Names | None = None,
    dtypes: Names | None = None,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    contract: Contract | Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    store: str | Path | None = None,
    resume: bool = False,
    worst: Paths | None = None,
    progress: Callable[[Step], None] | None = None,
    jobs: int = 1,
) -> Search:
    """Maximize (certified upper end of the error) / bound over the inputs of each op and dtype.

    Parameters
    ----------
    subject, op, ops, dtypes, contract, limits : as for `check`.
    seed : of every random choice: the same seed gives the same search.
    evaluations : inputs judged for each op and dtype, `EVALUATIONS` if neither this nor `seconds` is given.
    seconds : wall time of the whole search.
    store : folder to keep the worst cases, the states and the witnesses in; its cases are judged first.
    resume : go on from the states in the store, as if the search had never been stopped.
    worst : files or folders of other known hard cases, judged first.
    progress : called now and then.
    jobs : processes to search in, each op and dtype in one of them; the results do not depend on it.

    Raises
    ------
    RequestError, SubjectError : the request is wrong, or the subject cannot be loaded.
    OracleError : the two oracles disagree.
    KeyboardInterrupt : stopped; the store holds what was reached.
    """
    given = {"evaluations": evaluations, "seconds": seconds, "progress": progress}
    require(RULES, {k: v for k, v in given.items() if v is not None}, RequestError)
    request = Request.of(
        op, ops, dtypes, None, contract, limits, "quick", seed, jobs, _known_files(store, worst)
    )
    if resume and store is None:
        raise RequestError("a search without a store cannot be resumed")
    started = perf_counter()
    spec = as_spec(subject, op)
    with Worker(spec, op=request.op, contract=request.contract, limits=request.limits) as worker:
        described = worker.description
        items = _items(request.ops_of(described.ops), request.dtypes_of(described.dtypes))
        jobs = min(request.jobs, len(items)) if isinstance(spec, str) else 1
        share = None if seconds is None else seconds * jobs / len(items)
        task = task_of(spec, request, worker, items)
        task = replace(
            task,
            budget=Budget(EVALUATIONS if evaluations is None and seconds is None else evaluations, share),
            store=None if store is None else Store(Path(store)),
            resume=resume,
        )
        found = _performed(worker, task, items, jobs, progress)
        run = Run(
            subject=task.subject,
            name=described.name,
            contract=described.contract.to_mapping(),
            environment=describe(described.versions),
            request={
                "profile": "search",
                "seed": request.seed,
                "ops": list(dict.fromkeys(item.op for item in items)),
                "dtypes": list(dict.fromkeys(item.dtype for item in items)),
                "clauses": list(dict.fromkeys(item.clause for item in items)),
                "evaluations": evaluations,
                "seconds": seconds,
            },
            verdicts=tuple(one.verdict for one in found),
            seconds=perf_counter() - started,
        )
    return Search(run, found)


def _known_files(store: str | Path | None, worst: Paths | None) -> list[Any]:
    """Files and folders of known cases: those given, and the store if it is there."""
    given = [] if worst is None else [worst] if isinstance(worst, (str, os.PathLike)) else list(worst)
    return [*given, *([store] if store is not None and Path(store).is_dir() else [])]


def _items(ops: Sequence[str], dtypes: Sequence[str]) -> tuple[Item, ...]:
    items = []
    for op in ops:
        for dtype in dtypes:
            clause = clause_of(op, dtype)
            if clause is not None:
                items.append(Item(clause.id, op, dtype))
    if not items:
        raise RequestError(f"nothing to search: no clause on accuracy speaks of {' or '.join(ops)}")
    return tuple(items)


def clause_of(op: str, dtype: str) -> Clause | None:
    """Clause whose error / bound is maximized: the first on accuracy that draws inputs of the op."""
    fit = (c for c in CLAUSES if c.accuracy and c.drawn and op in c.ops and dtype in c.dtypes)
    return next(fit, None)


def task_of(spec: str | Backend, request: Request, worker: Worker, items: Sequence[Item]) -> SearchTask:
    """What a process of a search needs to know of a subject, which is asked what it refuses."""
    described = worker.description
    ops, dtypes = ([*dict.fromkeys(item[k] for item in items)] for k in (1, 2))
    named = spec if isinstance(spec, str) else described.name
    return SearchTask(**vars(request.task(Live(worker), named, ops, dtypes)), name=described.name)


def _performed(
    worker: Worker,
    task: SearchTask,
    items: Sequence[Item],
    jobs: int,
    progress: Callable[[Step], None] | None,
) -> tuple[Found, ...]:
    reached: dict[int, Found] = {}
    groups: list[Group] = [[numbered] for numbered in enumerate(items)]

    def take(position: int, result: State | Found) -> None:
        state = result if isinstance(result, State) else None
        if isinstance(result, Found):
            reached[position] = result
        if progress is not None:
            worst = state.population if state else result.worst if isinstance(result, Found) else ()
            item = items[position]
            progress(
                Step(position, len(items), item.op, item.dtype, result.evaluations, next(iter(worst), None))
            )

    if jobs > 1:
        with examiners(task, jobs) as working:
            for message in arriving(working, groups):
                if not isinstance(message, Described):
                    take(message.position, message.result)
    else:
        for group in groups:
            for position, result in task.perform(worker, group):
                take(position, result)
    return tuple(reached[position] for position in range(len(items)))


# --- one op and dtype ---


def _searched(worker: Worker, task: SearchTask, item: Item) -> Iterator[State | Found]:
    examination = examination_for(worker, task, item)
    if isinstance(examination, Verdict):
        yield Found(examination, 0, (), {})
        return
    known = fitting(task.worst, item.clause, examination.context)
    hunt = Hunt(examination, task.name, _begun(task, item), known)
    yield from _hunted(hunt, task)
    yield _concluded(hunt, task)


def examination_for(worker: Worker, task: SearchTask, item: Item) -> Examination | Verdict:
    """Examination that a hunt grows, asks and judges by, or the verdict where there is nothing to search."""
    clause = clause_named(item.clause)
    context = context_of(worker.description, task, item)
    unfit = task.refused.get((item.op, item.dtype)) or clause.applies(context)
    if unfit is not None:
        return Verdict(clause.id, item.op, item.dtype, "skip", message=unfit)
    return Examination(
        clause,
        context,
        Patience(Live(worker)).asking(item),
        task.profile,
        task.seed,
        task.subject,
        last=fitting(shipped_cases(), clause.id, context),
    )


def _begun(task: SearchTask, item: Item) -> State:
    """State to begin with: the one in the store, or that of a new search.

    Raises
    ------
    RequestError : the stored one is of another seed.
    """
    path = None if task.store is None else task.store.state(task.subject, item.op, item.dtype)
    if not task.resume or path is None or not path.exists():
        random = fresh_random(task.seed, item.op, item.dtype)
        return State(task.subject, item.clause, item.op, item.dtype, task.seed, random)
    state = read_state(path)
    named = (state.subject, state.clause, state.op, state.dtype)
    if named != (task.subject, item.clause, item.op, item.dtype):
        raise RequestError(
            f"{path} is the state of another search, of {state.subject} {state.op} {state.dtype}"
        )
    if state.seed != task.seed:
        raise RequestError(
            f"{path} is a search of seed {state.seed}; give that seed, or begin anew without resuming"
        )
    return state


def _hunted(hunt: Hunt, task: SearchTask) -> Iterator[State]:
    """Search, and write what is reached now and then, and however it ends."""
    saved = monotonic()
    try:
        with closing(hunt.run(task.budget)) as states:
            for state in states:
                if monotonic() - saved >= _SAVED_EVERY:
                    _save(task, state)
                    saved = monotonic()
                yield replace(state, population=state.population[:1])
    finally:
        _save(task, hunt.state)


def _save(task: SearchTask, state: State) -> None:
    if task.store is not None:
        write_state(task.store.state(task.subject, state.op, state.dtype), state)
        keep(task.store.worst(state.op, state.dtype), elite(state.population, KEPT))


def _concluded(hunt: Hunt, task: SearchTask) -> Found:
    examination, state = hunt.examination, hunt.state
    smallest = examination.shrunk(hunt.violation)
    verdict = examination.conclude(smallest)
    worst = elite(state.population, KEPT)
    witness = None
    if verdict.witness is not None and task.store is not None:
        witness = task.store.witness(task.subject, verdict)
        write_document(witness_to_json(verdict.witness, task.name), witness)
    return Found(verdict, state.evaluations, worst, state.movers, witness)
