"""The rows, cells and lists of a report hold what the verdicts hold."""

from __future__ import annotations

import math
from dataclasses import replace

from softcert.conformance.model import STATUSES, Verdict
from softcert.reports.evidence import evidence
from softcert.reports.summary import grade_rows, matrix, notables, subjects, undetected_controls
from softcert.reports.wording import SYMBOLS


def graded(clause, grade, error, margin, elements=10, status="pass", mean=0.1):
    return Verdict(
        clause, "softmax", "float32", status, 5, elements, (error, error), mean, error / margin, margin, grade
    )


def test_every_status_has_a_symbol_of_its_own():
    assert set(SYMBOLS) == set(STATUSES)
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)


def test_subjects_say_what_their_runs_say(runs):
    exact, good, broken = subjects(runs)
    assert (exact.state, good.state, broken.state) == ("conforms", "conforms", "broken")
    assert (exact.grade, good.grade, broken.grade) == ("A", "C", "F")
    assert broken.headline.startswith("breaks 3 clauses; largest error / bound seen ")
    assert sum(amount for _, _, amount in broken.counts) == len(runs[2].verdicts)
    assert len({subject.mark for subject in (exact, good, broken)}) == 3


def test_nothing_shown_is_not_conformance(build):
    run = build("empty", verdicts=(Verdict("a.b", "softmax", "float32", "vacuous"),))
    assert subjects([run])[0].state == "nothing"
    assert "nothing was shown" in subjects([run])[0].headline
    assert subjects([replace(run, verdicts=())])[0].state == "nothing"


def test_equal_names_are_told_apart(small):
    assert [s.label for s in subjects([small[0], small[0]])] == ["broken #1", "broken #2"]


def test_grade_rows_show_the_worst_and_add_up_what_they_rest_on(build):
    verdicts = (
        graded("accuracy.certified", "B", 0.9, 0.2, elements=30, mean=0.3),
        graded("accuracy.length", "C", 1.5, 0.1, elements=10, mean=0.7),
        graded("simplex.sum", "", 99.0, 9.0),
    )
    (row,) = grade_rows(subjects([build("one", verdicts=verdicts)]))
    assert (row.grade, row.error_max, row.margin) == ("C", (1.5, 1.5), 0.2)
    assert row.bound_ulp == 0.9 / 0.2
    assert (row.cases, row.elements) == (10, 40)
    assert math.isclose(row.error_mean, 0.4)


def test_grades_of_nothing_judged_have_no_mean(build):
    verdicts = (graded("accuracy.certified", "F", math.inf, math.inf, elements=0, status="error"),)
    (row,) = grade_rows(subjects([build("one", verdicts=verdicts)]))
    assert math.isnan(row.error_mean)
    assert row.grade == "F"


def test_matrix_holds_every_verdict_once(runs):
    table = matrix(subjects(runs))
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    assert len(cells) == sum(len(run.verdicts) for run in runs)
    assert {id(cell.verdict) for cell in cells} == {id(v) for run in runs for v in run.verdicts}
    assert [group for group, _ in table.groups] == [
        "simplex", "accuracy", "translation", "order", "stability", "purity",
    ]  # fmt: skip
    for row in table.rows:
        for cell, place in zip(
            row.cells, [(s, d) for s, dtypes in table.columns for d in dtypes], strict=True
        ):
            assert cell is None or (cell.subject, cell.verdict.dtype, cell.verdict.op) == (*place, row.op)


def test_matrix_leaves_places_without_a_verdict_empty(build):
    one = build("one", ops=("softmax",), dtypes=("float32",), clauses=("a.b",))
    two = build("two", ops=("logsumexp",), dtypes=("float64",), clauses=("c.d",))
    table = matrix(subjects([one, two]))
    assert [[cell is not None for cell in row.cells] for row in table.rows] == [[True, False], [False, True]]


def test_of_two_verdicts_in_one_place_the_worse_is_shown(build):
    verdicts = tuple(Verdict("a.b", "softmax", "float32", status) for status in ("pass", "fail", "skip"))
    (row,) = matrix(subjects([build("one", verdicts=verdicts)])).rows
    assert row.cells[0].status == "fail"


def test_notables_join_what_says_the_same(runs):
    found = notables(subjects(runs), ["vacuous"])
    assert [entry.subject.label for entry in found] == ["exact", "good", "broken"]
    assert found[0].where == "softmax, log_softmax, logsumexp, softmax_vjp, softmax_jvp in bfloat16"
    assert found[0].message == "the bound of the sum is wider than [0, n]"


def test_controls_that_passed_are_named(runs):
    found = undetected_controls(subjects(runs))
    assert len(found) == 3
    assert found[0].message == "would have passed too: zeros"


def test_controls_say_nothing_against_a_proven_failure(build):
    verdicts = tuple(Verdict("a.b", "softmax", d, s, controls={"zeros": "passed"}) for d, s in
                     (("float64", "fail"), ("float32", "pass")))  # fmt: skip
    members = subjects([build("one", verdicts=verdicts)])
    assert [entry.where for entry in undetected_controls(members)] == ["softmax in float32"]
    assert [cell.controls_passed for cell in matrix(members).rows[0].cells] == [(), ("zeros",)]


def test_the_bias_furthest_from_zero_is_shown(build):
    def leaning(clause, z):
        figures = {"bias": {"mean_ulp": z / 100, "z": z, "count": 250}}
        return Verdict(clause, "softmax", "float32", "pass", 1, 250, statistics=figures)

    verdicts = (
        graded("accuracy.certified", "B", 0.9, 0.2),
        leaning("bias.one", 1.0),
        leaning("bias.two", -3.0),
    )
    (row,) = grade_rows(subjects([build("one", verdicts=verdicts)]))
    assert (row.bias.mean, row.bias.z, row.bias.verdict.clause) == (-0.03, -3.0, "bias.two")
    (row,) = grade_rows(subjects([build("one", verdicts=verdicts[:1])]))
    assert row.bias is None


def test_what_is_proved_is_no_part_of_what_is_seen(build):
    seen = graded("accuracy.certified", "B", 0.7, 0.2)
    proved = replace(graded("accuracy.all", "B", 0.9, 0.3), exhaustive="every float16")
    (row,) = grade_rows(subjects([build("one", verdicts=(seen, proved))]))
    assert (row.error_max, row.proved, row.margin) == ((0.7, 0.7), (0.9, 0.9), 0.3)
    assert (row.largest, row.proof, row.closest) == (seen, proved, proved)
    (row,) = grade_rows(subjects([build("one", verdicts=(proved,))]))
    assert row.largest is None


def test_the_command_of_a_row_repeats_its_verdicts_alone(build):
    verdicts = (
        graded("accuracy.certified", "B", 0.7, 0.2),
        Verdict("simplex.sum", "softmax", "float32", "pass"),
    )
    (proof,) = evidence(grade_rows(subjects([build("one", verdicts=verdicts)])))
    assert proof.command == (
        "softcert check kernels/one.py:softmax --op softmax --dtype float32 --clause accuracy.certified "
        "--profile quick --seed 0"
    )
    assert proof.anchor_of(verdicts[0]) == proof.lines[0].anchor
    assert proof.anchor_of(None) == proof.anchor
