"""The reference as a backend: correctly rounded, and known to be."""

import numpy as np
import pytest

import softcert
from softcert import reference
from softcert.backends import DTYPES, as_dtype, load

OPS = load("certified").ops
RNG = np.random.default_rng(3)


def graded(op, dtype):
    run = softcert.check("certified", op=op, dtypes=dtype, profile="smoke")
    assert run.conforms, run.broken
    return {verdict.grade for verdict in run.verdicts if verdict.grade}


@pytest.mark.parametrize("op", ["softmax", "log_softmax", "softmax_vjp"])
def test_every_grade_is_the_best(op):
    assert graded(op, "float32") == {"A"}


@pytest.mark.slow  # minutes
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", sorted(OPS))
def test_every_op_keeps_its_contract_in_every_dtype(op, dtype):
    assert graded(op, dtype) <= {"A", "B"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_is_rounded_as_the_other_oracle_rounds_it(dtype):
    q, k, v, dout = (RNG.normal(size=(2, 5, 4)).astype(as_dtype(dtype)) for _ in range(4))
    out, lse = OPS["attention_lse"](q, k, v, causal=True)
    exact_out, exact_lse = reference.attention_lse(q, k, v, causal=True, method="mpmath")
    np.testing.assert_array_equal(out, exact_out.round(dtype))
    np.testing.assert_array_equal(lse, exact_lse.round(lse.dtype))
    gradients = OPS["attention_vjp"](q, k, v, out, lse, dout, causal=True)
    exact = reference.attention_vjp(q, k, v, out, lse, dout, causal=True, method="mpmath")
    for got, enclosure in zip(gradients, exact, strict=True):
        np.testing.assert_array_equal(got, enclosure.round(dtype))


def test_arrays_without_elements():
    empty = np.zeros((2, 0), np.float32)
    np.testing.assert_array_equal(OPS["softmax"](empty), empty)
    np.testing.assert_array_equal(OPS["logsumexp"](empty), np.full(2, -np.inf, np.float32))
    assert OPS["logsumexp"](empty, 0).shape == (0,)
