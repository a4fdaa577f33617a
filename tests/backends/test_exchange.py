"""The frames of an exchange: nothing is lost on the way, and what is damaged is refused in one clause."""

from __future__ import annotations

import io
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from softcert.backends import Call, Failure, Output, exchange
from softcert.errors import RequestError

HEAD = {"kind": "cases", "schema": 1}
ARRAYS = (
    np.array([0.0, -0.0, np.inf, -np.inf], np.float32),
    np.array([0x7FF8000000000123], np.uint64).view(np.float64),
    np.arange(6, dtype=np.float16).reshape(2, 3).T,
    np.array([1.5, -3.0], ml_dtypes.bfloat16),
    np.zeros((0, 3)),
    np.array(7.0),
    np.array([True, False]),
    np.array([1 + 2j]),
)


def written(path, *frames):
    path.write_bytes(b"".join((*frames, exchange.end())))
    return path


def test_arrays_come_back_bit_for_bit(tmp_path):
    path = written(tmp_path / "f", exchange.packed(HEAD, ARRAYS))
    (frame,) = exchange.frames_of(path, "cases")
    assert dict(frame.head) == HEAD
    for given, back in zip(ARRAYS, frame.arrays(), strict=True):
        assert (back.dtype, back.shape) == (given.dtype, given.shape)
        assert back.tobytes() == given.tobytes()
        assert back.flags.writeable


@pytest.mark.parametrize(
    "reply",
    [
        Failure("crash", "it died"),
        Output((np.ones(3),), 0.5, None, ("input-modified",), 10, -4),
        Output((np.ones(2), np.zeros(2)), 0.1, (np.zeros(2), np.ones(2))),
    ],
)
def test_replies_come_back(reply):
    store = exchange.Store()
    told = exchange.reply_to_json(reply, store)
    back = exchange.reply_from_json(told, store.arrays)
    if isinstance(reply, Failure):
        assert back == reply
        return
    assert replace(back, values=(), distinct=None) == replace(reply, values=(), distinct=None)
    for given, got in ((reply.values, back.values), (reply.distinct or (), back.distinct or ())):
        assert [a.tobytes() for a in given] == [a.tobytes() for a in got]


CALL = Call("attention", (np.ones((2, 2)),) * 3, {"scale": 0.5}, mask=np.ones((2, 2), bool))


def test_calls_come_back_and_each_array_is_kept_once():
    store = exchange.Store()
    back = exchange.call_from_json(exchange.call_to_json(CALL, store), store.arrays)
    assert len(store.arrays) == 2
    assert exchange.digest([back]) == exchange.digest([CALL])


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, op="attention_lse"),
        replace(CALL, params={"scale": 0.25}),
        replace(CALL, params={"causal": True}),
        replace(CALL, layout="strided"),
        replace(CALL, repeat=2),
        replace(CALL, measured=True),
        replace(CALL, mask=None),
        replace(CALL, operands=(np.ones((2, 2), np.float32),) * 3),
        replace(CALL, operands=(-np.zeros((2, 2)), *CALL.operands[1:])),
    ],
)
def test_calls_that_differ_have_other_digests(other):
    assert exchange.digest([CALL]) != exchange.digest([other])
    assert exchange.digest([CALL, CALL]) != exchange.digest([CALL])


def test_every_damaged_byte_is_noticed(tmp_path):
    whole = written(tmp_path / "f", exchange.packed(HEAD, ARRAYS[:1])).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        (tmp_path / "f").write_bytes(damaged)
        with pytest.raises(RequestError, match="cannot use"):
            list(exchange.frames_of(tmp_path / "f", "cases"))


@pytest.mark.parametrize("kept", [0, 3, 30, -1, -40])
def test_a_file_that_was_cut_off_is_refused(tmp_path, kept):
    whole = written(tmp_path / "f", exchange.packed(HEAD, ARRAYS)).read_bytes()
    (tmp_path / "f").write_bytes(whole[:kept])
    with pytest.raises(RequestError, match="ends before its last frame"):
        list(exchange.frames_of(tmp_path / "f", "cases"))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ({"kind": "results", "schema": 1}, "it holds results, not cases"),
        ({"kind": "cases", "schema": 2}, "schema 2"),
        ({}, "it holds nothing"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path, head, words):
    with pytest.raises(RequestError, match=words):
        list(exchange.frames_of(written(tmp_path / "f", exchange.packed(head)), "cases"))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no such file"):
        list(exchange.frames_of(tmp_path / "none", "cases"))


@pytest.mark.parametrize(
    ("listed", "raw", "words"),
    [
        ((("float32", (2,)),), bytes(4), "fill"),
        ((("float32", (1,)),), bytes(8), "fill"),
        ((("object", (1,)),), bytes(8), "has no bytes"),
        ((("no_such", (1,)),), bytes(8), "no dtype 'no_such'"),
    ],
)
def test_arrays_that_contradict_their_bytes_are_refused(listed, raw, words):
    with pytest.raises(RequestError, match=words):
        exchange.Frame({}, listed, raw).arrays()


def test_a_length_that_no_frame_has_is_refused_before_memory_is_asked_for():
    frame = bytearray(exchange.packed(HEAD))
    frame[12:20] = b"\xff" * 8
    with pytest.raises(RequestError, match="damaged"):
        exchange.read_frame(io.BytesIO(frame))
