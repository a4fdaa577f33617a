"""A run: the same for a seed, complete whatever the subject does, and clear about a wrong request."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import numpy as np
import pytest

import softcert
from softcert.backends import Limits, numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Backend
from softcert.conformance import CLAUSES, RequestError, choose_clauses
from softcert.conformance.wire.runs import run_to_json
from softcert.errors import SubjectError

QUICK = {"dtypes": ["float32"], "profile": "smoke"}
FEW = ["simplex.sum", "limits.near-ties", "luce"]


def softmax(x, axis=-1):
    return numpy_.softmax(x, axis)


def off(x, axis=-1):
    return numpy_.softmax(x, axis) * x.dtype.type(1.001)


def only(kernel, **more):
    return Backend("subject", {"softmax": kernel}, ("float32",), Contract(), **more)


def without_times(run):
    verdicts = tuple(replace(v, seconds=0.0, oracle_seconds=0.0, subject_seconds=0.0) for v in run.verdicts)
    document = run_to_json(replace(run, verdicts=verdicts, seconds=0.0, environment={}))
    return _without_seconds(document)


def _without_seconds(node):
    if isinstance(node, dict):
        return {k: _without_seconds(v) for k, v in node.items() if k != "seconds"}
    return [_without_seconds(v) for v in node] if isinstance(node, list) else node


# --- fixed seeds ---


@pytest.mark.parametrize("kernel", [softmax, off])
def test_a_seed_fixes_the_run(kernel):
    first, second = (softcert.check(only(kernel), clauses=FEW, seed=7, **QUICK) for _ in range(2))
    assert without_times(first) == without_times(second)
    assert first.request["seed"] == 7


def test_another_seed_draws_other_inputs():
    """By what the subject itself was asked: the drawn inputs differ, the directed ones do not."""
    runs = [softcert.check(only(softmax), clauses=["simplex.sum"], seed=s, **QUICK) for s in (1, 2)]
    figures = [run.verdicts[0].statistics for run in runs]
    assert figures[0] != figures[1]


# --- requests ---


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"clauses": ["simplex.sun"]}, "did you mean 'simplex.sum'?"),
        ({"clauses": ["accurary"]}, "did you mean 'accuracy'?"),
        ({"clauses": ["q9"]}, "`softcert spec` lists them"),
        ({"ops": ["sofmax"]}, "did you mean 'softmax'?"),
        ({"ops": ["logsumexp"]}, "the subject has no op 'logsumexp'; it has softmax"),
        ({"dtypes": ["float23"]}, "did you mean 'float"),
        ({"dtypes": ["int8"]}, "dtype 'int8' is unknown"),
        ({"profile": "quik"}, "the profiles are smoke, quick, full"),
        ({"profile": []}, "profile has to be the name of a profile, not []"),
        ({"seed": -1}, "seed has to be an integer from 0 to 2**63 - 1, not -1"),
        ({"seed": 2**80}, "seed has to be an integer"),
        ({"seed": 1.5}, "not 1.5"),
        ({"seed": "a"}, "not 'a'"),
        ({"seed": None}, "not None"),
        ({"seed": True}, "not True"),
        ({"jobs": 0}, "jobs has to be an integer of at least 1, not 0"),
        ({"jobs": -1}, "not -1"),
        ({"jobs": 1.5}, "not 1.5"),
        ({"jobs": "a"}, "not 'a'"),
        ({"op": 3}, "op has to be the name of an op or None, not 3"),
        ({"limits": 3}, "limits has to be a Limits or None, not 3"),
        ({"progress": 3}, "progress has to be a function or None, not 3"),
        ({"ops": 3}, "ops has to be a name or a list of names, not 3"),
        ({"dtypes": b"float32"}, "not b'float32'"),
        ({"clauses": [3]}, "clauses has to be a name or a list of names, not [3]"),
        ({"clauses": "limits.tropical"}, "clause limits.tropical does not speak of softmax"),
        ({"clauses": ["limits.tropical", "jacobian.adjoint"]}, "none of limits.tropical, jacobian.adjoint"),
    ],
)
def test_a_wrong_request_is_refused_with_a_suggestion(request_, words):
    with pytest.raises(RequestError) as caught:
        softcert.check(only(softmax), **{"profile": "smoke", **request_})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("subject", [None, 3, ["numpy"], b"numpy", dict, np])
def test_what_is_no_subject_is_refused(subject):
    with pytest.raises(SubjectError, match=r"give a function|has to be a string, a path"):
        softcert.check(subject, **QUICK)


@pytest.mark.parametrize("contract", [3, "division", {"exp_ulb": 2.0}])
def test_what_is_no_contract_is_refused(contract):
    with pytest.raises(SubjectError, match="contract"):
        softcert.check(only(softmax), contract=contract, **QUICK)


def test_a_request_for_nothing_is_refused():
    backend = Backend("other", {"logsumexp": numpy_.logsumexp})
    with pytest.raises(RequestError, match=r"clause limits\.argmax does not speak of logsumexp"):
        softcert.check(backend, clauses=["limits.argmax"])
    with pytest.raises(RequestError, match="the subject has no op to examine"):
        softcert.check(Backend("nothing", {}))


def test_one_name_stands_for_itself_alone(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text("from softcert.backends.numpy_ import softmax, logsumexp\n")
    run = softcert.check(
        path, ops="softmax", dtypes="float32", clauses="logistic.one-class", profile="smoke", seed=np.int64(3)
    )
    assert [(v.clause, v.op, v.dtype) for v in run.verdicts] == [("logistic.one-class", "softmax", "float32")]
    assert type(run.request["seed"]) is int
    assert run.subject == str(path)


def test_an_unknown_subject_is_one_sentence():
    with pytest.raises(SubjectError) as caught:
        softcert.check("no_such_library:softmax", op="softmax", **QUICK)
    assert "no_such_library" in str(caught.value)


def test_clauses_are_chosen_by_id_or_group_in_the_order_of_the_specification():
    chosen = choose_clauses(["stability.nan", "simplex"])
    assert [c.id for c in chosen] == ["simplex.range", "simplex.sum", "simplex.positive", "stability.nan"]
    assert choose_clauses(None) == choose_clauses([]) == CLAUSES


# --- kinds of subjects ---


def test_a_function_is_a_subject_by_its_name():
    run = softcert.check(softmax, clauses=["logistic.one-class"], **QUICK)
    assert [v.status for v in run.verdicts] == ["pass"]
    assert run.name == "softmax"


def test_a_lambda_is_a_subject_with_its_op():
    run = softcert.check(
        lambda x: numpy_.softmax(x, -1), op="softmax", clauses=["logistic.one-class", "simplex.sum"], **QUICK
    )
    assert [v.status for v in run.verdicts] == ["pass", "pass"]
    with pytest.raises(RequestError, match="say which with op="):
        softcert.check(lambda x: x, **QUICK)


def test_a_backend_is_a_subject_for_all_its_ops():
    ops = {name: getattr(numpy_, name) for name in ("softmax", "logsumexp")}
    run = softcert.check(Backend("two", ops, ("float32",)), clauses=["logistic.one-class"], **QUICK)
    assert [(v.op, v.status) for v in run.verdicts] == [("softmax", "pass"), ("logsumexp", "pass")]
    assert run.conforms
    assert run.broken == ()


def test_a_file_is_a_subject(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text("import numpy as np\ndef f(x):\n    return np.full_like(x, 0.5)\n")
    run = softcert.check(f"{path}:f", op="softmax", clauses=["logistic.one-class"], **QUICK)
    assert [v.status for v in run.verdicts] == ["fail"]
    assert run.subject == f"{path}:f"
    assert not run.conforms


def test_a_contract_given_replaces_the_subjects_own():
    kept = Contract(exp_ulp=1.5, form="division")
    run = softcert.check(only(softmax), clauses=["logistic.one-class"], contract=kept, **QUICK)
    assert Contract.from_mapping(run.contract) == kept
    declared = {"exp_ulp": 1.5, "form": "division", "compute": "none"}
    run = softcert.check(only(softmax), clauses=["logistic.one-class"], contract=declared, **QUICK)
    assert Contract.from_mapping(run.contract) == kept


# --- subjects that fail ---


def raises(x, axis=-1):
    raise ValueError("no such luck")


def wrong_shape(x, axis=-1):
    return np.concatenate([softmax(x, axis)] * 2, axis=axis)


def leaves(x, axis=-1):
    os._exit(3)


def words(x, axis=-1):
    return "half"


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (raises, "exception"),
        (wrong_shape, "float32 (2,)"),
        (leaves, "crash"),
        (words, "output"),
    ],
)
def test_a_failure_is_a_verdict_with_its_witness(kernel, kind):
    run = softcert.check(only(kernel), clauses=["logistic.one-class"], **QUICK)
    (verdict,) = run.verdicts
    assert verdict.status == "error"
    assert verdict.witness is not None
    assert verdict.witness.finding.observed == kind
    assert verdict.witness.trial.calls[0].operands[0].size == 1
    assert verdict in run.broken


@pytest.mark.parametrize("how", [leaves, raises, wrong_shape])
def test_later_clauses_are_unaffected_by_a_failure(how):
    """Bad for exactly the 517 elements that one clause alone asks about."""

    def kernel(x, axis=-1):
        return how(x, axis) if x.shape[axis] == 517 else softmax(x, axis)

    run = softcert.check(only(kernel), clauses=["simplex.sum", "logistic.one-class", "purity.axis"], **QUICK)
    assert [v.status for v in run.verdicts] == ["error", "pass", "pass"]
    assert [v.clause for v in run.verdicts] == ["simplex.sum", "logistic.one-class", "purity.axis"]


def test_a_hang_is_a_verdict_and_the_run_goes_on():
    def kernel(x, axis=-1):
        if x.shape[axis] == 9:
            time.sleep(60)
        return softmax(x, axis)

    limits = Limits(seconds=0.5, seconds_per_element=0.0)
    names = ["determinism.repeat", "limits.near-ties", "stability.minus-inf"]
    run = softcert.check(only(kernel), clauses=names, limits=limits, **QUICK)
    found = {v.clause: v for v in run.verdicts}
    assert found["stability.minus-inf"].status == "error"
    assert found["stability.minus-inf"].witness.finding.observed == "hang"
    assert found["limits.near-ties"].status == "pass"


def test_a_subject_that_keeps_crashing_is_left_in_peace():
    run = softcert.check(only(leaves), clauses=["simplex", "logistic"], **QUICK)
    statuses = [v.status for v in run.verdicts]
    assert statuses[0] == "error"
    assert set(statuses) <= {"error", "skip"}
    assert len(statuses) == 5


# --- what is left out ---


def test_clauses_that_do_not_speak_of_the_subject_are_skipped_or_absent():
    run = softcert.check(only(softmax), clauses=["determinism", "jacobian"], **QUICK)
    found = {v.clause: v for v in run.verdicts}
    assert found["determinism.batch-invariance"].status == "skip"
    assert "does not promise" in found["determinism.batch-invariance"].message
    assert found["determinism.repeat"].status == "pass"
    assert not any(name.startswith("jacobian") for name in found)


def test_the_adjoint_is_skipped_where_there_is_no_tangent():
    backend = Backend("half", {"softmax_vjp": numpy_.softmax_vjp}, ("float32",))
    (verdict,) = softcert.check(backend, clauses=["jacobian.adjoint"], **QUICK).verdicts
    assert verdict.status == "skip"
    assert "softmax_jvp" in verdict.message


def test_progress_tells_each_verdict_once():
    seen = []
    run = softcert.check(only(softmax), clauses=["logistic"], progress=seen.append, **QUICK)
    assert [p.verdict for p in seen] == list(run.verdicts)
    assert [(p.done, p.total) for p in seen] == [(1, 2), (2, 2)]


REFUSING = """
import numpy as np

