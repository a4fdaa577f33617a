"""What a report shows, as plain data: subjects, grades, the matrix of verdicts, what stands out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softcert.conformance.model import STATUSES
from softcert.conformance.outcome import Outcome, describe_nothing, describe_stop, is_stopped, outcome
from softcert.reports.statements import grading_clauses, statements
from softcert.reports.wording import SYMBOLS, above, command_line, count, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from softcert.conformance.model import Run, Verdict

_GRADE_ORDER = "FCBA"
#: Marks that tell the subjects apart without colour, as text and as matplotlib's markers.
MARKS = "●■▲◆▼✚✖★"


@dataclass(frozen=True)
class Subject:
    """One run as the head of a report shows it.

    Attributes
    ----------
    label : the run's name, made unique among the runs.
    slot : which of the eight series colours it has.
    state : what the run comes to, by `softcert.conformance.outcome`.
    headline : one sentence.
    counts : (status, symbol, number of verdicts) of the statuses that occur.
    """

    index: int
    label: str
    slot: int
    run: Run
    state: Outcome
    headline: str
    grade: str
    counts: tuple[tuple[str, str, int], ...]
    command: str

    @property
    def mark(self) -> str:
        """The character that stands for it in plots and legends."""
        # Beyond eight the colours come again, each with another mark.
        return MARKS[(self.index + self.index // len(MARKS)) % len(MARKS)]


@dataclass(frozen=True)
class Bias:
    """Mean signed error of one op x dtype, of the verdict on bias that is furthest from zero.

    Attributes
    ----------
    mean : in ulps; of attention positive away from zero.
    z : its distance from zero, in standard errors.
    count : of rows or heads that it is a mean of.
    """

    mean: float
    z: float
    count: int
    verdict: Verdict


@dataclass(frozen=True)
class GradeRow:
    """One op x dtype of one subject, over all its graded verdicts.

    Attributes
    ----------
    error_max : largest error seen in samples: the certified interval whose upper end is largest.
    proved : the same of verdicts that tried every input there is; None where there is no such verdict.
    bound_ulp, margin : of the verdict with the largest margin.
    bias : None where no verdict measured it.
    error_mean, cases, elements : of samples, or where there is none of proofs; the mean is NaN where no
        element was judged.
    verdicts : those that grade, and those that would but showed nothing.
    largest, closest, proof : the verdicts that `error_max`, `margin` and `proved` are taken from.
    """

    op: str
    dtype: str
    subject: Subject
    grade: str
    error_max: tuple[float, float]
    error_mean: float
    bound_ulp: float
    margin: float
    cases: int
    elements: int
    proved: tuple[float, float] | None
    bias: Bias | None
    verdicts: tuple[Verdict, ...]
    largest: Verdict | None
    closest: Verdict | None
    proof: Verdict | None

    @property
    def vacuous(self) -> tuple[str, ...]:
        """Clauses that grade, but showed nothing here."""
        return tuple(printable(v.clause) for v in self.verdicts if v.status == "vacuous")

    @property
    def controls_passed(self) -> tuple[str, ...]:
        """Wrong answers that passed in a verdict that the figures rest on."""
        return tuple(sorted({name for v in self.verdicts for name in controls_passed(v)}))


@dataclass(frozen=True)
class Cell:
    """One verdict in the matrix."""

    status: str
    symbol: str
    figure: str
    title: str
    controls_passed: tuple[str, ...]
    verdict: Verdict
    subject: Subject


@dataclass(frozen=True)
class MatrixRow:
    """One clause x op, a cell (or None) under each column."""

    clause: str
    op: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Matrix:
    """Verdicts by clause group, clause x op down, subject x dtype across."""

    columns: tuple[tuple[Subject, tuple[str, ...]], ...]
    groups: tuple[tuple[str, tuple[MatrixRow, ...]], ...]

    @property
    def rows(self) -> tuple[MatrixRow, ...]:
        """Every row, in order."""
        return tuple(row for _, rows in self.groups for row in rows)


@dataclass(frozen=True)
class Notable:
    """Verdicts of one clause and subject that say the same thing, for lists."""

    status: str
    clause: str
    subject: Subject
    where: str
    message: str


def subjects(runs: Sequence[Run]) -> tuple[Subject, ...]:
    """Describe each run, in the order given."""
    names = Counter(run.name for run in runs)
    seen: Counter[str] = Counter()
    found = []
    for index, run in enumerate(runs):
        seen[run.name] += 1
        label = run.name if names[run.name] == 1 else f"{run.name} #{seen[run.name]}"
        found.append(_subject(index, printable(label), run))
    return tuple(found)


def _subject(index: int, label: str, run: Run) -> Subject:
    statuses: Counter[str] = Counter(verdict.status for verdict in run.verdicts)
    counts = tuple((status, SYMBOLS[status], statuses[status]) for status in STATUSES if statuses[status])
    grades = [verdict.grade for verdict in run.verdicts if verdict.grade]
    state = outcome(run)
    return Subject(
        index=index,
        label=label,
        slot=index % len(MARKS),
        run=run,
        state=state,
        headline=_headline(run, state),
        grade=min(grades, key=_GRADE_ORDER.index) if grades else "",
        counts=counts,
        command=command_line(run.subject, run.request, statements()),
    )


def _headline(run: Run, state: Outcome) -> str:
    first = _ending(run, state)
    judged = [verdict for verdict in run.verdicts if verdict.grade and verdict.elements]
    if not judged:
        return f"{first}."
    # Not in ulps: those of a sum that cancels, as attention is, say more of the sum than of the kernel.
    worst = max(judged, key=lambda verdict: _order(verdict.margin))
    return (
        f"{first}; largest error / bound seen {above(worst.margin, 3)} "
        f"({printable(worst.op)}, {printable(worst.dtype)})."
    )


def _ending(run: Run, state: Outcome) -> str:
    broken = count(len({verdict.clause for verdict in run.broken}), "clause")
    if state == "broken" and is_stopped(run):
        return f"{describe_stop(run)}; breaks {broken} so far"
    return {
        "broken": f"breaks {broken}",
        "stopped": f"{describe_stop(run)}; no clause broken so far",
        "nothing": describe_nothing(run),
        "conforms": "conforms: no clause broken",
    }[state]


def _order(value: float) -> float:
    """Sort NaN, of which nothing is known, as the largest."""
    return math.inf if math.isnan(value) else value


def _order_of_ends(ends: tuple[float, float]) -> tuple[float, float]:
    return _order(ends[1]), _order(ends[0])


def grade_rows(members: Sequence[Subject]) -> tuple[GradeRow, ...]:
    """One row for each op x dtype x subject that has graded verdicts; ops and dtypes in the runs' order."""
    rows = []
    for op, dtype in formats(members):
        for subject in members:
            graded = [v for v in subject.run.verdicts if v.grade and (v.op, v.dtype) == (op, dtype)]
            if graded:
                rows.append(_grade_row(op, dtype, subject, graded))
    return tuple(rows)


