"""One worker process as the judge holds it: starting, waiting with a limit, killing, saying why it died."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.backends import wire
from softcert.backends.types import Array, Backend

if TYPE_CHECKING:
    # Imported where it is used: the worker's side of this room needs NumPy alone.
    import psutil

#: Marks every process that descends from a worker, however it tried to get away.
_MARK = "SOFTCERT_WORKER"
#: How often a silent worker is looked after, in seconds.
_SLICE = 0.05
#: The package's parent folder comes first for this one import alone: it may be site-packages, whose
#: modules must not hide the standard library's.
_BOOT = (
    "import sys; root = sys.argv.pop(1); sys.path.insert(0, root); import softcert; sys.path.remove(root); "
    "sys.path.append(root); from softcert.backends.worker import main; main()"
)
_TRACE_LINE = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
#: Where the standard library and NumPy are, which are seldom what a reader looks for.
_LIBRARY_FOLDERS = (str(Path(os.__file__).parent), str(Path(np.__file__).parent))
#: The judge's ends of all streams, which no forked worker may hold open.
_OPEN: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class WorkerDied(Exception):  # noqa: N818 - an event, told by `WorkerProcess.obituary`
    """The worker ended, or answered with what is no frame, before it replied."""


class WorkerSilent(Exception):  # noqa: N818 - an event: the time limit of one exchange is over
    """No reply within the time limit."""


class WorkerProcess:
    """A worker process and the stream to it.

    Parameters
    ----------
    backend : a loaded backend, which is served by a fork of this process; None starts a fresh
        interpreter, which waits for an order.
    memory_bytes : what a fork may allocate beyond what it has (an order says so for the other).
    """

    def __init__(self, backend: Backend | None = None, memory_bytes: int = 0) -> None:
        self._mark = secrets.token_hex(16)
        self._trace = os.memfd_create("softcert-trace")
        self._stream, theirs = socket.socketpair()
        self._lifeline, their_lifeline = socket.socketpair()
        _OPEN.update((self._stream, self._lifeline))
        self._popen: subprocess.Popen[bytes] | None = None
        self._status: int | None = None
        with theirs, their_lifeline:
            if backend is None:
                self._popen = _spawn((theirs.fileno(), their_lifeline.fileno(), self._trace), self._mark)
                self.pid = self._popen.pid
            else:
                self.pid = _fork(backend, theirs, their_lifeline, self._trace, memory_bytes)

    def exchange(
        self, header: Mapping[str, Any] | None, arrays: Sequence[Array], seconds: float
    ) -> tuple[dict[str, Any], tuple[Array, ...]]:
        """Send a frame (unless there is none to send) and wait for the reply.

        Raises
        ------
        WorkerDied, WorkerSilent : there is no reply, and there will be none.
        """
        deadline = time.monotonic() + seconds
        try:
            if header is not None:
                self._stream.settimeout(seconds)
                wire.send(self._stream, header, arrays)
            return wire.receive(lambda buffer: self._fill(buffer, deadline))
        except TimeoutError:
            raise WorkerSilent from None
        except (OSError, EOFError, wire.BrokenFrameError, MemoryError) as error:
            raise WorkerDied(str(error)) from None

    def _fill(self, buffer: memoryview, deadline: float) -> None:
        """Read into the buffer; a dead worker is noticed although its children hold the stream open."""
        ended = False
        while buffer:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._stream.settimeout(max(min(remaining, _SLICE), 1e-3))
            try:
                count = self._stream.recv_into(buffer)
            except TimeoutError:
                if ended:
                    raise EOFError from None
                # What it wrote before it ended may still be on its way: read once more.
                ended = self._has_ended()
                continue
            if count == 0:
                raise EOFError
            buffer = buffer[count:]

    def _has_ended(self) -> bool:
        try:
            # WNOWAIT: its process number stays taken, so that its group can still be killed safely.
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            # Where the program ignores SIGCHLD, the system gathers its children.
            return True

    def obituary(self) -> str:
        """Return how the worker died, in words, the process gathered and its group killed."""
        end = time.monotonic() + 0.5
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(0.002)
        place = self.traced()
        self.kill()
        assert self._status is not None  # noqa: S101 - kill() gathers the process
        where = f" at {place}" if place else ""
        code = os.waitstatus_to_exitcode(self._status)
        if code >= 0:
            return f"the process exited with status {code} during the call{where}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        words = (signal.strsignal(-code) or "").lower()
        hint = "; the system kills so when memory runs out" if -code == signal.SIGKILL else ""
        return f"the process was killed by {name} ({words}){where}{hint}"

    def traced(self, *, ask: bool = False) -> str:
        """Return where the subject's code was, "file.py:12 in f", empty if not known."""
        if ask:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGUSR1)
            end = time.monotonic() + 0.2
            while os.fstat(self._trace).st_size == 0 and time.monotonic() < end:
                time.sleep(0.005)
        text = os.pread(self._trace, 1 << 16, 0).decode("utf-8", "replace")
        return _innermost_foreign_line(text)

    def kill(self) -> None:
        """Kill the worker, its group and whatever it left running; gather it; close the streams."""
        if self._status is None:
            import psutil

            family = _descendants(self.pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            try:
                _, self._status = os.waitpid(self.pid, 0)
            except ChildProcessError:
                self._status = 0
            if self._popen is not None:
                self._popen.returncode = os.waitstatus_to_exitcode(self._status)
                family += _marked(self._mark)
            for process in family:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        self._stream.close()
        self._lifeline.close()
        if self._trace >= 0:
            os.close(self._trace)
            self._trace = -1


def _innermost_foreign_line(trace: str) -> str:
    """First line of a traceback (innermost first) in the subject's code, else in any library's."""
    own = str(Path(__file__).resolve().parent)
    library = ""
    for match in _TRACE_LINE.finditer(trace):
        file = Path(match["file"])
        if str(file.resolve()).startswith(own) or file.suffix != ".py" or not file.exists():
            continue
        place = f"{file.name}:{match['line']} in {match['function']}"
        if not match["file"].startswith(_LIBRARY_FOLDERS):
            return place
        library = library or place
    return library


def _spawn(descriptors: tuple[int, int, int], mark: str) -> subprocess.Popen[bytes]:
    import softcert

    root = str(Path(softcert.__path__[0]).parent)
    environment = {**os.environ, _MARK: mark}
    # float64 arrays would silently become float32 ones.
    environment.setdefault("JAX_ENABLE_X64", "1")
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-P", "-c", _BOOT, root, *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
        env=environment,
    )


