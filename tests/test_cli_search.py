"""`softcert search`: exit statuses, what is kept, and that a search goes on where it was stopped."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance import check
from softcert.conformance.hunting.worst_cases import read_cases

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
#: Weighs one key wrongly where every score is far below those of ordinary operands.
ATTENTION = """
import numpy as np

def attention(q, k, v, *, scale=None, causal=False, mask=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    times = q.shape[-3] // k.shape[-3]
    k, v = np.repeat(k, times, axis=-3), np.repeat(v, times, axis=-3)
    scores = (scale * (q @ k.swapaxes(-1, -2))).astype(q.dtype)
    if causal:
        first = k.shape[-2] - q.shape[-2]
        hidden = np.arange(k.shape[-2]) > np.arange(q.shape[-2])[:, None] + first
        scores = np.where(hidden, q.dtype.type(-np.inf), scores)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    top = scores.max(axis=-1, keepdims=True)
    top = np.where(np.isfinite(top), top, 0.0).astype(q.dtype)
    weights = np.exp(scores - top).astype(q.dtype)
    weights[..., 0] *= np.where(top[..., 0] < -130.0, q.dtype.type(2.0), q.dtype.type(1.0))
    total = weights.sum(axis=-1, keepdims=True)
    return ((weights / np.where(total > 0, total, 1)) @ v).astype(q.dtype)
"""


def run(*args):
    return CliRunner().invoke(main, ["search", *map(str, args)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


def test_a_fault_that_a_smoke_check_misses_is_found_and_replayed(folder):
    asked = {"ops": "softmax", "dtypes": "float32", "clauses": "accuracy.certified", "profile": "smoke"}
    assert check("k.py", **asked).conforms
    result = run("k.py", *ONE, "--evaluations", 20000)
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


def test_a_fault_of_attention_is_found_and_replayed_by_a_check(folder):
    (folder / "a.py").write_text(ATTENTION)
    asked = ("a.py", "--op", "attention", "--dtype", "float32", "--clause", "attention.definition")
    smoke = ("check", *asked, "--profile", "smoke")
    assert CliRunner().invoke(main, smoke).exit_code == 0
    result = run(*asked[:5], "--store", "worst", "--evaluations", 20000)
    assert result.exit_code == 1, result.output
    again = CliRunner().invoke(main, [*smoke, "--worst", "worst/attention-float32.json"])
    assert again.exit_code == 1, again.output
    assert "attention.definition" in again.output


@pytest.mark.parametrize("op", ["attention_vjp", "attention_merge"])
def test_a_resumed_search_of_attention_is_the_uninterrupted_one(op, folder):
    asked = ("numpy", "--op", op, "--dtype", "float16", "--store")
    assert run(*asked, "worst", "--evaluations", 60).exit_code == 0
    assert run(*asked, "worst", "--evaluations", 90, "--resume").exit_code == 0
    assert run(*asked, "whole", "--evaluations", 90).exit_code == 0
    state = f"state/numpy-{op}-float16.json"
    assert (folder / "worst" / state).read_text() == (folder / "whole" / state).read_text()


def test_what_is_loaded_does_not_change_a_search(folder):
    numbers = ", ".join(str(i * i) for i in range(100, 1100))
    (folder / "of_my_own.py").write_text(f"NUMBERS = [{numbers}]\n")
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "if sys.argv[1] == 'more': import of_my_own\n"
        "from softcert.conformance.hunting.search import search\n"
        "search('numpy', ops='softmax', dtypes='float32', evaluations=300, store=sys.argv[1])\n"
    )
    states = []
    for store in ("less", "more"):
        subprocess.run([sys.executable, "-c", program, store], cwd=folder, check=True, timeout=300)
        states.append((folder / store / "state" / "numpy-softmax-float32.json").read_text())
    assert states[0] == states[1]
    assert '"hypothesis"' in states[0]


def test_a_file_that_holds_no_worst_cases_is_one_sentence(folder):
    (folder / "none.json").write_text("{}")
    result = CliRunner().invoke(main, ["check", "numpy", "--op", "softmax", "--worst", "none.json"])
    assert result.exit_code == 2
    assert "none.json" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("numpy", "--resume"), "--resume needs"),
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
