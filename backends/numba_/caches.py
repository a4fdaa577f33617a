"""How large a block of queries may be, by the caches of the machine; no bit of a result depends on it."""

from __future__ import annotations

import os
from functools import cache

from softcert.backends.numba_.attention_kernels import TILE
from softcert.backends.numba_.products import ROWS

#: A first cache that is assumed where the system does not tell, in bytes.
_USUAL = 32768
#: More queries gain nothing: keys and values are then read seldom enough.
_MOST = 96


@cache
def first_cache() -> int:
    """Bytes of the first data cache of a processor."""
    try:
        size = os.sysconf("SC_LEVEL1_DCACHE_SIZE")
    except (ValueError, OSError):
        return _USUAL
    return size if size > 0 else _USUAL


def queries_of_block(itemsize: int) -> int:
    """Queries whose scores fill half of the first cache, in multiples of what `multiply` takes at once.

    Parameters
    ----------
    itemsize : bytes of a score.
    """
    fitting = first_cache() // 2 // (TILE * itemsize)
    return max(ROWS, min(fitting, _MOST) // ROWS * ROWS)