def _fork(
    backend: Backend, stream: socket.socket, lifeline: socket.socket, trace: int, memory_bytes: int
) -> int:
    with warnings.catch_warnings():
        # Forking a process with threads is warned of; the child uses none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return pid
    try:
        _serve_forked(backend, stream, lifeline, trace, memory_bytes)
    finally:
        # Neither exception nor clean-up of the judge's state may run in the child.
        os._exit(0)


def _serve_forked(
    backend: Backend, stream: socket.socket, lifeline: socket.socket, trace: int, memory_bytes: int
) -> None:
    from softcert.backends import worker

    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    # A notebook or a test runner may have put objects of its own in their place.
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(null), mode) for mode in ("r", "w", "w"))
    for other in list(_OPEN):
        other.close()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    torch = sys.modules.get("torch")
    if torch is not None:
        # The OpenMP threads of the parent do not exist here, and waiting for them never ends.
        torch.set_num_threads(1)
    worker.prepare(lifeline.fileno(), trace)
    worker.serve(stream, backend, {"memory_bytes": memory_bytes})


def _descendants(pid: int) -> list[psutil.Process]:
    import psutil

    try:
        children: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return children


def _marked(mark: str) -> list[psutil.Process]:
    """Processes that carry a worker's mark in their environment."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(_MARK) == mark:
                found.append(process)
    return found
