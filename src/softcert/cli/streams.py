"""Standard streams that are closed, full, or read by nobody any more."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TextIO

#: What writing to a full or closed stream, or one on a broken device, fails with.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT, errno.EFBIG})


def occupy() -> None:
    """Take the numbers of closed standard streams, so that no file opened later is mistaken for one.

    Writing to a stream that was closed fails then, as it does in any other program.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest number that is free, which is this one
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def is_unwritable(error: BaseException) -> bool:
    """Whether an error says that a standard stream takes nothing."""
    return isinstance(error, OSError) and error.errno in _UNWRITABLE and error.filename is None


def settle() -> None:
    """Write what is still held back, and drop what cannot be, of which the interpreter would complain."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _drop(stream)


def _drop(stream: TextIO) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError):
        os.dup2(null, stream.fileno())
        stream.flush()
    os.close(null)
