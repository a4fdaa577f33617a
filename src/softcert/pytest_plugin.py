"""pytest support: one test per clause, in a kernel author's own suite.

pytest loads this module in every session of an environment where softcert is installed, so nothing but
pytest is imported until a test asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from softcert.backends import Backend
    from softcert.conformance import Clause
    from softcert.conformance.model import Verdict

    Subject = str | Backend | Callable[..., Any]


class ClauseViolation(AssertionError):  # noqa: N818 -- it is a finding, not a mistake
    """A clause is broken; the text holds the finding and the smallest input that shows it.

    Attributes
    ----------
    verdict : the verdict with its witness.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(_finding_text(verdict))
        self.verdict = verdict


@dataclass(frozen=True)
class ClauseCheck:
    """One clause for one subject, op and dtype; calling it judges.

    Attributes
    ----------
    subject : as given to `parametrize_with_clauses`.
    clause : id of the clause.
    """

    subject: Subject
    clause: str
    op: str
    dtype: str
    profile: str = "smoke"
    seed: int = 0

    def __call__(self) -> Verdict:
        """Judge, and return the verdict.

        Raises
        ------
        ClauseViolation : the clause is broken.
        pytest.skip.Exception : the clause says nothing of this subject, or the bound is vacuous.
        """
        from softcert.conformance import check
        from softcert.conformance.model import BROKEN

        run = check(
            self.subject,
            op=self.op,
            ops=[self.op],
            dtypes=[self.dtype],
            clauses=[self.clause],
            profile=self.profile,
            seed=self.seed,
        )
        (verdict,) = run.verdicts
        if verdict.status in BROKEN:
            raise ClauseViolation(verdict)
        if verdict.status != "pass":  # neither broken nor shown to hold
            pytest.skip(f"{verdict.status}: {verdict.message}")
        return verdict


def parametrize_with_clauses(
    subjects: Sequence[Subject],
    *,
    ops: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    clauses: Sequence[str] | None = None,
    profile: str = "smoke",
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Make one pytest test per clause, op, dtype and subject out of a test function.

    Parameters
    ----------
    subjects : registered names, `package.module:function`, `file.py:function`, backends or functions.
    ops, dtypes : what to judge; by default all that each subject declares. A subject that is a single
        function needs its op here.
    clauses : ids or groups; by default every clause that speaks of the op and dtype.
    profile : how much to try.
    seed : seed of every random choice.
    expected_failures : reasons by `clause/op/dtype`, where `*` stands for any part. Such a test is a
        strict xfail: if it passes, it fails.

    Returns
    -------
    A decorator for a test function with the argument `clause_check`, which judges when it is called.

    Raises
    ------
    SubjectError : a subject cannot be loaded.
    RequestError : a clause, op or dtype is unknown, or an expected failure matches no test.

    Examples
    --------
    >>> @softcert.parametrize_with_clauses(["numpy"], ops=["softmax"], dtypes=["float32"])
    ... def test_clause(clause_check):
    ...     clause_check()
    """
    from softcert.conformance.model import RequestError

    expected = dict(expected_failures or {})
    unmatched = set(expected)
    params = []
    for check in _checks(subjects, ops, dtypes, clauses, profile, seed):
        reasons = {key: reason for key, reason in expected.items() if _matches(key, check)}
        unmatched -= set(reasons)
        marks = [
            pytest.mark.xfail(reason=reason, strict=True, raises=ClauseViolation)
            for reason in reasons.values()
        ]
        name = f"{_subject_name(check.subject)}-{check.clause}-{check.op}-{check.dtype}"
        params.append(pytest.param(check, id=name, marks=marks[:1]))
    if unmatched:
        raise RequestError(f"the expected failure {min(unmatched)!r} matches no clause/op/dtype of the tests")
    return pytest.mark.parametrize("clause_check", params)


def _checks(
    subjects: Sequence[Subject],
    ops: Sequence[str] | None,
    dtypes: Sequence[str] | None,
    clauses: Sequence[str] | None,
    profile: str,
    seed: int,
) -> Iterator[ClauseCheck]:
    """Every check that applies, in the order of subject, op, dtype and clause."""
    from softcert.backends.types import DTYPES, OPS
    from softcert.conformance import CLAUSES

    _require("op", ops, OPS)
    _require("dtype", dtypes, DTYPES)
    _require("clause", clauses, {name for clause in CLAUSES for name in (clause.id, clause.group)})
    chosen = [c for c in CLAUSES if clauses is None or {c.id, c.group} & set(clauses)]
    for subject in subjects:
        its_ops, its_dtypes = _describe(subject, ops)
        for op in (op for op in OPS if op in its_ops and (ops is None or op in ops)):
            for dtype in (d for d in DTYPES if d in (its_dtypes if dtypes is None else dtypes)):
                for clause in (c for c in chosen if _speaks_of(c, op, dtype)):
                    yield ClauseCheck(subject, clause.id, op, dtype, profile, seed)


def _speaks_of(clause: Clause, op: str, dtype: str) -> bool:
    return op in clause.ops and dtype in clause.dtypes


def _describe(subject: Subject, ops: Sequence[str] | None) -> tuple[Collection[str], Collection[str]]:
    """Ops and dtypes of a subject; what a string names is loaded in a process of its own."""
    from softcert.backends import Backend, Worker
    from softcert.backends.types import DTYPES

    if isinstance(subject, Backend):
        return subject.ops, subject.dtypes
    if isinstance(subject, str):
        with Worker(subject, op=_only(ops)) as worker:
            return worker.description.ops, worker.description.dtypes
    return ops or (subject.__name__,), DTYPES[:2]


def _only(ops: Sequence[str] | None) -> str | None:
    return ops[0] if ops and len(ops) == 1 else None


def _require(kind: str, given: Sequence[str] | None, known: Sequence[str] | set[str]) -> None:
    from softcert.conformance.model import RequestError

    for name in given or ():
        if name not in known:
            raise RequestError(f"there is no {kind} {name!r}; the {kind}s are {', '.join(sorted(known))}")


def _matches(key: str, check: ClauseCheck) -> bool:
    parts = key.split("/")
    actual = (check.clause, check.op, check.dtype)
    return len(parts) == len(actual) and all(p in ("*", a) for p, a in zip(parts, actual, strict=True))


def _subject_name(subject: Subject) -> str:
    if isinstance(subject, str):
        return subject
    name = getattr(subject, "name", None) or getattr(subject, "__name__", None)
    return str(name or type(subject).__name__)


def _finding_text(verdict: Verdict) -> str:
    from softcert.wording import describe_witness

    lines = [f"{verdict.clause} is broken for {verdict.op} in {verdict.dtype}: {verdict.message}"]
    if verdict.witness is not None:
        lines += describe_witness(verdict.witness)
    return "\n".join(lines)