def _grade_row(op: str, dtype: str, subject: Subject, graded: Sequence[Verdict]) -> GradeRow:
    # A verdict that judged no element, as one on a call that crashed, has no figures.
    judged = [verdict for verdict in graded if verdict.elements]
    closest = max(judged, key=lambda verdict: _order(verdict.margin), default=None)
    largest = _largest(verdict for verdict in judged if not verdict.exhaustive)
    proof = _largest(verdict for verdict in judged if verdict.exhaustive)
    # Of the billions of a proof a sample would be no part that one could see.
    counted = [verdict for verdict in graded if not verdict.exhaustive] or graded
    elements = sum(verdict.elements for verdict in counted)
    total = sum(verdict.error_mean * verdict.elements for verdict in counted if verdict.elements)
    return GradeRow(
        op=printable(op),
        dtype=printable(dtype),
        subject=subject,
        grade=min((verdict.grade for verdict in graded), key=_GRADE_ORDER.index),
        error_max=largest.error_max if largest else (math.nan, math.nan),
        error_mean=total / elements if elements else math.nan,
        bound_ulp=closest.bound_ulp if closest else math.nan,
        margin=closest.margin if closest else math.nan,
        cases=sum(verdict.cases for verdict in counted),
        elements=elements,
        proved=proof.error_max if proof else None,
        bias=_bias(subject, op, dtype),
        verdicts=(*graded, *_shown_nothing(subject, op, dtype)),
        largest=largest,
        closest=closest,
        proof=proof,
    )


def _largest(verdicts: Iterable[Verdict]) -> Verdict | None:
    return max(verdicts, key=lambda verdict: _order_of_ends(verdict.error_max), default=None)


def _shown_nothing(subject: Subject, op: str, dtype: str) -> list[Verdict]:
    """Verdicts that would have graded, and were vacuous."""
    return [
        v
        for v in subject.run.verdicts
        if (v.op, v.dtype) == (op, dtype) and v.status == "vacuous" and v.clause in grading_clauses()
    ]


def _bias(subject: Subject, op: str, dtype: str) -> Bias | None:
    found = [
        Bias(float(b["mean_ulp"]), float(b["z"]), int(b["count"]), v)
        for v in subject.run.verdicts
        if (v.op, v.dtype) == (op, dtype)
        and {"mean_ulp", "z", "count"} <= (b := v.statistics.get("bias", {})).keys()
    ]
    return max(found, key=lambda bias: _order(abs(bias.z)), default=None)


