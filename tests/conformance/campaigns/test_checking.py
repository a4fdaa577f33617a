"""Verdicts of many seeds as one: the worse one speaks, counts add up, and no order matters."""

from __future__ import annotations

import itertools
from functools import reduce

import pytest

from softcert.conformance.campaigns.checking import CHECK, joined
from softcert.conformance.model import Verdict
from softcert.conformance.runner import check
from softcert.conformance.wire.runs import verdict_from_json


def verdict(status, margin, **more):
    return Verdict("accuracy.certified", "softmax", "float32", status, margin=margin, bound_ulp=2.0, **more)


VERDICTS = (
    verdict("pass", 0.5, cases=3, elements=4, error_max=(1.0, 1.5), error_mean=0.25, grade="B",
            controls={"zeros": "caught"}, seconds=1.0),
    verdict("fail", 2.0, cases=5, elements=4, error_max=(0.5, 4.0), error_mean=0.75, grade="F",
            message="off", controls={"zeros": "passed", "ones": "caught"}, seconds=2.0),
    verdict("vacuous", 0.25, cases=7, elements=8, error_max=(2.0, 2.5), error_mean=0.125, grade="",
            message="says nothing", seconds=0.5),
    verdict("fail", 3.0, cases=1, elements=0, error_max=(0.0, 0.0), grade="C", message="far off"),
)  # fmt: skip


def test_the_joined_verdict_is_the_worst_with_the_sums():
    every = reduce(joined, VERDICTS)
    assert (every.status, every.message, every.margin, every.grade) == ("fail", "far off", 3.0, "F")
    assert (every.cases, every.elements, every.seconds) == (16, 16, 3.5)
    assert every.error_max == (2.0, 4.0)
    assert every.error_mean == (0.25 * 4 + 0.75 * 4 + 0.125 * 8) / 16
    assert every.controls == {"zeros": "passed", "ones": "caught"}


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_no_order_and_no_grouping_matters(order):
    first, second, third, fourth = (VERDICTS[place] for place in order)
    wanted = reduce(joined, VERDICTS)
    assert reduce(joined, (first, second, third, fourth)) == wanted
    assert joined(joined(first, second), joined(third, fourth)) == wanted


def test_a_slice_is_the_check_of_its_seed():
    settings = {"task": "check", "subject": "numpy", "op": "softmax", "dtype": "float32", "seed": 4,
                "slices": 2, "clauses": ["logistic.two-classes", "stability.nan"]}  # fmt: skip
    pieces = list(CHECK.slices(settings))
    assert pieces == [{"key": "seed-4", "seed": 4}, {"key": "seed-5", "seed": 5}]
    result = CHECK.run(settings, pieces[1])
    run = check(
        "numpy", ops="softmax", dtypes="float32", clauses=settings["clauses"], profile="smoke", seed=5
    )
    found = [verdict_from_json(document) for document in result["verdicts"]]
    for ours, theirs in zip(found, run.verdicts, strict=True):
        assert (ours.clause, ours.status, ours.cases) == (theirs.clause, theirs.status, theirs.cases)
        assert (ours.error_max, ours.margin, ours.error_mean) == (
            theirs.error_max, theirs.margin, theirs.error_mean,
        )  # fmt: skip
    assert result["cases"] == sum(v.cases for v in run.verdicts)
    merged = CHECK.merge(settings, [result, CHECK.run(settings, pieces[0])])
    assert [v.clause for v in merged] == [v.clause for v in run.verdicts]
    assert all(v.status == "pass" for v in merged)
