"""The NumPy kernels: right on ordinary rows, on special ones, in every dtype, and without traces.

The safe form, the online one and that in two passes alike.
"""

import math

import numpy as np
import pytest

from softcert.backends import DTYPES, as_dtype, load
from softcert.backends.harmless import row_operands
from softcert.backends.ops import REDUCING_OPS, ROW_OPS

NUMPY = load("numpy")
NAIVE = load("numpy-naive")
SAFE = [NUMPY, load("numpy-online"), load("numpy-two-pass")]
each = pytest.mark.parametrize("backend", SAFE, ids=lambda backend: backend.name)
OPS_OF = [(backend, op) for backend in SAFE for op in ROW_OPS if op in backend.ops]
each_op = pytest.mark.parametrize(("backend", "op"), OPS_OF, ids=lambda value: getattr(value, "name", value))


def exact_softmax(row, beta=1.0):
    """Softmax of a row in correctly rounded sums of binary64 exponentials: reference enough for 1e-12."""
    top = max(beta * v for v in row)
    terms = [math.exp(beta * v - top) for v in row]
    total = math.fsum(terms)
    return [t / total for t in terms]


@pytest.mark.parametrize("dtype", DTYPES)
@each_op
def test_dtype_and_shape_of_the_result(backend, op, dtype):
    x = np.linspace(0.0, 1.0, 24).reshape(2, 3, 4).astype(as_dtype(dtype))
    for axis in (-1, 0, 1):
        result = backend.ops[op](*row_operands(op, x, axis), axis=axis)
        expected = tuple(np.delete(x.shape, axis)) if op in REDUCING_OPS else x.shape
        assert result.dtype == x.dtype
        assert result.shape == expected


@each
def test_softmax_of_an_ordinary_row(backend):
    row = [1.0, 2.0, 8.0, -3.0, 0.5]
    np.testing.assert_allclose(backend.ops["softmax"](np.array(row)), exact_softmax(row), rtol=1e-15)


@pytest.mark.parametrize("beta", [2.0, 0.1, -1.5, 0.0, 1e-300])
def test_inverse_temperature(beta):
    row = [1.0, 2.0, 8.0, -3.0, 0.5]
    result = NUMPY.ops["softmax"](np.array(row), beta=beta)
    np.testing.assert_allclose(result, exact_softmax(row, beta), rtol=1e-14)


def test_small_beta_on_logits_whose_difference_overflows():
    x = np.array([-3e38, 3e38], dtype=np.float32)
    result = NUMPY.ops["softmax"](x, beta=1e-38)
    np.testing.assert_allclose(result, exact_softmax([-3.0, 3.0]), rtol=1e-6)


@each
def test_sixteen_bit_sums_are_taken_in_float32(backend):
    # In float16 a running sum of ones sticks at 2048.
    ones = np.zeros((4096, 2), dtype=np.float16)
    assert (backend.ops["softmax"](ones, axis=0) == np.float16(1 / 4096)).all()


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
@each
def test_special_rows(backend, row, softmax, lse):
    x = np.array(row, dtype=np.float32)
    expected = np.array(softmax, dtype=np.float32)
    result, logs = backend.ops["softmax"](x), backend.ops["log_softmax"](x)
    if np.isposinf(row).any() and backend is not NUMPY:
        # the contract asks for NaN at the place of +inf alone
        result, logs, expected = (a[np.isposinf(x)] for a in (result, logs, expected))
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(np.isnan(logs), np.isnan(expected))
    np.testing.assert_allclose(backend.ops["logsumexp"](x), np.float32(lse), rtol=1e-7)


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
@each
def test_nothing_in_nothing_out(backend, shape):
    x = np.empty(shape)
    for op in ("softmax", "log_softmax"):
        assert backend.ops[op](x).shape == shape
    assert backend.ops["softmax_vjp"](x, x).shape == shape
    lse = backend.ops["logsumexp"](x)
    assert lse.shape == shape[:-1]
    assert (lse == -np.inf).all()


def long_rows(dtype):
    """Rows of several blocks: their maximum rises all along, falls, stays, is hidden at first, is huge."""
    steps = np.arange(1000.0)
    masked = np.where(steps < 600, -np.inf, steps % 7)
    return np.stack([steps, -steps, steps % 3, masked, steps * 1e30]).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
@each
def test_blocks_of_a_long_row_add_up(backend, op, dtype):
    x = long_rows(dtype)
    # below the normal numbers of float32, roundings are absolute
    close = {"rtol": 1e-13 if dtype == "float64" else 2e-5, "atol": 1e-37}
    result = backend.ops[op](x)
    np.testing.assert_allclose(result, NUMPY.ops[op](x.astype(float)), **close)
    np.testing.assert_allclose(backend.ops[op](x.T, axis=0).T, result, **close)


def test_logits_may_be_anywhere_in_two_passes():
    two_pass = load("numpy-two-pass").ops
    for offset in (0.0, 1e3, -1e3, 2.0**40, -(2.0**40)):
        x = np.array([offset, offset + 1, offset - 2])
        np.testing.assert_allclose(two_pass["softmax"](x), exact_softmax([0.0, 1.0, -2.0]), rtol=1e-14)
    largest = np.finfo(float).max
    np.testing.assert_array_equal(two_pass["softmax"](np.array([largest, -largest, largest])), [0.5, 0, 0.5])


def test_gradient_is_the_jacobian_times_the_cotangent():
    y = np.array(exact_softmax([0.3, -1.0, 2.0]))
    dy = np.array([1.0, -2.0, 0.5])
    expected = (np.diag(y) - np.outer(y, y)) @ dy
    np.testing.assert_allclose(NUMPY.ops["softmax_vjp"](y, dy), expected, rtol=1e-14)
    np.testing.assert_allclose(NUMPY.ops["softmax_jvp"](y, dy), expected, rtol=1e-14)


@each_op
def test_inputs_stay_as_they_are(backend, op):
    x = np.array([[1.0, -2.0, 700.0], [0.0, 0.0, 5e-324]])
    x.flags.writeable = False
    before = x.tobytes()
    backend.ops[op](*row_operands(op, x))
    assert x.tobytes() == before


def test_naive_softmax_is_right_until_it_overflows():
    np.testing.assert_allclose(
        NAIVE.ops["softmax"](np.array([1.0, 2.0])), exact_softmax([1.0, 2.0]), rtol=1e-15
    )
    assert np.isnan(NAIVE.ops["softmax"](np.array([1000.0, 0.0]))[0])
    assert NAIVE.ops["logsumexp"](np.array([1000.0, 0.0])) == np.inf