def formats(members: Iterable[Subject]) -> tuple[tuple[str, str], ...]:
    """Every op x dtype of the runs, in the order of their first appearance, one op after another."""
    pairs = dict.fromkeys((v.op, v.dtype) for subject in members for v in subject.run.verdicts)
    ops = list(dict.fromkeys(op for op, _ in pairs))
    return tuple(sorted(pairs, key=lambda pair: ops.index(pair[0])))


def matrix(members: Sequence[Subject]) -> Matrix:
    """Arrange every verdict; where two share a place, the one that STATUSES lists first is shown."""
    columns = tuple((subject, _dtypes(subject)) for subject in members)
    cells: dict[tuple[str, str], dict[tuple[int, str], Cell]] = {}
    for subject in members:
        for verdict in subject.run.verdicts:
            row = cells.setdefault((verdict.clause, verdict.op), {})
            cell, place = _cell(verdict, subject), (subject.index, verdict.dtype)
            if place not in row or _severity(cell.status) < _severity(row[place].status):
                row[place] = cell
    groups: dict[str, list[MatrixRow]] = {}
    clauses = list(dict.fromkeys(clause for clause, _ in cells))
    for clause, op in sorted(cells, key=lambda key: clauses.index(key[0])):
        found = cells[clause, op]
        line = tuple(found.get((subject.index, dtype)) for subject, dtypes in columns for dtype in dtypes)
        groups.setdefault(clause.partition(".")[0], []).append(
            MatrixRow(printable(clause), printable(op), line)
        )
    return Matrix(columns, tuple((printable(group), tuple(rows)) for group, rows in groups.items()))


def _dtypes(subject: Subject) -> tuple[str, ...]:
    return tuple(dict.fromkeys(verdict.dtype for verdict in subject.run.verdicts))


def _severity(status: str) -> int:
    return list(STATUSES).index(status)


def _cell(verdict: Verdict, subject: Subject) -> Cell:
    shown = verdict.status in {"pass", "fail"} and verdict.margin > 0
    figure = above(verdict.margin, 2) if shown else ""
    parts = [f"{subject.label}, {verdict.op} {verdict.dtype}: {verdict.status}"]
    if verdict.message:
        parts.append(verdict.message)
    if shown:
        parts.append(f"largest error / bound {above(verdict.margin, 3)}")
    if verdict.cases:
        parts.append(f"{count(verdict.cases, 'case')}, {count(verdict.elements, 'element')}")
    passed = controls_passed(verdict)
    if passed:
        parts.append(f"not told from the truth: {', '.join(passed)}")
    title = printable("; ".join(parts))
    return Cell(verdict.status, SYMBOLS[verdict.status], figure, title, passed, verdict, subject)


def controls_passed(verdict: Verdict) -> tuple[str, ...]:
    """Names of the wrong answers that passed beside the subject; a broken verdict needs no such doubt."""
    if verdict.status != "pass":
        return ()
    return tuple(sorted(printable(name) for name, outcome in verdict.controls.items() if outcome == "passed"))


def notables(members: Sequence[Subject], statuses: Iterable[str]) -> tuple[Notable, ...]:
    """Verdicts of those statuses with their reasons, equal ones of a subject and clause as one entry."""
    wanted = set(statuses)
    return _collect(
        members, lambda v: (v.status, v.message or STATUSES[v.status]) if v.status in wanted else None
    )


def undetected_controls(members: Sequence[Subject]) -> tuple[Notable, ...]:
    """Verdicts in which a wrong answer passed too, with the names of those answers."""

    def described(verdict: Verdict) -> tuple[str, str] | None:
        passed = controls_passed(verdict)
        return ("control", f"would have passed too: {', '.join(passed)}") if passed else None

    return _collect(members, described)


def _collect(
    members: Sequence[Subject], describe: Callable[[Verdict], tuple[str, str] | None]
) -> tuple[Notable, ...]:
    places: dict[tuple[int, str, str, str], dict[str, list[str]]] = {}
    for subject in members:
        for verdict in subject.run.verdicts:
            described = describe(verdict)
            if described is not None:
                key = (subject.index, verdict.clause, *described)
                places.setdefault(key, {}).setdefault(verdict.op, []).append(verdict.dtype)
    by_index = {subject.index: subject for subject in members}
    return tuple(
        Notable(
            status=status,
            clause=printable(clause),
            subject=by_index[index],
            where=printable(_where(where)),
            message=printable(message),
        )
        for (index, clause, status, message), where in places.items()
    )


def _where(dtypes_by_op: Mapping[str, Sequence[str]]) -> str:
    """Name ops and dtypes, ops with the same dtypes together."""
    ops: dict[tuple[str, ...], list[str]] = {}
    for op, dtypes in dtypes_by_op.items():
        ops.setdefault(tuple(dict.fromkeys(dtypes)), []).append(op)
    return "; ".join(f"{', '.join(names)} in {', '.join(dtypes)}" for dtypes, names in ops.items())
