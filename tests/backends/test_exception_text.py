"""Whose an exception is: the subject's, which may refuse so, or of the code around it, which may not."""

import sys

import numpy as np
import pytest

from softcert.backends import Backend, Call, Failure, Worker, session
from softcert.backends.exception_text import (
    UnsupportedError,
    call_foreign,
    describe_exception,
    raised_by_subject,
)
from softcert.backends.harmless import attention_operands
from softcert.backends.loading import load
from softcert.conformance.inputs.features import lacking, refuses

CALL = Call("attention", attention_operands("attention", "float32"), {})


def raised(function, *arguments):
    try:
        function(*arguments)
    except (ValueError, TypeError) as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (call_foreign, (int, "x"), True),
        (int, ("x",), False),
        (call_foreign, (np.zeros(3).reshape, 2), True),
        (np.zeros(3).reshape, (2,), False),
    ],
)
def test_whose_an_exception_is(function, arguments, expected):
    assert raised_by_subject(raised(function, *arguments)) is expected


def test_a_refusal_on_the_subjects_behalf_is_the_subjects():
    assert raised_by_subject(UnsupportedError("one head at a time"))
    assert raised_by_subject(NotImplementedError())


def test_a_fault_around_the_subject_is_no_refusal_of_it(monkeypatch):
    def faulty(call):
        if call.params.get("causal"):
            raise ValueError("a fault of softcert's own")
        return ["contiguous"] * len(call.arrays)

    def attention(q, k, v, *, scale=None, causal=False, mask=None):
        if mask is not None:
            raise ValueError("no masks")
        return np.array(v)

    monkeypatch.setattr(session, "_layouts", faulty)
    with Worker(Backend("mine", {"attention": attention}, dtypes=("float32",))) as one:
        reply = one.call(Call("attention", CALL.operands, {"causal": True}))
        assert isinstance(reply, Failure)
        assert not reply.by_subject
        assert reply.message.endswith("(outside of the subject's code)")
        assert not refuses(reply)
        lacks = lacking("attention", "float32", ("scale", "causal", "mask"), one.call, thorough=0)
    assert "a boolean mask" in lacks
    assert "a causal mask" not in lacks


def test_a_tracer_and_a_limit_left_behind_are_put_back():
    def leaves(x):
        sys.setrecursionlimit(sys.getrecursionlimit() - 100)
        sys.setprofile(lambda *_: None)
        return x

    before = sys.getrecursionlimit(), sys.getprofile()
    assert call_foreign(leaves, 3) == 3
    assert (sys.getrecursionlimit(), sys.getprofile()) == before


def test_a_reading_past_a_trial_is_seen_too(tmp_path):
    path = tmp_path / "kernel.py"
    path.write_text(
        "import ctypes\ndef softmax(x):\n    ctypes.string_at(x.ctypes.data, x.nbytes + 1)\n    return x\n"
    )
    with Worker(load(str(path))) as one:
        reply = one.call(Call("softmax", (np.zeros(3),)))
    assert isinstance(reply, Failure)
    assert "SIGSEGV" in reply.message


def test_what_a_terminal_would_obey_is_shown_by_its_code():
    assert describe_exception(ValueError("a\x1b[31m\0\u2028b")) == r"ValueError: a\x1b[31m\x00 b"
