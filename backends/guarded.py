"""Operands in memory of their own: a page that nobody may touch lies right behind the last element.

A kernel that reads past its input stops at once (SIGSEGV), and one that writes before it, or between
its elements, is seen afterwards, because everything around the elements holds a known pattern.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from softcert.backends.types import LAYOUTS, Array

#: Every format reads bytes of ones only as a NaN.
POISON = 0xFF
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
#: Guarded memory that waits to be used again, by its size; mapping pages costs more than a small call.
_KEPT: dict[int, list[Bytes]] = defaultdict(list)
_MOST_KEPT = 4
_LARGEST_KEPT = 1 << 20
_PROT_NONE = 0
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class GuardedOperand:
    """One operand in guarded memory, laid out as asked.

    Parameters
    ----------
    array : the values, any dtype, shape and strides.
    layout : one of `LAYOUTS`. "contiguous": C order. "strided": every second element, NaN between.
        "reversed": negative strides along every axis. "transposed": Fortran order. "broadcast":
        stride 0 along every axis along which the values do not differ, read-only (as NumPy's own
        broadcasting gives it); where they differ along every axis, C order and read-only. "mixed", which
        speaks of several operands, is C order for one.

    """

    def __init__(self, array: Array, layout: str) -> None:
        if layout not in LAYOUTS:
            raise ValueError(f"layout {layout!r} is not one of {', '.join(LAYOUTS)}")
        distinct = _without_repeats(array) if layout == "broadcast" else array
        count, item = distinct.size, array.dtype.itemsize
        spread = max(2 * count - 1, 0) if layout == "strided" else count
        self._memory = _guarded_bytes(spread * item)
        elements = self._memory[self._memory.size - spread * item :].view(array.dtype)
        stored = _arranged(elements, distinct.shape, layout)
        stored[...] = distinct
        self._view = np.broadcast_to(stored, array.shape) if layout == "broadcast" else stored
        self._before = self._memory.tobytes()

    def fresh_view(self) -> Array:
        """Return an array object of its own over the memory, writeable except for "broadcast"."""
        return self._view.view()

    def modified(self, given: Array) -> bool:
        """Whether the memory, its surroundings, or the array object given to the kernel has changed."""
        reshaped = given.shape != self._view.shape or given.strides != self._view.strides
        return reshaped or given.dtype != self._view.dtype or self._memory.tobytes() != self._before

    def restore(self) -> None:
        """Put the values back as they were."""
        self._memory[...] = np.frombuffer(self._before, dtype=np.uint8)

    def release(self) -> None:
        """Give the memory back for the next operand of its size; only if nothing of value lies in it.

        Addresses recur so, as they do in a program that runs for long, and a kernel that remembers
        inputs by their address is seen.
        """
        if self._memory.size <= _LARGEST_KEPT and len(_KEPT[self._memory.size]) < _MOST_KEPT:
            _KEPT[self._memory.size].append(self._memory)

    def overlaps(self, output: Array) -> bool:
        """Whether an array lies (partly) in the operand's memory."""
        # Nothing but the operand lives there, so bounds decide.
        return output.size > 0 and self._memory.size > 0 and np.may_share_memory(output, self._memory)


class GuardedResult:
    """Memory for one result: NaN all over, poison before it, and behind it a page that nobody may touch.

    Attributes
    ----------
    array : the result, C-contiguous.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        nbytes = math.prod(shape) * dtype.itemsize
        # Never that of an operand: its addresses have to recur as those of operands.
        memory = _protected_bytes(_whole_pages(nbytes) + mmap.PAGESIZE)
        memory.fill(POISON)
        self._before = memory[: memory.size - nbytes]
        # Not a slice: an empty one would lie at the beginning.
        self.array: Array = np.ndarray(shape, dtype, buffer=memory, offset=memory.size - nbytes)

    def overrun(self) -> bool:
        """Whether something was written before the result; behind it, nobody survives to be asked."""
        return bool((self._before != POISON).any())


def guarded(operands: Sequence[Array]) -> tuple[Array, ...]:
    """Copies of operands, each before a page that nobody may touch: what reads past a trial's stops too."""
    return tuple(GuardedOperand(operand, "contiguous").fresh_view() for operand in operands)


def poison_free_memory(nbytes: int, blocks: int = 4) -> None:
    """Fill freed blocks of so many bytes with NaN, so that the kernel's `empty` arrays start as NaN."""
    held = [np.empty(nbytes, dtype=np.uint8) for _ in range(blocks)]
    for block in held:
        block.fill(POISON)


def _guarded_bytes(nbytes: int) -> Bytes:
    """All bytes before a guard page, filled with poison; whole pages, at least one."""
    room = _whole_pages(nbytes)
    usable = _KEPT[room].pop() if _KEPT[room] else _protected_bytes(room)
    usable.fill(POISON)
    return usable


def _whole_pages(nbytes: int) -> int:
    return max(math.ceil(nbytes / mmap.PAGESIZE), 1) * mmap.PAGESIZE


def _protected_bytes(room: int) -> Bytes:
    page = mmap.PAGESIZE
    region = mmap.mmap(-1, room + page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = np.frombuffer(region, dtype=np.uint8)
    if _LIBC.mprotect(whole.ctypes.data + room, page, _PROT_NONE) != 0:
        raise OSError(ctypes.get_errno(), "cannot protect the guard page")
    return whole[:room]


def _arranged(elements: Array, shape: tuple[int, ...], layout: str) -> Array:
    """View of the elements' memory with the shape and the layout's strides."""
    if layout == "strided":
        return elements[::2].reshape(shape)
    if layout == "reversed":
        return elements[::-1].reshape(shape)
    if layout == "transposed":
        return elements.reshape(shape, order="F")
    return elements.reshape(shape)


def _without_repeats(array: Array) -> Array:
    """The array cut to length 1 along every axis along which its bits do not differ."""
    if array.size == 0:
        return array
    bits = np.asarray(array, order="C").view(np.dtype(f"u{array.dtype.itemsize}"))
    for axis in range(array.ndim):
        first = bits.take([0], axis=axis)
        if bits.shape[axis] > 1 and np.array_equal(bits, np.broadcast_to(first, bits.shape)):
            bits = first
    return bits.view(array.dtype)
