"""Calls of very many batches, most of which equal each other: one of each kind is enough."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.types import Call

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Batches from which on it pays to see whether some are alike.
_MANY = 512
#: Axes of operands of which the first is one of batches or heads.
_AXES = 3


@dataclass(frozen=True)
class Alike:
    """Batches that equal each other.

    Attributes
    ----------
    first : one batch of each kind.
    place : the kind of each batch.
    """

    first: NDArray[np.intp]
    place: NDArray[np.intp]

    def one_of_each(self, call: Call) -> Call:
        """The call on one batch of each kind."""
        return replace(call, operands=tuple(a[self.first] for a in call.operands))


def alike_batches(call: Call) -> Alike | None:
    """Batches that are alike in a call of very many; None where they are few, all differ, or share keys."""
    count = call.operands[0].shape[0]
    many = count >= _MANY and all(a.shape[0] == count and a.size for a in call.operands)
    if not many or call.mask is not None or call.operands[0].ndim < _AXES:
        return None
    rows = [np.ascontiguousarray(a).reshape(count, -1).view(np.uint8) for a in call.operands]
    packed = np.concatenate(rows, axis=1)
    whole = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, first, place = np.unique(whole, return_index=True, return_inverse=True)
    return None if first.size == count else Alike(first, place)
