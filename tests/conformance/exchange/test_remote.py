"""What is judged from a file is what a check says, and what has no answer is never passed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from softcert import check
from softcert.backends import Contract, exchange
from softcert.backends.running import run_cases
from softcert.conformance.exchange.cases import write_cases
from softcert.conformance.exchange.remote import judge
from softcert.conformance.model import RequestError
from softcert.conformance.request import Request
from softcert.conformance.wire.runs import run_to_json

SOME = ("accuracy.certified", "determinism", "memory.leak", "order", "purity", "stability.nan")
ASKED = {"ops": "softmax", "dtypes": "float32", "profile": "smoke"}
#: Right but for rows of seven, which it shifts by a little.
KERNEL = """
import numpy as np

def softmax(x, axis=-1):
    terms = np.exp(x - np.max(x, axis=axis, keepdims=True))
    right = terms / np.sum(terms, axis=axis, keepdims=True)
    return right * x.dtype.type(1.001) if x.shape[-1] == 7 else right
"""
CRASHES = """
import os

_softmax = softmax
def softmax(x, axis=-1):
    return os.abort() if x.shape[-1] == 3 else _softmax(x, axis)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(KERNEL)
    return tmp_path


def answered(subject, name="r", *, contract=None, clauses=SOME, **asked):
    write_cases("c", Request.of(contract=contract, clauses=clauses, **(ASKED | asked)))
    run_cases(subject, "c", name)
    return name


def plain(run, *left_out):
    """The verdicts without what no two runs share: their times, and how many pages a process held."""
    verdicts = run_to_json(run)["verdicts"]
    for verdict in verdicts:
        if verdict["clause"].startswith("memory."):
            del verdict["margin"], verdict["statistics"]
        for name in ("seconds", "oracle_seconds", "subject_seconds", *left_out):
            verdict.pop(name)
        for reply in (verdict.get("witness") or {}).get("replies", ()):
            reply.pop("seconds", None)
    return verdicts


def exchanged(subject, clauses, rounds):
    """What some exchanges come to."""
    results = [answered(subject, clauses=clauses)]
    judged = judge(*results)
    for number in range(rounds):
        if not judged.wanted:
            break
        judged.write_more("more")
        results.append(f"r{number}")
        run_cases(subject, "more", results[-1])
        judged = judge(*results)
    return judged


def test_the_verdicts_on_a_sound_subject_are_those_of_a_check(folder):
    judged = judge(answered("numpy"))
    run = check("numpy", clauses=SOME, **ASKED)
    assert plain(judged.run) == plain(run)
    assert judged.wanted == 0
    assert judged.run.request == run.request
    assert judged.run.contract == run.contract
    assert (judged.run.name, judged.run.subject) == (run.name, run.subject)


@pytest.mark.parametrize(("op", "dtype"), [("logsumexp", "float64"), ("softmax_vjp", "bfloat16")])
def test_other_ops_and_dtypes_too(folder, op, dtype):
    asked = {"ops": op, "dtypes": dtype}
    judged = judge(answered("numpy", **asked))
    assert plain(judged.run) == plain(check("numpy", clauses=SOME, **(ASKED | asked)))


@pytest.mark.slow
def test_a_broken_clause_is_broken_at_once_and_its_witness_shrinks_by_further_exchanges(folder):
    clauses = ("accuracy.batch",)
    run = check("k.py", clauses=clauses, **ASKED)
    assert run.broken
    first = judge(answered("k.py", clauses=clauses))
    parted = ("witness", "message")
    assert plain(first.run, *parted) == plain(run, *parted)
    assert first.wanted
    last = exchanged("k.py", clauses, rounds=40)
    assert last.wanted == 0
    assert plain(last.run) == plain(run)


def test_a_crash_is_an_error_with_its_witness(folder):
    (folder / "k.py").write_text(KERNEL + CRASHES)
    first, second = judge(answered("k.py", clauses=("accuracy.certified", "accuracy.batch"))).run.verdicts
    assert (first.status, second.status) == ("error", "fail")
    assert "SIGABRT" in first.message
    assert first.witness is not None


