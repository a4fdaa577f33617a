"""The report as one HTML page: it holds its style, script, plots and witnesses, and fetches nothing."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from softcert.conformance.model import STATUSES
from softcert.reports import summary, wording
from softcert.reports.evidence import evidence
from softcert.reports.kill_matrix import kill_matrix
from softcert.reports.plot_panels import KINDS, panels
from softcert.reports.proofs import HEADINGS as PROOF_HEADINGS
from softcert.reports.proofs import INTRO as PROOFS_INTRO
from softcert.reports.proofs import proof_lines
from softcert.reports.residue_plots import LIMITS
from softcert.reports.speed import growths
from softcert.reports.speed_plots import accuracy_plots, memory_plots, roofline_plots, time_plots
from softcert.reports.speed_table import HEADINGS, INTRO, speed_lines, valid_rows
from softcert.reports.statements import statements
from softcert.reports.templating import environment, markup, template
from softcert.reports.witnesses import worst_witnesses
from softcert.reports.wording import described_growth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from softcert.conformance.model import Run
    from softcert.reports.evidence import Evidence
    from softcert.reports.summary import Matrix, Subject
    from softcert.reports.witnesses import WitnessView

TITLE = "softcert report"


def render_html(runs: Sequence[Run], *, title: str = TITLE) -> str:
    """Return the page on these runs, side by side in the order given.

    Raises
    ------
    RequestError : jinja2 or matplotlib is not installed.
    """
    members = summary.subjects(runs)
    grades = summary.grade_rows(members)
    proofs = evidence(grades)
    shown = worst_witnesses(members)
    verdicts = summary.matrix(members)
    anchors = _anchors(shown)
    page = environment().get_template("report.html.j2")
    text: str = page.render(
        title=wording.printable(title),
        subjects=members,
        grades=grades,
        nested_evidence=_nested(proofs),
        any_proved=any(row.proved for row in grades),
        proof_lines=proof_lines(members),
        proof_headings=PROOF_HEADINGS,
        proofs_intro=PROOFS_INTRO,
        matrix=verdicts,
        **_columns(verdicts),
        anchor_of=lambda cell: anchors.get(id(cell.verdict), ""),
        ops=tuple(dict.fromkeys(row.op for row in verdicts.rows)),
        statements=statements(),
        known_clauses=[c for c in dict.fromkeys(row.clause for row in verdicts.rows) if c in statements()],
        **_speed(members),
        undetected=summary.undetected_controls(members),
        vacuous=summary.notables(members, ["vacuous"]),
        unexamined=summary.notables(members, ["skip", "xfail"]),
        witnesses=shown,
        panels=panels(members, grades, [proof.anchor for proof in proofs]),
        plot_kinds=KINDS,
        shade_limits=LIMITS,
        kill_matrix=kill_matrix(),
        rivals_intro=wording.RIVALS,
        environments=_environments(members),
        status_texts=STATUSES,
        grade_texts=wording.GRADES,
        symbols=wording.SYMBOLS,
        ulp=wording.ULP,
        rests_on=wording.RESTS_ON,
        style=markup(template("style.css")),
        script=markup(template("script.js") + template("plots.js")),
    )
    return text


def _anchors(shown: Sequence[tuple[Subject, Sequence[WitnessView], int]]) -> Mapping[int, str]:
    """Return the anchor of each verdict whose witness the page shows, by the verdict's identity."""
    return {id(view.verdict): view.anchor for _, views, _ in shown for view in views}


def _nested(proofs: Sequence[Evidence]) -> list[tuple[str, list[tuple[str, list[Evidence]]]]]:
    """Group what the grades rest on by op, then dtype, in their order."""
    by_op = groupby(proofs, lambda proof: proof.row.op)
    return [
        (op, [(dtype, list(same)) for dtype, same in groupby(list(of_op), lambda proof: proof.row.dtype)])
        for op, of_op in by_op
    ]


def _columns(verdicts: Matrix) -> Mapping[str, Any]:
    """Return the (subject index, first of its subject) of each column, and how many there are."""
    places = [(s.index, place == 0) for s, dtypes in verdicts.columns for place in range(len(dtypes))]
    return {"column_subjects": places, "column_count": len(places)}


def _speed(members: Sequence[Subject]) -> Mapping[str, Any]:
    """Return what the section on speed shows."""
    sections = (
        (
            "Accuracy against speed",
            "Largest certified error seen, in ulps, of attention in units of its bound, against calls a "
            "second on the largest shape that most backends were timed on. Down and to the right is better; "
            "the dashed line joins those that no other one beats in both.",
            accuracy_plots(members),
        ),
        (
            "Time by length",
            "Median time, with its interval; a straight line is a power of the length.",
            time_plots(members),
        ),
        (
            "Roofline",
            "Operations a second against operations a byte that has to be moved. The lines are what this "
            "machine did in the same rounds: copies in memory and in a cache, NumPy's product of matrices.",
            roofline_plots(members),
        ),
        (
            "Memory by length",
            "Memory that a call takes beyond its operands, its results included.",
            memory_plots(members),
        ),
    )
    return {
        "speed_intro": INTRO,
        "speed_headings": HEADINGS,
        "speed_lines": speed_lines(members),
        "speed_growths": [(s.label, described_growth(g)) for s in members for g in growths(valid_rows(s))],
        "speed_plots": [(head, text, tuple(map(markup, drawn))) for head, text, drawn in sections if drawn],
    }


def _environments(members: Sequence[Subject]) -> Sequence[tuple[Subject, Sequence[tuple[str, str]]]]:
    """(term, value) pairs of each run's environment and request, nested mappings flattened."""
    return [
        (subject, [*_pairs(subject.run.environment), *_pairs(subject.run.request), *_contract(subject)])
        for subject in members
    ]


def _pairs(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (wording.printable(name), _value(value))
        for name, value in facts.items()
        if value not in (None, [], ())
    ]


def _contract(subject: Subject) -> list[tuple[str, str]]:
    return [("contract", _value(subject.run.contract))] if subject.run.contract else []


def _value(value: object) -> str:
    if isinstance(value, dict):
        return wording.printable(", ".join(f"{name} {item}" for name, item in value.items()))
    if isinstance(value, (list, tuple)):
        return wording.printable(", ".join(map(str, value)))
    return wording.printable(value)
