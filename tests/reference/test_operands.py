"""What the reference takes as numbers, and one sentence of its own for everything else."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from softcert import reference
from softcert.reference import DomainError


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (None, "x is not an array of numbers: it holds None"),
        ("abc", "x is not an array of numbers: it holds text"),
        (b"abc", "it holds bytes"),
        ([1.0, "a"], "it holds text"),
        ([None, 1.0], "it holds None"),
        ([True, False], "it holds True and False"),
        ([Fraction(1, 3)], "it holds Python objects of type Fraction"),
        ([10**400], "it holds an integer of more than 64 bits"),
        (np.array(["2020"], dtype="M8[D]"), "it holds dates"),
        ([[1.0], [1.0, 2.0]], "x is ragged: its parts have different lengths"),
        ([[1.0], 2.0], "x is ragged"),
        (np.ma.array([1.0, 2.0], mask=[False, True]), "x is a masked array"),
        (np.longdouble([1.0]), "x cannot be taken as exact reals"),
        (np.array([1j]), "dtype complex128 is not one of the formats known here"),
    ],
)
def test_what_holds_no_numbers_is_refused(x, words):
    for op in (reference.softmax, reference.log_softmax, reference.logsumexp):
        with pytest.raises(DomainError) as caught:
            op(x)
        assert str(caught.value).startswith(words) or words in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("op", ["softmax", "log_softmax", "logsumexp"])
def test_the_fast_method_refuses_the_same(op):
    rows = np.ones((300, 64), np.float32)
    function = reference.OPS[op]
    with pytest.raises(DomainError, match="masked array"):
        function(np.ma.array(rows, mask=rows > 1), method="fast")
    with pytest.raises(DomainError, match="axis='a' is not an integer"):
        function(rows, axis="a", method="fast")


def test_a_beta_beyond_every_float_is_refused_in_short():
    with pytest.raises(DomainError, match="is not finite in float64") as caught:
        reference.softmax([1.0, 2.0], beta=10**400)
    assert len(str(caught.value)) < 100


def test_an_integer_of_numpy_is_a_beta():
    two = reference.softmax([1.0, 2.0], beta=np.int64(2))
    assert two.digits(20).tolist() == reference.softmax([1.0, 2.0], beta=2).digits(20).tolist()


# --- tensors ---


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
@pytest.mark.parametrize("gradient", [False, True])
def test_a_tensor_is_the_array_of_its_numbers(torch, dtype, gradient):
    numbers = np.array([0.5, -1.0, 1.5, 0.25])
    tensor = torch.tensor(numbers).to(getattr(torch, dtype)).requires_grad_(gradient)
    exact = reference.softmax(numbers)
    assert reference.softmax(tensor).digits(20).tolist() == exact.digits(20).tolist()
    array = numbers.astype(exact.round(dtype).dtype)
    assert np.array_equal(exact.error_ulp(tensor), exact.error_ulp(array))


def test_views_of_tensors_are_read_element_by_element(torch):
    tensor = torch.arange(8.0).to(torch.bfloat16)[::2]
    exact = reference.softmax([0.0, 2.0, 4.0, 6.0])
    assert reference.softmax(tensor).digits(20).tolist() == exact.digits(20).tolist()


def test_a_tensor_without_dense_numbers_is_refused(torch):
    for tensor in (torch.tensor([1.0, 2.0]).to_sparse(), torch.zeros(2, device="meta")):
        with pytest.raises(DomainError, match="x is a tensor whose numbers cannot be read"):
            reference.softmax(tensor)
