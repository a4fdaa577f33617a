"""The page holds everything, fetches nothing, hides nothing, and shows hostile names as text."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from softcert.conformance.model import RequestError
from softcert.conformance.wire.runs import witness_from_json
from softcert.reports import render_html, templating

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "use", "rect", "wbr"}


class Page(HTMLParser):
    """Elements with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


@pytest.fixture(scope="module")
def text(small):
    return render_html(small, title="A <title>")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_is_deterministic(small, text):
    assert render_html(small, title="A <title>") == text


def test_nothing_is_fetched(page, text):
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "poster", "data"):
            assert attributes.get(name, "#").startswith(("#", "data:application/json")), attributes
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not page.all("link")
    assert "default-src 'none'" in text


def test_ids_are_unique_and_references_meet(page):
    ids = [a["id"] for _, a in page.elements if a.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_semantics(page):
    assert page.all("html", lang="en")
    assert [len(page.all(tag)) for tag in ("h1", "main", "nav")] == [1, 1, 1]
    # the grades and what each of their two rows rests on, the matrix, the speeds, other rules
    assert len(page.all("caption")) == len(page.all("table")) == 4 + 2
    assert all("scope" in a for a in page.all("th"))
    assert all("tabindex" in a for _, a in page.elements if a.get("role") == "region")


def test_every_verdict_is_there_without_script(page, small):
    cells = [a for a in page.all("td") if "data-status" in a]
    assert len(cells) == len(small[0].verdicts)
    for verdict in small[0].verdicts:
        assert any(
            a["data-status"] == verdict.status
            and f"{verdict.op} {verdict.dtype}: {verdict.status}" in a["title"]
            for a in cells
        )
    assert all("hidden" in a for a in page.all("form") + page.all("button", type="button"))


def test_status_is_never_told_by_colour_alone(page, small):
    shown = "".join(page.text)
    for status, symbol in {"fail": "✗", "error": "⚡", "xfail": "⊘", "pass": "✓"}.items():
        assert any(v.status == status for v in small[0].verdicts)
        assert symbol in shown
    assert "breaks 3 clauses" in shown


def test_witnesses_can_be_read_and_downloaded(page, small):
    shown = "".join(page.text)
    assert "0x0p+0 -0x0p+0" in shown
    assert "[0.153846153846153846153846153846, 0.153846153846153846153846153847]" in shown
    assert "… 136 more numbers not shown" in shown
    assert "killed by signal 11" in shown
    links = [a for a in page.all("a") if "download" in a]
    witnessed = [v for v in small[0].verdicts if v.witness]
    assert len(links) == len(witnessed)
    for link in links:
        document = json.loads(unquote(link["href"].partition(",")[2]))
        witness = witness_from_json(document)
        assert any(witness.clause == v.clause and witness.dtype == v.dtype for v in witnessed)
        assert any(a.get("data-copy", "").endswith(link["download"]) for a in page.all("button"))


def test_broken_cells_lead_to_their_witness(text):
    anchors = re.findall(r'<td class="s-(?:fail|error)[^>]*>\s*<a href="#(witness-1-\d+)">', text)
    assert len(anchors) == len(set(anchors)) == 6


def test_how_to_reproduce(page):
    shown = "".join(page.text)
    assert "softcert check kernels/broken.py:softmax --op softmax --dtype float64" in shown
    for part in ("mpmath 1.3.0", "Some Processor", "exp_ulp 3.0", "CPython 3.11.9", "quick", "avx512f"):
        assert part in shown


def test_speed_and_words_are_there(page):
    shown = "".join(page.text)
    for part in (
        "12.3 ms",
        "10.9",
        "4096 × 4096",
        "correctly rounded on everything tried",
        "An ulp is the spacing",
    ):
        assert part in shown


HOSTILE = "<script>alert(1)</script>\"'&{{ 7*7 }}\x00\u202e\ud800"


def test_hostile_names_are_text(small):
    run = small[0]
    witnessed = next(v for v in run.verdicts if v.witness)
    finding = replace(witnessed.witness.finding, message=HOSTILE, observed=HOSTILE, quantity=HOSTILE)
    verdict = replace(
        witnessed,
        message=HOSTILE,
        controls={HOSTILE: "passed"},
        witness=replace(witnessed.witness, subject=HOSTILE, finding=finding),
    )
    hostile = replace(
        run,
        name=HOSTILE,
        subject=HOSTILE,
        verdicts=(verdict, replace(verdict, status="vacuous")),
        environment={HOSTILE: HOSTILE, "versions": {HOSTILE: HOSTILE}},
        contract={HOSTILE: HOSTILE},
        request={"profile": HOSTILE, "seed": 0, "ops": [HOSTILE]},
        speed=(),
    )
    text = render_html([hostile], title=HOSTILE)
    page = Page(text)
    assert len(page.all("script")) == 1
    assert "<script>alert" not in text
    assert "\x00" not in text
    assert "\u202e" not in text
    assert "{{ 7*7 }}" in "".join(page.text)
    text.encode("utf-8")


def test_no_runs_and_empty_runs_render(small):
    assert "No run to report on" in render_html([])
    empty = replace(small[0], verdicts=(), speed=(), environment={}, request={}, contract={})
    assert "nothing was shown" in render_html([empty])


def test_long_witnesses_stay_out_of_the_page(small, monkeypatch):
    monkeypatch.setattr("softcert.reports.witnesses.EMBEDDED", 100)
    text = render_html(small)
    assert "Download the witness" not in text
    assert "beside this page" in text


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_missing_library_is_named_with_its_remedy(small, monkeypatch, library):
    templating.environment.cache_clear()
    for name in [n for n in sys.modules if n.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(RequestError, match=rf"needs {library}: pip install 'softcert\[report\]'"):
        render_html(small)


def test_each_figure_of_the_grades_leads_to_what_it_rests_on(small, page, text):
    table = text[text.index('<table class="grades">') :]
    table = table[: table.index("</table>")]
    targets = re.findall(r'<td class="num"><a href="#(rests-[\d-]+)">', table)
    assert len(targets) == 7 * 2
    named = {a["id"]: tag for tag, a in page.elements if a.get("id", "").startswith("rests-")}
    assert {named[target] for target in targets} == {"details", "tr"}
    shown = "".join(page.text)
    assert (
        "softcert check kernels/broken.py:softmax --op softmax --dtype float64 --clause accuracy.certified "
        in shown
    )
    assert "n = 131072, normal" in shown
    assert re.search(r'<a href="#witness-1-\d+">witness</a>', text)


def test_what_is_proved_stands_apart_from_what_is_seen(small):
    assert "largest error, proved" not in render_html(small)
    verdicts = [
        replace(v, exhaustive="all numbers", error_max=(3.25, 3.25)) if v.clause == "accuracy.length" else v
        for v in small[0].verdicts
    ]
    text = render_html([replace(small[0], verdicts=tuple(verdicts))])
    assert "largest error, proved" in text
    assert ">3.25</a>" in text
    assert "every input tried: all numbers" in text


def test_vacuous_verdicts_and_passed_controls_stand_beside_the_grade_they_touch(small):
    verdicts = list(small[0].verdicts)
    places = [k for k, v in enumerate(verdicts) if v.clause == "accuracy.length"]
    verdicts[places[0]] = replace(verdicts[places[0]], status="vacuous", grade="")
    verdicts[places[1]] = replace(verdicts[places[1]], status="pass", grade="C", controls={"zeros": "passed"})
    text = render_html([replace(small[0], verdicts=tuple(verdicts))])
    assert 'title="shows nothing: accuracy.length"' in text
    assert 'title="would have passed too: zeros"' in text
