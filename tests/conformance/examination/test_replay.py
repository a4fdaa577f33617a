"""A witness that went through a file shows the same defect again, and none in a correct subject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Backend, Call, Failure
from softcert.conformance import Finding, RequestError, Trial, Witness, replay
from softcert.conformance.examination.admission import complaint_of
from softcert.conformance.wire.runs import read_witness, witness_to_json, write_document
from softcert.errors import SubjectError

X = np.zeros((2, 3))

SOURCE = """
import os
import numpy as np

def right(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)

def off(x, axis=-1):
    return right(x, axis) * x.dtype.type(1.01)

def one_short(x, axis=-1):
    return right(x, axis)[..., :-1]

def leaves(x, axis=-1):
    os._exit(1)

def keeps(x, axis=-1):
    y = right(x, axis)
    x *= 0
    return y
"""
CASES = (
    ("off", "accuracy.certified", "fail"),
    ("off", "luce.ratio", None),
    ("off", "simplex.sum", "fail"),
    ("off", "permutation.equivariance", "fail"),
    ("keeps", "purity.side-effects", "fail"),
    ("one_short", "purity.shape-dtype", "fail"),
    ("one_short", "simplex.range", "error"),
    ("leaves", "logistic.one-class", "error"),
)


@pytest.fixture
def kernels(tmp_path):
    path = tmp_path / "kernels.py"
    path.write_text(SOURCE)
    return path


def found(kernels, name, clause):
    subject = f"{kernels}:{name}"
    run = softcert.check(subject, op="softmax", clauses=[clause], dtypes=["float32"], profile="smoke")
    return run.verdicts[0]


def through_a_file(witness, path):
    return read_witness(write_document(witness_to_json(witness), path / "witness.json"))


@pytest.mark.parametrize(("name", "clause", "status"), CASES)
def test_a_witness_read_back_shows_the_same_finding(kernels, tmp_path, name, clause, status):
    verdict = found(kernels, name, clause)
    if status is None:
        assert verdict.status == "pass"
        return
    assert verdict.status == status
    witness = through_a_file(verdict.witness, tmp_path)
    again = replay(witness)
    assert (again.status, again.clause, again.op, again.dtype) == (status, clause, "softmax", "float32")
    assert again.witness.finding == witness.finding == verdict.witness.finding
    assert again.message == verdict.message


@pytest.mark.parametrize(("name", "clause", "status"), [c for c in CASES if c[2] is not None])
def test_another_subject_passes_the_same_case(kernels, tmp_path, name, clause, status):
    witness = through_a_file(found(kernels, name, clause).witness, tmp_path)
    for subject in ("numpy", Backend("right", {"softmax": numpy_.softmax}, ("float32",))):
        verdict = replay(witness, subject)
        assert verdict.status == "pass", verdict.message
        assert verdict.witness is None


def heavy_sum(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / np.maximum(e, np.float32(2.0**-24)).sum(axis=axis, keepdims=True)


def heavy_tail(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    e = np.where(e < 1, e * np.float32(1 + x.shape[axis] * 2.0**-25), e)
    return e / e.sum(axis=axis, keepdims=True)


def warm(x, axis=-1):
    return numpy_.softmax(x * np.float32(0.99), axis)


def greedy(x, axis=-1):
    return (x == x.max(axis=axis, keepdims=True)).astype(x.dtype)


def shrunk_lse(x, axis=-1):
    return numpy_.logsumexp(x, axis) * np.float32(0.99)


#: What relates the calls, or an answer with itself, goes through a file too.
OF_ROWS = (
    ("limits.argmax", "softmax", heavy_sum),
    ("limits.expectation", "softmax", heavy_tail),
    ("boltzmann.heat-capacity", "softmax", heavy_tail),
    ("boltzmann.free-energy", "softmax", warm),
    ("boltzmann.mean-energy", "logsumexp", shrunk_lse),
    ("sampling.actions", "softmax", greedy),
)


@pytest.mark.parametrize(("clause", "op", "wrong"), OF_ROWS)
def test_a_witness_about_a_row_read_back_shows_the_same_finding(tmp_path, clause, op, wrong):
    right = {"softmax": numpy_.softmax, "logsumexp": numpy_.logsumexp}
    contract = Contract(form="division")
    subject = Backend("wrong", {**right, op: wrong}, ("float32",), contract)
    run = softcert.check(subject, ops=[op], clauses=[clause], dtypes=["float32"], profile="smoke")
    (verdict,) = run.verdicts
    assert verdict.status == "fail"
    witness = through_a_file(verdict.witness, tmp_path)
    again = replay(witness, subject)
    assert again.status == "fail"
    assert again.witness.finding == verdict.witness.finding
    assert replay(witness, Backend("right", right, ("float32",), contract)).status == "pass"


def test_another_contract_judges_the_same_case(kernels, tmp_path):
    witness = through_a_file(found(kernels, "off", "accuracy.certified").witness, tmp_path)
    assert replay(witness, contract=Contract(exp_ulp=1.0)).status == "fail"
    backend = Backend("off", {"softmax": lambda x, axis=-1: numpy_.softmax(x, axis)}, ("float32",))
    assert replay(witness, backend, Contract(form="division")).status == "pass"


def test_a_subject_without_the_op_is_refused(kernels, tmp_path):
    witness = through_a_file(found(kernels, "off", "accuracy.certified").witness, tmp_path)
    backend = Backend("other", {"logsumexp": numpy_.logsumexp}, ("float32",))
    with pytest.raises(RequestError, match="other has no op 'softmax'"):
        replay(witness, backend)


def test_a_witness_of_an_unknown_clause_is_refused(kernels):
    witness = replace(found(kernels, "off", "accuracy.certified").witness, clause="simplex.gone")
    with pytest.raises(RequestError, match=r"simplex\.gone"):
        replay(witness)


def test_a_witness_holds_the_operands_bit_by_bit(kernels, tmp_path):
    verdict = found(kernels, "off", "permutation.equivariance")
    witness = through_a_file(verdict.witness, tmp_path)
    pairs = zip(witness.trial.calls, verdict.witness.trial.calls, strict=True)
    for read, written in pairs:
        assert [a.tobytes() for a in read.operands] == [a.tobytes() for a in written.operands]
        assert all(isinstance(a, np.ndarray) for a in read.operands)
        assert dict(read.params) == dict(written.params)


# --- files that say what no clause asks ---

ROW = np.array([0.0, 1.0, 2.0], np.float32)
FOUND = Finding(0, None, "", None, "", None, None, "")


def made(clause="accuracy.certified", op="softmax", dtype="float32", relation=None, calls=1, **call):
    """A witness as a file might hold it."""
    one = Call(**{"op": op, "operands": (ROW,), "params": {"axis": -1}, **call})
    return Witness(clause, op, dtype, "numpy", Trial((one,) * calls, relation or {}), (), FOUND)


@pytest.mark.parametrize(
    ("witness", "words"),
    [
        (made(repeat=10**9), "is repeated 1000000000 times, and at most 100000 are made"),
        (made(operands=(ROW[:0],)), "an array of shape (0,) has no elements"),
        (made("stability.empty-batch", operands=(ROW[:0],)), "an array of shape (0,) has no elements"),
        (made("limits.tropical"), "does not speak of softmax"),
        (made(dtype="float8_e4m3fn"), "does not speak of float8_e4m3fn"),
        (made(dtype="float64"), "operands that are not of float64"),
        (made(params={"axis": 5}), "has axis=5, and its operands have 1 dimension"),
        (made(params={"axis": 0.0}), "has axis=0.0"),
        (made(params={}), "has axis=None"),
        (made(params={"axis": 0, "beta": float("inf")}), "beta=inf, which is not finite"),
        (made(params={"axis": 0, "beta": 10**400}), "which is not finite"),
        (made(params={"axis": 0, "scale": 1.0}), "gives 'scale', which no op takes"),
        (
            made("limits.tropical", "logsumexp", params={"axis": 0, "beta": 2.0}),
            "logsumexp, which takes none",
        ),
        (made(operands=(ROW, ROW)), "gives 2 operands to softmax, which takes 1"),
        (
            made("jacobian.rows-sum-to-zero", "softmax_vjp", operands=(ROW, ROW[:2])),
            "operands of different shapes",
        ),
        (made(operands=(ROW[0],)), "an operand without an axis"),
        (made("luce.ratio"), "its calls are not related"),
        (made("limits.near-ties"), "its calls are not related"),
        (made("boltzmann.free-energy"), "its calls are not related"),
        (made("sampling.actions"), "its calls are not related"),
        (made("translation.exact-shift", calls=2, relation={"shift": "much"}), "its calls are not related"),
        (made(calls=2), "its calls are not related"),
    ],
)
def test_a_witness_that_no_clause_would_make_is_refused(witness, words):
    with pytest.raises(RequestError) as caught:
        replay(witness)
    assert words in str(caught.value)


def test_a_call_of_another_op_is_refused():
    witness = made()
    odd = replace(witness.trial.calls[0], op="hardmax")
    with pytest.raises(RequestError, match="call 0 is of 'hardmax', which is no op"):
        replay(replace(witness, trial=Trial((odd,))))


def test_a_subject_without_beta_is_not_blamed_for_it():
    witness = made("limits.argmax", params={"axis": -1, "beta": 2.0}, relation={"factor": 2.0})
    backend = Backend("plain", {"softmax": numpy_.softmax}, ("float32",))
    with pytest.raises(RequestError, match="plain takes no beta"):
        replay(witness, backend)


def test_what_shows_nothing_does_not_pass():
    nothing = made("bias.random", operands=(np.array([np.nan, 1.0], np.float32),))
    assert replay(nothing).status == "vacuous"
    unpromised = made("determinism.batch-invariance", operands=(ROW[None],), calls=2)
    assert replay(unpromised).status == "skip"


def test_an_empty_axis_is_only_observed():
    def raises(x, axis=-1):
        raise ValueError("nothing")

    backend = Backend("raises", {"softmax": raises}, ("float32",))
    witness = made("stability.empty-axis", operands=(ROW[:0],))
    assert replay(witness, backend).status == "pass"
    refused = replay(made(), backend)
    assert refused.status == "error"
    assert isinstance(refused.witness.replies[0], Failure)


def test_functions_paths_and_mappings_are_understood(kernels, tmp_path):
    witness = through_a_file(found(kernels, "off", "accuracy.certified").witness, tmp_path)
    assert replay(witness, numpy_.softmax, {"form": "division"}).status == "pass"
    with pytest.raises(SubjectError, match="not 3"):
        replay(witness, 3)


@pytest.mark.parametrize(
    ("operands", "options", "words"),
    [
        ((X, np.array([0]), None), {}, "has a target of shape (1,) for operands of shape (2, 3)"),
        ((X, np.array([0, 3]), None), {}, "has a target that is no class"),
        ((X, np.array([0, -1]), None), {}, "has a target that is no class"),
        ((X, np.array([0.0, 1.0]), None), {}, "has operands that are not of float64"),
        (
            (X, np.array([0, 1]), None),
            {"label_smoothing": 1.5},
            "label_smoothing=1.5, which is out of its range",
        ),
        ((X, np.array([0, 1]), None), {"z_loss": -1.0}, "z_loss=-1.0, which is out of its range"),
        ((X, np.array([0, 1]), None), {"ignore_index": 0.5}, "ignore_index=0.5, which is out of its range"),
        ((X, np.array([0, 1]), np.zeros(3)), {}, "has a dloss of shape (3,) for operands of shape (2, 3)"),
    ],
)
def test_a_loss_that_no_clause_would_ask_for_is_refused(operands, options, words):
    given = tuple(a for a in operands if a is not None)
    op = "cross_entropy" if len(given) == 2 else "cross_entropy_vjp"
    complaint = complaint_of(Call(op, given, {"axis": -1, **options}), "float64")
    assert words in complaint


def test_a_loss_with_ignored_targets_may_be_asked_for():
    call = Call("cross_entropy", (X, np.array([7, 2])), {"axis": -1, "ignore_index": 7})
    assert not complaint_of(call, "float64")
