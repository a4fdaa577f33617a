"""Which queries see a marked key, and which keys a marked query sees; no array is of size L S."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.attention_operands import Heads
from softcert.reference.attention_visibility import Visibility

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Marks = NDArray[np.bool_]

_BLOCK = 256


def seen_by_queries(heads: Heads, marks: Marks) -> Marks:
    """Whether each query sees a key with a mark: (G, S, m) to (H, L, m)."""
    found = np.zeros((*heads.q.shape[:2], marks.shape[2]), dtype=np.bool_)
    for head, part, shown, _ in _blocks(heads) if marks.any() else ():
        found[head, part] = _any(shown, marks[head // heads.sharing])
    return found


def seen_by_keys(heads: Heads, marks: Marks) -> Marks:
    """Whether each key is seen by a query with a mark: (H, L, m) to (G, S, m)."""
    found = np.zeros((*heads.k.shape[:2], marks.shape[2]), dtype=np.bool_)
    for head, part, shown, _ in _blocks(heads) if marks.any() else ():
        found[head // heads.sharing] |= _any(shown.T, marks[head, part])
    return found


def undefined_biases(heads: Heads) -> tuple[Marks, Marks]:
    """Whether NaN or +inf is added to a score of each query, (H, L, 1), and of each key, (G, S, 1)."""
    by_query = np.zeros((*heads.q.shape[:2], 1), dtype=np.bool_)
    by_key = np.zeros((*heads.k.shape[:2], 1), dtype=np.bool_)
    mask = heads.seen.mask
    if mask is None or mask.dtype == np.bool_ or not (np.isnan(mask) | np.isposinf(mask)).any():
        return by_query, by_key
    for head, part, shown, rows in _blocks(heads):
        bad = shown & ~np.isfinite(rows)
        by_query[head, part, 0] = bad.any(axis=1)
        by_key[head // heads.sharing, :, 0] |= bad.any(axis=0)
    return by_query, by_key


def sees_any(heads: Heads) -> Marks:
    """Whether each query sees a key, (H, L, 1)."""
    if heads.seen.mask is None:
        return np.broadcast_to((heads.seen.last > heads.seen.first)[:, None], (*heads.q.shape[:2], 1))
    return seen_by_queries(heads, np.ones((*heads.k.shape[:2], 1), dtype=np.bool_))


def _any(shown: Marks, marks: Marks) -> Marks:
    # Sums of ones in binary32 never come back to 0, whatever they are rounded to.
    return (shown.astype(np.float32) @ marks.astype(np.float32)) > 0.0


def _blocks(heads: Heads) -> Iterator[tuple[int, slice, Marks, NDArray[Any]]]:
    """(head, queries, which keys they see, the mask's rows) of every block of queries."""
    for head in range(len(heads.q)):
        for start in range(0, heads.q.shape[1], _BLOCK):
            part = slice(start, min(start + _BLOCK, heads.q.shape[1]))
            yield head, part, *shown_keys(heads.seen, head, part, heads.k.shape[1])


def shown_keys(
    seen: Visibility, head: int, part: slice | NDArray[np.int64], keys: int
) -> tuple[Marks, NDArray[Any]]:
    """Which keys some queries see, (n, S), and the mask's rows of them."""
    place = np.arange(keys)
    shown = (seen.first[part, None] <= place) & (place < seen.last[part, None])
    if seen.mask is None:
        return shown, np.zeros((len(shown), 0))
    rows = seen.rows(head, part)
    return shown & (rows if rows.dtype == np.bool_ else rows != -np.inf), rows
