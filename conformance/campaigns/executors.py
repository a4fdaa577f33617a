"""Where slices are computed: lanes of executors, each of which can be opened again when it is lost."""

from __future__ import annotations

import logging
import multiprocessing.context
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from softcert.backends import lifeline
from softcert.conformance.model import RequestError

#: Slices that a cluster has for each of its threads: one that it computes, one that is there already.
_AHEAD = 2
#: Seconds between two looks at how large a cluster is, and of one try to reach it.
_LOOK, _REACH = 2.0, 5.0
#: Kept open as long as a worker lives: its other end is the driver's.
_LIFELINES: list[socket.socket] = []


@dataclass(frozen=True)
class Opened:
    """An executor in use.

    Attributes
    ----------
    capacity : how many slices it takes at once, at this moment; of 1, a slice with which it breaks is the
        one that broke it.
    """

    executor: Executor
    capacity: Callable[[], int]


#: Opens an executor; leaving it ends whatever it is at. OSError says that it cannot be reached now.
Lane = Callable[[], AbstractContextManager[Opened]]


def processes(count: int) -> list[Lane]:
    """Return lanes of one process each.

    Pools of one process, and not one of many: when a process dies, a pool breaks with all it was given.
    """
    return [_process] * count


def process_context() -> multiprocessing.context.ForkServerContext:
    """Return what starts processes: copies of one that has loaded softcert and has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["softcert.conformance.campaigns.work"])
    return context


@contextmanager
def _process() -> Iterator[Opened]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        executor = ProcessPoolExecutor(
            1, mp_context=process_context(), initializer=_begin, initargs=(theirs,)
        )
        try:
            yield Opened(executor, lambda: 1)
        finally:
            # The kernel kills the process: it may be at a slice of hours.
            ours.close()
            executor.shutdown(wait=True, cancel_futures=True)


def _begin(theirs: socket.socket) -> None:
    """End with the driver, however that ends; and no Ctrl-C of its terminal arrives here."""
    os.setsid()
    _LIFELINES.append(theirs)
    lifeline.bind(theirs.fileno())


def executor_lane(make: Callable[[], Executor], capacity: int) -> Lane:
    """Return a lane of an executor of one's own.

    Parameters
    ----------
    make : makes it, and makes it again when it broke.
    capacity : how many slices it takes at once.
    """

    @contextmanager
    def lane() -> Iterator[Opened]:
        executor = make()
        try:
            yield Opened(executor, lambda: capacity)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)

    return lane


def cluster(address: str, workers: int) -> Lane:
    """Return a lane of a Dask cluster.

    Parameters
    ----------
    address : of the scheduler, as tcp://host:8786; or `local` for a cluster of `workers` processes here.

    Raises
    ------
    RequestError : Dask is not installed.
    """
    try:
        import dask
        import distributed
    except ModuleNotFoundError as error:
        raise RequestError(
            f"a cluster needs {error.name}, which is not installed here: pip install 'softcert[campaign]'"
        ) from error

    @contextmanager
    def lane() -> Iterator[Opened]:
        with _quiet(), dask.config.set({"distributed.comm.timeouts.connect": _REACH}):
            local = _local(workers) if address == "local" else None
            try:
                client = distributed.Client(local or address, timeout=_REACH, set_as_default=False)
                try:
                    yield Opened(client.get_executor(pure=False), _threads(client))
                finally:
                    with suppress(OSError, TimeoutError):
                        client.close(timeout=_REACH)
            finally:
                if local is not None:
                    local.close(timeout=_REACH)

    return lane


def _local(workers: int) -> Any:
    """Start a cluster of this machine, which ends with this process."""
    import distributed

    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


def _threads(client: Any) -> Callable[[], int]:
    """Return what says how many slices a cluster takes, without asking it each time."""
    known, looked = 0, float("-inf")

    def capacity() -> int:
        nonlocal known, looked
        if time.monotonic() - looked > _LOOK:
            try:
                known = _AHEAD * sum(client.nthreads().values())
            except (OSError, TimeoutError):
                known = 0
            looked = time.monotonic()
        return known

    return capacity


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask tell its own log nothing of what is told in a sentence of ours."""
    logger = logging.getLogger("distributed")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
