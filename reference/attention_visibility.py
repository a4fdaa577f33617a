"""Which keys a query of attention sees: causality, packed sequences and masks, none of them of size L S.

Causality and packed sequences leave every query a range of keys. A mask stays as small as it was given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.errors import DomainError
from softcert.reference.operands import Floats, as_floats
from softcert.reference.tensors import is_tensor, tensor_as_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: What `causal` may be. True is "bottom-right".
CAUSAL = (False, True, "bottom-right", "top-left")


@dataclass(frozen=True)
class Visibility:
    """The keys that each query sees, and what is added to their scores.

    Attributes
    ----------
    first, last : (L,), the range of keys [first, last) that the query's place leaves it.
    mask : (*batch, L, S), a view: of booleans, True where a key is seen, or of numbers that are added, -inf
        where a key is hidden. None where there is none.
    """

    first: NDArray[np.int64]
    last: NDArray[np.int64]
    mask: NDArray[Any] | None

    def of_query(self, head: int, query: int) -> tuple[NDArray[np.int64], Floats]:
        """Places of the keys that one query sees, and what is added to their scores."""
        keys = np.arange(self.first[query], self.last[query], dtype=np.int64)
        if self.mask is None:
            return keys, np.zeros(keys.size)
        row = self.rows(head, slice(query, query + 1))[0, keys]
        shown = row if row.dtype == np.bool_ else row != -math.inf
        bias = np.zeros(keys.size) if row.dtype == np.bool_ else row
        return keys[shown], bias[shown]

    def of_key(self, head: int, key: int) -> tuple[NDArray[np.int64], Floats]:
        """Places of the queries that see one key, and what is added to their scores."""
        queries = np.flatnonzero((self.first <= key) & (key < self.last))
        if self.mask is None:
            return queries, np.zeros(queries.size)
        column = self._of_head(head)[queries, key]
        shown = column if column.dtype == np.bool_ else column != -math.inf
        bias = np.zeros(queries.size) if column.dtype == np.bool_ else column
        return queries[shown], bias[shown]

    def rows(self, head: int, queries: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Mask of some queries of a head, (n, S), where there is one."""
        return self._of_head(head)[queries]

    def _of_head(self, head: int) -> NDArray[Any]:
        assert self.mask is not None  # noqa: S101 - callers ask first
        batch = self.mask.shape[:-2]
        return np.asarray(self.mask[np.unravel_index(head, batch)] if batch else self.mask)


def visibility(
    shape: tuple[int, ...],
    causal: object,
    mask: ArrayLike | None,
    cu_seqlens: tuple[ArrayLike, ArrayLike] | None,
) -> Visibility:
    """Check and combine what decides which keys a query sees.

    Parameters
    ----------
    shape : (*batch, L, S) of the scores.
    causal, mask, cu_seqlens : as `attention`.

    Raises
    ------
    DomainError : an unknown `causal`, a mask that does not fit, or ends of sequences that are none.
    """
    length, keys = shape[-2:]
    if not isinstance(causal, (bool, np.bool_, str)) or causal not in CAUSAL:
        raise DomainError(f"causal={causal!r} is not one of {', '.join(map(repr, CAUSAL))}")
    ends = ((0, length), (0, keys)) if cu_seqlens is None else _ends(cu_seqlens, length, keys)
    q_ends, k_ends = (np.asarray(e, dtype=np.int64) for e in ends)
    sequence = np.repeat(np.arange(len(q_ends) - 1), np.diff(q_ends))
    first, last = k_ends[sequence], k_ends[sequence + 1]
    if causal:
        place = np.arange(length) - q_ends[sequence]
        offset = 0 if causal == "top-left" else last - first - np.diff(q_ends)[sequence]
        last = np.clip(first + place + offset + 1, first, last)
    return Visibility(first, last, None if mask is None else _mask(mask, shape))


def _ends(cu_seqlens: object, length: int, keys: int) -> list[NDArray[np.int64]]:
    """Cumulative lengths of packed sequences, checked."""
    if not isinstance(cu_seqlens, (tuple, list)) or len(cu_seqlens) != 2:
        raise DomainError("cu_seqlens is not a pair, of the ends in q and of those in k")
    ends = []
    for name, given, total in zip(("q", "k"), cu_seqlens, (length, keys), strict=True):
        array = tensor_as_array(given, f"cu_seqlens_{name}") if is_tensor(given) else np.asarray(given)
        if array.ndim != 1 or array.size < 2 or array.dtype.kind not in "iu":
            raise DomainError(f"cu_seqlens_{name} is not a list of two or more integers")
        whole = array.astype(np.int64)
        if whole[0] != 0 or whole[-1] != total or (np.diff(whole) < 0).any():
            listed = f"{whole.tolist()}"
            raise DomainError(
                f"cu_seqlens_{name} does not rise from 0 to the {total} rows of {name}: {listed:.60}"
            )
        ends.append(whole)
    if len(ends[0]) != len(ends[1]):
        raise DomainError(
            f"cu_seqlens_q ends {len(ends[0]) - 1} sequences and cu_seqlens_k {len(ends[1]) - 1}"
        )
    return ends


def _mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    array = tensor_as_array(mask, "mask") if is_tensor(mask) else _as_given(mask)
    if array.dtype != np.bool_:
        array = as_floats(mask, "mask")[0]
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        raise DomainError(f"mask of shape {array.shape} does not broadcast to {shape}") from None


def _as_given(mask: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(mask)
    except (ValueError, TypeError):
        return as_floats(mask, "mask")[0]  # which says in one sentence what is wrong
