"""A witness is as small as the defect allows."""

from __future__ import annotations

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Backend


def softmax(x, axis=-1):
    return numpy_.softmax(x, axis)


def witness_of(kernel, clause, op="softmax", **promises):
    backend = Backend("subject", {op: kernel}, ("float32",), Contract(**promises))
    run = softcert.check(backend, clauses=[clause], dtypes=["float32"], profile="smoke")
    (verdict,) = run.verdicts
    assert verdict.status in {"fail", "error"}
    return verdict.witness


@pytest.mark.parametrize("least", [2, 5, 9])
@pytest.mark.parametrize("clause", ["accuracy.certified", "accuracy.length", "simplex.sum"])
def test_a_defect_of_long_rows_is_shown_by_the_shortest(least, clause):
    def kernel(x, axis=-1):
        return softmax(x, axis) * x.dtype.type(1.01 if x.shape[axis] >= least else 1)

    (call,) = witness_of(kernel, clause).trial.calls
    assert call.operands[0].shape == (least,)


def test_a_defect_of_large_logits_is_shown_by_one_row():
    def kernel(x, axis=-1):
        bad = (np.abs(x) > 100).any(axis=axis, keepdims=True)
        return np.where(bad, np.float32(0.9), np.float32(1)) * softmax(x, axis)

    (call,) = witness_of(kernel, "accuracy.length").trial.calls
    (x,) = call.operands
    assert x.shape == (1,)
    assert abs(float(x[0])) > 100


def test_logits_are_made_round():
    def kernel(x, axis=-1):
        return softmax(x, axis) * np.float32(1.01)

    (x,) = witness_of(kernel, "accuracy.batch").trial.calls[0].operands
    assert x.ravel().tolist() == [0.0]


def test_a_defect_that_needs_two_rows_keeps_two():
    def kernel(x, axis=-1):
        y = softmax(x, axis).copy()
        if y.ndim > 1 and y.shape[0] > 1:
            y[1:] *= np.float32(1.01)
        return y

    (x,) = witness_of(kernel, "accuracy.batch").trial.calls[0].operands
    assert x.size == 2
    assert x.ndim > 1


def test_a_crash_is_made_smaller_too():
    def kernel(x, axis=-1):
        if x.shape[axis] >= 5:
            raise ArithmeticError("five is too many")
        return softmax(x, axis)

    witness = witness_of(kernel, "accuracy.length")
    assert witness.finding.observed == "exception"
    assert witness.trial.calls[0].operands[0].shape == (5,)


def test_the_reduced_axis_is_kept_apart_from_the_rows():
    def kernel(x, axis=-1):
        return softmax(x, -1)

    (call,) = witness_of(kernel, "purity.axis").trial.calls
    x, axis = call.operands[0], int(call.params["axis"])
    assert x.ndim >= 2
    assert x.shape[axis] * x.shape[-1] >= 2
    assert x.size <= 4


def test_a_derivative_keeps_its_operands_alike():
    def kernel(y, dy, axis=-1):
        return y * dy

    call = witness_of(kernel, "accuracy.certified", "softmax_vjp").trial.calls[0]
    y, dy = call.operands
    assert y.shape == dy.shape == (1,)
