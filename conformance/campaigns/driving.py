"""Driving a campaign: slices to executors, answers to the store, whatever dies meanwhile."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from softcert.conformance.campaigns import drivers
from softcert.conformance.campaigns.executors import Lane
from softcert.conformance.campaigns.store import Answer, Piece, Store, Totals
from softcert.conformance.campaigns.tracks import Track
from softcert.errors import UnfinishedError

#: Failed attempts after which a slice is set aside.
ATTEMPTS = 3
#: Seconds that an executor may be out of reach, or without workers.
REACH = 300.0
#: How many ends of its process count as one failure: whoever ends it may not mean the slice.
_DEATHS = 3
#: Slices set aside before the first answer, at which nothing seems to work at all.
_HOPELESS = 10
#: Seconds after which the driver looks around though nothing came, and between two reports.
_LOOK, _REPORT = 0.25, 0.2
#: Seconds that a rate looks back.
_WINDOW = 60.0


@dataclass(frozen=True)
class Status:
    """How far a campaign is.

    Attributes
    ----------
    rate : slices a second of late, those of other drivers included.
    computing : slices that this driver is at.
    """

    totals: Totals
    rate: float
    computing: int

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at this rate, or None where there is none yet."""
        return self.totals.remaining / self.rate if self.rate else None


