"""The files of an exchange: cases that go to a machine without an oracle, and results that come back.

A file is a sequence of frames, each whole in itself: a prefix `<4sQQI` (magic b"SCX1", length of the JSON
text, length of the payload, CRC-32 of the prefix with 0 in this place and of the payload), then the payload,
which zlib has compressed: a JSON text in UTF-8, and behind it the bytes of the arrays that its `arrays` lists
by dtype and shape, in C order, little-endian. The first frame says what the file is, the last is
`{"kind": "end"}`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Call, Failure, Output, Reply, as_dtype
from softcert.errors import RequestError

SCHEMA = 1
_BIG = sys.byteorder == "big"
_PREFIX = struct.Struct("<4sQQI")
_MAGIC = b"SCX1"
#: Of text and of payload: no frame of ours comes near, and a damaged length asks for all memory there is.
_LONGEST = 1 << 36
_END: Mapping[str, Any] = {"kind": "end"}


class UnreadableError(RequestError):
    """Arrays are of a dtype that this machine has no library for."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes
    ----------
    head : its JSON object, without `arrays`.
    listed : dtype name and shape of each array.
    raw : the bytes of all arrays, one behind the other.
    """

    head: Mapping[str, Any]
    listed: tuple[tuple[str, tuple[int, ...]], ...]
    raw: bytes

    def arrays(self) -> tuple[Array, ...]:
        """The arrays.

        Raises
        ------
        RequestError : they do not fill the bytes, or a dtype is not known here.
        """
        found, start = [], 0
        for name, shape in self.listed:
            dtype = _known_dtype(name)
            end = start + math.prod(shape) * dtype.itemsize
            if end > len(self.raw):
                break
            flat = np.frombuffer(bytearray(self.raw[start:end]), dtype=dtype)
            found.append((flat.byteswap() if _BIG else flat).reshape(shape))
            start = end
        if len(found) < len(self.listed) or start != len(self.raw):
            raise RequestError("an array does not fill the bytes that are there for it")
        return tuple(found)


def _known_dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = as_dtype(name) if name in DTYPES else _foreign_dtype(name)
    except ImportError:
        raise UnreadableError(f"{name} needs ml_dtypes, which is not installed here") from None
    except (TypeError, AttributeError, ValueError):
        raise RequestError(f"there is no dtype {name!r}") from None
    if dtype.hasobject:
        raise RequestError(f"an array of dtype {name!r} has no bytes")
    return dtype


def _foreign_dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype


def _bytes(array: Array) -> bytes:
    """Bytes of an array in C order, little-endian."""
    return (array.byteswap() if _BIG else array).tobytes()


def packed(head: Mapping[str, Any], arrays: Sequence[Array] = ()) -> bytes:
    """Return the bytes of a frame."""
    listed = [{"dtype": array.dtype.name, "shape": list(array.shape)} for array in arrays]
    text = json.dumps({**head, "arrays": listed} if arrays else dict(head), allow_nan=False).encode()
    payload = zlib.compress(b"".join((text, *map(_bytes, arrays))), 6)
    lengths = (_MAGIC, len(text), len(payload))
    return _PREFIX.pack(*lengths, _checksum(*lengths, payload)) + payload


def _checksum(magic: bytes, text_length: int, length: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_PREFIX.pack(magic, text_length, length, 0)))


def end() -> bytes:
    """Return the frame after which nothing comes."""
    return packed(_END)


def read_frame(file: BinaryIO) -> Frame | None:
    """Read the frame at which a file stands; None at its last one.

    Raises
    ------
    RequestError : it is not whole; one clause of a sentence, which the caller's file begins.
    """
    prefix = file.read(_PREFIX.size)
    if len(prefix) < _PREFIX.size:
        raise RequestError("it ends before its last frame")
    magic, text_length, length, checksum = _PREFIX.unpack(prefix)
    if magic != _MAGIC or max(text_length, length) > _LONGEST:
        raise RequestError("it is no file of softcert cases or results, or is damaged")
    payload = file.read(length)
    if len(payload) < length:
        raise RequestError("it ends before its last frame")
    if _checksum(magic, text_length, length, payload) != checksum:
        raise RequestError("a frame of it is damaged")
    frame = _unpacked(payload, text_length)
    return None if frame.head == _END else frame


def _unpacked(payload: bytes, text_length: int) -> Frame:
    try:
        opened = zlib.decompress(payload)
        head = json.loads(opened[:text_length])
        listed = tuple((entry["dtype"], tuple(map(int, entry["shape"]))) for entry in head.pop("arrays", ()))
    except (zlib.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise RequestError(f"a frame of it cannot be read ({error})") from None
    return Frame(head, listed, opened[text_length:])


def frames_of(path: str | os.PathLike[str], kind: str) -> Iterator[Frame]:
    """Read the frames of a file of a kind, "cases" or "results": what it is, then its items.

    Raises
    ------
    RequestError : one sentence that names the file.
    """
    try:
        with Path(path).open("rb") as file:
            first = read_frame(file)
            _require_kind(first, kind)
            while first is not None:
                yield first
                first = read_frame(file)
    except OSError as error:
        raise RequestError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except RequestError as error:
        raise RequestError(f"cannot use {path}: {error}") from error


def _require_kind(frame: Frame | None, kind: str) -> None:
    head = {} if frame is None else frame.head
    if head.get("kind") != kind:
        raise RequestError(f"it holds {head.get('kind') or 'nothing'}, not {kind}")
    if head.get("schema") != SCHEMA:
        raise RequestError(f"it has schema {head.get('schema')!r}, and this softcert reads schema {SCHEMA}")


def digest_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- calls and replies -----------------------------------------------------------------------------


class Store:
    """Arrays of a frame, each kept once."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._places: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def place(self, array: Array) -> int:
        """Place of an array among those of the frame."""
        bits = hashlib.sha256(array.tobytes()).digest()
        key = (array.dtype.name, array.shape, bits)
        if key not in self._places:
            self._places[key] = len(self.arrays)
            self.arrays.append(array)
        return self._places[key]


