"""What a comparison calls worse, better or undecided, and that every rendering says it."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from softcert.conformance.model import RequestError
from softcert.reports.comparison import compare, comparison_to_json, describe
from softcert.reports.document_html import document_html
from softcert.reports.document_markdown import document_markdown

PLACE = ("accuracy.certified", "softmax", "float32")


@pytest.fixture
def run(build):
    return build("kernel", 1.6, ops=("softmax",), dtypes=("float32", "float64"))


def changed(run, place=PLACE, **fields):
    verdicts = [replace(v, **fields) if (v.clause, v.op, v.dtype) == place else v for v in run.verdicts]
    return replace(run, verdicts=tuple(verdicts))


def asked(run, **fields):
    return replace(run, request={**run.request, **fields})


def row(seconds=1.0, samples=7, copy=1.0, **fields):
    times = [seconds * (1 + i / 200) for i in range(samples)]
    return {
        "op": "softmax",
        "dtype": "float32",
        "shape": [8, 128],
        "seconds": seconds,
        "spread": [seconds * 0.99, seconds * 1.02],
        "copy_bytes_per_second": 1e9 / copy,
        **({"samples": times} if samples else {}),
        **fields,
    }


def test_a_run_beside_itself_shows_nothing(run):
    found = compare([run], [run])
    (pair,) = found.pairs
    assert not found.worse
    assert (pair.statuses, pair.errors, pair.differences, pair.cautions) == ((), (), (), ())
    assert {(c.op, c.dtype) for c in pair.accuracy} == {("softmax", "float32"), ("softmax", "float64")}


@pytest.mark.parametrize(
    ("then", "now", "kind", "worse"),
    [
        ("pass", "fail", "broken", True),
        ("pass", "error", "broken", True),
        ("skip", "fail", "found", False),
        ("xfail", "fail", "unexpected", False),
        ("pass", "skip", "silenced", False),
        ("pass", "vacuous", "silenced", False),
        ("pass", "xfail", "conceded", False),
        ("fail", "pass", "mended", False),
        ("error", "pass", "mended", False),
        ("skip", "pass", "shown", False),
        ("fail", "error", None, False),
    ],
)
def test_changes_of_status(run, then, now, kind, worse):
    place = ("simplex.range", "softmax", "float32")
    found = compare([changed(run, place, status=then)], [changed(run, place, status=now, message="why")])
    assert [change.kind for change in found.pairs[0].statuses] == ([kind] if kind else [])
    assert found.worse is worse


def test_a_lower_grade_is_worse_on_the_same_inputs_alone(run):
    fallen = changed(changed(run, grade="F"), ("accuracy.length", "softmax", "float32"), grade="F")
    assert compare([run], [fallen]).worse
    assert not compare([fallen], [run]).worse
    for other in (asked(fallen, seed=1), asked(fallen, profile="full"), changed(fallen, cases=7)):
        found = compare([run], [other])
        assert not found.worse
        assert found.pairs[0].accuracy[0].grade == "smaller"
    assert "seed 0 and 1" in compare([run], [asked(fallen, seed=1)]).pairs[0].cautions[0]


@pytest.mark.parametrize(
    ("then", "now", "direction"),
    [
        ((2.0, 2.1), (2.2, 2.3), "larger"),
        ((2.0, 2.2), (2.1, 2.3), ""),
        ((2.0, 2.1), (2.1, 2.3), ""),
        ((2.2, 2.3), (2.0, 2.1), "smaller"),
        ((0.1, 0.1), (0.4, 0.4), ""),
        ((0.1, 0.1), (0.51, 0.52), "larger"),
    ],
)
def test_only_intervals_apart_say_that_an_error_moved(run, then, now, direction):
    found = compare([changed(run, error_max=then)], [changed(run, error_max=now)])
    moved = [change for change in found.pairs[0].errors if change.clause == PLACE[0]]
    assert [change.error for change in moved] == ([direction] if direction else [])
    assert found.worse is (direction == "larger")


def test_an_accuracy_factor_leaves_room(run):
    old, new = changed(run, error_max=(5.0, 5.0)), changed(run, error_max=(5.4, 5.4))
    assert compare([old], [new]).worse
    assert not compare([old], [new], accuracy_factor=1.1).worse


def test_other_libraries_that_draw_make_other_inputs(run):
    versions = {**run.environment["versions"], "softcert": "0.2.0"}
    new = replace(changed(run, error_max=(50.0, 50.0)), environment={**run.environment, "versions": versions})
    found = compare([run], [new])
    assert not found.worse
    assert [(d.part, d.name, d.old, d.new) for d in found.pairs[0].differences] == [
        ("version", "softcert", "0.1.0", "0.2.0")
    ]


# --- subjects ---


def test_single_subjects_are_compared_whatever_their_names(run):
    assert compare([run], [replace(run, name="other")]).pairs[0].label == "kernel → other"


def test_several_are_matched_by_name_and_the_others_named(run):
    a, b, c = (replace(run, name=name) for name in "abc")
    found = compare([a, b], [b, c])
    assert ([pair.label for pair in found.pairs], found.only_old, found.only_new) == (["b"], ("a",), ("c",))


def test_files_without_a_common_subject_are_refused(run):
    with pytest.raises(RequestError, match="no subject in common: kernel, b there, c, d here"):
        compare([run, replace(run, name="b")], [replace(run, name=name) for name in "cd"])
    with pytest.raises(RequestError, match="new holds no run"):
        compare([run], [])


# --- speed ---


def speeds(old, new, threshold=None, **fields):
    def one(run, rows):
        return replace(run, speed=tuple(rows))

    base = fields["run"]
    return compare([one(base, old)], [one(base, new)], speed_threshold=threshold)


def test_a_time_beyond_the_drift_is_slower_and_counts_beyond_the_threshold(run):
    found = speeds([row()], [row(1.5)], run=run)
    (change,) = found.pairs[0].speeds
    assert (change.verdict, found.worse) == ("slower", False)
    assert change.interval[0] <= 1.5 <= change.interval[1]
    assert speeds([row()], [row(1.5)], 0.1, run=run).worse
    assert not speeds([row()], [row(1.5)], 0.6, run=run).worse
    assert speeds([row(1.5)], [row()], 0.1, run=run).pairs[0].speeds[0].verdict == "faster"


def test_what_the_copies_drifted_too_is_no_change(run):
    (change,) = speeds([row()], [row(1.5, copy=1.6)], 0.1, run=run).pairs[0].speeds
    assert change.verdict == "undecided"
    assert change.drift == pytest.approx(1.6)


def test_other_machines_are_never_slower_kernels(run):
    other = replace(run, environment={**run.environment, "processor": "Another"}, speed=(row(3.0),))
    found = compare([replace(run, speed=(row(),))], [other], speed_threshold=0.1)
    assert found.pairs[0].speeds[0].verdict == "slower"
    assert not found.worse
    assert any("machines differ" in caution for caution in found.pairs[0].cautions)


@pytest.mark.parametrize(
    "new",
    [
        row(9.0, samples=0),
        row(9.0, status="invalid"),
        row(9.0, copy_bytes_per_second=None),
        row(9.0, samples=2),
    ],
    ids=["no rounds", "invalid", "no copy", "too few"],
)
def test_what_cannot_be_tested_is_never_called_slower(run, new):
    found = speeds([row()], [new], 0.1, run=run)
    assert found.pairs[0].speeds[0].verdict in ("untested", "undecided")
    assert not found.worse


def test_rows_are_tested_together(run):
    """One row that differs by chance among many is no finding; of a few it would be one."""
    mixed = [1.0, 1.01, 1.02, 1.03, 1.045, 1.05, 1.06]
    shifted = [1.046, 1.061, 1.07, 1.08, 1.09, 1.1, 1.11]

    def rows(first, amount):
        shapes = [([n, 8], first if n == 1 else mixed) for n in range(1, amount + 1)]
        return [{**row(), "shape": shape, "samples": times} for shape, times in shapes]

    def verdict(amount):
        found = speeds(rows(mixed, amount), rows(shifted, amount), run=run)
        return found.pairs[0].speeds[0].verdict

    assert verdict(2) == "slower"
    assert verdict(40) == "undecided"


# --- renderings ---


@pytest.fixture
def found(run, build):
    broken = changed(run, status="fail", grade="F", message="<b>off</b> | by far", error_max=(40.0, 41.0))
    old = [replace(run, speed=(row(),)), build("exact", 0.5)]
    new = [replace(broken, speed=(row(2.0),)), build("exact", 0.5), build("more", 0.5)]
    return compare(old, new, names=("old.json", "new.json"), speed_threshold=0.1)


def test_every_rendering_says_what_got_worse(found):
    document = describe(found)
    told = [sentence.text for section in document.sections for sentence in section.sentences]
    assert document.headline.text.startswith("new.json is worse than old.json: 1 clause newly broken, ")
    assert any("takes 2 times as long" in text for text in told)
    assert "In new.json alone: more" in told
    markdown, page = document_markdown(document), document_html(document)
    for text in (markdown, page):
        for part in ("is worse than", "newly broken", "accuracy.certified", "2 times as long"):
            assert part in text.replace("\\", "")
        assert "<b>off" not in text


def test_the_page_is_whole_and_fetches_nothing(found):
    page = document_html(describe(found))
    opened, ids, links = [], [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            facts = dict(attrs)
            ids.extend(filter(None, [facts.get("id")]))
            links.extend(filter(None, [facts.get("href"), facts.get("src")]))
            if tag not in {"meta", "br", "wbr"}:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Reader().feed(page)
    assert opened == []
    assert len(ids) == len(set(ids))
    assert all(link.startswith("#") and link[1:] in ids for link in links)
    assert "default-src 'none'" in page
    assert document_html(describe(found)) == page


def test_json_holds_the_same(found):
    document = json.loads(json.dumps(comparison_to_json(found), allow_nan=False))
    assert (document["kind"], document["worse"]) == ("comparison", True)
    assert document["pairs"][0]["statuses"][0]["kind"] == "broken"
