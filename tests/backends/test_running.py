"""Answering cases: what is reached is kept, a failure ends no run, and nothing is half written."""

from __future__ import annotations

import numpy as np
import pytest

from softcert.backends import Call, exchange
from softcert.backends.running import PART, run_cases
from softcert.errors import RequestError, SubjectError

REQUEST = {"profile": "smoke", "seed": 0, "ops": None, "dtypes": None, "clauses": [], "contract": None}
KERNEL = """
import os
import numpy as np

def softmax(x, axis=-1):
    if x.size == 3:
        os.abort()
    if x.size == 4:
        raise ValueError("four")
    return x + 1
"""


def item(*sizes, clause="a.b", op="softmax", dtype="float64", beta=None, ends_on=("exception", "crash")):
    store, trials = exchange.Store(), []
    for size in sizes:
        call = Call(op, (np.arange(size, dtype="float64"),))
        told = exchange.call_to_json(call, store)
        trials.append({"digest": exchange.digest([call]), "calls": [told]})
    facts = {"clause": clause, "op": op, "dtype": dtype, "beta": beta, "ends_on": list(ends_on)}
    return exchange.packed({**facts, "trials": trials}, store.arrays)


def write(path, *items, **request):
    head = {"kind": "cases", "schema": 1, "round": 1, "items": len(items), "request": {**REQUEST, **request}}
    path.write_bytes(b"".join((exchange.packed(head), *items, exchange.end())))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


def answers(path):
    _, *frames = exchange.frames_of(path, "results")
    return [
        [exchange.reply_from_json(r, frame.arrays()) for a in frame.head["answers"] for r in a["replies"]]
        for frame in frames
    ]


def test_each_trial_is_answered(folder):
    write(folder / "c", item(1, 2), item(2, 5))
    done = run_cases("k.py", "c", "r")
    assert (done.trials, done.failures, done.left_out) == (4, 0, 0)
    assert [[r.value.size for r in replies] for replies in answers("r")] == [[1, 2], [2, 5]]
    assert (answers("r")[0][1].value == [1.0, 2.0]).all()
    assert not (folder / f"r{PART}").exists()


def test_a_failure_ends_its_item_and_not_the_run(folder):
    write(folder / "c", item(1, 3, 2), item(4, 2), item(4, 2, ends_on=("crash",)), item(2))
    done = run_cases("k.py", "c", "r")
    assert (done.trials, done.failures) == (6, 3)
    kinds = [[getattr(r, "kind", "output") for r in replies] for replies in answers("r")]
    assert kinds == [["output", "crash"], ["exception"], ["exception", "output"], ["output"]]


def test_patience_with_an_op_ends(folder):
    write(folder / "c", *(item(3) for _ in range(15)), item(2), item(2, op="softmax", ends_on=()))
    run_cases("k.py", "c", "r")
    _, *frames = exchange.frames_of("r", "results")
    assert ["kept crashing" in frame.head["untold"] for frame in frames] == [
        *[False] * 12,
        *[True] * 4,
        False,
    ]


def test_what_the_subject_does_not_have_is_left_out(folder):
    write(folder / "c", item(2, op="logsumexp"), item(2, dtype="float16"), item(2, beta=True), item(2))
    done = run_cases("k.py", "c", "r")
    assert (done.trials, done.left_out) == (1, 2)


def test_an_op_that_is_asked_for_by_name_has_to_be_there(folder):
    write(folder / "c", item(2, op="logsumexp"), ops=["logsumexp"])
    with pytest.raises(SubjectError, match="logsumexp"):
        run_cases("k.py", "c", "r")
    assert not (folder / "r").exists()


class _StoppedError(Exception):
    pass


def interrupted(after):
    def progress(done, _total, _what):
        if done == after:
            raise _StoppedError

    with pytest.raises(_StoppedError):
        run_cases("k.py", "c", "r", progress=progress)


def test_a_run_that_was_stopped_goes_on_where_it_was(folder):
    write(folder / "c", item(1), item(2), item(5), item(3), item(6))
    run_cases("k.py", "c", "whole")
    interrupted(after=3)
    assert not (folder / "r").exists()
    part = folder / f"r{PART}"
    part.write_bytes(part.read_bytes() + item(9)[:25])  # killed while it wrote
    done = run_cases("k.py", "c", "r")
    assert (done.resumed, done.trials) == (3, 5)
    seen = [[getattr(r, "kind", None) or r.value.tolist() for r in a] for a in answers("r")]
    assert seen == [[getattr(r, "kind", None) or r.value.tolist() for r in a] for a in answers("whole")]


@pytest.mark.parametrize("change", ["cases", "subject", "noise"])
def test_a_part_of_something_else_is_begun_anew(folder, change):
    write(folder / "c", item(1), item(2))
    interrupted(after=1)
    if change == "cases":
        write(folder / "c", item(1), item(5))
    elif change == "subject":
        (folder / "k.py").write_text(KERNEL + "SOFTCERT = {'contract': {'exp_ulp': 2.0}}\n")
    else:
        (folder / f"r{PART}").write_bytes(b"noise")
    done = run_cases("k.py", "c", "r")
    assert (done.resumed, done.trials) == (0, 2)


def test_a_trial_that_is_not_what_it_says_is_refused(folder):
    store = exchange.Store()
    call = Call("softmax", (np.ones(2),))
    trial = {"digest": "0" * 64, "calls": [exchange.call_to_json(call, store)]}
    facts = {"clause": "a.b", "op": "softmax", "dtype": "float64", "beta": None, "ends_on": []}
    write(folder / "c", exchange.packed({**facts, "trials": [trial]}, store.arrays))
    with pytest.raises(RequestError, match="cannot use c: a trial of it"):
        run_cases("k.py", "c", "r")


@pytest.mark.parametrize("head", [{"clause": "a.b"}, {"clause": "a.b", "op": "softmax", "dtype": "float64"}])
def test_contents_that_are_not_as_they_should_be_are_refused(folder, head):
    write(folder / "c", exchange.packed(head))
    with pytest.raises(RequestError, match="not as they should be"):
        run_cases("k.py", "c", "r")


def test_results_that_cannot_be_written_are_told(folder):
    write(folder / "c", item(1))
    with pytest.raises(RequestError, match="cannot write"):
        run_cases("k.py", "c", folder / "none" / "r")
