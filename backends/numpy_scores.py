"""What NumPy's kernels of attention share: the operands made ready, the scores of some queries and keys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from softcert.backends.types import Array

#: Queries and keys of one tile of scores.
ROWS, COLUMNS = 128, 128


@dataclass(frozen=True)
class Problem:
    """The operands in the format computed in, heads of q grouped by the head of k and v that they share.

    Attributes
    ----------
    q : (..., G, H / G, L, D). k : (..., G, 1, S, D). v : (..., G, 1, S, Dv).
    mask : broadcasts to (..., G, H / G, L, S), or None.
    offset : query i sees key j iff j <= i + offset; None where it sees all.
    """

    q: Array
    k: Array
    v: Array
    scale: Any
    mask: Array | None
    offset: int | None

    @classmethod
    def of(
        cls, q: Array, k: Array, v: Array, scale: float | None, causal: bool, mask: Array | None
    ) -> Problem:
        """From the operands and keywords of an op; a ValueError where heads cannot be shared."""
        work = np.dtype(np.float32) if q.dtype.itemsize == 2 else q.dtype
        length, features = q.shape[-2:]
        factor = 1.0 / math.sqrt(max(features, 1)) if scale is None else scale
        if mask is not None:
            mask = _grouped(np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2])), k)
        return cls(
            _grouped(q.astype(work, copy=False), k),
            _grouped(k.astype(work, copy=False), k),
            _grouped(v.astype(work, copy=False), k),
            work.type(factor),
            mask,
            k.shape[-2] - length if causal else None,
        )

    def scores(self, rows: slice, columns: slice) -> Array:
        """Scores of some queries and keys, -inf where a key is hidden."""
        s = (self.q[..., rows, :] @ self.k[..., columns, :].swapaxes(-1, -2)) * self.scale
        if self.mask is not None:
            part = self.mask[..., rows, columns]
            if part.dtype == np.bool_:
                s = np.where(part, s, -np.inf)
            else:
                # what is hidden may be an overflowed score, and inf - inf is NaN
                s = np.where(np.isneginf(part), -np.inf, s + part.astype(s.dtype))
        if self.offset is not None:
            first = np.arange(rows.start, rows.stop)[:, None] + self.offset
            s = np.where(np.arange(columns.start, columns.stop) <= first, s, -np.inf)
        return np.asarray(s.astype(self.q.dtype, copy=False))

    def all_scores(self) -> Array:
        """Scores of every query and key, (..., G, H / G, L, S), all at once."""
        return self.scores(slice(0, self.q.shape[-2]), slice(0, self.k.shape[-2]))

    def columns_seen_by(self, rows: slice) -> Iterator[slice]:
        """Blocks of keys, without those that causality hides from all of some queries."""
        count = self.k.shape[-2]
        yield from blocks(count if self.offset is None else min(count, rows.stop + self.offset), COLUMNS)

    def rows_that_see(self, columns: slice) -> Iterator[slice]:
        """Blocks of queries, without those from which causality hides all of some keys."""
        for rows in blocks(self.q.shape[-2], ROWS):
            if self.offset is None or columns.start < rows.stop + self.offset:
                yield rows


def _grouped(array: Array, k: Array) -> Array:
    """(..., H, n, m) as (..., G, H / G, n, m), G the heads of k; one head without an axis gets two."""
    groups = k.shape[-3] if k.ndim > 2 else 1
    heads = array.shape[-3] if array.ndim > 2 else 1
    if groups == 0 or heads % groups:
        raise ValueError(f"{heads} heads of q cannot share {groups} of k and v alike")
    return array.reshape(*array.shape[:-3], groups, heads // groups, *array.shape[-2:])


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of `size` that cover `count` places, the last one maybe shorter."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def finite(m: Array) -> Array:
    """What to subtract: m, and 0 where that is infinite."""
    return np.where(np.isfinite(m), m, m.dtype.type(0))


def divided(acc: Array, total: Array) -> Array:
    """acc / total, and 0 where nothing was summed."""
    return np.asarray(np.where(total == 0, total, acc / np.where(total == 0, total.dtype.type(1), total)))
