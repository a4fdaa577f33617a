"""A check of a hostile subject: true verdicts where it is hostile, and elsewhere those of its honest twin."""

import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from softcert import check
from softcert.backends import SIDE_EFFECTS, Limits

HERE = Path(__file__).parent
ACTS = {act["name"]: act for act in tomllib.loads((HERE / "hostile.toml").read_text())["act"]}
OPS = ("softmax", "attention", "attention_lse", "attention_vjp")
CLAUSES = ("determinism.repeat", "purity.shape-dtype", "purity.side-effects")
#: What shows only in many calls: body of the act, the clause that tells it, the verdict, words of it.
ACROSS_CALLS = {
    "hang on the seventh call": (
        "CALLS.append(op)\nif len(CALLS) % 7 == 0: time.sleep(60)\nreturn honest()",
        "determinism.repeat",
        "error",
        "hang in .*in act",
    ),
    "crash for one length": (
        "if 5 in given[0].shape: os.abort()\nreturn honest()",
        "purity.shape-dtype",
        "error",
        "crash in .*SIGABRT",
    ),
    "another result once in fifty calls": (
        "CALLS.append(op)\nreturn each(lambda r: r * (1 + (len(CALLS) % 50 == 49)), honest())",
        "determinism.repeat",
        "fail",
        "in 120 calls",
    ),
}
#: What is shown without an option; the rest of the table is slow.
SAMPLE = ("segfault", "view of the input", "one number", "orphan left running")


def verdicts(subject, ops, kind=""):
    """Verdicts by clause, op and dtype; the limits are tight only for what is to reach them."""
    seconds, memory = 0.5 if kind == "hang" else 10.0, 1 << (28 if kind == "memory" else 32)
    limits = Limits(seconds, load_seconds=30.0, memory_bytes=memory)
    run = check(
        subject, ops=ops, dtypes=("float64", "float32"), clauses=CLAUSES, profile="smoke", limits=limits
    )
    return {(v.clause, v.op, v.dtype): v for v in run.verdicts}


def essence(verdict):
    return verdict.status, verdict.cases, verdict.elements, verdict.margin, verdict.message


@cache
def twin(ops):
    """Verdicts on the subject that does nothing else."""
    found = verdicts(str(HERE / "hostile_subject.py"), ops)
    assert {verdict.status for verdict in found.values()} == {"pass"}
    return found


def assert_twins(found, twin, dtypes, later=""):
    """Verdicts are the honest twin's; a process that dies later may die of any call, and must say so."""
    for place, verdict in found.items():
        died_later = later and verdict.status == "error" and f"killed by {later}" in verdict.message
        if place[2] in dtypes and not died_later:
            assert essence(verdict) == essence(twin[place]), place


def assert_told(act, op, found):
    """One op of a hostile subject has the verdicts that an act of the table has to have."""
    by_clause = {clause: found[clause, op, "float32"] for clause in CLAUSES}
    if "kind" in act:
        first = by_clause["determinism.repeat"]
        assert first.status == "error", first
        assert first.witness.finding.observed == act["kind"]
        assert re.search(act["words"].strip("^$"), first.message), first.message
        assert "pass" not in {verdict.status for verdict in by_clause.values()}
    elif "later" in act:
        # In a call or between two: that is a matter of how fast they follow each other.
        words = f"killed by {act['later']}"
        assert any(v.status == "error" and words in v.message for v in by_clause.values())
    elif "effect" in act and act["name"] != "thread that changes the result later":
        told = by_clause["purity.side-effects"]
        assert (told.status, SIDE_EFFECTS[act["effect"]] in told.message) == ("fail", True), told
        assert told.witness is not None
    elif act.get("result") == "float32 ()":
        assert by_clause["purity.shape-dtype"].status == "fail"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in SAMPLE else [pytest.mark.slow]) for name in ACTS]
)
def test_verdicts_on_an_act(name, zoo):
    act = ACTS[name]
    if "FAST_MATH" in act["act"] + act.get("top", "") and not zoo.fast_math:
        pytest.skip("no C compiler for this processor")
    ops = OPS[:2] if name in SAMPLE else OPS
    found = verdicts(zoo.subject(act["act"], act.get("top", "")), ops, act.get("kind", ""))
    assert len(found) == len(CLAUSES) * len(ops) * 2
    for op in ops:
        assert_told(act, op, found)
    if not {"kind", "later", "effect", "result"} & act.keys():
        assert_twins(found, twin(ops), ("float32",))
    if not act.get("on_loading"):
        assert_twins(found, twin(ops), ("float64",), act.get("later", ""))


@pytest.mark.parametrize("name", ACROSS_CALLS)
def test_what_shows_only_in_many_calls_is_told(name, zoo):
    body, clause, status, words = ACROSS_CALLS[name]
    found = verdicts(zoo.subject(body), OPS[:2], "hang" if "hang" in name else "")
    for op in OPS[:2]:
        told = found[clause, op, "float32"]
        assert re.fullmatch(status, told.status), told
        assert re.search(words, told.message), told.message
        assert told.witness is not None
    assert_twins(found, twin(OPS[:2]), ("float64",))


def test_a_result_of_another_call_is_told(zoo):
    body = "return globals().setdefault('kept', {}).setdefault(given[0].shape, honest())"
    run = check(
        zoo.subject(body), ops="softmax", dtypes="float32", clauses="purity.stateless", profile="smoke"
    )
    assert run.verdicts[0].status == "fail"
    assert run.verdicts[0].witness is not None


def softcert(*arguments):
    command = [sys.executable, "-m", "softcert", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("act", "top", "status", "words"),
    [
        ("return honest()", "", 0, "conforms"),
        ("os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)", "", 1, "killed its parent"),
        ("raise ValueError('\\0\\x1b[31m')", "", 1, r"ValueError: \\x00\\x1b\[31m"),
        ("return honest()", "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)", 2, "killed its parent"),
        ("return honest()", "daemon()\nos.abort()", 2, "SIGABRT"),
        (
            "return honest()",
            "for n in range(3, 64):\n    try: os.write(n, b'x' * 99)\n    except OSError: pass",
            2,
            "wrote into the connection",
        ),
    ],
)
def test_exit_statuses(act, top, status, words, zoo):
    path = zoo.subject(act, top)
    result = softcert(
        path, "--op", "softmax", "--dtype", "float32", "--clause", "purity.shape-dtype", "--profile", "smoke"
    )
    assert result.returncode == status, result
    assert re.search(words, result.stdout + result.stderr)
    assert "Traceback" not in result.stderr
