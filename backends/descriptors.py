"""Which of the judge's open files a forked subject still reaches: none that the judge reads or writes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable

#: Descriptors that a subject in this process needs in its forks too, as the pipes to a program of its own.
KEPT: set[int] = set()


def silence(own: Iterable[int]) -> None:
    """Put /dev/null in the place of every inherited descriptor that is shared with the judge.

    Files of a disk that are open for reading stay, since a subject may read its numbers from one. What is
    read from all others, or written to them, or how they block, would be the judge's loss.

    Parameters
    ----------
    own : descriptors that stay as they are, besides `KEPT`.
    """
    null = os.open(os.devnull, os.O_RDWR)
    stay = {null, *own, *KEPT}
    with os.scandir("/proc/self/fd") as entries:
        numbers = [int(entry.name) for entry in entries]
    for number in numbers:
        with contextlib.suppress(OSError):  # that of the folder itself is closed again
            if number not in stay and not _harmless(number):
                os.dup2(null, number, inheritable=False)
    os.close(null)


def _harmless(number: int) -> bool:
    reading = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    kind = os.fstat(number).st_mode
    return reading and (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
