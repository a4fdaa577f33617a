"""The report as Markdown, for a pull request or a terminal; it needs no library."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from softcert.conformance.model import STATUSES
from softcert.reports import summary, wording
from softcert.reports.kill_matrix import kill_matrix
from softcert.reports.proofs import HEADINGS as PROOF_HEADINGS
from softcert.reports.proofs import INTRO as PROOFS_INTRO
from softcert.reports.proofs import proof_lines
from softcert.reports.speed import growths
from softcert.reports.speed_table import HEADINGS, INTRO, speed_lines, valid_rows
from softcert.reports.witnesses import ArrayView, CallView, WitnessView, worst_witnesses
from softcert.reports.wording import above, count, described_growth, interval, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from softcert.conformance.model import Run
    from softcert.reports.summary import GradeRow, Matrix, Notable, Subject

TITLE = "softcert report"


def render_markdown(runs: Sequence[Run], *, title: str = TITLE) -> str:
    """Return the report on these runs as GitHub-flavoured Markdown."""
    members = summary.subjects(runs)
    blocks = [
        f"# {escape(title)}",
        _lines(f"- **{escape(s.label)}** {escape(s.headline)} {_tally(s)}" for s in members),
        *_section("Grades", _grades(members)),
        *_section("Proved for every input", _proofs(members)),
        *_section("Verdicts", _matrix(summary.matrix(members))),
        *_section("Wrong answers that passed too", _notables(summary.undetected_controls(members))),
        *_section("Vacuous verdicts", _notables(summary.notables(members, ["vacuous"]))),
        *_section(
            "Not examined, or broken as expected", _notables(summary.notables(members, ["skip", "xfail"]))
        ),
        *_section("Worst witnesses", _witnesses(members)),
        *_section("Speed", _speed(members)),
        *_section("What other rules let through", _rivals()),
        *_section("What the words mean", _legend()),
        *_section("How to reproduce", _reproduce(members)),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def escape(text: object) -> str:
    """Return text that Markdown shows as it is, in tables too."""
    plain = wording.printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]|~#!])", r"\\\1", plain)


def code(text: object) -> str:
    """Return text as a code span, in tables too."""
    plain = wording.printable(text).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    pad = " " if "`" in plain else ""
    return f"{fence}{pad}{plain}{pad}{fence}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)


def _section(title: str, body: str) -> tuple[str, ...]:
    return (f"## {title}", body) if body else ()


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: int = 0) -> str:
    """Make a table whose last `numeric` columns are numbers."""
    marks = ["---"] * (len(head) - numeric) + ["---:"] * numeric
    return _lines(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def _tally(subject: Subject) -> str:
    tally = ", ".join(f"{symbol} {amount} {status}" for status, symbol, amount in subject.counts)
    return f"({tally})" if tally else ""


def _grades(members: Sequence[Subject]) -> str:
    found = summary.grade_rows(members)
    proved = any(row.proved for row in found)
    rows = [
        (
            escape(row.op),
            escape(row.dtype),
            escape(row.subject.label),
            f"**{row.grade}**{' ∅' if row.vacuous else ''}{' †' if row.controls_passed else ''}",
            *_figures(row, proved=proved),
            f"{row.cases:,}",
            f"{row.elements:,}",
        )
        for row in found
    ]
    head = ["op", "dtype", "backend", "grade", "largest error / bound", "bound there / ulp",
            "largest error seen / ulp", *(["largest error, proved / ulp"] if proved else []), "mean / ulp",
            "bias / ulp (z)", "cases", "elements"]  # fmt: skip
    marks = "∅ beside a grade: a clause that grades shows nothing there; †: a wrong answer would have passed."
    return _table(head, rows, len(head) - 4) + f"\n\n{marks} {wording.RESTS_ON}" if rows else ""


def _figures(row: GradeRow, *, proved: bool) -> tuple[str, ...]:
    """The figures of errors; `proved` makes room for those that hold of every input."""
    judged = row.elements > 0
    return (
        above(row.margin, 3) if judged else "-",
        number(row.bound_ulp) if judged else "-",
        interval(row.error_max) if row.largest else "-",
        *([interval(row.proved) if row.proved else "-"] if proved else []),
        number(row.error_mean, 3) if judged else "-",
        wording.bias(row.bias) if row.bias else "-",
    )


def _proofs(members: Sequence[Subject]) -> str:
    rows = [map(escape, (x.subject.label, x.op, x.dtype, *x.cells)) for x in proof_lines(members)]
    table = _table(["backend", "op", "dtype", *PROOF_HEADINGS], map(tuple, rows))
    return f"{escape(PROOFS_INTRO)}\n\n{table}" if rows else ""


def _matrix(matrix: Matrix) -> str:
    if not matrix.rows:
        return ""
    head = ["clause", "op", *(f"{escape(s.label)} {d}" for s, dtypes in matrix.columns for d in dtypes)]
    rows = [[code(row.clause), escape(row.op), *(_cell(cell) for cell in row.cells)] for row in matrix.rows]
    legend = ", ".join(f"{symbol} {status}" for status, symbol in wording.SYMBOLS.items())
    return f"{legend}; † a wrong answer would have passed too.\n\n{_table(head, rows)}"


def _cell(cell: summary.Cell | None) -> str:
    if cell is None:
        return ""
    text = cell.symbol if cell.status == "pass" else f"**{cell.symbol} {cell.status}**"
    return f"{text} †" if cell.controls_passed else text


def _notables(entries: Sequence[Notable]) -> str:
    return _lines(
        f"- {escape(e.subject.label)}, {code(e.clause)} ({escape(e.where)}): {escape(e.message)}"
        for e in entries
    )


def _witnesses(members: Sequence[Subject]) -> str:
    blocks = []
    for subject, views, hidden in worst_witnesses(members):
        blocks += [_witness(view) for view in views]
        if hidden:
            more = count(hidden, "more witness", "more witnesses")
            blocks.append(f"{more} of {escape(subject.label)} in report.json.")
    return "\n\n".join(blocks)


def _witness(view: WitnessView) -> str:
    where = f"{escape(view.subject.label)}: {escape(view.clause)}, {escape(view.op)} {escape(view.dtype)}"
    facts = [f"{term}: {value}" for term, value in view.facts]
    calls = [line for call in view.calls for line in _call(call)]
    body = "\n".join([*calls, *facts, f"softcert replay {view.file}"])
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", body)), default=0))
    return f"### {where}\n\n{escape(view.message)}\n\n{fence}text\n{body}\n{fence}"


def _call(call: CallView) -> list[str]:
    replies = [_array(call.reply)] if call.reply else []
    replies += [f"  {call.failure}"] if call.failure else []
    return [call.title, *map(_array, call.operands), *replies, *(f"  {effect}" for effect in call.effects)]


def _array(view: ArrayView) -> str:
    more = f" ... {view.hidden:,} more" if view.hidden else ""
    return f"  {view.name}, {view.dtype}, {view.shape}: {view.numbers}{more}"


def _speed(members: Sequence[Subject]) -> str:
    rows = [
        (*map(escape, (line.subject.label, line.op, line.dtype, line.shape)), *line.cells, escape(line.state))
        for line in speed_lines(members)
    ]
    if not rows:
        return ""
    table = _table(["backend", "op", "dtype", "shape", *HEADINGS, "state"], rows, len(HEADINGS) + 1)
    grown = [(s, g) for s in members for g in growths(valid_rows(s))]
    doubts = [line for line in speed_lines(members) if line.state == "invalid"]
    blocks = (
        escape(INTRO),
        table,
        _lines(f"- {escape(s.label)}: {escape(described_growth(g))}" for s, g in grown),
        _lines(
            f"- **invalid** {escape(x.subject.label)}, {escape(x.op)} {escape(x.shape)}: {escape(x.reason)}"
            for x in doubts
        ),
    )
    return "\n\n".join(filter(None, blocks))


def _rivals() -> str:
    found = kill_matrix()
    head = ("rule", "let through", "of faults", "rejected correct ones", "of")
    rows = [
        (escape(r.rule), *map(str, (r.faults - r.noticed, r.faults, r.rejected, r.correct)))
        for r in found.rules
    ]
    return f"{wording.RIVALS} ({found.date})\n\n{_table(head, rows, 4)}"


def _legend() -> str:
    grades = [f"- Grade **{grade}**: {text}." for grade, text in wording.GRADES.items()]
    statuses = [f"- {wording.SYMBOLS[status]} **{status}**: {text}." for status, text in STATUSES.items()]
    return _lines([*grades, *statuses, f"- {wording.ULP}"])


def _reproduce(members: Sequence[Subject]) -> str:
    blocks = []
    for subject in members:
        environment = subject.run.environment
        versions = ", ".join(f"{name} {v}" for name, v in dict(environment.get("versions", {})).items())
        facts = [environment.get(key) for key in ("python", "platform", "processor", "date")]
        machine = "; ".join(str(fact) for fact in (*facts, versions) if fact)
        blocks.append(f"- **{escape(subject.label)}**: {code(subject.command)}\n  {escape(machine)}")
    return _lines(blocks)
