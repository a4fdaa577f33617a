"""Shared libraries as subjects: the symbols of softcert_backend.h, called through ctypes."""

from __future__ import annotations

import ctypes
import json
import re
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from softcert.backends.canonical import CanonicalKernel, Outcome, Problem
from softcert.backends.declaration import OF_LIBRARIES, read_declaration
from softcert.backends.guarded import GuardedResult
from softcert.backends.modules import expanded
from softcert.backends.ops import DTYPES, OPERANDS, OPS, RESULTS, ROW_OPTIONS, takes_scores
from softcert.backends.types import Array, Backend, as_dtype
from softcert.errors import SubjectError

#: Of softcert_backend.h.
ABI_VERSION = 1
_OK, _UNSUPPORTED = 0, 1
_MASK_NONE, _MASK_BOOLEAN, _MASK_ADDITIVE = 0, 1, 2
_HEADER = "softcert_backend.h"
_ELF = b"\x7fELF"
#: Names of some machines in an ELF header, by number.
_MACHINES: Mapping[int, str] = MappingProxyType(
    {
        3: "x86",
        8: "mips",
        20: "ppc",
        21: "ppc64",
        22: "s390",
        40: "arm",
        62: "x86_64",
        183: "aarch64",
        243: "riscv",
    }
)


class StatusError(Exception):
    """A function of a library returned a status that says that it failed."""


class _AttentionCall(ctypes.Structure):
    """softcert_attention_call."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "heads", "kv_heads", "queries", "keys")),
        *((name, ctypes.c_int64) for name in ("features", "columns")),
        ("scale", ctypes.c_double),
        ("causal", ctypes.c_int32),
        ("mask_kind", ctypes.c_int32),
        ("mask", ctypes.c_void_p),
    )


def include_folder() -> Path:
    """Folder of softcert_backend.h, for a compiler's -I."""
    return Path(__file__).resolve().parent


def is_library(place: str) -> bool:
    """Whether a place is meant as a shared library: by its name, or by what the file begins with."""
    path = expanded(place)
    if re.search(r"\.so(\.\d+)*$", path.name):
        return True
    return path.is_file() and _start(path)[:4] == _ELF


def load_library(place: str, subject: str) -> Backend:
    """Backend of the ops that a shared library exports.

    Raises
    ------
    SubjectError : no library of this machine, one without the symbols of the header or of another version
        of it, or a declaration that cannot be understood.
    """
    path = expanded(place).resolve()
    handle = _opened(path, place)
    _require_version(handle, path, place)
    declared = _declaration(handle, place)
    kernels = {op: LibraryKernel(op, _function(handle, op)) for op in OPS if _has(handle, f"softcert_{op}")}
    if not kernels:
        symbols = ", ".join(f"softcert_{op}" for op in OPS)
        raise SubjectError(f"library {place!r} exports none of {symbols}")
    return Backend(**{"name": subject, "ops": kernels, "assumed": "dtypes" not in declared, **declared})


class LibraryKernel(CanonicalKernel):
    """One op of a library.

    Parameters
    ----------
    op : the op. function : its symbol.
    """

    def __init__(self, op: str, function: Callable[..., int]) -> None:
        self.op = op
        self._function = function

    def compute(self, problem: Problem) -> Outcome:
        """Results in buffers that begin as NaN, behind which lies a page that nobody may touch.

        Raises
        ------
        NotImplementedError : the library says that it does not take such a call.
        StatusError : it says that the call failed.
        """
        buffers = [GuardedResult(shape, as_dtype(dtype)) for _, dtype, shape in problem.results]
        arguments = [DTYPES.index(problem.dtype), *_dimensions(problem)]
        arguments += [operand.ctypes.data for operand in problem.operands]
        arguments += [buffer.array.ctypes.data for buffer in buffers]
        start = time.perf_counter()
        status = self._function(*arguments)
        seconds = time.perf_counter() - start
        if status == _UNSUPPORTED:
            raise NotImplementedError(f"softcert_{self.op} returned SOFTCERT_UNSUPPORTED")
        if status != _OK:
            raise StatusError(f"softcert_{self.op} returned the status {status}")
        effects = ("wrote-outside",) if any(buffer.overrun() for buffer in buffers) else ()
        return Outcome(tuple(buffer.array for buffer in buffers), seconds, effects)


