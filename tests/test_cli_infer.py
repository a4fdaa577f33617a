"""`softcert infer`: the file that it writes, and what it says where there is none to write."""

from __future__ import annotations

import tomllib
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from softcert.backends import Contract
from softcert.cli import main
from softcert.conformance.inference import Decision, Inferred
from softcert.conformance.model import Verdict

KERNEL = """
import numpy as np

def softmax(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return terms / np.sum(terms, axis=axis, keepdims=True)

def naive(x, axis=-1):
    return np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True)
"""
ONE = ("--op", "softmax", "--dtype", "float32")


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


@pytest.mark.slow
def test_a_gate_holds_to_the_contract_that_was_inferred(folder):
    result = run("infer", "k.py:softmax", *ONE, "--out", "contract.toml")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "contract.toml" in result.stderr
    assert (
        run("check", "k.py:softmax", *ONE, "--profile", "smoke", "--contract", "contract.toml").exit_code == 0
    )
    (folder / "softcert.toml").write_text(
        'profile = "smoke"\n[[subjects]]\nsubject = "k.py:softmax"\nops = ["softmax"]\n'
        'dtypes = ["float32"]\ncontract = "contract.toml"\n'
    )
    assert run("gate", "--no-speed").exit_code == 0
    (folder / "k.py").write_text(KERNEL.replace("terms / np", "x.dtype.type(1 + 2**-19) * terms / np"))
    assert run("gate", "--no-speed").exit_code == 1


@pytest.mark.slow
def test_a_subject_that_meets_no_contract_is_exit_status_1(folder):
    result = run("infer", "k.py:naive", *ONE, "--out", "contract.toml")
    assert result.exit_code == 1
    assert "stability.magnitude" in result.stderr
    assert "meets no contract" in result.stderr
    assert not (folder / "contract.toml").exists()


def test_the_contract_goes_to_stdout_alone(folder, monkeypatch):
    found = Inferred(
        "k.py:softmax",
        "k",
        Contract(exp_ulp=1.25),
        (Decision("exp_ulp", 1.25, 40, "accuracy.certified"), Decision("causal", "bottom-right", 0)),
        (Verdict("accuracy.certified", "softmax", "float32", "pass", cases=40),),
        3,
    )
    asked = SimpleNamespace()
    monkeypatch.setattr(
        "softcert.conformance.inference.infer", lambda *_a, **named: vars(asked).update(named) or found
    )
    result = run("infer", "k.py:softmax", *ONE, "--seed", 4, "--profile", "quick")
    assert result.exit_code == 0
    assert tomllib.loads(result.stdout) == {"exp_ulp": 1.25}
    assert "# 40 cases; a stricter one breaks accuracy.certified" in result.stdout
    assert "profile quick, seed 4" in result.stdout
    assert result.stdout.endswith("speaks of them: causal.\n")
    assert (asked.op, asked.dtypes, asked.seed, asked.profile) == ("softmax", ["float32"], 4, "quick")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("numpy", "--op", "softmx"), "did you mean 'softmax'"),
        (("numpy", "--profile", "long"), "profile"),
        (("k.py:softmax", *ONE, "--out", "k.py"), "is read by this run"),
        (("k.py:softmax", *ONE, "--out", "none/c.toml"), "cannot write"),
        (("k.py:none", *ONE), "no attribute 'none'"),
    ],
)
def test_a_wrong_request_is_one_sentence(args, words, folder):
    result = run("infer", *args)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert (folder / "k.py").read_text() == KERNEL
