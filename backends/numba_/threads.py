"""Threads that share the work of one call; who computes what changes no bit of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from numba.core import config

if TYPE_CHECKING:
    from numpy.typing import NDArray


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


def dealt(compute: Callable[[slice], None], rows: NDArray[Any], share: int) -> None:
    """Have rows computed in slices, by as many threads as there are processors and work for.

    Parameters
    ----------
    rows : (m, ...), what is dealt out along its first axis. share : elements that are worth a thread.
    """
    count = len(rows)
    parts = max(1, min(processors(), count, rows.size // share))
    edges = [count * k // parts for k in range(parts + 1)]
    shared(compute, [slice(a, b) for a, b in pairwise(edges)], worthwhile=parts > 1)


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads, kept because starting them takes as long as a million elements."""
    return ThreadPoolExecutor(count, thread_name_prefix="softcert-numba")


# A child has none of the threads of its parent.
os.register_at_fork(after_in_child=_pool.cache_clear)
