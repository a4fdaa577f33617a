"""Frames between the judge and the worker: a JSON header, then the bytes of the arrays it lists.

Frame: magic b"SCF1", header length (uint32), header (UTF-8 JSON), then each array's bytes in C order
and in the machine's byte order. The header's `arrays` lists their dtype names and shapes. Both ends
are on one machine, so no byte order is agreed upon.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, as_dtype

_PREFIX = struct.Struct("=4sI")
#: How every frame begins.
MAGIC = b"SCF1"
#: No header comes near this; a longer one is not ours.
_LONGEST_HEADER = 1 << 24


class BrokenFrameError(Exception):
    """What arrived is not a frame: the other end's memory or file descriptors were tampered with."""


class Reader(Protocol):
    """Fills a buffer from the other end."""

    def __call__(self, buffer: memoryview) -> None:
        """Fill the buffer wholly, or raise (EOFError where the other end is gone)."""


def pack(header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> list[bytes | memoryview]:
    """Pieces of a frame, in the order in which they are sent."""
    listed = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({**header, "arrays": listed}).encode()
    pieces: list[bytes | memoryview] = [_PREFIX.pack(MAGIC, len(text)) + text]
    for array in arrays:
        if array.size:
            flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            pieces.append(memoryview(flat.data))
    return pieces


def send(connection: socket.socket, header: Mapping[str, Any], arrays: Sequence[Array] = ()) -> None:
    """Send one frame.

    Raises
    ------
    OSError : the other end is gone (BrokenPipeError) or does not read in time (TimeoutError).
    """
    pieces = pack(header, arrays)
    if sum(len(piece) for piece in pieces) < 1 << 16:
        connection.sendall(b"".join(pieces))
        return
    for piece in pieces:
        connection.sendall(piece)


def receive(read: Reader, most_bytes: int | None = None) -> tuple[dict[str, Any], tuple[Array, ...]]:
    """Read one frame: its header and its arrays, freshly allocated.

    Parameters
    ----------
    most_bytes : how large all arrays may be together; None trusts the other end.

    Raises
    ------
    EOFError : the other end is gone. BrokenFrameError : the bytes are not a frame.
    """
    prefix = bytearray(_PREFIX.size)
    read(memoryview(prefix))
    magic, length = _PREFIX.unpack(prefix)
    if magic != MAGIC or length > _LONGEST_HEADER:
        raise BrokenFrameError("the reply does not start as a frame does")
    text = bytearray(length)
    read(memoryview(text))
    try:
        header: dict[str, Any] = json.loads(text)
        listed = [(_dtype(entry["dtype"]), _shape(entry["shape"])) for entry in header.pop("arrays")]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenFrameError(f"the reply's header cannot be read: {error}") from error
    announced = sum(math.prod(shape) * dtype.itemsize for dtype, shape in listed)
    if most_bytes is not None and announced > most_bytes:
        raise BrokenFrameError(
            f"the reply announces {announced} bytes of arrays, far more than its input has"
        )
    arrays = []
    for dtype, shape in listed:
        if math.prod(shape) * dtype.itemsize > np.iinfo(np.intp).max:
            raise BrokenFrameError("the reply announces more than any memory holds")
        raw = np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)
        if raw.size:
            read(memoryview(raw.data))
        arrays.append(raw.view(dtype).reshape(shape))
    return header, tuple(arrays)


def read_blocking(connection: socket.socket) -> Reader:
    """Return a reader that waits as long as it takes."""

    def read(buffer: memoryview) -> None:
        while buffer:
            count = connection.recv_into(buffer)
            if count == 0:
                raise EOFError
            buffer = buffer[count:]

    return read


def _shape(lengths: object) -> tuple[int, ...]:
    if not isinstance(lengths, list) or not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError(f"{lengths!r} is no shape")
    return tuple(lengths)


def _dtype(name: str) -> np.dtype[Any]:
    if name in DTYPES:
        return as_dtype(name)
    try:
        dtype: np.dtype[Any] = np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype = np.dtype(getattr(ml_dtypes, name))
    if dtype.hasobject or not dtype.itemsize:
        # Bytes that arrive are no addresses of objects.
        raise ValueError(f"{name!r} is no dtype of numbers")
    return dtype
