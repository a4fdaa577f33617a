"""One process that examines for another: its life, what is said to it, and what it says."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from softcert.backends import Description, Worker, lifeline
from softcert.conformance.examination.job import Group, Task

#: How long the processes may take to end their subjects before they are killed.
_GRACE_SECONDS = 1.0
#: The path of the starter: what it could import, this process can.
_BOOT = (
    "import sys; sys.path[:] = sys.argv[3:]; from softcert.conformance.examination.examiner import serve; "
    "serve(int(sys.argv[1]), int(sys.argv[2]))"
)


@dataclass(frozen=True)
class Described:
    """The subject is loaded, and is this."""

    description: Description


@dataclass(frozen=True)
class Reached:
    """What a task came to at an item, or how far it is, with the item's place in the run."""

    position: int
    result: Any


@dataclass(frozen=True)
class Idle:
    """Ready for a group: at the start, and after each."""


@dataclass(frozen=True)
class Failed:
    """What ended the examination of a group."""

    error: Exception


Message = Described | Reached | Idle | Failed


class Examiner:
    """A fresh interpreter that examines the groups it is given, as the one that started it holds it.

    It leads a session of its own, where no Ctrl-C reaches it, and ends as soon as its starter does.
    """

    def __init__(self, task: Task) -> None:
        ours, theirs = socket.socketpair()
        self._lifeline, their_lifeline = socket.socketpair()
        with theirs, their_lifeline:
            self.connection: Connection[Task | Group, Message] = Connection(ours.detach())
            numbers = (theirs.fileno(), their_lifeline.fileno())
            self._process = _start(numbers)
        with contextlib.suppress(BrokenPipeError):  # it has ended: receive() says so
            self.connection.send(task)

    def give(self, group: Group) -> None:
        """Let it examine a group; only for one that is idle."""
        with contextlib.suppress(BrokenPipeError):
            self.connection.send(group)

    def receive(self) -> Message:
        """Return what it says next.

        Raises
        ------
        RuntimeError : it has ended.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            status = self._process.wait()
            raise RuntimeError(f"an examining process ended with status {status}") from None

    def ask_to_end(self) -> None:
        """Let it end its subject and itself."""
        self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end until `deadline` (of time.monotonic), and kill it then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(deadline - time.monotonic(), 0.0))
        # A subject that is still there ends by a lifeline of its own.
        self._process.kill()
        self._process.wait()
        self.connection.close()
        self._lifeline.close()


@contextmanager
def examiners(task: Task, count: int) -> Iterator[list[Examiner]]:
    """Start `count` examiners, and end them, whatever they are at, when the block is left."""
    started: list[Examiner] = []
    try:
        for _ in range(count):
            started.append(Examiner(task))  # noqa: PERF401 -- those started are ended though one cannot be
        yield started
    finally:
        with _interrupts_held():
            _end(started)


def _end(started: Iterable[Examiner]) -> None:
    ending = list(started)
    for examiner in ending:
        examiner.ask_to_end()
    deadline = time.monotonic() + _GRACE_SECONDS
    for examiner in ending:
        examiner.end(deadline)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let signals that ask to stop wait until the block, which takes a second at most, is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(numbers: tuple[int, int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- our own interpreter
        [sys.executable, "-P", "-c", _BOOT, *map(str, numbers), *(str(Path(p).absolute()) for p in sys.path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=numbers,
        start_new_session=True,
    )


# --- in the process itself -----------------------------------------------------------------------


def serve(connection_fd: int, lifeline_fd: int) -> None:
    """Examine every group that comes, until no more can come.

    Parameters
    ----------
    connection_fd : socket to the starter.
    lifeline_fd : socket that closes when the starter ends.
    """
    lifeline.bind(lifeline_fd)
    service = _Service()
    signal.signal(signal.SIGTERM, service.leave)
    connection: Connection[Message, Any] = Connection(connection_fd)
    with contextlib.suppress(EOFError, ConnectionResetError, BrokenPipeError):
        task: Task = connection.recv()
        while True:
            connection.send(Idle())
            group: Group = connection.recv()
            try:
                for message in service.examined(task, group):
                    connection.send(message)
            except Exception as error:  # noqa: BLE001 -- raised where the run was asked for
                connection.send(Failed(_portable(error)))


class _Service:
    """The worker of the group in hand, so that it can be ended at any time."""

    def __init__(self) -> None:
        self._worker: Worker | None = None

    def examined(self, task: Task, group: Group) -> Iterator[Message]:
        with Worker(task.subject, op=task.op, contract=task.contract, limits=task.limits) as worker:
            self._worker = worker
            yield Described(worker.description)
            for position, result in task.perform(worker, group):
                yield Reached(position, result)

    def leave(self, number: int, _frame: FrameType | None) -> NoReturn:
        """End the subject, all that it started, and this process.

        No exception is raised for it: it would pass through libraries that have much to say of one.
        """
        signal.signal(number, signal.SIG_IGN)
        try:
            if self._worker is not None:
                self._worker.close()
        finally:
            os._exit(128 + number)


def _portable(error: Exception) -> Exception:
    """Return the error, or its words where it cannot be sent; a note holds where it was raised."""
    place = "".join(traceback.format_exception(error))
    try:
        sent = pickle.loads(pickle.dumps(error))  # noqa: S301 -- our own bytes
    except Exception:  # noqa: BLE001 -- classes of other libraries fail to be copied in any way they like
        sent = None
    portable = sent if isinstance(sent, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note(f"In an examining process:\n{place}")
    return portable
