"""Examine in several processes: each op and dtype in one of them, so that the verdicts stay the same."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from queue import Empty
from typing import TYPE_CHECKING

from softcert.backends import Worker
from softcert.conformance.job import Item, Task, examine_all
from softcert.conformance.model import Verdict

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Event

    Results = Queue[tuple[int, Verdict]]

_POLL_SECONDS = 0.2

_results: Results
_stop: Event


def examine_in_processes(
    task: Task, items: Sequence[Item], jobs: int, watch: Callable[[Verdict], None]
) -> list[Verdict]:
    """Reach the verdicts of `items`, in their order, in at most `jobs` processes.

    Parameters
    ----------
    watch : called with each verdict as it is reached, in this process.

    Raises
    ------
    OracleError : the two oracles disagree.
    """
    numbered = list(enumerate(items))
    groups = [list(group) for _, group in groupby(numbered, key=lambda pair: pair[1][1:])]
    # Fresh interpreters: a fork would share the locks of whatever threads the caller has.
    spawn = multiprocessing.get_context("spawn")
    results: Results = spawn.Queue()
    stop = spawn.Event()
    executor = ProcessPoolExecutor(
        max_workers=min(jobs, len(groups)) or 1,
        mp_context=spawn,
        initializer=_prepare,
        initargs=(results, stop),
    )
    with executor, _stopping(stop):
        with _interrupts_held():  # the processes start here, and inherit it until they are prepared
            futures = [executor.submit(_examine_group, task, group) for group in groups]
        reached: dict[int, Verdict] = {}
        for position, verdict in _arriving(results, futures, len(items)):
            reached[position] = verdict
            watch(verdict)
    return [reached[position] for position in range(len(items))]


def _arriving(results: Results, futures: Sequence[Future[None]], count: int) -> Iterator[tuple[int, Verdict]]:
    """Verdicts as they arrive, until all have; an exception of a process is raised here."""
    missing = count
    while missing:
        try:
            yield results.get(timeout=_POLL_SECONDS)
        except Empty:
            for future in futures:
                if future.done():
                    future.result()
        else:
            missing -= 1


@contextmanager
def _stopping(stop: Event) -> Iterator[None]:
    """Let the processes end after the clause in hand when this one is interrupted or fails."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C wait until the block is left."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _prepare(results: Results, stop: Event) -> None:
    global _results, _stop
    _results, _stop = results, stop
    # Ctrl-C reaches the whole group; the parent decides, and tells by the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _examine_group(task: Task, group: Sequence[tuple[int, Item]]) -> None:
    with Worker(task.subject, op=task.op, contract=task.contract, limits=task.limits) as worker:
        verdicts = examine_all(worker, task, (item for _, item in group))
        for (position, _), verdict in zip(group, verdicts, strict=True):
            _results.put((position, verdict))
            if _stop.is_set():
                return
