"""Runs that were stopped, and grades that rest on nothing, in every form of a report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softcert.conformance.model import Verdict
from softcert.reports import render_html, render_markdown
from softcert.reports.summary import grade_rows, subjects
from softcert.reports.witnesses import worst_witnesses

STOPPED = "stopped after 1 of 33 verdicts; no clause broken so far"


@pytest.fixture
def stopped(build):
    run = build("one", verdicts=(Verdict("a.b", "softmax", "float32", "pass"),))
    return replace(run, request={**run.request, "stopped": True, "planned": 33})


def test_a_stopped_run_does_not_conform(stopped):
    (subject,) = subjects([stopped])
    assert subject.state == "stopped"
    assert subject.headline == f"{STOPPED}."
    assert STOPPED in render_markdown([stopped])


def test_a_stopped_run_on_the_page(stopped):
    pytest.importorskip("matplotlib")
    page = render_html([stopped])
    assert "state-stopped" in page
    assert STOPPED in page
    assert "conforms: no clause broken" not in page


def test_grades_without_a_judged_element_show_no_figures(build):
    error = Verdict("accuracy.certified", "softmax", "float32", "error", grade="F", elements=0)
    run = build("one", verdicts=(error,))
    assert "| **F** | - | - | - | - |" in render_markdown([run])
    (subject,) = subjects([run])
    assert "largest error / bound" not in subject.headline
    (row,) = grade_rows([subject])
    assert row.elements == 0


def test_witnesses_of_names_that_differ_in_their_marks_alone_are_apart(small):
    runs = [replace(small[0], name=name) for name in ("a/b", "a_b")]
    files = [view.file for _, views, _ in worst_witnesses(subjects(runs)) for view in views]
    assert len(files) == len(set(files)) > 1
