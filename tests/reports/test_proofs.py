"""What was proved for every input has a table of its own, with where, how many and how long."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softcert.conformance.model import RequestError, Verdict
from softcert.conformance.outcome import with_proofs
from softcert.reports import render_html, render_markdown
from softcert.reports.proofs import HEADINGS, proof_lines
from softcert.reports.summary import grade_rows, subjects

PLACE = {"row": 7, "logits": ["0x1p-1", "-0x0p+0"], "result": "softmax(x)[1]", "answer": "0x1.80000p-2"}
PROVED = Verdict(
    "accuracy.certified", "softmax", "float16", "pass", 2**32, 2**33, (0.50018308894, 0.50018308897), 0.1,
    8.0, 0.06, "B", exhaustive="every pair <b>",
    statistics={
        "proof": {"largest_at": PLACE},
        "within": {"ulps": [0.25, 0.5, 1.0], "counts": [10, 7000, 8000], "of": 8000},
    },
)  # fmt: skip


@pytest.fixture
def proof(build):
    run = build("one", verdicts=(PROVED, replace(PROVED, op="logsumexp", exhaustive="")))
    return replace(run, seconds=725.0, request={**run.request, "slice_seconds": 1400.0})


def test_a_proof_joins_the_run_of_its_subject(build, proof):
    run = build("one")
    joined = with_proofs(run, [proof])
    assert joined.verdicts[:-1] == run.verdicts
    (line,) = proof_lines(subjects([joined]))
    assert dict(zip(HEADINGS, line.cells, strict=True)) == {
        "inputs": "every pair <b>",
        "largest error, proved / ulp": "[0.50018308, 0.50018309]",
        "at": "softmax(x)[1] = 0x1.8p-2, x = (0x1p-1, -0x0p+0)",
        "above half an ulp": "1,000 of 8,000 results",
        "time": "725 s (1400 s)",
    }


def test_a_proof_by_another_contract_is_refused(build, proof):
    with pytest.raises(RequestError, match="another contract"):
        with_proofs(build("one"), [replace(proof, contract={"accumulate": "float16"})])


def test_samples_keep_their_own_mean_and_counts(build, proof):
    sampled = replace(PROVED, cases=3, elements=4, error_mean=0.7, exhaustive="", error_max=(0.9, 0.9))
    (row,) = grade_rows(subjects([with_proofs(build("one", verdicts=(sampled,)), [proof])]))
    assert (row.cases, row.elements, row.error_mean) == (3, 4, 0.7)
    assert (row.error_max, row.proved) == ((0.9, 0.9), PROVED.error_max)


def test_both_forms_of_the_report_hold_it(build, proof):
    runs = [with_proofs(build("one"), [proof])]
    page, text = render_html(runs), render_markdown(runs)
    assert 'href="#proofs"' in page
    assert "every pair &lt;b&gt;" in page
    for shown in (page, text):
        assert "Proved for every input" in shown
        assert "1,000 of 8,000 results" in shown
    for shown in (render_html([build("one")]), render_markdown([build("one")])):
        assert "Proved for every input" not in shown
