"""Ctrl-C, SIGTERM and worse: what was reached is written, and no process stays behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from softcert.cli import main
from softcert.conformance.wire.runs import read_run

#: Answers the calls of the first clause, then says so and hangs.
HANGS = """
import pathlib, time
import numpy as np

calls = 0

def f(x, axis=-1):
    global calls
    calls += 1
    if calls > 90:
        pathlib.Path(__file__).with_suffix(".hangs").touch()
        time.sleep(1000)
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return terms / np.sum(terms, axis=axis, keepdims=True)
"""
CLAUSES = ("logistic.two-classes", "stability.magnitude", "stability.nan")
SECONDS_TO_END = 8  # a second or two, and twice that while other tests run


@pytest.fixture
def hanging(tmp_path):
    """Start a check that hangs in its second clause; return the process and all that it started."""
    (tmp_path / "kernel.py").write_text(HANGS)
    chosen = [word for clause in CLAUSES for word in ("--clause", clause)]
    command = [sys.executable, "-m", "softcert", "check", "kernel.py:f", "--op", "softmax"]
    command += ["--dtype", "float32", "--profile", "smoke", "--json", "run.json", *chosen]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, start_new_session=True
    ) as process:
        wait_for((tmp_path / "kernel.hangs").exists)
        family = psutil.Process(process.pid).children(recursive=True)
        yield process, family
        process.kill()


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def running(family):
    return [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("number", "times", "status"),
    [(signal.SIGINT, 1, 130), (signal.SIGINT, 6, 130), (signal.SIGTERM, 1, 143)],
)
def test_a_hanging_subject_is_left_at_once(hanging, tmp_path, number, times, status):
    process, family = hanging
    assert len(family) >= 3
    started = time.monotonic()
    for _ in range(times):
        if process.poll() is None:
            process.send_signal(number)
            time.sleep(0.1)
    stdout, stderr = process.communicate(timeout=30)
    assert time.monotonic() - started < SECONDS_TO_END
    assert process.returncode == status, stderr
    assert stderr == "softcert: stopped before the end.\n"
    assert "kernel.py:f: stopped after 1 of 3 verdicts; no clause broken so far, 56 cases" in stdout
    assert not running(family)
    run = read_run(tmp_path / "run.json")
    assert [v.clause for v in run.verdicts] == [CLAUSES[0]]
    assert run.request["clauses"] == list(CLAUSES)
    assert (run.request["ops"], run.request["dtypes"]) == (["softmax"], ["float32"])
    assert run.contract["form"] == "any"
    assert run.environment["versions"]["numpy"]


def test_nothing_outlives_a_killed_check(hanging):
    process, family = hanging
    process.kill()
    process.wait()
    wait_for(lambda: not running(family), SECONDS_TO_END)


def test_a_signal_that_was_ignored_stays_ignored():
    """As nohup and the background jobs of scripts have it."""
    program = (
        "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        "from softcert.cli import signals; signals.listen(); os.kill(os.getpid(), signal.SIGINT);"
        "print('went on')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "went on\n"


def test_a_report_stopped_while_timing_is_exit_130(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def stopped(*_args, **_keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr("softcert.reports.speed.Stopwatch.rows", stopped)
    args = ["report", "numpy", "--op", "softmax", "--dtype", "float32", "--clause", "stability.nan"]
    args += ["--profile", "smoke", "--no-open", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 130, result.output
    assert "without speeds" in result.stderr
    assert (tmp_path / "report.html").exists()
