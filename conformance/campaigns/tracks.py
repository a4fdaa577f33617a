"""One lane in use: what it is at, when it is lost, and how it comes back."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

from softcert.conformance.campaigns.executors import Lane, Opened
from softcert.conformance.campaigns.store import Piece
from softcert.conformance.campaigns.work import run_slice
from softcert.conformance.model import RequestError
from softcert.errors import UnfinishedError

#: Seconds that a lane may be out of reach at the start, when a wrong address is likelier than a fault.
_FIRST = 20.0
#: Seconds to the next try to open it: doubled from the first to the last.
_PAUSES = (0.5, 8.0)
_KEPT = "what was computed is kept, and `softcert campaign resume` goes on"


class Track:
    """A lane with the slices that it is at.

    Parameters
    ----------
    lane : opens the executor, again and again where it has to be.
    reach : seconds that it may be out of reach, or without workers, before that is an error.
    came : called with this track and each future that is done; from any thread.

    Attributes
    ----------
    flying : the slices that the executor has.
    suspects : slices of which one broke it: they are computed one at a time, so that it is known which.
    """

    def __init__(self, lane: Lane, reach: float, came: Callable[[tuple[Track, Future[Any]]], None]) -> None:
        self._lane, self._reach, self._came = lane, reach, came
        self._opened: Opened | None = None
        self._context: AbstractContextManager[Opened] | None = None
        self._was_open, self._problem = False, ""
        self._lacking_since = time.monotonic()
        self._next_try = float("-inf")
        self._refusing_since: float | None = None
        self._pause = _PAUSES[0]
        self.flying: dict[Future[Any], Piece] = {}
        self.suspects: deque[Piece] = deque()

    @property
    def shared(self) -> bool:
        """Whether it takes several slices at once, so that what breaks it is not known at once."""
        return self._opened is not None and self._opened.capacity() > 1

    @property
    def busy(self) -> bool:
        """Whether there is anything that it is at, or that it alone may compute."""
        return bool(self.flying or self.suspects)

    def capacity(self) -> int:
        """How many slices it takes at once; 0 where it is out of reach.

        Raises
        ------
        UnfinishedError, RequestError : it has been out of reach, or without workers, for too long.
        """
        now = time.monotonic()
        if self._opened is None and now >= self._next_try:
            self._problem = self._open()
        count = self._opened.capacity() if self._opened is not None else 0
        if count:
            self._lacking_since = now
        elif now - self._lacking_since > (self._reach if self._was_open else min(self._reach, _FIRST)):
            self._give_up(self._problem or "it has no workers")
        return count

    def room(self) -> int:
        """How many slices it takes now; see `capacity`."""
        capacity = self.capacity()
        if self.suspects:
            return 1 if capacity and not self.flying else 0
        return max(capacity - len(self.flying), 0)

    def _open(self) -> str:
        """Open the executor; return why it could not be, if so."""
        context = self._lane()
        try:
            self._opened = context.__enter__()
        except (OSError, TimeoutError) as error:
            self._next_try = time.monotonic() + self._pause
            self._pause = min(2 * self._pause, _PAUSES[1])
            return str(error)
        self._context, self._was_open, self._pause = context, True, _PAUSES[0]
        return ""

    def _give_up(self, problem: str) -> None:
        waited = f"the executor is out of reach for {time.monotonic() - self._lacking_since:.0f} s: {problem}"
        if not self._was_open:
            raise RequestError(waited)
        raise UnfinishedError(f"{waited}; {_KEPT}")

    def give(self, head: str, piece: Piece) -> bool:
        """Let the executor compute a slice; return whether it took it."""
        if self._opened is None:
            return False
        try:
            future = self._opened.executor.submit(run_slice, head, piece.text, piece.earlier)
        except (RuntimeError, OSError) as error:
            # BrokenExecutor is a RuntimeError; an OSError, that no process can be started.
            self._refuse(str(error))
            return False
        self._refusing_since = None
        self.flying[future] = piece
        future.add_done_callback(lambda done: self._came((self, done)))
        return True

    def _refuse(self, problem: str) -> None:
        now = time.monotonic()
        self._refusing_since = self._refusing_since or now
        if now - self._refusing_since > self._reach:
            raise UnfinishedError(f"the executor takes no slices: {problem}; {_KEPT}")

    def lose(self) -> list[Piece]:
        """End what it is at; return those slices. It is opened again when it is next asked to take any."""
        pieces = list(self.flying.values())
        self.flying.clear()
        context, self._context, self._opened = self._context, None, None
        self._lacking_since = time.monotonic()
        if context is not None:
            context.__exit__(None, None, None)
        return pieces