def call_to_json(call: Call, store: Store) -> dict[str, Any]:
    """Return a call as JSON, its arrays in a store."""
    return {
        **_facts(call),
        "operands": [store.place(a) for a in call.operands],
        "mask": None if call.mask is None else store.place(call.mask),
    }


def call_from_json(told: Mapping[str, Any], arrays: Sequence[Array]) -> Call:
    """Return the call that JSON and the arrays of its frame tell."""
    return Call(
        op=told["op"],
        operands=tuple(arrays[place] for place in told["operands"]),
        params=told["params"],
        layout=told["layout"],
        repeat=told["repeat"],
        mask=None if told["mask"] is None else arrays[told["mask"]],
        measured=told["measured"],
    )


def _facts(call: Call) -> dict[str, Any]:
    return {
        "op": call.op,
        "params": {name: _number(value) for name, value in sorted(call.params.items())},
        "layout": call.layout,
        "repeat": int(call.repeat),
        "measured": call.measured,
    }


def _number(value: int | float) -> int | float:
    """A number or truth value that JSON has, from one that may be NumPy's."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return int(value) if isinstance(value, (int, np.integer)) else float(value)


def digest(calls: Sequence[Call]) -> str:
    """SHA-256 of the calls of a trial, in hexadecimal: what ties an answer to its inputs."""
    told = hashlib.sha256()
    for call in calls:
        shapes = [[a.dtype.name, list(a.shape)] for a in call.arrays]
        told.update(json.dumps([_facts(call), call.mask is not None, shapes]).encode())
        for array in call.arrays:
            told.update(_bytes(array))
    return told.hexdigest()


def reply_to_json(reply: Reply, store: Store) -> dict[str, Any]:
    """Return a reply as JSON, its arrays in a store."""
    if isinstance(reply, Failure):
        return {"failure": reply.kind, "message": reply.message, "by_subject": reply.by_subject}
    return {
        "values": [store.place(a) for a in reply.values],
        "distinct": None if reply.distinct is None else [store.place(a) for a in reply.distinct],
        "seconds": reply.seconds,
        "side_effects": list(reply.side_effects),
        "peak_bytes": reply.peak_bytes,
        "kept_bytes": reply.kept_bytes,
    }


def reply_from_json(told: Mapping[str, Any], arrays: Sequence[Array]) -> Reply:
    """Return the reply that JSON and the arrays of its frame tell."""
    if "failure" in told:
        return Failure(told["failure"], told["message"], told["by_subject"])
    distinct = told["distinct"]
    output = Output(
        values=tuple(arrays[place] for place in told["values"]),
        seconds=told["seconds"],
        side_effects=tuple(told["side_effects"]),
        peak_bytes=told["peak_bytes"],
        kept_bytes=told["kept_bytes"],
    )
    return output if distinct is None else replace(output, distinct=tuple(arrays[p] for p in distinct))
