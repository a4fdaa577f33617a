"""What the figures of the grades rest on: the verdicts, their cases, and the command that repeats them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softcert.reports.statements import statements
from softcert.reports.summary import controls_passed
from softcert.reports.wording import command_line, count, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from softcert.conformance.model import Verdict
    from softcert.reports.summary import GradeRow


@dataclass(frozen=True)
class EvidenceLine:
    """One verdict that a figure rests on.

    Attributes
    ----------
    anchor : identifier within the page.
    worst_at : length and family of inputs of the largest error / bound, or "".
    remarks : what qualifies it: vacuous cases, controls that passed, every input tried.
    """

    anchor: str
    verdict: Verdict
    clause: str
    worst_at: str
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What one row of the grades rests on.

    Attributes
    ----------
    command : repeats those verdicts, and no others.
    """

    anchor: str
    row: GradeRow
    lines: tuple[EvidenceLine, ...]
    command: str
    seed: str

    def anchor_of(self, verdict: Verdict | None) -> str:
        """The place in the page of a verdict among these; of None that of all."""
        return next((line.anchor for line in self.lines if line.verdict is verdict), self.anchor)


def evidence(rows: Sequence[GradeRow]) -> tuple[Evidence, ...]:
    """Return what each row rests on, in their order."""
    return tuple(_evidence(f"rests-{place + 1}", row) for place, row in enumerate(rows))


def _evidence(anchor: str, row: GradeRow) -> Evidence:
    verdicts = [*row.verdicts, *([row.bias.verdict] if row.bias else [])]
    lines = tuple(_line(f"{anchor}-{place + 1}", verdict) for place, verdict in enumerate(verdicts))
    asked = row.subject.run.request
    clauses = [verdict.clause for verdict in verdicts]
    request: Mapping[str, object] = {**asked, "ops": [row.op], "dtypes": [row.dtype], "clauses": clauses}
    command = command_line(row.subject.run.subject, request, statements())
    return Evidence(anchor, row, lines, command, printable(asked.get("seed", "")))


def _line(anchor: str, verdict: Verdict) -> EvidenceLine:
    remarks = [f"every input tried: {verdict.exhaustive}"] if verdict.exhaustive else []
    idle = int(verdict.statistics.get("vacuous_cases", 0))
    if verdict.status == "vacuous":
        remarks.append(verdict.message or "vacuous")
    elif idle:
        remarks.append(f"the bound accepts anything in {count(idle, 'case')}")
    passed = controls_passed(verdict)
    if passed:
        remarks.append(f"would have passed too: {', '.join(passed)}")
    return EvidenceLine(
        anchor, verdict, printable(verdict.clause), _worst_at(verdict), tuple(map(printable, remarks))
    )


def _worst_at(verdict: Verdict) -> str:
    points = [p for p in verdict.statistics.get("by_length", ()) if p.get("family")]
    if not points:
        return ""
    worst = max(points, key=lambda p: _known(float(p.get("margin", p["error_ulp"]))))
    return printable(f"n = {worst['n']}, {worst['family']}")


def _known(value: float) -> float:
    return math.inf if math.isnan(value) else value
