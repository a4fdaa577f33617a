"""Long elementwise computations in steps whose temporaries stay in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Elements of one step; of 2**12 to 2**20, the fastest measured.
_STEP = 1 << 14


def in_chunks(
    function: Callable[..., tuple[NDArray[Any], ...]], *arrays: NDArray[Any]
) -> tuple[NDArray[Any], ...]:
    """Apply an elementwise function of flat arrays of one length, step by step."""
    starts = range(0, max(arrays[0].size, 1), _STEP)
    parts = [function(*(a[k : k + _STEP] for a in arrays)) for k in starts]
    if len(parts) == 1:
        return parts[0]
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))
