"""`softcert cases`, `run` and `judge`: from one machine to another and back, by the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import softcert
from softcert.cli import main
from softcert.conformance.wire.runs import read_run

ONE = ("--op", "softmax", "--dtype", "float32", "--clause", "accuracy.batch", "--profile", "smoke")
KERNEL = """
import numpy as np

def f(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return terms / np.sum(terms, axis=axis, keepdims=True)

def wrong(x, axis=-1):
    return f(x, axis) * x.dtype.type(1.01)
"""
#: Imported by every Python process first: refuses what a machine without an oracle does not have.
BARE = """
import sys

class Absent:
    names = {names}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
"""
#: Every dependency but NumPy and click, and what they bring along.
ABSENT = {
    "flint",
    "hypothesis",
    "jsonschema",
    "junitparser",
    "ml_dtypes",
    "mpmath",
    "numba",
    "psutil",
    "referencing",
    "rich",
    "sympy",
}


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


@pytest.fixture
def bare(folder):
    """Runs softcert in a process tree without any library but NumPy and click."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BARE.format(names=ABSENT))
    source = str(Path(softcert.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), source))}

    def started(*args):
        command = [sys.executable, "-m", "softcert", *map(str, args)]
        return subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=300
        )

    return started


def test_a_bare_machine_answers_and_home_judges(folder, bare):
    assert run("cases", *ONE, "--dtype", "bfloat16", "--out", "c").exit_code == 0
    ran = bare("run", "k.py:f", "--cases", "c", "--out", "r")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == ""
    assert "trials answered in r" in ran.stderr
    result = run("judge", "r", "--json", "out.json", "--junit", "out.xml")
    assert result.exit_code == 0, result.output
    assert "conforms" in result.stdout
    narrow, wide = read_run("out.json").verdicts[::-1]
    assert (wide.status, wide.dtype) == ("pass", "float32")
    assert (narrow.status, narrow.dtype) == ("skip", "bfloat16")
    assert "needs ml_dtypes" in narrow.message
    assert Path("out.xml").read_text().count("<testcase") == 2


@pytest.mark.parametrize("command", ["check", "judge", "cases", "infer", "spec"])
def test_a_bare_machine_says_what_it_cannot_do(bare, command):
    told = bare(command, "numpy", "--profile", "smoke")
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "not installed here" in told.stderr
    assert "softcert run" in told.stderr


def test_a_bare_machine_lists_its_commands(bare):
    told = bare("--help")
    assert told.returncode == 0
    assert "Not available" in told.stdout
    assert "Make the calls of a file of cases" in told.stdout


def test_a_bare_machine_survives_a_crash_and_refuses_what_is_wrong(folder, bare):
    (folder / "k.py").write_text("import os\ndef f(x, axis=-1):\n    os.abort()\n")
    run("cases", *ONE, "--out", "c")
    ran = bare("run", "k.py:f", "--cases", "c", "--out", "r")
    assert ran.returncode == 0, ran.stderr
    assert run("judge", "r").exit_code == 1
    for args, words in (
        (("k.py:g", "--cases", "c"), "no attribute 'g'"),
        (("k.py:f", "--cases", "k.py"), "cannot use k.py"),
        (("k.py:f", "--cases", "none"), "no such file"),
    ):
        told = bare("run", *args, "--out", "other")
        assert told.returncode == 2
        assert words in told.stderr
        assert told.stderr.count("\n") == 1
        assert not (folder / "other").exists()


def test_a_broken_clause_is_exit_status_1_and_a_further_exchange_is_offered(folder):
    run("cases", *ONE, "--out", "c")
    run("run", "k.py:wrong", "--cases", "c", "--out", "r")
    result = run("judge", "r", "--more", "more", "--save-witnesses", "w")
    assert result.exit_code == 1
    assert "does not conform" in result.stdout
    assert "cases in more" in result.stderr
    assert list((folder / "w").glob("accuracy.batch*.json"))
    assert run("run", "k.py:wrong", "--cases", "more", "--out", "r2").exit_code == 0
    again = run("judge", "r", "r2", "--json", "-")
    assert again.exit_code == 1
    smaller = json.loads(again.stdout)["verdicts"][0]["witness"]
    first = json.loads(next((folder / "w").glob("*.json")).read_text())

    def size(witness):
        return sum(len(o["hex"]) for c in witness["trial"]["calls"] for o in c["operands"])

    assert size(smaller) < size(first)


def test_results_are_judged_by_another_contract(folder):
    (folder / "contract.toml").write_text("exp_ulp = 400000.0\n")
    run("cases", *ONE, "--out", "c")
    run("run", "k.py:wrong", "--cases", "c", "--out", "r")
    assert run("judge", "r").exit_code == 1
    assert "accuracy.batch" not in run("judge", "r", "--contract", "contract.toml").stdout
    (folder / "known.toml").write_text('[[expected_failures]]\nclause = "accuracy"\nreason = "known"\n')
    assert run("judge", "r", "--expected-failures", "known.toml").exit_code == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("cases", "--op", "softmx", "--out", "c"), "did you mean 'softmax'"),
        (("cases", "--op", "softmax", "--clause", "attention", "--out", "c"), "speaks of softmax"),
        (("cases", "--out", "none/c"), "cannot write none/c"),
        (("run", "numpy", "--cases", "k.py", "--out", "k.py"), "is read by this run"),
        (("run", "k.py:f", "--cases", "c", "--out", "k.py"), "is read by this run"),
        (("run", "numpy", "--cases", "k.py", "--out", "r", "--op", "x"), "there is no op 'x'"),
        (("judge", "k.py"), "cannot use k.py"),
        (("judge", "k.py", "--more", "k.py"), "cannot go to k.py"),
        (("judge",), "FILE"),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words, folder):
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert (folder / "k.py").read_text() == KERNEL
