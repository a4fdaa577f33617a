"""Judge a subject by what it answered on another machine: the verdicts of a check, from a recording."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from softcert.backends import Description
from softcert.backends.contract import Contract, as_contract
from softcert.conformance.environment import describe
from softcert.conformance.examination.job import Item, examine_all
from softcert.conformance.exchange.cases import Portion, write_portions
from softcert.conformance.exchange.recording import Recording, read_recording
from softcert.conformance.expected import Expectations, Given, Place, as_expected
from softcert.conformance.model import RequestError, Run, Verdict
from softcert.conformance.request import Request
from softcert.conformance.runner import Progress, Watch, asked_for

Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Judged:
    """What answers from elsewhere come to.

    Attributes
    ----------
    run : the verdicts.
    recording : the answers, and what was asked for besides.
    """

    run: Run
    recording: Recording

    @property
    def wanted(self) -> int:
        """How many trials have no answer."""
        return sum(map(len, self.recording.wanted.values()))

    def write_more(self, path: Path) -> int:
        """Write the trials that have no answer as cases of a further exchange; return their number.

        Raises
        ------
        RequestError : the file cannot be written.
        """
        recording = self.recording
        portions = [
            Portion(item.clause, item.op, item.dtype, tuple(trials.values()))
            for item, trials in recording.wanted.items()
            if trials
        ]
        facts = {"round": recording.round + 1, "request": recording.request}
        return write_portions(path, facts, portions, len(portions))


def judge(
    *results: Path,
    contract: Contract | Mapping[str, Any] | None = None,
    expected_failures: Given | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Judged:
    """Judge the answers in files that `softcert run` wrote.

    Parameters
    ----------
    results : of one exchange after the other, all of one subject.
    contract : judge by this contract in place of the subject's own.
    expected_failures : as for `check`, without stored witnesses, which nobody is here to be asked.
    progress : called after each verdict.

    Returns
    -------
    The verdicts that `check` would have given, as far as the answers go. A clause that asks for more is a
    skip; a broken one whose witness could be made smaller keeps the smallest that there is.

    Raises
    ------
    RequestError : a file is damaged, or of other cases or another subject than the first.
    OracleError : the two oracles disagree.
    """
    started = perf_counter()
    expected = Expectations(as_expected(expected_failures))
    for entry in expected.entries:
        if entry.witness is not None:
            raise RequestError(
                f"the expected failure {entry.key!r} names a stored witness, which only a check can replay"
            )
    recording = read_recording(results)
    override = as_contract(contract)
    if override is not None:
        recording = recording.judged_by(override)
    described, request = recording.description, Request.of(**recording.request)
    ops, dtypes = request.ops_of(described.ops), request.dtypes_of(described.dtypes)
    plan = request.plan(ops, dtypes)
    expected.require_matching(Place(*item) for item in plan)
    task = request.task(recording, recording.subject, ops, dtypes, recording.refused(ops, dtypes))
    watch = Watch(len(plan), progress, expected)
    verdicts = []
    for verdict in examine_all(recording, task, plan):
        told = _explained(verdict, recording)
        watch(told)
        verdicts.append(expected.settle(told))
    recording.wanted = {item: trials for item, trials in recording.wanted.items() if item.clause and trials}
    run = Run(
        subject=recording.subject,
        name=described.name,
        contract=described.contract.to_mapping(),
        environment=_environment(described),
        request=asked_for(request, ops, dtypes),
        verdicts=tuple(verdicts),
        seconds=perf_counter() - started,
    )
    return Judged(run, recording)


def _explained(verdict: Verdict, recording: Recording) -> Verdict:
    """The verdict, with the reason why it lacks answers if it does."""
    item = Item(verdict.clause, verdict.op, verdict.dtype)
    if verdict.status != "skip" or not recording.wanted.get(item):
        return verdict
    reason = recording.untold.get(item)
    told = f"not run there: {reason}" if reason else "a further exchange is needed"
    return replace(verdict, message=f"{verdict.message}: {told}")


def _environment(described: Description) -> dict[str, Any]:
    """The machine on which the subject ran; the oracles' versions are those of this one."""
    machine = described.machine
    return describe(described.versions) | {
        "python": str(described.versions.get("python", "unknown")),
        "platform": " ".join(machine.get(name, "") for name in ("system", "architecture")).strip(),
        "processor": machine.get("processor", "unknown"),
        "simd": [],
        "cores": max(int(machine.get("cpus", "1")), 1),
    }
