"""Check a subject: every clause that speaks of its ops and dtypes, in an isolated worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from time import perf_counter

from softcert.backends import Limits, Worker
from softcert.backends.adapt import AdaptedKernel
from softcert.backends.types import DTYPES, OPS, Backend, Contract, Failure, Reply
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.environment import describe
from softcert.conformance.examine import Examination
from softcert.conformance.model import RequestError, Run, Trial, Verdict
from softcert.conformance.profiles import PROFILES, Profile
from softcert.conformance.spec import Clause

#: What each failure costs of the patience with one op and dtype; the rest of its clauses is then left out.
_COSTS = {"crash": 1, "memory": 2, "hang": 4}
_PATIENCE = 12

Subject = str | Backend | Callable[..., object]


@dataclass(frozen=True)
class Progress:
    """One step of a run: before a clause (`verdict` None) and after it."""

    done: int
    total: int
    clause: str
    op: str
    dtype: str
    verdict: Verdict | None


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
    progress : called before and after each verdict.

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
        job = _Job(worker, effort, seed, spec, progress, len(plan))
        verdicts = tuple(job.examine(clause, o, d) for clause, o, d in plan)
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
            verdicts=verdicts,
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


def _plan(
    clauses: Iterable[Clause], ops: Sequence[str], dtypes: Sequence[str]
) -> Iterable[tuple[Clause, str, str]]:
    return (
        (clause, op, dtype)
        for op in ops
        for dtype in dtypes
        for clause in clauses
        if op in clause.ops and dtype in clause.dtypes
    )


@dataclass
class _Job:
    """The examinations of one run, and the count of crashes that ends an op early."""

    worker: Worker
    profile: Profile
    seed: int
    spec: str
    progress: Callable[[Progress], None] | None
    total: int
    done: int = 0
    costly: tuple[str, str, int] = ("", "", 0)

    def examine(self, clause: Clause, op: str, dtype: str) -> Verdict:
        self._report(clause, op, dtype, None)
        verdict = self._examine(clause, op, dtype)
        self.done += 1
        self._report(clause, op, dtype, verdict)
        return verdict

    def _examine(self, clause: Clause, op: str, dtype: str) -> Verdict:
        described = self.worker.description
        context = Context(
            op=op,
            dtype=dtype,
            contract=described.contract,
            beta=described.beta,
            ops=tuple(described.ops),
            thorough=self.profile.thorough,
        )
        if self.costly[:2] != (op, dtype):
            self.costly = (op, dtype, 0)
        unfit = clause.applies(context)
        if unfit is None and self.costly[2] >= _PATIENCE:
            unfit = f"not examined: {op} {dtype} kept crashing, hanging or running out of memory"
        if unfit is not None:
            return Verdict(clause=clause.id, op=op, dtype=dtype, status="skip", message=unfit)
        return Examination(clause, context, self._ask, self.profile, self.seed, self.spec).run()

    def _ask(self, trial: Trial) -> tuple[Reply, ...]:
        replies: list[Reply] = []
        for call in trial.calls:
            reply = self.worker.call(call)
            replies.append(reply)
            if isinstance(reply, Failure):
                op, dtype, cost = self.costly
                self.costly = (op, dtype, cost + _COSTS.get(reply.kind, 0))
                # Later calls would be judged without it; the failure alone is the answer.
                replies.extend([reply] * (len(trial.calls) - len(replies)))
                break
        return tuple(replies)

    def _report(self, clause: Clause, op: str, dtype: str, verdict: Verdict | None) -> None:
        if self.progress is not None:
            self.progress(Progress(self.done, self.total, clause.id, op, dtype, verdict))
