"""Clauses as pytest tests: what is parametrized over, and what each test judges and raises.

It is loaded with the plugin in every pytest session, so nothing but pytest is imported until a test asks for
more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from softcert.backends import Backend, Contract
    from softcert.conformance.expected import ExpectedFailure, Given
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
    contract : judge by this contract in place of the subject's own.
    witness : file of a case that is expected to break the clause; it is replayed before anything is searched.
    """

    subject: Subject
    clause: str
    op: str
    dtype: str
    profile: str = "smoke"
    seed: int = 0
    contract: Contract | None = None
    witness: str | os.PathLike[str] | None = None

    def __call__(self) -> Verdict:
        """Judge, and return the verdict.

        Raises
        ------
        ClauseViolation : the clause is broken.
        pytest.skip.Exception : the clause says nothing of this subject, or the bound is vacuous.
        """
        from softcert.conformance import check
        from softcert.conformance.model import BROKEN

        stored = self._stored()
        if stored is not None and stored.status in BROKEN:
            raise ClauseViolation(stored)
        run = check(
            self.subject,
            op=self.op,
            ops=[self.op],
            dtypes=[self.dtype],
            clauses=[self.clause],
            profile=self.profile,
            seed=self.seed,
            contract=self.contract,
        )
        (verdict,) = run.verdicts
        if verdict.status in BROKEN:
            raise ClauseViolation(verdict)
        if verdict.status != "pass":  # neither broken nor shown to hold
            pytest.skip(f"{verdict.status}: {verdict.message}")
        return verdict

    def _stored(self) -> Verdict | None:
        """Verdict on the stored witness, if there is one of this clause, op and dtype."""
        from softcert.conformance.expected import replay_named
        from softcert.conformance.request import as_spec
        from softcert.conformance.wire.runs import read_witness

        if self.witness is None:
            return None
        witness = read_witness(self.witness)
        if (witness.clause, witness.op, witness.dtype) != (self.clause, self.op, self.dtype):
            return None  # an entry with a pattern stands for several tests, and its witness is of one
        return replay_named(witness, self.witness, as_spec(self.subject, self.op), self.contract)


def parametrize_with_clauses(
    subjects: Subject | Iterable[Subject],
    *,
    ops: Names | None = None,
    dtypes: Names | None = None,
    clauses: Names | None = None,
    profile: str = "smoke",
    seed: int = 0,
    contract: Contract | Mapping[str, Any] | None = None,
    expected_failures: Given | None = None,
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
    contract : judge by this contract, or mapping of its fields, in place of the subjects' own.
    expected_failures : reasons by `clause/op/dtype`, where the clause may be a group and `*` stands for
        anything; or tables of `clause`, `reason` and, where wanted, `op`, `dtype` and the file of a
        `witness`. Such a test is a strict xfail: if it passes, it fails.

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
    from softcert.conformance.expected import Expectations, Place, as_expected
    from softcert.conformance.model import RequestError
    from softcert.conformance.request import Request

    named = _names("clauses", clauses)
    request = Request.of(
        ops=_names("ops", ops),
        dtypes=_names("dtypes", dtypes),
        clauses=named,
        contract=contract,
        profile=profile,
        seed=seed,
    )
    checks = [check for subject in _subjects(subjects) for check in _checks(subject, request)]
    judged = {name for check in checks for name in (check.clause, check.clause.partition(".")[0])}
    for name in named or ():
        if name not in judged:
            raise RequestError(f"clause {name} does not speak of what is tested, so there is no test of it")
    entries = as_expected(expected_failures)
    Expectations(entries, everywhere=True).require_matching(Place(c.clause, c.op, c.dtype) for c in checks)
    return pytest.mark.parametrize("clause_check", [_param(check, entries) for check in checks])


def _param(check: ClauseCheck, entries: Iterable[ExpectedFailure]) -> Any:
    entry = next((e for e in entries if e.matches(check.clause, check.op, check.dtype)), None)
    name = f"{_subject_name(check.subject)}-{check.clause}-{check.op}-{check.dtype}"
    if entry is None:
        return pytest.param(check, id=name)
    mark = pytest.mark.xfail(reason=entry.reason, strict=True, raises=ClauseViolation)
    return pytest.param(replace(check, witness=entry.witness), id=name, marks=[mark])


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
        yield ClauseCheck(
            subject, item.clause, item.op, item.dtype, request.profile, request.seed, request.contract
        )


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
