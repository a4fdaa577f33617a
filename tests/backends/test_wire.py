"""Frames: what is sent arrives bit by bit, and what is no frame is refused."""

import socket
import struct
import threading

import ml_dtypes
import numpy as np
import pytest

from softcert.backends import wire


@pytest.fixture
def ends():
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def carried(ends, header, arrays):
    sender = threading.Thread(target=wire.send, args=(ends[0], header, arrays))
    sender.start()
    received = wire.receive(wire.read_blocking(ends[1]))
    sender.join()
    return received


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3)[:, ::-1],
        np.array([[np.nan, -0.0, 5e-324]]),
        np.array([1.5], dtype=ml_dtypes.bfloat16),
        np.array([1.5], dtype=ml_dtypes.float8_e4m3fn),
        np.array(2.5, dtype=np.float16),
        np.array([1, 2], dtype=np.int32),
        np.array([True, False]),
        np.array([0.1], dtype=np.longdouble),
        np.empty((0, 3)),
        np.random.default_rng(0).normal(size=(200, 300)),
    ],
)
def test_arrays_arrive_bit_by_bit(ends, array):
    header, (first, second) = carried(ends, {"beta": float("inf"), "words": "é"}, [array, array])
    assert header == {"beta": float("inf"), "words": "é"}
    for arrived in (first, second):
        assert (arrived.dtype, arrived.shape) == (array.dtype, array.shape)
        assert arrived.tobytes() == array.tobytes()
        assert arrived.flags.writeable


@pytest.mark.parametrize(
    "data",
    [
        b"hello world, this is no frame",
        struct.pack("=4sI", b"SCF1", 1 << 30),
        struct.pack("=4sI", b"SCF1", 4) + b"nope",
        struct.pack("=4sI", b"SCF1", 2) + b"[]",
        struct.pack("=4sI", b"SCF1", 44) + b'{"arrays":[{"dtype":"float99","shape":[2]}]}',
        struct.pack("=4sI", b"SCF1", 27) + b'{"arrays":[{"shape":[2]} ]}',
        struct.pack("=4sI", b"SCF1", 43) + b'{"arrays":[{"dtype":"object","shape":[2]}]}',
        struct.pack("=4sI", b"SCF1", 43) + b'{"arrays":[{"dtype":"uint8","shape":[-2]}]}',
        struct.pack("=4sI", b"SCF1", 43) + b'{"arrays":[{"dtype":"uint8","shape":"2"} ]}',
    ],
)
def test_what_is_no_frame_is_refused(ends, data):
    ends[0].sendall(data)
    with pytest.raises(wire.BrokenFrameError):
        wire.receive(wire.read_blocking(ends[1]))


def test_more_than_is_allowed_is_refused_before_it_is_read(ends):
    wire.send(ends[0], {}, [np.zeros(3)])
    with pytest.raises(wire.BrokenFrameError, match="announces 24 bytes of arrays"):
        wire.receive(wire.read_blocking(ends[1]), most_bytes=23)


def test_the_end_of_the_stream(ends):
    ends[0].sendall(b"SCF1")
    ends[0].close()
    with pytest.raises(EOFError):
        wire.receive(wire.read_blocking(ends[1]))
