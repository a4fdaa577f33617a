"""pytest support: one test per clause, in a kernel author's own suite.

pytest loads this module in every session of an environment where softcert is installed, so nothing but
pytest is imported until a test asks for more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from softcert.backends import Backend
    from softcert.conformance.model import Verdict
    from softcert.conformance.request import Names, Request

    Subject = str | os.PathLike[str] | Backend | Callable[..., Any]


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
    subjects: Subject | Iterable[Subject],
    *,
    ops: Names | None = None,
    dtypes: Names | None = None,
    clauses: Names | None = None,
    profile: str = "smoke",
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
) -> pytest.MarkDecorator:
    """Make one pytest test per clause, op, dtype and subject out of a test function.

    Parameters
    ----------
    subjects : one or several: registered names, `package.module:function`, `file.py:function`, paths,
        backends or functions.
    ops, dtypes : what to judge, one name or several; by default all that each subject declares. A subject
        that is a single function needs its op here, unless it is called as one.
    clauses : ids or groups; by default every clause that speaks of the op and dtype.
    profile : how much to try.
    seed : seed of every random choice.
    expected_failures : reasons by `clause/op/dtype`, where the clause may be a group and `*` stands for
        anything. Such a test is a strict xfail: if it passes, it fails.

    Returns
    -------
    A decorator for a test function with the argument `clause_check`, which judges when it is called.

    Raises
    ------
    SubjectError : a subject cannot be loaded.
    RequestError : a clause, op or dtype is unknown or asks for no test, or an expected failure matches none.

    Examples
    --------
    >>> @softcert.parametrize_with_clauses(["numpy"], ops=["softmax"], dtypes=["float32"])
    ... def test_clause(clause_check):
    ...     clause_check()
    """
    from softcert.conformance.model import RequestError
    from softcert.conformance.request import Request

    named = _names("clauses", clauses)
    request = Request.of(
        ops=_names("ops", ops), dtypes=_names("dtypes", dtypes), clauses=named, profile=profile, seed=seed
    )
    checks = [check for subject in _subjects(subjects) for check in _checks(subject, request)]
    judged = {name for check in checks for name in (check.clause, check.clause.partition(".")[0])}
    for name in named or ():
        if name not in judged:
            raise RequestError(f"clause {name} does not speak of what is tested, so there is no test of it")
    reasons = _expected(expected_failures)
    unmatched = [key for key in reasons if not any(_matches(key, check) for check in checks)]
    if unmatched:
        raise RequestError(f"the expected failure {min(unmatched)!r} matches no clause/op/dtype of the tests")
    return pytest.mark.parametrize("clause_check", [_param(check, reasons) for check in checks])


def _param(check: ClauseCheck, reasons: Mapping[str, str]) -> Any:
    reason = next((reason for key, reason in reasons.items() if _matches(key, check)), None)
    marks = [] if reason is None else [pytest.mark.xfail(reason=reason, strict=True, raises=ClauseViolation)]
    name = f"{_subject_name(check.subject)}-{check.clause}-{check.op}-{check.dtype}"
    return pytest.param(check, id=name, marks=marks)


def _names(what: str, given: Names | None) -> tuple[str, ...] | None:
    """Names of one kind; none at all is a slip that would make no test and tell nobody."""
    from softcert.backends.rules import names_in
    from softcert.conformance.model import RequestError

    names = names_in(given, what, RequestError)
    if names == ():
        raise RequestError(f"{what} is empty, so there is no test; leave it out to test all {what}")
    return names


def _subjects(given: Subject | Iterable[Subject]) -> tuple[Subject, ...]:
    from softcert.backends import Backend
    from softcert.backends.loading import as_subject
    from softcert.conformance.model import RequestError

    lone = isinstance(given, (str, bytes, os.PathLike, Backend)) or not isinstance(given, Iterable)
    several = (given,) if lone else tuple(cast("Iterable[Subject]", given))
    subjects = tuple(as_subject(subject) for subject in several)
    if not subjects:
        raise RequestError("there are no subjects, so there is no test")
    return subjects


def _checks(subject: Subject, request: Request) -> Iterator[ClauseCheck]:
    """Every check of a subject, in the order of op, dtype and clause."""
    its_ops, its_dtypes = _describe(subject, request)
    for item in request.plan(request.ops_of(its_ops), request.dtypes_of(its_dtypes)):
        yield ClauseCheck(subject, item.clause, item.op, item.dtype, request.profile, request.seed)


def _describe(subject: Subject, request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Ops and dtypes of a subject; what a string names is loaded in a process of its own."""
    from softcert.backends import Backend, Worker
    from softcert.conformance.request import as_spec

    if isinstance(subject, Backend):
        return tuple(subject.ops), subject.dtypes
    if isinstance(subject, str):
        only = request.ops[0] if request.ops and len(request.ops) == 1 else None
        with Worker(subject, op=only) as worker:
            return worker.description.ops, worker.description.dtypes
    made = [as_spec(subject, op) for op in request.ops or (None,)]
    backends = [backend for backend in made if isinstance(backend, Backend)]
    return tuple(op for backend in backends for op in backend.ops), backends[0].dtypes


def _expected(given: Mapping[str, str] | None) -> dict[str, str]:
    """Reasons by key, each of them usable.

    Raises
    ------
    RequestError : no mapping of `clause/op/dtype` to a reason.
    """
    from softcert.backends.rules import Rule, instance_of, require
    from softcert.conformance.model import RequestError

    whole = {"expected_failures": instance_of(Mapping, "a mapping from clause/op/dtype to a reason")}
    reasons = {} if given is None else given
    require(whole, {"expected_failures": reasons}, RequestError)
    is_key = Rule(lambda key: isinstance(key, str) and key.count("/") == 2, "clause/op/dtype, as text")
    for key, reason in reasons.items():
        require({"a key of expected_failures": is_key}, {"a key of expected_failures": key}, RequestError)
        named = f"the reason of {key!r}"
        require({named: instance_of(str, "text")}, {named: reason}, RequestError)
    return dict(reasons)


def _matches(key: str, check: ClauseCheck) -> bool:
    clause, op, dtype = key.split("/")
    its_clause = clause == check.clause.partition(".")[0] or fnmatchcase(check.clause, clause)
    return its_clause and fnmatchcase(check.op, op) and fnmatchcase(check.dtype, dtype)


def _subject_name(subject: Subject) -> str:
    from softcert.conformance.request import function_name

    if isinstance(subject, str):
        return subject
    return str(getattr(subject, "name", None) or function_name(subject))


def _finding_text(verdict: Verdict) -> str:
    from softcert.wording import describe_witness

    lines = [f"{verdict.clause} is broken for {verdict.op} in {verdict.dtype}: {verdict.message}"]
    if verdict.witness is not None:
        lines += describe_witness(verdict.witness)
    return "\n".join(lines)
