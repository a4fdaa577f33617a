"""A witness that went through a file shows the same defect again, and none in a correct subject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_
from softcert.backends.types import Backend, Contract
from softcert.conformance import RequestError, replay
from softcert.conformance.wire import read_witness, witness_to_json, write_document

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
