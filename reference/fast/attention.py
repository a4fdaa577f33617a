"""Attention of many queries by double words: what the kernels of this folder give, head by head."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.attention_operands import Heads
from softcert.reference.fast import environment
from softcert.reference.fast.attention_forward import forward
from softcert.reference.fast.attention_heads import (
    LARGEST,
    KeyTiles,
    key_tiles,
    padded_features,
    scale_words,
    sizes,
)
from softcert.reference.fast.marks import seen_by_queries, sees_any, undefined_biases
from softcert.reference.fast.oracle import split_pairs, threads
from softcert.reference.fast.rows import LONGEST, MISSING
from softcert.reference.fast.tiles import TILE, dot_error, sum_error
from softcert.reference.formats import FloatFormat
from softcert.reference.split import Split, round_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Queries of one call of a kernel; their scores stay in the second cache for some thousand keys.
_BLOCK = 8
_SCALES = 2.0**400


def takes(heads: Heads) -> bool:
    """Whether the fast path computes these operands."""
    scale = abs(float(heads.scale.rational))
    return heads.k.shape[1] <= LONGEST and (scale == 0.0 or 1 / _SCALES < scale < _SCALES)


@dataclass(frozen=True)
class Pairs:
    """Results (high + low) 2**exponent up to absolute errors; see `split_pairs`."""

    high: Words
    low: Words
    error: Words
    exponent: NDArray[np.int64]

    @staticmethod
    def of_shape(*shape: int) -> Pairs:
        """Room for results."""
        return Pairs(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.full(shape, MISSING))

    @property
    def words(self) -> tuple[Words, Words, Words]:
        """The arrays that kernels write."""
        return self.high, self.low, self.error

    def __getitem__(self, key: Any) -> Pairs:
        return Pairs(self.high[key], self.low[key], self.error[key], self.exponent[key])

    def set_nan(self, where: NDArray[np.bool_]) -> None:
        """Make results NaN."""
        self.high[where], self.exponent[where] = np.nan, 0

    def set_missing(self, where: NDArray[np.bool_]) -> None:
        """Leave results to the oracles."""
        self.exponent[where & ~np.isnan(self.high)] = MISSING

    @cached_property
    def split(self) -> Split:
        """Every element in 53 + 53 bits and a width; of kind SLOW where nothing is known."""
        return split_pairs(
            self.high.reshape(-1), self.low.reshape(-1), self.exponent.reshape(-1), self.error.reshape(-1)
        )

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format, flat, and the places where that is not decided."""
        values, decided = round_split(self.split, fmt)
        return values, np.flatnonzero(~decided)