def _dimensions(problem: Problem) -> list[Any]:
    """What goes between the dtype and the arrays."""
    if not takes_scores(problem.op):
        rows, n = problem.operands[0].shape
        return [rows, n, *(problem.params[name] for name in ROW_OPTIONS.get(problem.op, ()))]
    q, k, v = problem.operands[:3]
    sizes = (*q.shape[:2], k.shape[1], q.shape[2], k.shape[2], q.shape[3], v.shape[3])
    kind, address = _mask(problem.mask)
    call = _AttentionCall(*sizes, problem.params["scale"], problem.params["causal"], kind, address)
    return [ctypes.byref(call)]


def _mask(mask: Array | None) -> tuple[int, int | None]:
    if mask is None:
        return _MASK_NONE, None
    return _MASK_BOOLEAN if mask.dtype.name == "bool" else _MASK_ADDITIVE, mask.ctypes.data


# --- opening ------------------------------------------------------------------------------------------


def _opened(path: Path, place: str) -> ctypes.CDLL:
    if path.is_dir():
        raise SubjectError(f"{place!r} is a folder, not a shared library")
    if not path.is_file():
        raise SubjectError(f"there is no file {place!r}")
    _require_elf(path, place)
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        reason = " ".join(str(error).replace(f"{path}: ", "").split())
        raise SubjectError(f"library {place!r} cannot be loaded: {reason}") from None


def _require_elf(path: Path, place: str) -> None:
    """Make sure that the system would load the file, and say in words why not."""
    start, own = _start(path), _start(Path("/proc/self/exe"))
    if start[:4] != _ELF or len(start) < len(own):
        begins = f"begins with {start[:4]!r}" if start else "is empty"
        raise SubjectError(f"{place!r} is no shared library: it {begins}, not with {_ELF!r}")
    if (start[4:6], start[18:20]) != (own[4:6], own[18:20]):
        raise SubjectError(
            f"library {place!r} is built for {_built_for(start)}, and this is {_built_for(own)}"
        )
    if start[16:18] != own[16:18] and struct.unpack("=H", start[16:18])[0] == 1:
        raise SubjectError(f"{place!r} is an object file; link it with -shared")


def _start(path: Path) -> bytes:
    """First bytes of a file, as far as the machine in an ELF header."""
    try:
        with path.open("rb") as file:
            return file.read(20)
    except OSError:
        return b""


def _built_for(start: bytes) -> str:
    (machine,) = struct.unpack(">H" if start[5] == 2 else "<H", start[18:20])
    return f"{_MACHINES.get(machine, f'machine {machine}')} ({64 if start[4] == 2 else 32} bits)"


def _has(handle: ctypes.CDLL, symbol: str) -> bool:
    return hasattr(handle, symbol)


def _require_version(handle: ctypes.CDLL, path: Path, place: str) -> None:
    if not _has(handle, "softcert_abi_version"):
        if _has(handle, f"PyInit_{path.name.partition('.')[0]}"):
            raise SubjectError(f"{place!r} is a Python extension module; give it as module:function")
        raise SubjectError(f"library {place!r} does not export softcert_abi_version; see {_HEADER}")
    handle.softcert_abi_version.restype = ctypes.c_uint32
    version = handle.softcert_abi_version()
    if version != ABI_VERSION:
        raise SubjectError(
            f"library {place!r} has version {version} of {_HEADER}, and this is version {ABI_VERSION}"
        )


def _declaration(handle: ctypes.CDLL, place: str) -> dict[str, Any]:
    if not _has(handle, "softcert_declaration"):
        return {}
    handle.softcert_declaration.restype = ctypes.c_char_p
    text = handle.softcert_declaration()
    where = f"softcert_declaration of {place!r}"
    try:
        declared = json.loads(text or b"")
    except ValueError as error:
        raise SubjectError(f"{where} is no JSON: {error}") from None
    return read_declaration(declared, where, OF_LIBRARIES)


def _function(handle: ctypes.CDLL, op: str) -> Callable[..., int]:
    function: Any = getattr(handle, f"softcert_{op}")
    function.restype = ctypes.c_int
    function.argtypes = _argument_types(op)
    return function  # type: ignore[no-any-return] # ctypes gives its functions no type


def _argument_types(op: str) -> list[Any]:
    arrays = [ctypes.c_void_p] * (len(OPERANDS[op]) + len(RESULTS.get(op, (op,))))
    if takes_scores(op):
        return [ctypes.c_int32, ctypes.POINTER(_AttentionCall), *arrays]
    usual = ROW_OPTIONS.get(op, {}).values()
    options = [ctypes.c_int64 if isinstance(value, int) else ctypes.c_double for value in usual]
    return [ctypes.c_int32, ctypes.c_int64, ctypes.c_int64, *options, *arrays]
