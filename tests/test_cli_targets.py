"""Where results go: what would destroy something is refused before the run, and names are kept apart."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.reports.filenames import file_stem, unused_stem

QUICK = ("--op", "softmax", "--dtype", "float32", "--clause", "stability.nan", "--profile", "smoke")
KERNEL = """
import numpy as np

def f(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return terms / np.sum(terms, axis=axis, keepdims=True)
"""


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--json", "x", "--junit", "./x"], "twice"),
        (["--json", "-", "--junit", "-"], "both"),
        (["--json", "k.py"], "k.py is read"),
        (["--json", "c.json", "--contract", "c.json"], "c.json is read"),
        (["--html", "page", "--junit", "page/junit.xml"], "twice"),
        (["--html", "k.py"], "k.py is not a folder"),
        (["--json", ""], "--json"),
        (["--junit", ""], "--junit"),
        (["--html", ""], "--html"),
        (["--save-witnesses", ""], "--save-witnesses"),
        (["--contract", ""], "--contract"),
    ],
)
def test_what_would_lose_a_result_is_refused_before_the_run(args, words, folder, monkeypatch):
    monkeypatch.setattr("softcert.conformance.check", lambda *_a, **_k: pytest.fail("the run began"))
    pytest.importorskip("matplotlib")
    (folder / "page").mkdir()
    (folder / "c.json").write_text("{}")
    result = run("check", "k.py:f", *QUICK, *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert (folder / "k.py").read_text() == KERNEL
    assert (folder / "c.json").read_text() == "{}"


def test_replay_takes_no_empty_text():
    for option in ("--contract", "--subject"):
        result = run("replay", "witness.json", option, "")
        assert result.exit_code == 2
        assert option in result.stderr


def test_several_results_may_go_to_a_device(folder):
    assert run("check", "k.py:f", *QUICK, "--json", "/dev/null", "--junit", "/dev/null").exit_code == 0


def test_junit_on_stdout_is_alone_there(folder):
    result = run("check", "k.py:f", *QUICK, "--junit", "-")
    assert ET.fromstring(result.stdout).tag == "testsuites"
    assert "conforms" in result.stderr


@pytest.mark.parametrize("name", ["runs", "witnesses", "report.html"])
def test_what_is_in_the_way_of_a_report_is_found_before_the_run(name, folder, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("softcert.conformance.check", lambda *_a, **_k: pytest.fail("the run began"))
    out = folder / "out"
    out.mkdir()
    (out / name).mkdir() if "." in name else (out / name).touch()
    result = run("report", "k.py:f", "--no-open", "--out", out)
    assert result.exit_code == 2
    assert name in result.stderr


def test_a_report_keeps_its_subjects_apart(folder, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("softcert.reports.speed.problems.LADDER", ((8, 16),))
    names = ("a_b/k.py", "a/b/k.py", "./k.py")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(KERNEL.replace("x - ", ""))
    result = run("report", *(f"{name}:f" for name in names), *QUICK, "--no-open", "--out", "out")
    assert result.exit_code == 0, result.output
    runs = [path.name for path in (folder / "out" / "runs").iterdir()]
    assert len(runs) == 3
    assert not [name for name in runs if name.startswith(".")]


def test_file_stems():
    assert file_stem("./k.py:f") == "k.py_f"
    assert file_stem("...") == "unnamed"
    assert len(file_stem("x" * 300)) < 200
    assert unused_stem("a/b", ["a_b", "A_B-2"]) == "a_b-3"
