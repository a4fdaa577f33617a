"""A time limit that does not run while a machine with other work keeps a process from its processor."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

#: Whoever waits looks some times in so many seconds; where it did not, it did not run either.
_LOOK = 0.25
#: A process gets so many times its limit at most, however little of a processor it is given.
MOST = 8.0
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


class Patience:
    """How much of a time limit is left.

    Once the wall time is over, a process that sleeps has had its time; one that would run may do so until it
    has computed for as long. What is slow would count as hung on a busy machine otherwise: a verdict would
    depend on what else runs there. Nor does time count in which nobody looked, as where a run was stopped
    by Ctrl-Z, and the process with it.

    Parameters
    ----------
    seconds : the limit.
    pid : number of the process, or None while it is not known.
    """

    def __init__(self, seconds: float, pid: Callable[[], int | None]) -> None:
        self._seconds = seconds
        self._pid = pid
        self._computed = _seconds_computed(pid())
        self._taken, self._looked = 0.0, time.monotonic()

    @property
    def exhausted(self) -> bool:
        """Whether even what still arrives comes too late."""
        return self._taken > MOST * self._seconds

    def remaining(self) -> float:
        """Seconds that are left, not more than 0 once the limit is over; to be asked for again and again."""
        now = time.monotonic()
        self._taken += min(now - self._looked, _LOOK)
        self._looked = now
        if self._seconds <= self._taken <= MOST * self._seconds:
            pid = self._pid()
            if _would_run(pid):
                return self._seconds - (_seconds_computed(pid) - self._computed)
        return self._seconds - self._taken


def statistics(folder: Path) -> list[str]:
    """Fields of a stat file of the system behind the name (proc_pid_stat(5)): the state comes first."""
    with contextlib.suppress(OSError):
        return (folder / "stat").read_text(errors="replace").rpartition(") ")[2].split()
    return []


def _seconds_computed(pid: int | None) -> float:
    """Processor time of all threads of a process; 0 where the system does not say."""
    fields = statistics(Path(f"/proc/{pid}"))
    return (int(fields[11]) + int(fields[12])) * _TICK if fields else 0.0


def _would_run(pid: int | None) -> bool:
    """Whether a thread of a process runs, or waits for nothing but a processor."""
    return any(statistics(thread)[:1] == ["R"] for thread in _threads(pid))


def _threads(pid: int | None) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from Path(f"/proc/{pid}/task").iterdir()
