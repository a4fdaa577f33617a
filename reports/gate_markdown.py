"""A gate as Markdown, for the summary of a CI job: what broke first, the whole report folded below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from softcert.conformance.gate.runs import describe_time, gate_runs
from softcert.conformance.model import BROKEN, Verdict
from softcert.reports import summary
from softcert.reports.markdown import code, escape, render_markdown
from softcert.reports.wording import interval

if TYPE_CHECKING:
    from softcert.conformance.gate.gate import GateResult, SubjectResult


def render_gate(result: GateResult) -> str:
    """Return what a gate comes to as GitHub-flavoured Markdown."""
    ending = "holds" if result.holds else "is broken"
    blocks = [f"# softcert gate {ending}", _table(result)]
    for subject in result.subjects:
        lines = list(_lines(subject))
        if lines:
            blocks += [f"## {escape(subject.name)}", "\n".join(f"- {line}" for line in lines)]
    report = render_markdown(gate_runs(result), title="The whole report")
    blocks.append(f"<details><summary>The whole report</summary>\n\n{report}\n</details>")
    return "\n\n".join(blocks) + "\n"


def _table(result: GateResult) -> str:
    lines = [
        "| subject | op | dtype | grade | largest error seen / ulp | clauses | broken | expected |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for subject in result.subjects:
        rows = {(row.op, row.dtype): row for row in summary.grade_rows(summary.subjects([subject.run]))}
        for op, dtype in summary.formats(summary.subjects([subject.run])):
            its = [v for v in subject.run.verdicts if (v.op, v.dtype) == (op, dtype)]
            row = rows.get((op, dtype))
            worst = interval(row.error_max) if row and row.elements else "-"
            broken, expected = sum(v.status in BROKEN for v in its), sum(v.status == "xfail" for v in its)
            cells = (escape(subject.name), op, dtype, row.grade if row else "-", worst)
            lines.append(f"| {' | '.join(cells)} | {len(its)} | {broken} | {expected} |")
    return "\n".join(lines)


def _lines(subject: SubjectResult) -> Iterator[str]:
    for verdict in subject.run.verdicts:
        if verdict.status in BROKEN:
            yield f"**broken** {_place(verdict)}: {escape(verdict.message)}"
    for replayed in subject.replayed:
        if replayed.verdict.status in BROKEN:
            message = escape(replayed.verdict.message)
            yield f"**broken** on the stored witness {code(replayed.path)}: {message}"
    for time in subject.times:
        mark = "**too slow** " if time.exceeds else ""
        yield f"{mark}{escape(time.where)}: {escape(describe_time(time))}"
    for verdict in subject.run.verdicts:
        if verdict.status == "xfail":
            yield f"expected to be broken, {_place(verdict)}: {escape(verdict.message)}"
    yield from map(escape, subject.notes)


def _place(verdict: Verdict) -> str:
    return f"{code(verdict.clause)} {escape(verdict.op)} {escape(verdict.dtype)}"
