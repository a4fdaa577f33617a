"""The process between the judge and a subject: it adopts all that the subject starts, and ends it.

The judge starts it, and it forks the process in which the subject runs. A subject that kills its parent
kills the guardian, not the judge; what a subject leaves behind in a session of its own, orphaned or not,
is the guardian's to find. It runs no foreign code, and needs the standard library alone: it has to be
small, and is run by its path, so that NumPy is loaded by the subject's process and not here.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NoReturn

#: What the guardian says through the lifeline: the subject's process number, later its exit code, which is
#: the negative number of the signal where one ended it.
REPORT = struct.Struct("=i")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: A process has ended, or the judge has let go of the lifeline.
_AWAITED = frozenset({signal.SIGCHLD, signal.SIGIO})
#: What ended is unlinked by the subject's own tracker, if it is let: files in /dev/shm above all.
_TRACKER = b"multiprocessing.resource_tracker"
_TRACKER_SECONDS = 0.5
#: A process that waits for a device cannot be killed; nobody waits longer for one.
_KILL_SECONDS = 2.0


def stand_between(lifeline_fd: int, subjects_own: Iterable[int], folder: str) -> None:
    """Fork, and return in the child, where the subject is to run; the parent guards it and never returns.

    Parameters
    ----------
    lifeline_fd : socket whose other end the judge alone holds; when that closes, everything is ended.
    subjects_own : descriptors that are the child's alone.
    folder : removed in the end, with all that is in it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    guardian = os.getpid()
    child = os.fork()
    if child:
        _guard(lifeline_fd, subjects_own, child, folder)
    os.close(lifeline_fd)
    # What the subject sends to its group or session does not reach the guardian.
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != guardian:
        os._exit(1)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _guard(lifeline_fd: int, subjects_own: Iterable[int], child: int, folder: str) -> NoReturn:
    for number in signal.valid_signals() - _AWAITED - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    # Inherited as ignored, it would let the system gather the child, and its status with it.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for descriptor in subjects_own:
        os.close(descriptor)
    with socket.socket(fileno=lifeline_fd) as lifeline, contextlib.suppress(OSError):
        lifeline.send(REPORT.pack(child))
        told = False
        while not _closed(lifeline):
            if not told:
                code = _exit_code(child)
                told = code is not None
                if code is not None:
                    lifeline.send(REPORT.pack(code))
                else:
                    _bury_orphans(child)
            signal.sigwait(_AWAITED)
    _end_family()
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


def _closed(lifeline: socket.socket) -> bool:
    try:
        return lifeline.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _exit_code(child: int) -> int | None:
    """Exit code of the child, which is left as it is so that its number stays taken."""
    ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _bury_orphans(child: int) -> None:
    """Gather adopted processes that have ended: the numbers of processes are not without end."""
    while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
        if ended.si_pid == child:
            return
        os.waitpid(ended.si_pid, 0)


def _end_family() -> None:
    """Kill all descendants, those that appear meanwhile too, the subject's trackers last."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < _KILL_SECONDS:
        family = list(_descendants(os.getpid()))
        if not family:
            return
        for pid in family:
            if waited > _TRACKER_SECONDS or not _is_tracker(pid):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)


def _is_tracker(pid: int) -> bool:
    try:
        return _TRACKER in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _descendants(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                # The name of a program, in brackets, may hold anything.
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    waiting = children.get(root, [])
    while waiting:
        pid = waiting.pop()
        yield pid
        waiting.extend(children.get(pid, ()))


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main() -> None:
    """Guard a worker, whose first frame names its subject.

    The command line holds the folder to import softcert from, the folder to remove in the end, and three
    file descriptors: lifeline, stream to the judge, trace file.
    """
    root, folder, lifeline_fd, *subjects_own = sys.argv[1:]
    sys.argv[:] = ["softcert-worker"]  # the subject sees no arguments, as it sees no input
    stream_fd, trace_fd = map(int, subjects_own)
    stand_between(int(lifeline_fd), (stream_fd, trace_fd), folder)
    # First for this one import alone: it may be site-packages, whose modules must not hide the standard
    # library's.
    sys.path.insert(0, root)
    import softcert  # noqa: F401 - from there and nowhere else

    sys.path.remove(root)
    sys.path.append(root)
    from softcert.backends.worker import main as work

    work(stream_fd, trace_fd)


if __name__ == "__main__":
    main()
