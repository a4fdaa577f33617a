"""Threads that share the work of one call; who computes what changes no bit of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

from numba.core import config


def processors() -> int:
    """How many processors this process may use, by its affinity and NUMBA_NUM_THREADS."""
    # numba makes its settings from the environment.
    settings: Any = config
    return min(len(os.sched_getaffinity(0)), int(settings.NUMBA_NUM_THREADS))


def shared(act: Callable[[Any], None], parts: Iterable[Any], *, worthwhile: bool = True) -> None:
    """Act on all parts, in several threads if that is worthwhile."""
    if not worthwhile or processors() == 1:
        for part in parts:
            act(part)
        return
    for _ in _pool(processors()).map(act, parts):
        pass


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads, kept because starting them takes as long as a million elements."""
    return ThreadPoolExecutor(count, thread_name_prefix="softcert-numba")


# A child has none of the threads of its parent.
os.register_at_fork(after_in_child=_pool.cache_clear)
