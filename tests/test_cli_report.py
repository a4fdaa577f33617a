"""A report that was ended in any way goes on where it was, and never mixes what was asked differently."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from importlib.resources import files

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from softcert.cli import main
from softcert.conformance.wire.runs import dumps, read_report, read_run, run_to_json

pytest.importorskip("matplotlib")

ASKED = ("--op", "softmax", "--dtype", "float32", "--clause", "stability.nan", "--profile", "smoke")
#: Counts its loadings, and hangs in its first call while a file says so.
KERNEL = """
import pathlib, time
import numpy as np

here = pathlib.Path(__file__)

def f(x, axis=-1):
    while here.with_suffix(".hold").exists():
        here.with_suffix(".held").touch()
        time.sleep(0.05)
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return terms / np.sum(terms, axis=axis, keepdims=True)
"""


class Untimed(AbstractContextManager):
    """A stopwatch that stands still, where the kernels' speed is not what is tested."""

    def __init__(self, *_):
        pass

    def __exit__(self, *_):
        pass

    def rows(self, *_, **__):
        return iter(())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("softcert.reports.speed.Stopwatch", Untimed)
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(KERNEL)
    return tmp_path


@pytest.fixture(scope="module")
def published():
    """A validator of report.json by the published schemas and their own library alone."""
    folder = files("softcert.conformance") / "schemas"
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.iterdir()]
    registry = Registry().with_resources([(d["$id"], Resource.from_contents(d)) for d in documents])
    return Draft202012Validator({"$ref": "urn:softcert:schema:run-1#report"}, registry=registry)


@pytest.fixture
def judged(monkeypatch):
    """The subjects that are judged from now on."""
    from softcert.conformance import check

    names = []

    def counting(subject, **keywords):
        names.append(subject)
        return check(subject, **keywords)

    monkeypatch.setattr("softcert.conformance.check", counting)
    return names


def report(*args):
    return CliRunner().invoke(main, ["report", *args, *ASKED, "--no-open"])


