"""One worker process as the judge holds it: starting, waiting with a limit, killing, saying why it died."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softcert.backends import guardian, wire
from softcert.backends.descriptors import silence
from softcert.backends.patience import Patience
from softcert.backends.types import Array, Backend

#: Marks every process that descends from a worker, however it tried to get away.
_MARK = "SOFTCERT_WORKER"
#: How often a silent worker is looked after, in seconds.
_SLICE = 0.05
#: What a subject did that answered out of turn.
INTRUDED = "wrote into the connection to softcert"
#: A guardian takes this long at most to end what is left, and to tell of an end that it has seen.
_LONGEST_END, _LONGEST_NEWS = 5.0, 2.0
_TRACE_LINE = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+) in (?P<function>.+)$', re.MULTILINE)
#: Where the standard library and NumPy are, which are seldom what a reader looks for.
_LIBRARY_FOLDERS = (str(Path(os.__file__).parent), str(Path(np.__file__).parent))
#: The judge's ends of all streams, which no forked worker may hold open.
_OPEN: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class WorkerDied(Exception):  # noqa: N818 - an event, told by `WorkerProcess.obituary`
    """The worker ended, or answered with what is no reply; the message says what of it, if it is known."""


class WorkerSilent(Exception):  # noqa: N818 - an event: the time limit of one exchange is over
    """No reply within the time limit."""


class WorkerProcess:
    """A worker process, the guardian between it and this process, and the stream to it.

    Parameters
    ----------
    backend : a loaded backend, which is served by a fork of this process; None starts a fresh
        interpreter, which waits for an order.
    memory_bytes : what a fork may allocate beyond what it has (an order says so for the other).
    timed : threads of OpenMP spin while they wait, if they are used to.
    python : the fresh interpreter; this process's own by default.

    Attributes
    ----------
    pid : of the guardian.
    """

    def __init__(
        self,
        backend: Backend | None = None,
        memory_bytes: int = 0,
        *,
        timed: bool = False,
        python: str | None = None,
    ) -> None:
        self._mark = secrets.token_hex(16)
        self._folder = tempfile.mkdtemp(prefix="softcert-")
        self._trace = os.memfd_create("softcert-trace")
        self._stream, theirs = socket.socketpair()
        self._lifeline, their_lifeline = socket.socketpair()
        _OPEN.update((self._stream, self._lifeline))
        self._popen: subprocess.Popen[bytes] | None = None
        self._reports = b""
        self._orphaned = self._ended = False
        # Whether it was alive when it was last asked.
        self._asked = True
        with theirs, their_lifeline:
            environment = _environment(self._mark, self._folder, timed)
            if backend is None:
                descriptors = (their_lifeline.fileno(), theirs.fileno(), self._trace)
                self._popen = _spawn(python or sys.executable, descriptors, self._folder, environment)
                self.pid = self._popen.pid
            else:
                serve = _Fork(backend, theirs, their_lifeline, self._trace, self._folder, environment)
                self.pid = serve.start(memory_bytes)

    def exchange(
        self, header: Mapping[str, Any] | None, arrays: Sequence[Array], seconds: float
    ) -> tuple[dict[str, Any], tuple[Array, ...]]:
        """Send a frame (unless there is none to send) and wait for the reply.

        Raises
        ------
        WorkerDied, WorkerSilent : there is no reply, and there will be none.
        """
        patience = Patience(seconds, lambda: next(iter(self._told()), None))
        # An answer that does not hold the question's token is another's, or was there before it.
        token = secrets.token_hex(8) if header is not None else ""
        self._asked = not self._has_ended()
        try:
            if header is not None:
                self._stream.settimeout(seconds)
                wire.send(self._stream, {**header, "token": token}, arrays)
            reply, results = wire.receive(lambda buffer: self._fill(buffer, patience))
        except TimeoutError:
            raise WorkerSilent from None
        except wire.BrokenFrameError:
            raise WorkerDied(INTRUDED) from None
        except (OSError, EOFError):
            raise WorkerDied("closed the connection to softcert") from None
        except MemoryError:
            raise WorkerDied("answered with more than fits into memory") from None
        if reply.pop("token", None) != token:
            raise WorkerDied(INTRUDED)
        return reply, results

    def _fill(self, buffer: memoryview, patience: Patience) -> None:
        """Read into the buffer; a dead worker is noticed although its children hold the stream open."""
        ended = False
        while buffer:
            remaining = patience.remaining()
            if patience.exhausted:
                raise TimeoutError
            self._stream.settimeout(max(min(remaining, _SLICE), 1e-3))
            try:
                count = self._stream.recv_into(buffer)
            except TimeoutError:
                # Only now: on a busy machine an answer may be there before this process looks for it.
                if remaining <= 0:
                    raise
                if ended:
                    raise EOFError from None
                # What it wrote before it ended may still be on its way: read once more.
                ended = self._has_ended()
                continue
            if count == 0:
                raise EOFError
            buffer = buffer[count:]

    def _told(self) -> tuple[int, ...]:
        """What the guardian has said: the worker's process number, and its exit code once it has one."""
        while not self._orphaned and self._lifeline.fileno() >= 0:
            try:
                heard = self._lifeline.recv(64, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError:
                heard = b""
            self._reports += heard
            self._orphaned = not heard
        whole = len(self._reports) // guardian.REPORT.size * guardian.REPORT.size
        return tuple(number for (number,) in guardian.REPORT.iter_unpack(self._reports[:whole]))

    def _has_ended(self) -> bool:
        return len(self._told()) > 1 or self._orphaned

    def obituary(self, otherwise: str = "") -> str:
        """Return how the worker died, in words, with all that it started ended.

        Parameters
        ----------
        otherwise : what it did to be given up, where it did not die of itself.
        """
        end = time.monotonic() + _LONGEST_NEWS
        while not self._has_ended() and time.monotonic() < end:
            time.sleep(0.002)
        place, told = self.traced(), self._told()
        self.kill()
        where = f"{'' if self._asked else ' between two calls'}{f' at {place}' if place else ''}"
        # What it wrote is the reason for a status of its own choice, and none for a signal.
        if len(told) > 1 and not (otherwise == INTRUDED and told[1] >= 0):
            return _end_in_words(told[1], where)
        if self._orphaned:
            return f"the process killed its parent, which guards it{where}"
        return f"the process {otherwise or 'was given up'}{where}"

    def traced(self, *, ask: bool = False) -> str:
        """Return where the subject's code was, "file.py:12 in f", empty if not known."""
        told = self._told()
        # The guardian keeps the number taken until it is told to end.
        if ask and told and not self._orphaned:
            with contextlib.suppress(ProcessLookupError):
                os.kill(told[0], signal.SIGUSR1)
            self._await_trace()
        text = os.pread(self._trace, 1 << 16, 0).decode("utf-8", "replace")
        return _innermost_foreign_line(text)

    def _await_trace(self) -> None:
        """Wait until a traceback is there as a whole: it is written line by line, on a busy machine late."""
        end = time.monotonic() + _LONGEST_NEWS
        size, grown = 0, time.monotonic()
        while (now := time.monotonic()) < end and (size == 0 or now < grown + 0.05):
            time.sleep(0.005)
            if (more := os.fstat(self._trace).st_size) != size:
                size, grown = more, now

    def kill(self) -> None:
        """End the worker and whatever it left running; gather the guardian; close the streams."""
        if not self._ended:
            self._ended = True
            told = self._told()
            # That ends the guardian, which ends all others first.
            self._lifeline.close()
            status = _gathered(self.pid)
            if status != 0:
                _end_by_force(self.pid, told[0] if told else 0, self._mark)
            if self._popen is not None:
                self._popen.returncode = 0
            shutil.rmtree(self._folder, ignore_errors=True)
        self._stream.close()
        if self._trace >= 0:
            os.close(self._trace)
            self._trace = -1


def _end_in_words(code: int, where: str) -> str:
    if code >= 0:
        return f"the process exited with status {code}{where}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    words = (signal.strsignal(-code) or "").lower()
    hint = "; the system kills so when memory runs out" if -code == signal.SIGKILL else ""
    return f"the process was killed by {name} ({words}){where}{hint}"


def _gathered(pid: int) -> int | None:
    """Wait for the end of a guardian; its status, 0 where the system gathers children, None if it stays."""
    end = time.monotonic() + _LONGEST_END
    while time.monotonic() < end:
        try:
            gathered, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        if gathered:
            return status
        time.sleep(0.001)
    return None


def _end_by_force(pid: int, session: int, mark: str) -> None:
    """Kill what can be found of a worker whose guardian was killed, or does not end."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            other = int(folder.name)
            marked = f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
            if marked or (session and os.getsid(other) == session):
                os.kill(other, signal.SIGKILL)


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


def _environment(mark: str, folder: str, timed: bool) -> dict[str, str]:
    """What a worker's environment has beside that of this process."""
    added = {_MARK: mark, "TMPDIR": folder}
    # float64 arrays would silently become float32 ones.
    added["JAX_ENABLE_X64"] = os.environ.get("JAX_ENABLE_X64", "1")
    if not timed:
        added["OMP_WAIT_POLICY"] = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    return added


def _spawn(
    python: str, descriptors: tuple[int, int, int], folder: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    import softcert

    root = str(Path(softcert.__path__[0]).parent)
    return subprocess.Popen(  # noqa: S603 - an interpreter
        [python, "-P", guardian.__file__, root, folder, *map(str, descriptors)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=descriptors,
        start_new_session=True,
        env={**os.environ, **environment},
    )


@dataclass(frozen=True)
class _Fork:
    """A worker that is a fork of this process, since its backend lives here."""

    backend: Backend
    stream: socket.socket
    lifeline: socket.socket
    trace: int
    folder: str
    environment: Mapping[str, str]

    def start(self, memory_bytes: int) -> int:
        """Fork; return the guardian's process number in this process, and never in the others."""
        with warnings.catch_warnings():
            # Forking a process with threads is warned of, by jax too; the child uses none of them.
            for category in (DeprecationWarning, RuntimeWarning):
                warnings.simplefilter("ignore", category)
            pid = os.fork()
        if pid:
            return pid
        try:
            self._serve(memory_bytes)
        finally:
            # Neither exception nor clean-up of the judge's state may run in the child.
            os._exit(0)

    def _serve(self, memory_bytes: int) -> None:
        from softcert.backends import worker

        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        # A notebook or a test runner may have put objects of its own in their place.
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(os.dup(null), mode) for mode in ("r", "w", "w"))
        for other in list(_OPEN):
            other.close()
        # As in an interpreter of its own, whatever the judge does with them.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # As objects they would close what the guardian has closed or handed on.
        stream, lifeline = self.stream.detach(), self.lifeline.detach()
        silence({0, 1, 2, stream, lifeline, self.trace})
        guardian.stand_between(lifeline, (stream, self.trace), self.folder)
        os.environ.update(self.environment)
        tempfile.tempdir = None
        torch = sys.modules.get("torch")
        if torch is not None:
            # The OpenMP threads of the parent do not exist here, and waiting for them never ends.
            torch.set_num_threads(1)
        worker.prepare(self.trace)
        worker.serve(socket.socket(fileno=stream), self.backend, {"memory_bytes": memory_bytes})
