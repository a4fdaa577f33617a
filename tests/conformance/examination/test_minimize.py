"""A witness is as small as the defect allows."""

from __future__ import annotations

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_, numpy_cross_entropy
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


def test_a_loss_keeps_its_targets_among_its_classes():
    def kernel(x, target, axis=-1, label_smoothing=0.0, ignore_index=-100, z_loss=0.0):
        options = {"label_smoothing": label_smoothing, "ignore_index": ignore_index, "z_loss": z_loss}
        loss = numpy_cross_entropy.cross_entropy(x, target, axis=axis, **options)
        return np.where(target == 3, loss + 1, loss).astype(x.dtype)

    for clause in ("accuracy.batch", "accuracy.length", "purity.axis"):
        (call,) = witness_of(kernel, clause, "cross_entropy").trial.calls
        x, target = call.operands
        # Class 3 is the last of as few as it can be one of.
        assert (x.size, target.size, int(target.reshape(-1)[0])) == (4, 1, 3)
        assert target.dtype == np.int64


def test_a_loss_wrong_in_ignored_rows_is_shown_by_one():
    def kernel(x, target, dloss, axis=-1, ignore_index=-100):
        slopes = numpy_cross_entropy.cross_entropy_vjp(x, target, dloss, axis=axis, ignore_index=ignore_index)
        return slopes + np.expand_dims(target == ignore_index, axis).astype(x.dtype)

    (call,) = witness_of(kernel, "cross-entropy.ignored", "cross_entropy_vjp").trial.calls
    x, target, dloss = call.operands
    assert (x.shape, target.shape, dloss.shape, int(target)) == ((1,), (), (), -100)
