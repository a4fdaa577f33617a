"""A process that ends as soon as the one that started it does, however that ends."""

from __future__ import annotations

import fcntl
import os
import signal
import socket


def bind(lifeline_fd: int) -> None:
    """Kill the group of this process, its leader, when the other end of a socket closes.

    Parameters
    ----------
    lifeline_fd : socket whose other end the starting process alone holds, and writes nothing to.

    Notes
    -----
    The kernel itself sends the signal, so that not even a loop in C that holds the interpreter's lock
    outlives the starter; unlike PR_SET_PDEATHSIG it does not fire when a mere thread ends.
    """
    fcntl.fcntl(lifeline_fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline_fd, fcntl.F_SETFL, fcntl.fcntl(lifeline_fd, fcntl.F_GETFL) | os.O_ASYNC)
    # A starter that was gone before the kernel was asked to watch sends no signal any more.
    if _closed(lifeline_fd):
        os.killpg(os.getpgrp(), signal.SIGKILL)


def _closed(lifeline_fd: int) -> bool:
    with socket.socket(fileno=os.dup(lifeline_fd)) as lifeline:
        try:
            return lifeline.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
        except BlockingIOError:
            return False