def in_order(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks, each of which writes to places of its own, on as many threads as there are."""
    workers = min(threads(), len(tasks))
    if workers <= 1:
        for task in tasks:
            task()
        return
    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


@dataclass(frozen=True)
class Operands:
    """Operands of attention with what no kernel takes made 0, and where that was.

    Attributes
    ----------
    heads : as they were given.
    q : (H, L, D). k : (G, S, D). v : (G, S, C). Cleaned.
    """

    heads: Heads

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The scale in two words."""
        return scale_words(*self.heads.scale)

    @cached_property
    def dot_slack(self) -> float:
        """Error of a dot product of norms 1, times |scale|."""
        return abs(self.scale[0]) * dot_error(self.heads.q.shape[2]) * (1.0 + 2.0**-30)

    @cached_property
    def q(self) -> Words:
        """Queries, (H, L, D)."""
        return cleaned(self.heads.q)

    @cached_property
    def tiles(self) -> list[KeyTiles]:
        """Keys and values of each of their heads."""
        pairs = zip(self.heads.k, self.heads.v, strict=True)
        return [key_tiles(cleaned(k), cleaned(v)) for k, v in pairs]

    def bias(self, head: int, queries: slice) -> Words:
        """What is added to the scores of some queries: (n, keys in whole tiles), or (n, 0)."""
        seen = self.heads.seen
        return _biases(None if seen.mask is None else seen.rows(head, queries), queries)

    def bias_of_keys(self, head: int, keys: slice) -> Words:
        """The same of some keys: (n, queries in whole tiles), or (n, 0)."""
        seen = self.heads.seen
        return _biases(None if seen.mask is None else seen.rows(head, slice(None))[:, keys].T, keys)


def _biases(rows: NDArray[Any] | None, part: slice) -> Words:
    if rows is None:
        return np.zeros((part.stop - part.start, 0))
    count, width = rows.shape
    bias = np.full((count, width + -width % TILE), -np.inf)
    bias[:, :width] = np.where(rows, 0.0, -np.inf) if rows.dtype == np.bool_ else rows
    return bias


def blocks_of(count: int) -> list[slice]:
    """Slices of rows that one call of a kernel takes."""
    return [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]


def cleaned(a: Words) -> Words:
    """An array with 0 for what is no number, or too large for the kernels."""
    usable = np.abs(a) <= LARGEST
    return a if usable.all() else np.where(usable, a, 0.0)


@dataclass(frozen=True)
class Forward:
    """Outputs and log-sum-exps of every query."""

    operands: Operands

    @cached_property
    def results(self) -> tuple[Pairs, Pairs]:
        """(out, lse), of shapes (H, L, C) and (H, L)."""
        environment.require_ieee()
        heads = self.operands.heads
        count, length = heads.q.shape[:2]
        out, lse = Pairs.of_shape(count, length, heads.v.shape[2]), Pairs.of_shape(count, length)
        self.operands.tiles  # noqa: B018 - made once, before threads ask for it
        places = [(h, part) for h in range(count) for part in blocks_of(length)]
        in_order([partial(self._block, *at, out[at], lse[at]) for at in places])
        _mark_forward(heads, out, lse)
        return out, lse

    def _block(self, head: int, part: slice, out: Pairs, lse: Pairs) -> None:
        operands, heads = self.operands, self.operands.heads
        tiles = operands.tiles[head // heads.sharing]
        q = operands.q[head, part]
        forward(
            padded_features(q),
            sizes(q),
            tiles.keys,
            tiles.key_sizes,
            tiles.values,
            heads.seen.first[part],
            heads.seen.last[part],
            operands.bias(head, part),
            *operands.scale,
            operands.dot_slack,
            sum_error(len(tiles.values)),
            tiles.tiny,
            out.words,
            out.exponent,
            lse.words,
            lse.exponent,
        )


def _mark_forward(heads: Heads, out: Pairs, lse: Pairs) -> None:
    """Make results NaN, or leave them to the oracles, where operands were cleaned."""
    for unusable, settle in SPOILED:
        q, k, v = (unusable(a) for a in (heads.q, heads.k, heads.v))
        rows = any_of(q) & sees_any(heads) | seen_by_queries(heads, any_of(k))
        settle(out, rows | seen_by_queries(heads, v))
        settle(lse, rows[:, :, 0])
    undefined, _ = undefined_biases(heads)
    out.set_nan(np.broadcast_to(undefined, out.high.shape))
    lse.set_nan(undefined[:, :, 0])


def any_of(marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a row has a mark, (..., n) to (..., 1)."""
    return np.asarray(marks.any(axis=-1, keepdims=True))


def not_finite(a: Words) -> NDArray[np.bool_]:
    """Where an array holds NaN or an infinity."""
    return ~np.isfinite(a)


def too_large(a: Words) -> NDArray[np.bool_]:
    """Where an array holds a number that the kernels do not take."""
    return np.isfinite(a) & (np.abs(a) > LARGEST)


#: Where operands are cleaned, and what becomes of the results that depend on them.
SPOILED = ((not_finite, Pairs.set_nan), (too_large, Pairs.set_missing))


@dataclass(frozen=True)
class Result:
    """One of the results of a pass, computed with the others when it is first asked for."""

    pairs: Callable[[], Pairs]

    @property
    def split(self) -> Split:
        """Every element in 53 + 53 bits and a width; of kind SLOW where nothing is known."""
        return self.pairs().split

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format, flat, and the places where that is not decided."""
        return self.pairs().rounded(fmt)
