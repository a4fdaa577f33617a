"""What a gate comes to, as runs: the form that every file and page of softcert takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from softcert.conformance.model import Run, Verdict

if TYPE_CHECKING:
    from softcert.conformance.gate.baseline import Ratio
    from softcert.conformance.gate.gate import GateResult, SubjectResult


def gate_runs(result: GateResult) -> tuple[Run, ...]:
    """Return a run for each subject, then one of its stored witnesses and one of its times, if any."""
    return tuple(run for subject in result.subjects for run in _runs(subject))


def _runs(subject: SubjectResult) -> Iterator[Run]:
    yield subject.run
    if subject.replayed:
        verdicts = tuple(
            replace(r.verdict, message=f"{r.path.name}: {r.verdict.message or 'not broken'}")
            for r in subject.replayed
        )
        yield replace(subject.run, name=f"{subject.name}: stored witnesses", verdicts=verdicts, speed=())
    if subject.times:
        verdicts = tuple(map(_timed, subject.times))
        yield replace(subject.run, name=f"{subject.name}: speed", verdicts=verdicts, speed=())


def _timed(time: Ratio) -> Verdict:
    """A ratio of times as a verdict of the pseudo-clause `speed.ROWSxLENGTH`."""
    return Verdict(
        clause=f"speed.{'x'.join(map(str, time.shape))}",
        op=time.op,
        dtype=time.dtype,
        status="fail" if time.exceeds else "pass",
        message=describe_time(time),
    )


def describe_time(time: Ratio) -> str:
    """One clause of a sentence: how long the subject takes, by the reference's time."""
    limit = "no limit is known" if time.limit is None else f"at most {time.limit:.3g} are allowed"
    return f"it takes {time.ratio:.3g} times as long as its reference, and {limit}"
