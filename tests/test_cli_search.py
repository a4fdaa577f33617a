"""`softcert search`: exit statuses, what is kept, and that a search goes on where it was stopped."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance import check
from softcert.conformance.worst_cases import read_cases

ONE = ("--op", "softmax", "--dtype", "float32", "--store", "worst")
#: Errs only where the gap to the maximum is in a narrow band.
KERNEL = """
import numpy as np

def softmax(x, axis=-1):
    gap = x - np.max(x, axis=axis, keepdims=True)
    terms = np.exp(gap)
    terms = np.where((gap < -9.695) & (gap > -9.715), terms * x.dtype.type(1.01), terms)
    return terms / np.sum(terms, axis=axis, keepdims=True)
"""


def run(*args):
    return CliRunner().invoke(main, ["search", *map(str, args)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


# What Hypothesis draws depends on the modules that are loaded: not yet found on every machine.
@pytest.mark.slow
def test_a_fault_that_a_smoke_check_misses_is_found_and_replayed(folder):
    asked = {"ops": "softmax", "dtypes": "float32", "clauses": "accuracy.certified", "profile": "smoke"}
    assert check("k.py", **asked).conforms
    result = run("k.py", *ONE, "--evaluations", 3000)
    assert result.exit_code == 1, result.output
    assert list((folder / "worst" / "witnesses").glob("*.json"))
    assert not check("k.py", **asked, worst="worst").conforms


def test_a_resumed_search_is_the_uninterrupted_one(folder):
    assert run("numpy", *ONE, "--evaluations", 150).exit_code == 0
    assert run("numpy", *ONE, "--evaluations", 300, "--resume").exit_code == 0
    whole = run("numpy", *ONE[:-1], "whole", "--evaluations", 300)
    assert whole.exit_code == 0
    state = "state/numpy-softmax-float32.json"
    assert (folder / "worst" / state).read_text() == (folder / "whole" / state).read_text()
    assert read_cases("whole")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("numpy", "--resume"), "--resume needs"),
        (("numpy", "--op", "attention"), "softmax ops so far"),
        (("numpy", "--op", "softmx"), "did you mean 'softmax'"),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words, folder):
    result = run(*args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_damaged_state_is_one_sentence(folder):
    assert run("numpy", *ONE, "--evaluations", 5).exit_code == 0
    path = folder / "worst" / "state" / "numpy-softmax-float32.json"
    path.write_text(path.read_text()[:40])
    result = run("numpy", *ONE, "--resume")
    assert result.exit_code == 2
    assert path.name in result.stderr
    assert result.stderr.count("\n") == 1
