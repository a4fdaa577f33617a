"""`softcert bench`: what is timed, what is told, and what is left when it is stopped."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.cli.subjects import TIMED
from softcert.conformance.wire.runs import read_run, validate
from softcert.reports.speed import Stopwatch

KERNEL = """
import numpy as np

def softmax(x, axis=-1):
    terms = np.exp(x - x.max(axis=axis, keepdims=True))
    return terms / terms.sum(axis=axis, keepdims=True)

def wrong(x, axis=-1):
    return np.full_like(x, 1 / x.shape[axis])
"""
SMALL = ("--shape", "8x16", "--rounds", "2")


def bench(*args):
    return CliRunner().invoke(main, ["bench", *map(str, args)])


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return "k.py"


def test_one_subject_gives_a_run_and_a_table(kernel, tmp_path):
    done = bench(kernel, *SMALL, "--shape", "8x32", "--shape", "8x64", "--json", "out.json")
    assert done.exit_code == 0, done.stderr
    assert "softmax float32" in done.stdout
    assert "8 x 64" in done.stdout
    assert "time grows as n^" in done.stdout
    run = read_run(tmp_path / "out.json")
    assert [row["shape"] for row in run.speed] == [[8, 16], [8, 32], [8, 64]]
    assert all(len(row["samples"]) == 2 for row in run.speed)
    assert run.request["ops"] == ["softmax"]


def test_several_subjects_give_a_report_on_stdout_alone(kernel):
    done = bench(f"{kernel}:softmax", "numpy", "--op", "softmax", *SMALL, "--json", "-")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    validate(document, "report")
    assert [run["subject"]["name"] for run in document["runs"]] == ["k.py:softmax", "numpy"]
    assert "8 x 16" in done.stderr


def test_a_wrong_answer_is_exit_1(kernel):
    done = bench(f"{kernel}:wrong", "--op", "softmax", *SMALL)
    assert done.exit_code == 1
    assert "INVALID  k.py:wrong, 8 x 16: the answer after timing is wrong" in done.stdout


def test_one_that_cannot_be_loaded_does_not_cost_the_others():
    done = bench("numpy", "nowhere:f", "--op", "softmax", *SMALL)
    assert done.exit_code == 2
    assert "softcert: nowhere:f: " in done.stderr
    assert "numpy" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere:f", "--op", "softmax"], "nowhere"),
        (["numpy", "--op", "softmx"], "did you mean 'softmax'"),
        (["numpy", "--dtype", "float31"], "did you mean 'float32'"),
        (["numpy", "--shape", "8by16"], "a shape is lengths with x between"),
        (["numpy", "--shape", "8x0"], "a shape is lengths with x between"),
        (["numpy", "--shape", "8x16x4"], "8x16x4 has 3 axes"),
        (["numpy", "--shape", "1000000x1000000"], "268435456 is the most"),
        (["numpy", "--op", "attention", "--shape", "8x16"], "no --shape fits attention"),
        (["numpy", "--op", "softmax", "--dtype", "bfloat16", "--rounds", "1"], "--rounds"),
        (["scipy", "--op", "attention", *SMALL[2:]], "attention"),
        (["numpy", "--json", "."], "cannot write"),
        (["", "--op", "softmax"], "an empty text is no subject"),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words):
    pytest.importorskip("scipy")
    done = bench(*args)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_a_subject_without_those_ops_is_timed_on_its_own():
    assert "logsumexp" not in TIMED
    done = bench("numpy", "--op", "logsumexp", *SMALL)
    assert done.exit_code == 0
    assert "logsumexp float32" in done.stdout


def test_what_was_reached_is_kept(tmp_path, monkeypatch):
    whole = Stopwatch.rows

    def stopped(self, *args, **keywords):
        for number, step in enumerate(whole(self, *args, **keywords)):
            if number:
                raise KeyboardInterrupt
            yield step

    monkeypatch.setattr(Stopwatch, "rows", stopped)
    path = tmp_path / "out.json"
    done = bench("numpy", "--op", "softmax", *SMALL, "--shape", "8x32", "--json", path)
    assert done.exit_code == 130
    assert "8 x 16" in done.stdout
    assert "stopped before the end" in done.stderr
    run = read_run(path)
    assert len(run.speed) == 1
    assert run.request["stopped"] is True
