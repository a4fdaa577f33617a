"""A message names the line of a contract that would allow what it accuses of, where there is one."""

from __future__ import annotations

import numpy as np
import pytest

import softcert
from softcert.backends import numpy_, numpy_attention
from softcert.backends.contract import Contract
from softcert.backends.types import Backend

WOULD = "; a contract with {} would allow it"


def broken(op, kernel, clause, **promises):
    backend = Backend("subject", {op: kernel}, ("float32",), Contract(**promises))
    run = softcert.check(backend, clauses=[clause], dtypes=["float32"], profile="smoke")
    (verdict,) = run.verdicts
    assert verdict.status == "fail"
    return verdict.message


def zeros_for_nothing(x, axis=-1):
    with np.errstate(invalid="ignore"):
        y = numpy_.softmax(x, axis)
    nothing = (x == -np.inf).all(axis=axis, keepdims=True)
    return np.where(nothing, x.dtype.type(0), y)


def seen_from_the_left(q, k, causal, mask):
    if not causal:
        return mask
    shown = np.tril(np.ones((q.shape[-2], k.shape[-2]), dtype=np.bool_))
    if mask is not None and mask.dtype != np.bool_:
        return np.where(shown, mask, -np.inf).astype(mask.dtype)
    return shown if mask is None else shown & mask


def top_left(q, k, v, *, scale=None, causal=False, mask=None):
    return numpy_attention.attention(q, k, v, scale=scale, mask=seen_from_the_left(q, k, causal, mask))


def top_left_vjp(q, k, v, out, lse, dout, *, scale=None, causal=False, mask=None):
    mask = seen_from_the_left(q, k, causal, mask)
    return numpy_attention.attention_vjp(q, k, v, out, lse, dout, scale=scale, mask=mask)


def test_a_row_of_nothing_may_give_zeros():
    message = broken("softmax", zeros_for_nothing, "stability.all-minus-inf")
    assert message.endswith(WOULD.format('all_minus_inf = "zero"'))


@pytest.mark.parametrize("clause", ["definition", "causal", "mask"])
def test_the_other_causal_alignment_is_named_by_every_clause(clause):
    message = broken("attention", top_left, f"attention.{clause}")
    assert message.endswith(WOULD.format('causal = "top-left"'))
    message = broken("attention_vjp", top_left_vjp, f"attention-gradient.{clause}")
    assert message.endswith(WOULD.format('causal = "top-left"'))


def test_a_promise_that_is_broken_is_not_conceded_to_itself():
    message = broken("softmax", zeros_for_nothing, "stability.all-minus-inf", all_minus_inf="uniform")
    assert message.endswith(WOULD.format('all_minus_inf = "zero"'))


def test_a_mistake_is_conceded_by_no_contract():
    def kernel(x, axis=-1):
        return numpy_.softmax(x, axis) * np.float32(1.5)

    assert "a contract with" not in broken("softmax", kernel, "accuracy.certified")
