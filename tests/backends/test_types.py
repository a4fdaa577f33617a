"""A contract holds what a contract can hold, however it was made, or is refused in one sentence."""

import numpy as np
import pytest

import softcert
from softcert.backends import Backend, Contract, SubjectError


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"exp_ulp": "2"}, "exp_ulp has to be a positive number, not '2'"),
        ({"exp_ulp": -1}, "exp_ulp has to be a positive number, not -1"),
        ({"exp_ulp": True}, "not True"),
        ({"exp_ulp": float("nan")}, "not nan"),
        ({"exp_ulp": 10**400}, "a positive number"),
        ({"exp_ulp": np.ones(2)}, "a positive number"),
        ({"form": 3}, "form has to be 'any' or 'division', not 3"),
        ({"compute": []}, "compute has to be None, 'float64', 'float32', 'float16' or 'bfloat16', not []"),
        ({"deterministic": 1}, "deterministic has to be True or False, not 1"),
    ],
)
def test_a_wrong_value_is_refused_by_either_door(fields, words):
    for make in (Contract.from_mapping, lambda declared: Contract(**declared)):
        with pytest.raises(SubjectError) as caught:
            make(fields)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        (3, "has to be a softcert.Contract or a mapping, not 3"),
        ("exp_ulp", "not 'exp_ulp'"),
        ({"exp_ulb": 2.0}, "'exp_ulb' is unknown; did you mean 'exp_ulp'?"),
        ({"colour": 2.0}, "the contract fields are accumulator"),
        ({2: 2.0}, "contract field 2 is unknown"),
        ({"contract": {}, "dtypes": ["float32"]}, "'dtypes' beside the table belongs into SOFTCERT"),
        ({"contract": {"form": "none"}}, "form has to be"),
    ],
)
def test_what_is_no_contract_is_refused(declared, words):
    with pytest.raises(SubjectError) as caught:
        Contract.from_mapping(declared)
    assert words in str(caught.value)


def test_files_without_null_say_none_and_may_name_their_table():
    fields = {"compute": "none", "accumulator": "float32"}
    assert Contract.from_mapping({"contract": fields}) == Contract(accumulator="float32")


def test_numbers_of_numpy_are_numbers():
    assert Contract(exp_ulp=np.float32(2.5)).to_mapping()["exp_ulp"] == 2.5


def softmax(x, axis=-1):
    return x


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"name": 3}, "backend name has to be a string, not 3"),
        ({"ops": [softmax]}, "ops has to be a mapping from op names to functions"),
        ({"ops": {"softmax": 3}}, "op softmax has to be a function, not 3"),
        ({"ops": {"softmx": softmax}}, "op 'softmx' is unknown; did you mean 'softmax'?"),
        ({"dtypes": ("float33",)}, "dtypes has to be some of float64, float32, float16, bfloat16"),
        ({"dtypes": 3}, "dtypes has to be a name or a list of names, not 3"),
        ({"contract": {"exp_ulp": 2.0}}, "contract has to be a softcert.Contract"),
        ({"beta": "yes"}, "beta has to be True or False"),
    ],
)
def test_a_backend_of_wrong_parts_is_refused(parts, words):
    with pytest.raises(SubjectError) as caught:
        Backend(**{"name": "mine", "ops": {"softmax": softmax}, **parts})
    assert words in str(caught.value)


def test_one_dtype_or_a_list_of_them_is_taken():
    for dtypes in ("float32", ["float32"], ("float32",)):
        assert Backend("mine", {"softmax": softmax}, dtypes).dtypes == ("float32",)


def test_every_refusal_is_a_softcert_error():
    for error in (softcert.SubjectError, softcert.RequestError, softcert.DomainError):
        assert issubclass(error, softcert.SoftcertError)
    assert issubclass(softcert.SoftcertError, ValueError)
