"""What a run is said to come to, in words, colours and exit statuses, at every width."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

from softcert.cli import main
from softcert.cli.console import print_run
from softcert.conformance.examination.examine import NOT_ASKED
from softcert.conformance.model import Run, Verdict
from softcert.conformance.outcome import outcome
from softcert.wording import conclusion, hexadecimal

PASSED = Verdict("accuracy.certified", "log_softmax", "bfloat16", "pass", 20, 99, (0.4, 0.5), grade="A")
VACUOUS = Verdict("accuracy.length", "log_softmax", "bfloat16", "vacuous", message="too loose")
SKIPPED = Verdict("determinism.repeat", "softmax_vjp", "float32", "skip", message="not promised")
FAILED = Verdict("simplex.sum", "softmax_vjp", "float32", "fail", 3, message="wrong")


def made(*verdicts, **request):
    return Run("k.py", "k.py", {}, {}, request, verdicts, seconds=1.0)


def printed(run, width):
    stream = io.StringIO()
    print_run(run, Console(file=stream, width=width, force_terminal=True, color_system="standard"))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("run", "state", "colour", "words"),
    [
        (made(PASSED), "conforms", "32", "k.py conforms: no clause broken, 1 verdict on 20 cases in 1.0 s."),
        (made(VACUOUS, SKIPPED), "nothing", "33",
         "k.py: nothing was shown: every verdict is vacuous or skipped, "),
        (made(PASSED, stopped=True, planned=33), "stopped", "33",
         "k.py: stopped after 1 of 33 verdicts; no clause broken so far, 20 cases in 1.0 s."),
        (made(PASSED, FAILED, stopped=True, planned=33), "broken", "31",
         "k.py does not conform: stopped after 2 of 33 verdicts; 1 clause broken so far (simplex.sum), "),
        (made(PASSED, FAILED), "broken", "31", "k.py does not conform: 1 clause broken (simplex.sum), "),
    ],
)  # fmt: skip
def test_conclusions(run, state, colour, words):
    assert outcome(run) == state
    assert conclusion(run).startswith(words)
    last = printed(run, 120).splitlines()[-1]
    assert last.startswith(f"\x1b[1;{colour}m")


def test_a_run_that_shows_nothing_is_exit_2_and_written(monkeypatch, tmp_path):
    run = made(VACUOUS, SKIPPED, profile="smoke", seed=0, ops=[], dtypes=[], clauses=[])
    monkeypatch.setattr("softcert.conformance.check", lambda *_a, **_k: run)
    result = CliRunner().invoke(main, ["check", "numpy", "--junit", str(tmp_path / "run.xml")])
    assert result.exit_code == 2
    assert result.stderr == "softcert: nothing was shown: every verdict is vacuous or skipped.\n"
    assert (tmp_path / "run.xml").exists()


@pytest.mark.parametrize("width", [120, 80, 60, 40])
def test_the_table_fits_and_names_are_whole(width):
    worst = replace(PASSED, error_max=(3e38, 3.4028e38), margin=1.23e38, cases=123456)
    lines = printed(made(worst, SKIPPED), width).splitlines()
    table = [line for line in lines if "softmax" in line or line.startswith("op ")]
    assert len(table) == 3
    assert all(len(line) <= width and line == line.rstrip() for line in table)
    assert "log_softmax  bfloat16" in table[1]
    assert "…" not in "".join(table)
    assert ("cases" in table[0]) == (width >= 80)
    assert "broken" in table[0]


def test_a_largest_error_that_is_proved_says_so():
    proof = replace(PASSED, exhaustive="every number", error_max=(0.25, 0.375), margin=0.5)
    shown = [
        ((proof,), "0.375 ulp, proved"),
        ((proof, PASSED), "0.5 ulp"),
        ((replace(proof, error_max=(0.7, 0.75)), PASSED), "0.75 ulp, proved"),
    ]
    for verdicts, words in shown:
        (row,) = [line for line in printed(made(*verdicts), 120).splitlines() if line.startswith("log_soft")]
        assert f"  {words}  " in row
        assert ("proved" in row) == ("proved" in words)


def test_an_error_of_nothing_judged_is_a_dash():
    errors = replace(PASSED, status="error", grade="F", elements=0, error_max=(0.0, 0.0))
    (row,) = [line for line in printed(made(errors), 120).splitlines() if line.startswith("log_softmax")]
    assert row.split()[2:5] == ["F", "-", "-"]


def test_no_line_ends_in_blanks():
    first = printed(made(PASSED), 120).splitlines()[0]
    assert first == "\x1b[3mk.py\x1b[0m"


def test_what_was_not_asked_is_printed_once():
    note = f"{NOT_ASKED}groups of heads that share keys (ValueError: no)"
    lines = printed(
        made(replace(PASSED, message=note), replace(PASSED, message=note), FAILED), 200
    ).splitlines()
    assert sum("groups of heads" in line for line in lines) == 1
    assert "groups of heads" not in printed(made(PASSED), 200)


def test_classes_are_shown_as_the_integers_that_they_are():
    assert hexadecimal(np.array([3, -100])) == "[3, -100]"
    assert hexadecimal(np.array([3.0, -0.5])) == "[0x1.8p+1, -0x1p-1]"
