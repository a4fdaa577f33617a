"""Comparison with a baseline, and the configuration of a gate."""

from __future__ import annotations

from dataclasses import replace

import pytest

from softcert import check
from softcert.conformance.gate.baseline import compared, ratios, require_comparable, unknown_to
from softcert.conformance.gate.config import find_config, read_config
from softcert.conformance.gate.gate import run_gate
from softcert.conformance.gate.runs import gate_runs
from softcert.conformance.model import RequestError

WANTED = {"ops": "softmax", "dtypes": "float32", "clauses": "accuracy.certified", "profile": "smoke"}
SUBJECT = '[[subjects]]\nsubject = "numpy"\nops = "softmax"\ndtypes = "float32"\nclauses = "logistic"\n'


@pytest.fixture(scope="module")
def run():
    return check("numpy", **WANTED)


def changed(run, **fields):
    return replace(run, verdicts=tuple(replace(verdict, **fields) for verdict in run.verdicts))


def test_a_run_equals_itself(run):
    assert compared(run, run, 1.0).verdicts == run.verdicts
    assert unknown_to(run, run) == ()
    assert unknown_to(run, changed(run, dtype="float64")) == run.verdicts


@pytest.mark.parametrize(
    ("then", "factor", "words"),
    [
        ({"error_max": (0.0, 2.0)}, 1.1, "the error grew beyond 1.1 times"),
        ({"error_max": (0.0, 2.0)}, 1e6, ""),
        ({"grade": "A"}, 1e6, "the grade fell from A to"),
        ({"status": "fail", "grade": "F"}, 1.0, ""),
    ],
)
def test_what_fell_behind_is_broken(run, then, factor, words):
    (verdict,) = compared(run, changed(run, **then), factor).verdicts
    assert verdict.status == ("fail" if words else "pass")
    assert words in verdict.message


def test_a_clause_that_falls_silent_is_broken(run):
    (verdict,) = compared(changed(run, status="vacuous", message="nothing"), run, 1.0).verdicts
    assert verdict.status == "fail"
    assert "now it is vacuous" in verdict.message


@pytest.mark.parametrize("name", ["profile", "seed"])
def test_a_baseline_of_other_inputs_is_refused(run, name):
    other = replace(run, request={**run.request, name: 7})
    with pytest.raises(RequestError, match=f"old.json is of {name} 7"):
        require_comparable(run, other, "old.json")


def row(seconds, **more):
    return {"op": "softmax", "dtype": "float32", "shape": [8, 8], "seconds": seconds, **more}


@pytest.mark.parametrize(
    ("seconds", "before", "at_most", "exceeds"),
    [(1.4, 1.0, None, False), (1.6, 1.0, None, True), (1.6, None, None, False), (1.2, 1.0, 1.1, True)],
)
def test_times_are_held_to_the_nearer_limit(seconds, before, at_most, exceeds):
    baseline = () if before is None else (row(9.0, ratio=before),)
    (found,) = ratios((row(seconds),), (row(1.0),), baseline, 0.5, at_most)
    assert (found.ratio, found.exceeds) == (seconds, exceeds)


def test_what_is_too_slow_breaks_the_gate_and_shows_in_its_runs(tmp_path):
    path = tmp_path / "softcert.toml"
    path.write_text('profile = "smoke"\nspeed = {reference = "numpy", at_most = 2}\n' + SUBJECT)

    def timer(_subjects, _op, _dtypes):
        return (row(3.0),), (row(1.0),)

    result = run_gate(read_config(path), timer=timer)
    assert not result.holds
    *_, times = gate_runs(result)
    (verdict,) = times.verdicts
    assert (verdict.clause, verdict.status) == ("speed.8x8", "fail")
    assert "3 times as long" in verdict.message


def test_the_nearest_configuration_is_found(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.softcert]\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_config(inner) == (tmp_path / "pyproject.toml").resolve()
    (tmp_path / "a" / "softcert.toml").write_text(SUBJECT)
    assert find_config(inner) == (tmp_path / "a" / "softcert.toml").resolve()


def test_no_baseline_can_be_written_without_its_key(tmp_path):
    path = tmp_path / "softcert.toml"
    path.write_text(SUBJECT)
    with pytest.raises(RequestError, match="no subject has the key baseline"):
        run_gate(read_config(path), update=True)
