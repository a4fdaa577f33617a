"""The NumPy kernels: right on ordinary rows, on special ones, in every dtype, and without traces."""

import math

import numpy as np
import pytest

from softcert.backends import DTYPES, OPERANDS, as_dtype, load
from softcert.backends.ops import SOFTMAX_OPS

NUMPY = load("numpy")
NAIVE = load("numpy-naive")


def exact_softmax(row, beta=1.0):
    """Softmax of a row in correctly rounded sums of binary64 exponentials: reference enough for 1e-12."""
    top = max(beta * v for v in row)
    terms = [math.exp(beta * v - top) for v in row]
    total = math.fsum(terms)
    return [t / total for t in terms]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", SOFTMAX_OPS)
def test_dtype_and_shape_of_the_result(op, dtype):
    x = np.linspace(0.0, 1.0, 24).reshape(2, 3, 4).astype(as_dtype(dtype))
    for axis in (-1, 0, 1):
        result = NUMPY.ops[op](*(x for _ in OPERANDS[op]), axis=axis)
        expected = tuple(np.delete(x.shape, axis)) if op == "logsumexp" else x.shape
        assert result.dtype == x.dtype
        assert result.shape == expected


def test_softmax_of_an_ordinary_row():
    row = [1.0, 2.0, 8.0, -3.0, 0.5]
    np.testing.assert_allclose(NUMPY.ops["softmax"](np.array(row)), exact_softmax(row), rtol=1e-15)


@pytest.mark.parametrize("beta", [2.0, 0.1, -1.5, 0.0, 1e-300])
def test_inverse_temperature(beta):
    row = [1.0, 2.0, 8.0, -3.0, 0.5]
    result = NUMPY.ops["softmax"](np.array(row), beta=beta)
    np.testing.assert_allclose(result, exact_softmax(row, beta), rtol=1e-14)


def test_small_beta_on_logits_whose_difference_overflows():
    x = np.array([-3e38, 3e38], dtype=np.float32)
    result = NUMPY.ops["softmax"](x, beta=1e-38)
    np.testing.assert_allclose(result, exact_softmax([-3.0, 3.0]), rtol=1e-6)


def test_sixteen_bit_sums_are_taken_in_float32():
    # In float16 a running sum of ones sticks at 2048.
    ones = np.zeros((4096, 2), dtype=np.float16)
    assert (NUMPY.ops["softmax"](ones, axis=0) == np.float16(1 / 4096)).all()


@pytest.mark.parametrize(
    ("row", "softmax", "lse"),
    [
        ([0.0, np.nan, 1.0], [np.nan] * 3, np.nan),
        ([0.0, np.inf, 1.0], [np.nan] * 3, np.inf),
        ([-np.inf] * 3, [np.nan] * 3, -np.inf),
        ([-np.inf, 0.0, 0.0], [0.0, 0.5, 0.5], math.log(2)),
        ([3e38, -3e38], [1.0, 0.0], 3e38),
        ([7.0], [1.0], 7.0),
    ],
)
def test_special_rows(row, softmax, lse):
    x = np.array(row, dtype=np.float32)
    np.testing.assert_array_equal(NUMPY.ops["softmax"](x), np.array(softmax, dtype=np.float32))
    np.testing.assert_allclose(NUMPY.ops["logsumexp"](x), np.float32(lse), rtol=1e-7)
    logs = NUMPY.ops["log_softmax"](x)
    np.testing.assert_array_equal(np.isnan(logs), np.isnan(softmax))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_nothing_in_nothing_out(shape):
    x = np.empty(shape)
    for op in ("softmax", "log_softmax"):
        assert NUMPY.ops[op](x).shape == shape
    assert NUMPY.ops["softmax_vjp"](x, x).shape == shape
    lse = NUMPY.ops["logsumexp"](x)
    assert lse.shape == shape[:-1]
    assert (lse == -np.inf).all()


def test_gradient_is_the_jacobian_times_the_cotangent():
    y = np.array(exact_softmax([0.3, -1.0, 2.0]))
    dy = np.array([1.0, -2.0, 0.5])
    expected = (np.diag(y) - np.outer(y, y)) @ dy
    np.testing.assert_allclose(NUMPY.ops["softmax_vjp"](y, dy), expected, rtol=1e-14)
    np.testing.assert_allclose(NUMPY.ops["softmax_jvp"](y, dy), expected, rtol=1e-14)


@pytest.mark.parametrize("op", SOFTMAX_OPS)
def test_inputs_stay_as_they_are(op):
    x = np.array([[1.0, -2.0, 700.0], [0.0, 0.0, 5e-324]])
    x.flags.writeable = False
    before = x.tobytes()
    NUMPY.ops[op](*(x for _ in OPERANDS[op]))
    assert x.tobytes() == before


def test_naive_softmax_is_right_until_it_overflows():
    np.testing.assert_allclose(
        NAIVE.ops["softmax"](np.array([1.0, 2.0])), exact_softmax([1.0, 2.0]), rtol=1e-15
    )
    assert np.isnan(NAIVE.ops["softmax"](np.array([1000.0, 0.0]))[0])
    assert NAIVE.ops["logsumexp"](np.array([1000.0, 0.0])) == np.inf