class Rate:
    """Slices a second of late, by a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._marks = deque([(clock(), 0)])
        self.done = 0

    def add(self, count: int) -> None:
        """Count slices that were just done."""
        self.done += count
        now = self._clock()
        if now - self._marks[-1][0] >= _WINDOW / 100:
            self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] > _WINDOW:
            self._marks.popleft()

    @property
    def value(self) -> float:
        """Slices a second; 0 before the first."""
        since, before = self._marks[0]
        elapsed = self._clock() - since
        return (self.done - before) / elapsed if elapsed > 0 else 0.0


def drive(
    store: Store,
    lanes: Sequence[Lane],
    *,
    attempts: int = ATTEMPTS,
    reach: float = REACH,
    progress: Callable[[Status], None] = lambda _status: None,
) -> Totals:
    """Compute what a store still lacks; return how far it is then.

    Parameters
    ----------
    lanes : the executors; see `executors`.
    attempts : failures after which a slice is set aside; ends of its process count a third, since those may
        have come from outside.
    reach : seconds that an executor may be out of reach before that is an error.
    progress : called several times a second.

    Raises
    ------
    UnfinishedError : an executor cannot be reached any more, or nothing but failures comes.
    RequestError : an executor could not be reached at all.
    sqlite3.Error : the store cannot be written; `store_files` makes a sentence of it.
    KeyboardInterrupt : Ctrl-C; what was answered before is kept.
    """
    if not store.totals().remaining:
        return store.totals()
    driver = _Drive(store, lanes, attempts, reach, progress)
    try:
        driver.run()
    finally:
        driver.leave()
    return store.totals()


class _Failure(NamedTuple):
    """A slice that failed: why, how often it may, and the lane, if any, that has to try it again alone."""

    piece: Piece
    reason: str
    limit: int
    alone: Track | None = None


class _Drive:
    """One drive: which slice is where."""

    def __init__(
        self,
        store: Store,
        lanes: Sequence[Lane],
        attempts: int,
        reach: float,
        progress: Callable[[Status], None],
    ) -> None:
        self._store, self._attempts, self._progress = store, attempts, progress
        self._head = store.head()[1]
        self._came: SimpleQueue[tuple[Track, Future[Any]]] = SimpleQueue()
        self._tracks = [Track(lane, reach, self._came.put) for lane in lanes]
        #: Claimed, and not yet given to an executor.
        self._ready: deque[Piece] = deque()
        self._answers: list[Answer] = []
        self._failures: list[_Failure] = []
        self._rate, self._others = Rate(), 0.0
        self._set_aside = 0
        self._started = time.monotonic()
        self._watch = drivers.Watch()
        self._number = drivers.join(store, len(lanes))
        #: Whether nobody has given back a slice, nor answered one, since the last claim that found too few.
        self._dry = False
        self._next_beat = self._next_report = float("-inf")

    def run(self) -> None:
        """Work until nothing is left to this or another driver."""
        while True:
            width = self._hand_out()
            claimed = self._write(width)
            if self._is_done():
                self._report(always=True)
                return
            self._report()
            self._collect(0.0 if claimed else _LOOK)

    def leave(self) -> None:
        """Keep what has been answered, end the rest, and give back what was claimed."""
        try:
            self._collect(0.0)
            for track in self._tracks:
                track.lose()
        finally:
            with self._store.writing():
                self._rate.add(self._store.add(self._answers))
                self._beat(0, time.monotonic())
                drivers.leave(self._store, self._number)

    def _is_done(self) -> bool:
        mine = self._ready or self._answers or self._failures or any(track.busy for track in self._tracks)
        return not mine and not self._store.totals().remaining

    # --- to the executors ---

    def _hand_out(self) -> int:
        """Give the executors what they take; return how many slices they take in all."""
        for track in self._tracks:
            queue = track.suspects or self._ready
            for _ in range(track.room()):
                if not queue:
                    break
                piece = queue.popleft()
                if not track.give(self._head, piece):
                    self._ready.appendleft(piece)
                    self._ready.extendleft(track.lose())
                    break
                if queue is track.suspects:
                    break
        return sum(track.capacity() for track in self._tracks)

    # --- from the executors ---

    def _collect(self, seconds: float) -> None:
        """Take what has come, waiting for the first of it."""
        try:
            came = self._came.get(timeout=seconds) if seconds else self._came.get_nowait()
            while True:
                self._take(*came)
                came = self._came.get_nowait()
        except Empty:
            return

    def _take(self, track: Track, future: Future[Any]) -> None:
        piece = track.flying.pop(future, None)
        if piece is None:
            # Of a lane that was lost: its slices are ready again.
            return
        if future.cancelled():
            # The scheduler is gone, with all that it had; no slice is to blame.
            self._ready.extendleft((piece, *track.lose()))
            return
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            alone = track if track.shared else None
            others = track.lose()
            if others:
                track.suspects.extend((piece, *others))
            else:
                limit = _DEATHS * self._attempts
                self._failures.append(_Failure(piece, f"its process ended: {_line(error)}", limit, alone))
        elif error is not None:
            self._failures.append(_Failure(piece, f"{type(error).__name__}: {_line(error)}", self._attempts))
        elif "failure" in future.result():
            self._failures.append(_Failure(piece, future.result()["failure"], self._attempts))
        else:
            self._answers.append(Answer(piece.number, **future.result()))

    # --- to the store ---

    def _write(self, width: int) -> int:
        """Keep what has come, claim what is to be given out next, and say that this driver lives.

        Returns
        -------
        How many slices were claimed.
        """
        now = time.monotonic()
        beats = now >= self._next_beat
        # An answer may be what another slice waits for.
        asks = beats or self._answers or not self._dry
        wanted = max(width - len(self._ready), 0) if asks else 0
        if not (self._answers or self._failures or wanted or beats):
            return 0
        with self._store.writing():
            added = self._store.add(self._answers)
            again = [
                failure
                for failure in self._failures
                if not self._store.charge(failure.piece.number, failure.reason, failure.limit)
            ]
            if beats:
                self._watch.bury(self._store, self._number)
            claimed = self._store.claim(self._number, wanted) if wanted else []
            if beats:
                self._beat(width, now)
        # Written: an interrupt before this line only makes it write the same again, which changes nothing.
        reasons = [failure.reason for failure in self._failures]
        self._set_aside += len(self._failures) - len(again)
        self._answers, self._failures = [], []
        self._rate.add(added)
        self._ready.extend(claimed)
        for failure in again:
            (self._ready if failure.alone is None else failure.alone.suspects).append(failure.piece)
        self._dry = wanted > 0 and len(claimed) < wanted
        if beats:
            self._next_beat = now + drivers.BEAT
            self._others = sum(d.rate for d in drivers.drivers(self._store) if d.id != self._number)
        self._require_hope(reasons)
        return len(claimed)

    def _beat(self, width: int, now: float) -> None:
        rate = self._rate
        drivers.beat(
            self._store,
            self._number,
            workers=width,
            done=rate.done,
            rate=rate.value,
            seconds=now - self._started,
        )

    def _require_hope(self, reasons: Sequence[str]) -> None:
        if reasons and not self._rate.done and self._set_aside >= _HOPELESS:
            raise UnfinishedError(
                f"none of the first slices could be computed, and {self._set_aside} are set aside; the last "
                f"said: {reasons[-1]}"
            )

    def _report(self, *, always: bool = False) -> None:
        now = time.monotonic()
        if always or now >= self._next_report:
            self._next_report = now + _REPORT
            computing = sum(len(track.flying) for track in self._tracks)
            self._progress(Status(self._store.totals(), self._rate.value + self._others, computing))


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
