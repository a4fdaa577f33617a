"""Examine in several processes: each op and dtype in one of them, so that the verdicts stay the same."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from multiprocessing.connection import wait

from softcert.backends import Description
from softcert.conformance.examination.examiner import Described, Examiner, Failed, Idle, Reached, examiners
from softcert.conformance.examination.job import Group, Item, Task
from softcert.conformance.model import Verdict


class Stopped(KeyboardInterrupt):
    """A run was interrupted; its cause is the interrupt.

    Attributes
    ----------
    planned : every verdict that was to be reached, in order.
    description : what the subject is, where it was loaded already.
    """

    def __init__(self, planned: Sequence[Item], description: Description | None) -> None:
        super().__init__()
        self.planned = tuple(planned)
        self.description = description


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
    Stopped : Ctrl-C; the processes are ended whatever they are at, the subject's calls included.
    """
    numbered = list(enumerate(items))
    groups = [list(group) for _, group in groupby(numbered, key=lambda pair: pair[1][1:])]
    reached: dict[int, Verdict] = {}
    description: Description | None = None
    try:
        with examiners(task, min(jobs, len(groups))) as working:
            for message in arriving(working, groups):
                if isinstance(message, Described):
                    description = message.description
                else:
                    reached[message.position] = message.result
                    watch(message.result)
    except KeyboardInterrupt as interrupt:
        raise Stopped(items, description) from interrupt
    return [reached[position] for position in range(len(items))]


def arriving(working: Sequence[Examiner], groups: Sequence[Group]) -> Iterator[Described | Reached]:
    """What the examiners say, until all groups are examined; an exception of one is raised here."""
    waiting, busy = deque(groups), list(working)
    while busy:
        ready = wait([examiner.connection for examiner in busy])
        for examiner in [e for e in busy if e.connection in ready]:
            message = examiner.receive()
            if isinstance(message, Failed):
                raise message.error
            if not isinstance(message, Idle):
                yield message
            elif waiting:
                examiner.give(waiting.popleft())
            else:
                busy.remove(examiner)
