"""The registered backends of other libraries call what they say they call, in every dtype they declare."""

import numpy as np
import pytest

from softcert.backends import OPERANDS, as_dtype, load

X = np.random.default_rng(2).normal(size=(3, 4, 5))


@pytest.mark.parametrize("name", ["scipy", "torch"])
def test_every_op_agrees_with_numpy_within_rounding(name):
    pytest.importorskip(name)
    backend, plain = load(name), load("numpy")
    assert name in backend.versions
    for op, kernel in backend.ops.items():
        for dtype in backend.dtypes:
            operands = tuple(X.astype(as_dtype(dtype)) for _ in OPERANDS[op])
            for axis in (-1, 0, 1):
                result, expected = kernel(*operands, axis=axis), plain.ops[op](*operands, axis=axis)
                assert (result.dtype, result.shape) == (expected.dtype, expected.shape)
                tolerance = 4 * float(np.finfo(dtype).eps) if dtype != "bfloat16" else 2.0**-5
                np.testing.assert_allclose(
                    result.astype(float), expected.astype(float), rtol=tolerance, atol=8 * tolerance
                )


def test_scipy_is_not_declared_for_formats_in_which_its_sums_stop():
    scipy = pytest.importorskip("scipy")
    assert "float16" not in load("scipy").dtypes
    ones = scipy.special.softmax(np.zeros((4096, 2), dtype=np.float16), axis=0)
    # The reason: if this ever fails, SciPy sums float16 rightly and can be declared for it.
    assert ones.astype(float).sum(axis=0)[0] == 2.0