def test_a_contract_of_the_cases_is_what_is_judged_by(folder):
    contract = Contract(exp_ulp=9.0, nan="any")
    judged = judge(answered("numpy", contract=contract))
    assert plain(judged.run) == plain(check("numpy", clauses=SOME, contract=contract, **ASKED))


def test_a_contract_may_be_given_at_home(folder):
    answered("k.py", clauses=("accuracy.certified",))
    assert judge("r").run.broken
    assert not judge("r", contract={"exp_ulp": 40000.0}).run.broken


def test_what_has_no_answer_is_skipped_and_asked_for(folder):
    answered("numpy", clauses=("stability.minus-inf", "accuracy.batch"))
    header, *frames = exchange.frames_of("r", "results")
    kept = [exchange.packed(header.head)]
    for frame in frames:
        head = dict(frame.head)
        head["answers"] = head["answers"][:-1] if head["clause"] else head["answers"]
        kept.append(exchange.packed(head, frame.arrays()))
    (folder / "short").write_bytes(b"".join((*kept, exchange.end())))
    judged = judge("short")
    assert [verdict.status for verdict in judged.run.verdicts] == ["skip", "skip"]
    assert all("no answer yet: a further exchange" in verdict.message for verdict in judged.run.verdicts)
    assert judged.write_more("more") == judged.wanted == 2
    run_cases("numpy", "more", "rest")
    whole = judge("short", "rest")
    assert whole.wanted == 0
    assert plain(whole.run) == plain(judge("r").run)


ATTENTION = """
import numpy as np
SOFTCERT = {"contract": {"lse_base": "2"}}

def attention_vjp(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if q.shape[:-2] != k.shape[:-2] or mask is not None:
        raise NotImplementedError("one head to each, no mask")
    scores = (q @ np.swapaxes(k, -1, -2)) * q.dtype.type(scale)
    if causal:
        shown = np.tri(*scores.shape[-2:], scores.shape[-1] - scores.shape[-2], dtype=bool)
        scores = np.where(shown, scores, -np.inf)
    lse = np.where(np.isneginf(lse), np.inf, lse)[..., None]  # a query without keys has no weights
    weights = np.exp2(scores * q.dtype.type(np.log2(np.e)) - lse)
    slope = weights * (dout @ np.swapaxes(v, -1, -2) - np.sum(out * dout, axis=-1, keepdims=True))
    slope = slope * q.dtype.type(scale)
    return slope @ k, np.swapaxes(slope, -1, -2) @ q, np.swapaxes(weights, -1, -2) @ dout
"""


def test_inputs_that_depend_on_what_the_subject_declares_need_a_second_exchange(folder):
    (folder / "k.py").write_text(ATTENTION)
    asked = {"ops": "attention_vjp", "clauses": ("attention-gradient.causal",)}
    (verdict,) = judge(answered("k.py", **asked)).run.verdicts
    assert verdict.status == "skip"
    judge("r").write_more("more")
    run_cases("k.py", "more", "rest")
    judged = judge("r", "rest")
    assert judged.wanted == 0
    assert plain(judged.run) == plain(check("k.py", **(ASKED | asked)))


def test_what_was_never_run_is_skipped(folder):
    (folder / "k.py").write_text(
        "import os\ndef softmax(x):\n    os.abort()\nSOFTCERT = {'dtypes': ['float32']}\n"
    )
    clauses = ("accuracy", "purity", "stability", "translation", "limits")
    judged = judge(answered("k.py", clauses=clauses))
    statuses = [verdict.status for verdict in judged.run.verdicts]
    # How many clauses the crashes allowed are spent on depends on how many calls a trial of each makes.
    met = statuses.count("error")
    assert 8 <= met < len(statuses)
    assert statuses == ["error"] * met + ["skip"] * (len(statuses) - met)
    assert "kept crashing" in judged.run.verdicts[-1].message


