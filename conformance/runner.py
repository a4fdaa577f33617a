"""Check a subject: every clause that speaks of its ops and dtypes, in an isolated worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from time import perf_counter

from softcert.backends import Limits, Worker
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.types import DTYPES, OPS, Backend, Contract
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.environment import describe
from softcert.conformance.job import Item, Task, examine_all, refusals
from softcert.conformance.model import RequestError, Run, Verdict
from softcert.conformance.parallel import examine_in_processes
from softcert.conformance.profiles import PROFILES, Profile
from softcert.conformance.spec import Clause

Subject = str | Backend | Callable[..., object]


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
class _Watch:
    """Counts the verdicts and passes them on."""

    total: int
    progress: Callable[[Progress], None] | None
    done: int = 0

    def __call__(self, verdict: Verdict) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(Progress(self.done, self.total, verdict.clause, verdict.op, verdict.dtype, verdict))


def check(
    subject: Subject,
    *,
    op: str | None = None,
    ops: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    clauses: Sequence[str] | None = None,
    profile: str = "quick",
    seed: int = 0,
    contract: Contract | None = None,
    limits: Limits | None = None,
    progress: Callable[[Progress], None] | None = None,
    jobs: int = 1,
) -> Run:
    """Examine a subject and return every verdict.

    Parameters
    ----------
    subject : a registered name, `package.module:function`, `file.py:function`, a module or file carrying
        functions named as ops, a `Backend`, or a plain function together with `op`.
    op : the op that a single function implements, where its name does not say so.
    ops, dtypes : what to examine; default: all that the subject has, the dtypes it declares.
    clauses : ids or groups; default: all.
    profile : a key of `PROFILES`.
    seed : a fixed seed gives a fixed run.
    contract : judge by this contract in place of the subject's own.
    limits : time and memory of one call.
    progress : called after each verdict.
    jobs : processes to examine in, each op and dtype in one of them; the verdicts do not depend on it. More
        than one starts fresh interpreters, so the calling script must be importable (a `__main__` guard).
        A `Backend` or function, which lives in this process, is examined in one.

    Raises
    ------
    RequestError, SubjectError : the request is wrong, or the subject cannot be loaded.
    OracleError : the two oracles disagree.
    """
    effort = _profile(profile)
    chosen = choose_clauses(clauses)
    started = perf_counter()
    with Worker(_as_subject(subject, op), op=op, contract=contract, limits=limits or Limits()) as worker:
        described = worker.description
        wanted_ops = _subset(ops or ((op,) if op else None), described.ops, OPS, "op")
        wanted_dtypes = _subset(dtypes, described.dtypes, DTYPES, "dtype", declared_only=False)
        plan = list(_plan(chosen, wanted_ops, wanted_dtypes))
        spec = subject if isinstance(subject, str) else described.name
        refused = refusals(worker, wanted_ops, wanted_dtypes) if described.assumed and not dtypes else {}
        task = Task(spec, op, contract, limits or Limits(), effort, seed, refused)
        watch = _Watch(len(plan), progress)
        if jobs > 1 and isinstance(subject, str):
            verdicts = examine_in_processes(task, plan, jobs, watch)
        else:
            verdicts = []
            for verdict in examine_all(worker, task, plan):
                watch(verdict)
                verdicts.append(verdict)
        return Run(
            subject=spec,
            name=described.name,
            contract=described.contract.to_mapping(),
            environment=describe(described.versions),
            request={
                "profile": profile,
                "seed": seed,
                "ops": list(wanted_ops),
                "dtypes": list(wanted_dtypes),
                "clauses": [c.id for c in chosen],
            },
            verdicts=tuple(verdicts),
            seconds=perf_counter() - started,
        )


def _as_subject(subject: Subject, op: str | None) -> str | Backend:
    if isinstance(subject, (str, Backend)):
        return subject
    name = getattr(subject, "__name__", "function")
    wanted = op or name
    if wanted not in OPS:
        raise RequestError(f"function {name!r} is no op by name; say which with op=, one of {', '.join(OPS)}")
    kernel = AdaptedKernel(subject, wanted)
    return Backend(name=name, ops={wanted: kernel}, beta=kernel.beta)


def _profile(name: str) -> Profile:
    if name not in PROFILES:
        raise RequestError(f"profile {name!r} is unknown; the profiles are {', '.join(PROFILES)}")
    return PROFILES[name]


def choose_clauses(names: Sequence[str] | None) -> tuple[Clause, ...]:
    """Clauses by id or group, in the order of the specification; None is all of them.

    Raises
    ------
    RequestError : a name that is neither an id nor a group.
    """
    if not names:
        return CLAUSES
    known = {c.id for c in CLAUSES} | {c.group for c in CLAUSES}
    for name in names:
        if name not in known:
            near = get_close_matches(name, sorted(known), 1)
            hint = f"; did you mean {near[0]!r}?" if near else "; `softcert spec` lists them"
            raise RequestError(f"clause {name!r} is unknown{hint}")
    return tuple(c for c in CLAUSES if c.id in names or c.group in names)


def _subset(
    wanted: Sequence[str] | None,
    available: Sequence[str],
    known: Sequence[str],
    what: str,
    *,
    declared_only: bool = True,
) -> tuple[str, ...]:
    if not wanted:
        return tuple(k for k in known if k in available)
    for name in wanted:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise RequestError(f"{what} {name!r} is unknown{hint}")
        if declared_only and name not in available:
            raise RequestError(f"the subject has no {what} {name!r}; it has {', '.join(available)}")
    return tuple(k for k in known if k in wanted)


def _plan(clauses: Iterable[Clause], ops: Sequence[str], dtypes: Sequence[str]) -> Iterable[Item]:
    return (
        Item(clause.id, op, dtype)
        for op in ops
        for dtype in dtypes
        for clause in clauses
        if op in clause.ops and dtype in clause.dtypes
    )
