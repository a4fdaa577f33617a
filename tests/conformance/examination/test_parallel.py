"""Several processes reach the same verdicts as one, and what befalls one of them is told."""

from __future__ import annotations

import pickle
import subprocess
import sys

import psutil
import pytest

from softcert import check
from softcert.backends import Limits
from softcert.conformance.examination.examiner import _portable, examiners
from softcert.conformance.examination.job import Item, Task
from softcert.conformance.examination.parallel import Stopped, examine_in_processes
from softcert.conformance.model import OracleError
from softcert.conformance.profiles import PROFILES

ITEMS = [
    Item(clause, "softmax", dtype)
    for dtype in ("float64", "float32", "float16")
    for clause in ("stability.nan", "stability.plus-inf")
]


@pytest.fixture
def task():
    return Task("numpy", None, None, Limits(), PROFILES["smoke"], 0)


def examining():
    return [p for p in psutil.Process().children() if "examiner" in " ".join(p.cmdline())]


def test_verdicts_do_not_depend_on_the_processes():
    def verdicts(jobs):
        run = check("numpy", ops=["softmax"], clauses=["logistic"], profile="smoke", jobs=jobs)
        return [(v.clause, v.op, v.dtype, v.status, v.cases, v.margin) for v in run.verdicts]

    assert verdicts(2) == verdicts(1)
    assert not examining()


def test_verdicts_come_in_the_order_asked(task):
    seen = []
    verdicts = examine_in_processes(task, ITEMS, 2, seen.append)
    assert [Item(v.clause, v.op, v.dtype) for v in verdicts] == ITEMS
    assert len(seen) == len(ITEMS)
    assert examine_in_processes(task, [], 2, seen.append) == []


def test_a_stop_tells_what_was_planned_and_what_the_subject_is(task):
    def stop(_verdict):
        raise KeyboardInterrupt

    with pytest.raises(Stopped) as caught:
        examine_in_processes(task, ITEMS, 2, stop)
    assert caught.value.planned == tuple(ITEMS)
    assert caught.value.description.name == "numpy"
    assert type(caught.value.__cause__) is KeyboardInterrupt
    assert not examining()


def test_an_error_in_a_process_is_raised_here(task):
    unknown = [Item("no.such-clause", "softmax", "float32")]
    with pytest.raises(KeyError, match="such-clause") as caught:
        examine_in_processes(task, unknown, 1, lambda _verdict: None)
    assert "examine_all" in caught.value.__notes__[0]


def test_a_process_that_was_killed_is_told(task):
    def kill(_verdict):
        for process in examining():
            process.kill()

    with pytest.raises(RuntimeError, match="examining process ended with status -9"):
        examine_in_processes(task, ITEMS * 3, 1, kill)


def test_examiners_end_with_the_block(task):
    before = set(psutil.Process().children())
    with examiners(task, 2) as started:
        # Told by whose children they are: a program that has just been started shows no arguments yet.
        working = set(psutil.Process().children()) - before
        assert len(started) == len(working) == 2
    assert not any(process.is_running() for process in working)
    assert not examining()


def test_errors_that_cannot_be_sent_are_sent_in_words():
    class Local(Exception):  # noqa: N818 -- any name does
        pass

    portable = _portable(Local("words"))
    assert isinstance(portable, RuntimeError)
    assert "Local: words" in str(pickle.loads(pickle.dumps(portable)))
    assert isinstance(_portable(OracleError("disagree")), OracleError)


def test_a_lifeline_that_was_cut_before_it_was_bound_kills_too():
    program = (
        "import os, socket; from softcert.backends import lifeline; os.setsid();"
        "ours, theirs = socket.socketpair(); ours.close(); lifeline.bind(theirs.fileno()); print('lives')"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (result.returncode, result.stdout) == (-9, b"")
