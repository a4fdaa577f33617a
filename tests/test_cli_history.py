"""`softcert history` as it is called."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.model import Run, Verdict
from softcert.conformance.wire.runs import report_to_json, run_to_json, write_document

SPEED = {
    "op": "softmax",
    "dtype": "float32",
    "shape": [8, 128],
    "seconds": 1e-3,
    "copy_bytes_per_second": 8e9,
}


def made(name, day, error, rate, status="pass"):
    verdict = Verdict("accuracy.certified", "softmax", "float32", status, 10, 100, (error, error), 0.1, 4.0,
                      error / 4.0, "C", "off" if status == "fail" else "")  # fmt: skip
    environment = {"python": "3.11", "platform": "Linux", "date": f"2026-01-0{day}T00:00:00Z",
                   "versions": {"softcert": "0.1.0", "numpy": f"2.{day}.0"}}  # fmt: skip
    request = {"profile": "quick", "seed": 0, "ops": ["softmax"], "dtypes": ["float32"], "clauses": []}
    return Run(name, name, {}, environment, request, (verdict,), ({**SPEED, "bytes_per_second": rate},), 1.0)


def run(*args):
    return CliRunner().invoke(main, ["history", *(str(arg) for arg in args)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A history of three runs of one subject and one of another, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOFTCERT_HISTORY", raising=False)
    runs = [made("fast", 1, 1.5, 4e9), made("fast", 2, 2.5, 5e9), made("fast", 3, 4.5, 6e9, "fail")]
    write_document(report_to_json(runs), "report.json")
    write_document(run_to_json(made("other", 2, 0.5, 2e9)), "run.json")
    result = run("add", "report.json", "run.json")
    assert (result.exit_code, result.stdout) == (0, "softcert-history.sqlite: 4 runs added.\n"), result.stderr
    return tmp_path


def test_adding_again_adds_nothing(folder):
    assert run("add", "run.json").stdout == "softcert-history.sqlite: 0 runs added, 1 there already.\n"


def test_the_list_is_by_date(folder):
    result = run("list")
    assert result.exit_code == 0
    assert re.findall(r"2026-01-0\dT\S+ +(\w+)", result.stdout) == ["fast", "fast", "other", "fast"]
    assert "4 runs of 2 subjects, 1 with a broken clause." in result.stdout


def test_one_subject_is_shown_run_by_run(folder):
    result = run("show", "fast", "--op", "softmax", "--dtype", "float32")
    assert result.exit_code == 0
    for part in ("0.375", "0.625", "1.13", "0.5", "8 × 128"):
        assert part in result.stdout
    assert "other" not in result.stdout


def test_an_exported_run_is_the_one_added(folder):
    name = re.search(r"([0-9a-f]{12}) +\S+ +other", run("list").stdout)[1]
    result = run("export", name[:6])
    assert json.loads(result.stdout) == json.loads((folder / "run.json").read_text())
    assert run("export", name, "--json", "again.json").exit_code == 0
    assert CliRunner().invoke(main, ["compare", "run.json", "again.json"]).exit_code == 0


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.tags = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        assert not any(name == "src" for name, _ in attrs)


@pytest.mark.parametrize("by", ["date", "numpy"])
def test_the_page_has_a_plot_of_each_trend(folder, by):
    result = run("page", "trends.html", "--by", by)
    assert (result.exit_code, result.stdout) == (0, "trends.html\n"), result.stderr
    text = (folder / "trends.html").read_text()
    page = Page(text)
    assert page.tags.count("svg") == 3
    assert len(page.ids) == len(set(page.ids))
    assert "fast, quick, seed 0: 0.375 at first, 1.125 at last." in text
    assert (">2.1.0<" in text) is (by == "numpy")
    one = run("page", "-", "--subject", "other")
    assert "fast, quick" not in one.stdout


def test_another_place_is_named_by_option_or_variable(folder, monkeypatch):
    assert run("add", "run.json", "--history", "second").exit_code == 0
    monkeypatch.setenv("SOFTCERT_HISTORY", "second")
    assert "1 run of 1 subject" in run("list").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("list", "--history", "none"), "there is no history none"),
        (("show", "fsat"), "no run of 'fsat'"),
        (("show", "fast", "--op", "attention"), "no run of these has figures of attention"),
        (("page", "t.html", "--by", "torch"), "no run names a version of 'torch'"),
        (("page", "softcert-history.sqlite"), "is read by this command"),
        (("add", "none.json"), "cannot read none.json"),
        (("add", "run.json", "--history", "run.json"), "file is not a database"),
        (("add", "run.json", "--history", "no/folder/h"), "unable to open database file"),
        (("export", "zzz"), "no run whose name begins with 'zzz'"),
        (("export", ""), "whose name begins with ''"),
        (("add",), "Missing argument"),
        (("lst",), "No such command"),
    ],
)
def test_what_is_wrong_costs_one_sentence_and_nothing_else(folder, args, words):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_wrong_file_among_several_adds_none(folder):
    write_document(run_to_json(replace(made("third", 4, 1.0, 1e9))), "third.json")
    (folder / "bad.json").write_text("{")
    assert run("add", "third.json", "bad.json").exit_code == 2
    assert "third" not in run("list").stdout
