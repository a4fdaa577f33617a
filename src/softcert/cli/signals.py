"""Ctrl-C and SIGTERM: the first stops the run, what has been reached is kept, the rest is quiet."""

from __future__ import annotations

import signal
import time
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which a time limit or a system that shuts down ends a run."""


#: What each signal raises, wherever the program is.
_RAISED: dict[int, type[KeyboardInterrupt]] = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
#: Signals that follow one so closely ask for what is being done already.
_DEAF_SECONDS = 3.0


def listen() -> None:
    """Let each signal stop the program once, and those close behind it change nothing.

    Whoever presses Ctrl-C repeatedly would otherwise interrupt the ending of processes and the writing of
    files. A later signal counts again, so that nothing can hold the program for good.
    """
    heeded = float("-inf")

    def heed(number: int, _frame: FrameType | None) -> None:
        nonlocal heeded
        now = time.monotonic()
        if now - heeded >= _DEAF_SECONDS:
            heeded = now
            raise _RAISED[number]

    for number in _RAISED:
        # Who started the program with a signal ignored, as nohup and background jobs are, means it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, heed)


def ignore() -> None:
    """Let no signal change an exit status that is settled, nor break into the interpreter's own ending."""
    for number in _RAISED:
        signal.signal(number, signal.SIG_IGN)
