"""A program at the other end of two pipes: frames to its stdin, frames from its stdout."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from softcert.backends import wire
from softcert.backends.types import Array

_CHUNK = 1 << 16
#: How much of what came is shown where it is no frame, and of what was written to stderr.
_SHOWN = 60
_KEPT_OF_STDERR = 4096
#: How long an end, or the rest of a wrong reply, is waited for, in seconds.
_GRACE = 0.3
_REST = 0.05
#: Arrays of a reply may be so many times larger than those of its request, and so many bytes besides.
_LARGEST_REPLY, _LARGEST_BESIDES = 64, 1 << 20


class ProgramLostError(Exception):
    """The program ended or sent what is no frame: it answers no more.

    Attributes
    ----------
    kind : of `Failure`: "crash" where it ended, "output" where it sent something wrong.
    """

    def __init__(self, kind: Literal["crash", "output"], message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Program:
    """A running program.

    Parameters
    ----------
    words : the program and its arguments.

    Raises
    ------
    ProgramLostError : it cannot be started.

    Notes
    -----
    It stays in the process group of its starter, so that it is killed with it. What it writes to stderr is
    read and dropped but for the end, so that it never waits.
    """

    def __init__(self, words: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        try:
            self._popen = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)  # noqa: S603 - what the user names
        except OSError as error:
            raise ProgramLostError("crash", f"it cannot be started: {error.strerror}") from None
        self._end = weakref.finalize(self, _end, self._popen, os.getpid())
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in _pipes(self._popen))
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._waiting: deque[memoryview] = deque()
        self._said = b""
        self._listening = True
        self._head = b""
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)

    def end(self) -> None:
        """Kill the program and close the pipes."""
        self._end()

    def confine(self, memory_bytes: int) -> None:
        """Let the program's writable memory grow by so many bytes from now on."""
        with contextlib.suppress(OSError):
            # One that has just ended says so when it is asked.
            fields = Path(f"/proc/{self._popen.pid}/statm").read_text().split()
            limit = int(fields[5]) * resource.getpagesize() + memory_bytes
            _, hard = resource.prlimit(self._popen.pid, resource.RLIMIT_DATA)
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.prlimit(self._popen.pid, resource.RLIMIT_DATA, (limit, hard))

    def exchange(
        self, header: Mapping[str, Any], arrays: Sequence[Array]
    ) -> tuple[dict[str, Any], tuple[Array, ...]]:
        """Send a frame and read the one that answers it, waiting as long as it takes.

        Raises
        ------
        ProgramLostError : none comes.
        """
        self._waiting.extend(memoryview(piece) for piece in wire.pack(header, arrays))
        self._poll.register(self._stdin, select.POLLOUT)
        self._head = b""
        most = _LARGEST_REPLY * sum(array.nbytes for array in arrays) + _LARGEST_BESIDES
        try:
            reply = wire.receive(self._fill, most)
            self._flush()
        except EOFError:
            raise ProgramLostError("crash", self._obituary()) from None
        except wire.BrokenFrameError as error:
            raise ProgramLostError("output", self._complaint(str(error))) from None
        return reply

    # --- the pipes ------------------------------------------------------------------------------------

    def _fill(self, buffer: memoryview) -> None:
        """Fill a buffer from stdout, meanwhile writing what waits and reading what is said on stderr."""
        while buffer:
            buffer = buffer[self._pump(buffer) :]
            # As early as the first bytes tell, since a program that chats may never send eight.
            if not wire.MAGIC.startswith(self._head[: len(wire.MAGIC)]):
                raise wire.BrokenFrameError("the reply does not start as a frame does")

    def _flush(self) -> None:
        """Write what still waits, of a program that answers before it has read the whole request."""
        self._poll.unregister(self._stdout)
        while self._waiting:
            self._pump(memoryview(b""))
        self._poll.register(self._stdout, select.POLLIN)

    def _pump(self, buffer: memoryview) -> int:
        """Wait for one of the pipes, serve those that are ready, return how many bytes of stdout came."""
        count = 0
        for descriptor, _ in self._poll.poll():
            if descriptor == self._stderr:
                self._listen()
            elif descriptor == self._stdin:
                self._write()
            elif buffer:
                count = os.readv(self._stdout, [buffer])
                if count == 0:
                    raise EOFError
                self._head += bytes(buffer[: min(count, _SHOWN - len(self._head))])
        return count

    def _write(self) -> None:
        try:
            while self._waiting:
                piece = self._waiting[0]
                written = os.write(self._stdin, piece)
                self._waiting[0] = piece[written:]
                if not self._waiting[0]:
                    self._waiting.popleft()
        except BlockingIOError:
            return
        except OSError:
            # It reads no more: what it has said so far tells why.
            self._waiting.clear()
        self._poll.unregister(self._stdin)

    def _listen(self) -> None:
        try:
            said = os.read(self._stderr, _CHUNK)
        except BlockingIOError:
            return
        if not said and self._listening:
            self._poll.unregister(self._stderr)
            self._listening = False
        self._said = (self._said + said)[-_KEPT_OF_STDERR:]

    # --- what went wrong ------------------------------------------------------------------------------

    def _obituary(self) -> str:
        """How the program ended, and the last that it said."""
        try:
            code = self._popen.wait(_GRACE)
        except subprocess.TimeoutExpired:
            return f"the command closed its stdout{self._last_words()}"
        if code >= 0:
            return f"the command exited with status {code}{self._last_words()}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        words = (signal.strsignal(-code) or "").lower()
        return f"the command was killed by {name} ({words}){self._last_words()}"

    def _complaint(self, reason: str) -> str:
        if wire.MAGIC.startswith(self._head[: len(wire.MAGIC)]):
            return f"{reason.replace('the reply', 'what the command wrote to stdout')}{self._last_words()}"
        end = time.monotonic() + _REST
        while len(self._head) < _SHOWN and time.monotonic() < end:
            with contextlib.suppress(BlockingIOError):
                more = os.read(self._stdout, _SHOWN - len(self._head))
                if not more:
                    break
                self._head += more
            time.sleep(0.005)
        return f"the command wrote {self._head!r} to stdout, where a frame begins with {wire.MAGIC!r}"

    def _last_words(self) -> str:
        """The last line that the program wrote to stderr."""
        while self._listening and select.select([self._stderr], [], [], 0)[0]:
            self._listen()
        lines = self._said.decode("utf-8", "replace").split("\n")
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; it last wrote {line[:200]!r} to stderr" if line else ""


def _pipes(popen: subprocess.Popen[bytes]) -> tuple[IO[bytes], ...]:
    assert popen.stdin and popen.stdout and popen.stderr  # noqa: S101, PT018 - all three were asked for
    return popen.stdin, popen.stdout, popen.stderr


def _end(popen: subprocess.Popen[bytes], starter: int) -> None:
    if os.getpid() != starter:
        # A fork of the starter drops its copy; the program is not its own to kill.
        return
    with contextlib.suppress(OSError):
        popen.kill()
    popen.wait()
    for pipe in _pipes(popen):
        with contextlib.suppress(OSError):
            pipe.close()
