"""Whatever a kernel returns becomes an array with the numbers that it returned, or is refused."""

import ml_dtypes
import numpy as np
import pytest

from softcert.backends import as_dtype
from softcert.backends.convert import NotAnArrayError, as_result, from_torch, to_torch

F32 = np.dtype(np.float32)


class ArrayLike:
    def __array__(self, dtype=None, copy=None):
        return np.array([1.0, 2.0], dtype=dtype)


class OnlyDLPack:
    def __init__(self):
        self.array = np.array([1.0, 2.0])

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


@pytest.mark.parametrize(
    ("value", "dtype", "shape"),
    [
        (np.array([1.0, 2.0]), "float64", (2,)),
        (np.array([1, 2]), "int64", (2,)),
        (np.array([1.0], dtype=np.float16), "float16", (1,)),
        (np.array([1.0], dtype=ml_dtypes.bfloat16), "bfloat16", (1,)),
        (np.array([1.0], dtype=np.longdouble), np.dtype(np.longdouble).name, (1,)),
        (np.float64(3.0), "float64", ()),
        (3.0, "float32", ()),
        (3, "float32", ()),
        ([0.5, 1], "float32", (2,)),
        ([[0.5], (1.0,)], "float32", (2, 1)),
        ([], "float32", (0,)),
        ([np.float16(0.5)], "float16", (1,)),
        ([np.zeros(3), np.ones(3)], "float64", (2, 3)),
        (ArrayLike(), "float64", (2,)),
        (OnlyDLPack(), "float64", (2,)),
    ],
)
def test_numbers(value, dtype, shape):
    result = as_result(value, F32)
    assert type(result) is np.ndarray
    assert (result.dtype.name, result.shape) == (dtype, shape)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None"),
        ("0.5", "returned a str"),
        ({}, "returned a dict"),
        ((v for v in (1.0, 2.0)), "returned a generator"),
        (1j, "returned a complex"),
        (True, "returned a bool"),
        ([True], "returned a bool"),
        (np.array([1j]), "an array of complex128"),
        (np.array(["a"]), "an array of <U1"),
        (np.array([None]), "an array of object"),
        (np.array(["2020"], dtype="datetime64[Y]"), "an array of datetime64"),
        ([np.zeros(2), np.zeros(3)], "a list of parts of different shapes"),
        ([[1.0], [1.0, 2.0]], "a list of parts of different shapes"),
    ],
)
def test_what_is_no_array_of_numbers(value, words):
    with pytest.raises(NotAnArrayError, match=words):
        as_result(value, F32)


def test_lists_take_bfloat16_too():
    result = as_result([0.1, float("inf")], as_dtype("bfloat16"))
    assert result.dtype == ml_dtypes.bfloat16
    assert result[0] == ml_dtypes.bfloat16(0.1)


def test_byte_order_is_not_a_difference():
    result = as_result(np.array([0.25, 1.5], dtype=">f4"), F32)
    assert result.dtype == F32
    assert result.dtype.isnative
    np.testing.assert_array_equal(result, [0.25, 1.5])


def test_arrays_keep_their_memory():
    array = np.zeros(3)
    assert np.shares_memory(as_result(array, F32), array)


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_torch_and_back_bit_by_bit(dtype):
    pytest.importorskip("torch")
    array = np.array([[0.1, -0.0, np.nan], [np.inf, 5e-8, 3.0]]).astype(as_dtype(dtype))
    for view in (array, array.T, array[:, ::2], array[::-1], np.broadcast_to(array[:1], (4, 3)).copy()):
        back = from_torch(to_torch(view))
        assert back.dtype == view.dtype
        assert back.tobytes() == view.tobytes()
    assert np.shares_memory(from_torch(to_torch(array)), array)
    assert as_result(to_torch(array), F32).dtype == array.dtype


def test_tensors_without_a_dense_array():
    torch = pytest.importorskip("torch")
    with pytest.raises(NotAnArrayError, match="without a dense array"):
        as_result(torch.eye(2).to_sparse(), F32)
    with pytest.raises(NotAnArrayError, match="complex"):
        as_result(torch.ones(2, dtype=torch.complex64), F32)
    assert as_result(torch.ones(2, requires_grad=True), F32).shape == (2,)
