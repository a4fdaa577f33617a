"""Check a subject: every clause that speaks of its ops and dtypes, in an isolated worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from softcert.backends import Limits, Worker
from softcert.backends.contract import Contract
from softcert.backends.rules import require
from softcert.backends.types import Backend
from softcert.conformance.environment import describe
from softcert.conformance.examination.job import Item, Live, Task, examine_all
from softcert.conformance.examination.parallel import examine_in_processes
from softcert.conformance.expected import Expectations, Given, Place, as_expected
from softcert.conformance.hunting.worst_cases import Paths
from softcert.conformance.model import RequestError, Run, Verdict
from softcert.conformance.request import RULES, Names, Request, Subject, as_spec


@dataclass(frozen=True)
class Progress:
    """One step of a run: the verdict just reached, and how many of how many that makes."""

    done: int
    total: int
    clause: str
    op: str
    dtype: str
    verdict: Verdict


@dataclass
class Watch:
    """Counts the verdicts and passes them on, as they count."""

    total: int
    progress: Callable[[Progress], None] | None
    expected: Expectations
    done: int = 0

    def __call__(self, verdict: Verdict) -> None:
        """Count a verdict."""
        self.done += 1
        if self.progress is not None:
            settled = self.expected.settle(verdict)
            self.progress(Progress(self.done, self.total, verdict.clause, verdict.op, verdict.dtype, settled))


def check(
    subject: Subject,
    *,
    op: str | None = None,
    ops: Names | None = None,
    dtypes: Names | None = None,
    clauses: Names | None = None,
    profile: str = "quick",
    seed: int = 0,
    contract: Contract | Mapping[str, Any] | None = None,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] | None = None,
    jobs: int = 1,
    worst: Paths | None = None,
    expected_failures: Given | Expectations | None = None,
) -> Run:
    """Examine a subject and return every verdict.

    Parameters
    ----------
    subject : a registered name, `package.module:function`, `file.py:function`, a module or file carrying
        functions named as ops, a path, a `Backend`, or a plain function together with `op`.
    op : the op that a single function implements, where its name does not say so.
    ops, dtypes : what to examine, one name or several; default: all that the subject has, the dtypes it
        declares.
    clauses : ids or groups, one or several; default: all.
    profile : a key of `PROFILES`.
    seed : a fixed seed gives a fixed run; 0 to 2**63 - 1.
    contract : judge by this contract, or mapping of its fields, in place of the subject's own.
    limits : time and memory of one call.
    progress : called after each verdict.
    jobs : processes to examine in, each op and dtype in one of them; the verdicts do not depend on it. A
        `Backend` or function, which lives in this process, is examined in one.
    worst : files or folders of known hard cases, with which every examination begins; `softcert search`
        writes them.
    expected_failures : reasons by `clause/op/dtype`, or entries (`clause`, `reason`, and `op`, `dtype`,
        `witness` where wanted). A broken verdict is xfail then, and one that holds after all fails.

    Raises
    ------
    RequestError, SubjectError : the request is wrong, or the subject cannot be loaded.
    OracleError : the two oracles disagree.
    """
    require(RULES, {"progress": progress}, RequestError)
    request = Request.of(op, ops, dtypes, clauses, contract, limits, profile, seed, jobs, worst)
    given = expected_failures
    expected = given if isinstance(given, Expectations) else Expectations(as_expected(given))
    return _judged(as_spec(subject, op), request, progress, expected)


def _judged(
    spec: str | Backend,
    request: Request,
    progress: Callable[[Progress], None] | None,
    expected: Expectations,
) -> Run:
    started = perf_counter()
    with Worker(spec, op=request.op, contract=request.contract, limits=request.limits) as worker:
        described = worker.description
        ops, dtypes = request.ops_of(described.ops), request.dtypes_of(described.dtypes)
        plan = request.plan(ops, dtypes)
        expected.require_matching(Place(*item) for item in plan)
        expected.replay(spec, request.contract)
        named = spec if isinstance(spec, str) else described.name
        task = request.task(Live(worker), named, ops, dtypes)
        # A backend lives in this process, and no other could be given it.
        jobs = request.jobs if isinstance(spec, str) else 1
        return Run(
            subject=named,
            name=described.name,
            contract=described.contract.to_mapping(),
            environment=describe(described.versions),
            request=asked_for(request, ops, dtypes),
            verdicts=_examined(worker, task, plan, jobs, Watch(len(plan), progress, expected)),
            seconds=perf_counter() - started,
        )


def asked_for(request: Request, ops: Sequence[str], dtypes: Sequence[str]) -> dict[str, Any]:
    """What was asked of a subject, as its run tells."""
    return {
        "profile": request.profile,
        "seed": request.seed,
        "ops": list(ops),
        "dtypes": list(dtypes),
        "clauses": [c.id for c in request.clauses],
        **({"worst": len(request.worst)} if request.worst else {}),
    }


def _examined(
    worker: Worker, task: Task, plan: Sequence[Item], jobs: int, watch: Watch
) -> tuple[Verdict, ...]:
    if jobs > 1:
        verdicts = examine_in_processes(task, plan, jobs, watch)
    else:
        verdicts = []
        for verdict in examine_all(Live(worker), task, plan):
            watch(verdict)
            verdicts.append(verdict)
    return tuple(map(watch.expected.settle, verdicts))
