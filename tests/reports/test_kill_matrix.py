"""The counts of the kill matrix, and what reports say of them."""

import html

import softcert
from softcert.reports.html import render_html
from softcert.reports.kill_matrix import kill_matrix
from softcert.reports.markdown import render_markdown


def test_softcert_comes_last_and_lets_nothing_through():
    ours = kill_matrix().rules[-1]
    assert (ours.rule, ours.rejected) == ("softcert", 0)
    assert ours.noticed == ours.faults > 400
    assert kill_matrix().noticed_by_no_other > 100


def test_both_reports_show_every_rule():
    run = softcert.check("numpy", ops=["softmax"], dtypes=["float32"], clauses=["logistic"], profile="smoke")
    for text in (render_html([run]), render_markdown([run])):
        assert "What other rules let through" in text
        for rule in kill_matrix().rules:
            assert rule.rule in html.unescape(text).replace("\\", "")