def softmax(x, axis=-1):
    if x.dtype == np.float64:
        raise TypeError("float32 only")
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=axis, keepdims=True)
"""


def test_a_dtype_that_a_subject_refuses_is_left_out_unless_asked_for(tmp_path):
    path = tmp_path / "narrow.py"
    path.write_text(REFUSING)
    run = softcert.check(str(path), clauses=["logistic"], profile="smoke")
    statuses = {(v.dtype, v.status) for v in run.verdicts}
    assert statuses == {("float64", "skip"), ("float32", "pass")}
    assert "float32 only" in next(v.message for v in run.verdicts if v.status == "skip")
    asked = softcert.check(str(path), clauses=["logistic"], profile="smoke", dtypes=["float64"])
    assert {v.status for v in asked.verdicts} == {"error"}
    path.write_text(REFUSING.replace("x.dtype == np.float64", "True"))
    everywhere = softcert.check(str(path), clauses=["logistic"], profile="smoke")
    assert {v.status for v in everywhere.verdicts} == {"error"}


@pytest.mark.parametrize(
    ("longest", "promised", "status"),
    [(20000, "any", "pass"), (20000, "linear", "error"), (4000, "any", "error")],
)
def test_memory_of_a_matrix_for_a_row_is_no_fault_unless_promised(longest, promised, status):
    """A row of 33000 squared is beyond any limit, one of 4097 is not."""

    def dense(x, axis=-1):
        if x.shape[axis] > longest:
            raise MemoryError("a matrix")
        return softmax(x, axis)

    subject = Backend("dense", {"softmax": dense}, ("float32",), Contract(memory=promised))
    (verdict,) = softcert.check(subject, clauses=["purity.side-effects"], **QUICK).verdicts
    assert verdict.status == status, verdict.message
    assert "MemoryError" in verdict.message