def test_what_the_subject_lacks_is_left_out_as_by_a_check(folder):
    asked = {"ops": None, "dtypes": None, "clauses": ("logistic",)}
    judged = judge(answered("k.py", **asked))
    assert plain(judged.run) == plain(check("k.py", profile="smoke", clauses="logistic"))


@pytest.fixture
def two(folder):
    answered("numpy", "one", clauses=("logistic",))
    return folder


def changed(path, **facts):
    header, *frames = exchange.frames_of("one", "results")
    packed = [exchange.packed(header.head | facts), *(exchange.packed(f.head, f.arrays()) for f in frames)]
    path.write_bytes(b"".join((*packed, exchange.end())))
    return str(path)


def test_results_of_other_cases_are_refused(two):
    answered("numpy", "two", clauses=("luce",))
    with pytest.raises(RequestError, match="two holds results of other cases than one"):
        judge("one", "two")


def test_results_of_another_subject_are_refused(two):
    answered("k.py", "two", clauses=("logistic",))
    with pytest.raises(RequestError, match="two holds results of another subject than one"):
        judge("one", "two")


@pytest.mark.parametrize(
    "facts",
    [{"cases": "zz"}, {"round": 0}, {"extra": 1}, {"description": {}}, {"request": {"profile": "smoke"}}],
)
def test_a_header_that_breaks_the_schema_is_refused(two, facts):
    with pytest.raises(RequestError, match="is not a valid results"):
        judge(changed(two / "bad", **facts))


def test_answers_that_break_the_schema_are_refused(two):
    header, frame, *_ = exchange.frames_of("one", "results")
    reply = {"values": [99], "distinct": None, "seconds": 0.0, "side_effects": [], "peak_bytes": None}
    answers = [{"digest": "0" * 64, "replies": [reply]}]
    for replies in (reply, reply | {"kept_bytes": None}):
        answers[0]["replies"] = [replies]
        head = dict(frame.head) | {"answers": answers}
        packed = (exchange.packed(header.head), exchange.packed(head, frame.arrays()), exchange.end())
        (two / "bad").write_bytes(b"".join(packed))
        with pytest.raises(RequestError, match="bad"):
            judge("bad")


def test_a_profile_or_clause_that_this_version_does_not_know_is_refused(two):
    request = json.loads(json.dumps(next(exchange.frames_of("one", "results")).head["request"]))
    for name, value in (("profile", "no"), ("clauses", ["no.such"])):
        with pytest.raises(RequestError, match="is unknown"):
            judge(changed(two / "bad", request=request | {name: value}))


def test_expected_failures_count_and_stored_witnesses_cannot_be_replayed(folder):
    answered("k.py", clauses=("accuracy.batch",))
    (verdict,) = judge("r", expected_failures={"accuracy/softmax/*": "seven"}).run.verdicts
    assert verdict.status == "xfail"
    with pytest.raises(RequestError, match="only a check can replay"):
        judge("r", expected_failures=[{"clause": "accuracy", "reason": "x", "witness": "w.json"}])


def test_progress_is_told(folder):
    steps = []
    judge(answered("numpy", clauses=("logistic",)), progress=steps.append)
    assert [(step.done, step.total) for step in steps] == [(1, 2), (2, 2)]
    told = []
    request = Request.of(clauses="logistic", **ASKED)
    write_cases("c", request, lambda *step: told.append(step))
    assert told[0] == (0, len(told), "probes softmax float32")


def test_cases_do_not_depend_on_when_they_are_written(folder):
    request = Request.of(clauses=SOME, **ASKED)
    write_cases("one", request)
    write_cases("two", request)
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()
    assert (folder / "one").stat().st_mode == (folder / "k.py").stat().st_mode
    write_cases("three", replace(request, seed=1))
    assert (folder / "one").read_bytes() != (folder / "three").read_bytes()
    with pytest.raises(RequestError, match="cannot write"):
        write_cases(folder / "none" / "c", request)