def runs_of(folder):
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def wait_for(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_the_files_of_a_report_are_what_their_schemas_say(tmp_path, published, monkeypatch):
    monkeypatch.setattr("softcert.reports.speed.problems.LADDER", ((8, 16),))
    arguments = ("numpy", "numpy-naive", "--clause", "logistic.two-classes", "--out", str(tmp_path))
    assert report(*arguments).exit_code == 0
    document = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    published.validate(document)
    naive = document["runs"][1]
    assert naive["speed"]
    assert [v["status"] for v in naive["verdicts"]] == ["fail", "pass"]
    for path, value in ((("speed", 0, "seconds"), "soon"), (("verdicts", 0, "witness", "seed"), None)):
        *place, last = path
        part = json.loads(json.dumps(document))
        target = part["runs"][1]
        for step in place:
            target = target[step]
        target[last] = value
        assert not published.is_valid(part)
    suites = ET.parse(tmp_path / "junit.xml").getroot().findall("testsuite")
    assert [(s.get("name"), s.get("tests"), s.get("failures")) for s in suites] == [
        ("numpy", "2", "0"),
        ("numpy-naive", "2", "1"),
    ]


def test_a_finished_run_is_kept_and_told(folder, judged):
    assert report("a.py:f").exit_code == 0
    again = report("a.py:f", "b.py:f")
    assert again.exit_code == 0, again.output
    assert judged == ["a.py:f", "b.py:f"]
    assert "a.py:f: kept from 20" in again.stderr
    assert [run.subject for run in read_report(folder / "report" / "report.json")] == ["a.py:f", "b.py:f"]
    assert runs_of(folder / "report" / "earlier") == set()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_report_that_was_ended_half_way_goes_on(folder, judged, number):
    (folder / "b.hold").touch()
    command = [sys.executable, "-m", "softcert", "report", "a.py:f", "b.py:f", *ASKED, "--no-open"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for((folder / "b.held").exists)
        process.send_signal(number)
        process.communicate(timeout=60)
    finished = read_run(folder / "report" / "runs" / "a.py_f.json")
    (folder / "b.hold").unlink()
    result = report("a.py:f", "b.py:f")
    assert result.exit_code == 0, result.output
    assert judged == ["b.py:f"]
    first, second = read_report(folder / "report" / "report.json")
    assert first.environment["date"] == finished.environment["date"]
    assert not second.request.get("stopped")
    assert {v.status for v in second.verdicts} == {"pass"}


def test_what_was_being_written_when_it_was_killed_counts_for_nothing(folder):
    report("a.py:f")
    runs = folder / "report" / "runs"
    half = runs / ".b.py_f.json.abc.tmp"
    half.write_text((runs / "a.py_f.json").read_text()[:500])
    os.utime(half, (0, 0))
    assert report("a.py:f").exit_code == 0
    assert runs_of(runs) == {"a.py_f.json"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--seed", "1"), "--seed is now 1, and was 0"),
        (("--dtype", "float64"), "--dtype is now float64, float32, and was float32"),
        (("--clause", "purity.axis"), "--clause is now"),
        (("--fresh",), "judged anew"),
    ],
)
def test_another_request_sets_the_run_aside(folder, judged, option, words):
    report("a.py:f")
    path = folder / "report" / "runs" / "a.py_f.json"
    before = path.read_text()
    result = report("a.py:f", *option)
    assert result.exit_code == 0, result.output
    assert words in result.stderr
    assert len(judged) == 2
    assert (folder / "report" / "earlier" / path.name).read_text() == before
    assert path.read_text() != before
    report("a.py:f", *option)
    assert runs_of(folder / "report" / "earlier") >= {path.name}


def test_a_subject_that_changed_is_judged_again(folder, judged):
    report("a.py:f", "b.py:f")
    (folder / "a.py").write_text(KERNEL.replace("x - ", ""))
    result = report("a.py:f")
    assert "its files, or those of softcert, have changed" in result.stderr
    assert judged == ["a.py:f", "b.py:f", "a.py:f"]


@pytest.mark.parametrize(
    ("part", "value", "words"),
    [
        ("processor", "Another", "and was Another"),
        ("python", "CPython 2.7", "the python is now"),
        ("versions", {"numpy": "1.0", "softcert": "0.0.1"}, "softcert is now"),
        ("sources", "0" * 24, "have changed"),
    ],
)
def test_another_machine_or_version_sets_the_run_aside(folder, judged, part, value, words):
    report("a.py:f")
    path = folder / "report" / "runs" / "a.py_f.json"
    document = json.loads(path.read_text())
    document["environment"][part] = value
    path.write_text(json.dumps(document))
    result = report("a.py:f")
    assert words in result.stderr
    assert len(judged) == 2


@pytest.mark.parametrize("damage", [lambda text: text[:1000], lambda _: "", lambda _: '{"schema": 1}'])
def test_a_damaged_run_is_set_aside_in_one_sentence(folder, judged, damage):
    report("a.py:f")
    path = folder / "report" / "runs" / "a.py_f.json"
    path.write_text(damage(path.read_text()))
    left = path.read_text()
    result = report("a.py:f")
    assert result.exit_code == 0, result.output
    (told,) = [line for line in result.stderr.splitlines() if "earlier" in line]
    assert str(path.relative_to(folder)) in told
    assert (folder / "report" / "earlier" / path.name).read_text() == left
    assert len(judged) == 2


def test_what_stands_in_the_way_of_setting_aside_is_refused(folder):
    report("a.py:f")
    (folder / "report" / "earlier").touch()
    result = report("a.py:f", "--fresh")
    assert result.exit_code == 2
    assert "cannot set" in result.stderr
    assert runs_of(folder / "report" / "runs") == {"a.py_f.json"}


def test_the_bar_says_which_subject_of_how_many_and_how_long_the_others_take(folder, monkeypatch):
    titles = []

    @contextmanager
    def bar(title):
        titles.append(title)
        yield lambda _step: None

    monkeypatch.setattr("softcert.cli.judging.progress_bar", bar)
    (folder / "c.py").write_text(KERNEL)
    report("a.py:f", "b.py:f", "c.py:f")
    first, second, third = titles
    assert (first, third) == ("[1/3] a.py:f", "[3/3] c.py:f")
    assert re.fullmatch(r"\[2/3, then about \d+:\d\d\] b\.py:f", second)


# --- proofs ---


@pytest.fixture
def proof(folder):
    """A file with a proof by exhaustion about a.py:f, of the versions that are here."""
    report("a.py:f")
    run = read_run(folder / "report" / "runs" / "a.py_f.json")
    verdict = replace(
        run.verdicts[0], exhaustive="every number <there is>", error_max=(0.5, 0.75), elements=7
    )
    path = folder / "proof.json"
    path.write_text(dumps(run_to_json(replace(run, verdicts=(verdict,)))))
    return path


def test_a_proof_stands_beside_its_subject_and_not_in_the_run_that_is_kept(folder, proof):
    result = report("a.py:f", "b.py:f", "--proof", str(proof))
    assert result.exit_code == 0, result.output
    first, second = read_report(folder / "report" / "report.json")
    assert [v.exhaustive for v in first.verdicts] == ["", "every number <there is>"]
    assert [v.exhaustive for v in second.verdicts] == [""]
    assert "every number &lt;there is&gt;" in (folder / "report" / "report.html").read_text()
    assert [v.exhaustive for v in read_run(folder / "report" / "runs" / "a.py_f.json").verdicts] == [""]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["subject"].update(spec="c.py:f"), "is about c.py:f, which is none"),
        (lambda d: d["verdicts"][0].pop("exhaustive"), "proves nothing"),
        (lambda d: d["environment"]["versions"].update(numpy="1.0"), "is about numpy 1.0, and here is"),
    ],
)
def test_what_is_no_proof_about_a_subject_is_refused_before_the_work(folder, judged, proof, change, words):
    document = json.loads(proof.read_text())
    change(document)
    proof.write_text(json.dumps(document))
    judged.clear()
    result = report("a.py:f", "b.py:f", "--proof", str(proof))
    assert result.exit_code == 2
    assert words in result.stderr
    assert judged == []
