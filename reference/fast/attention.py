"""Attention of many queries by double words: what the kernels of this folder give, head by head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from softcert.reference.attention_operands import Heads
from softcert.reference.environment import require_ieee
from softcert.reference.fast.attention_forward import forward
from softcert.reference.fast.attention_heads import (
    LARGEST,
    KeyTiles,
    key_tiles,
    padded_features,
    scale_words,
    sizes,
)
from softcert.reference.fast.attention_narrow import forward_plain
from softcert.reference.fast.attention_weights import ROUNDED_UP
from softcert.reference.fast.marks import seen_by_queries, sees_any, undefined_biases
from softcert.reference.fast.merging import merge
from softcert.reference.fast.narrow_rounding import decided
from softcert.reference.fast.oracle import run_all, split_pairs
from softcert.reference.fast.rows import LONGEST, MISSING
from softcert.reference.fast.tiles import (
    TILE,
    dot_error,
    plain_dot_error,
    plain_sum_error,
    sum_error,
)
from softcert.reference.formats import FloatFormat
from softcert.reference.split import Split, round_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Precision up to which binary64 decides roundings.
_NARROW_BITS = 24
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

    def __setitem__(self, key: Any, value: Pairs) -> None:
        self.high[key], self.low[key], self.error[key] = value.words
        self.exponent[key] = value.exponent

    def set_nan(self, where: NDArray[np.bool_]) -> None:
        """Make results NaN."""
        self.high[where], self.exponent[where] = np.nan, 0

    def set_missing(self, where: NDArray[np.bool_]) -> None:
        """Leave results to the oracles."""
        self.exponent[where & ~np.isnan(self.high)] = MISSING

    def set_zero(self, rows: NDArray[np.bool_]) -> None:
        """Make the results of some rows exactly 0, but for those that are no number."""
        where = rows[..., None] & ~np.isnan(self.high)
        for words in self.words:
            words[where] = 0.0
        self.exponent[where] = 0

    @property
    def perhaps_zero(self) -> NDArray[np.bool_]:
        """Which results are 0 but for an error."""
        return np.asarray((self.high == 0.0) & (self.error > 0.0) & (self.exponent != MISSING))

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


@dataclass(frozen=True)
class Operands:
    """Operands of attention as kernels take them, with 0 in place of what none does."""

    heads: Heads

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The scale in two words."""
        return scale_words(*self.heads.scale)

    @cached_property
    def dot_slack(self) -> float:
        """Error of a dot product of norms 1, times |scale|."""
        return abs(self.scale[0]) * dot_error(self.heads.q.shape[2]) * ROUNDED_UP

    @cached_property
    def queries(self) -> list[tuple[Words, Words]]:
        """Queries of each head, (L, D) with whole features, and their norms, (L,)."""
        return [(padded_features(q), sizes(q)) for q in map(cleaned, self.heads.q)]

    @cached_property
    def tiles(self) -> list[KeyTiles]:
        """Keys and values of each of their heads."""
        pairs = zip(self.heads.k, self.heads.v, strict=True)
        return [key_tiles(cleaned(k), cleaned(v)) for k, v in pairs]

    def bias(self, head: int, queries: NDArray[np.int64]) -> Words:
        """What is added to the scores of some queries: (n, keys in whole tiles), or (n, 0)."""
        seen = self.heads.seen
        return _biases(None if seen.mask is None else seen.rows(head, queries), len(queries))

    def bias_of_keys(self, head: int, keys: NDArray[np.int64]) -> Words:
        """The same of some keys: (n, queries in whole tiles), or (n, 0)."""
        seen = self.heads.seen
        return _biases(None if seen.mask is None else seen.rows(head, slice(None))[:, keys].T, len(keys))


def _biases(rows: NDArray[Any] | None, count: int) -> Words:
    if rows is None:
        return np.zeros((count, 0))
    width = rows.shape[1]
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
        return self.of_queries(np.ones(self.operands.heads.q.shape[:2], dtype=np.bool_))

    def of_queries(self, wanted: NDArray[np.bool_]) -> tuple[Pairs, Pairs]:
        """(out, lse), which are given where a query is wanted, (H, L)."""
        heads = self.operands.heads
        out = Pairs.of_shape(*wanted.shape, heads.v.shape[2])
        lse = Pairs.of_shape(*wanted.shape)
        slacks = self.operands.dot_slack, sum_error(heads.k.shape[1] + TILE)

        def write(head: int, queries: NDArray[np.int64], arguments: tuple[Any, ...]) -> None:
            places = head, queries
            mine, other = out[places], lse[places]
            tiny = self.operands.tiles[head // heads.sharing].tiny
            results = mine.words, mine.exponent, other.words, other.exponent
            forward(*arguments, *self.operands.scale, *slacks, tiny, *results)  # type: ignore[call-arg]
            out[places], lse[places] = mine, other

        self._in_blocks(wanted, write)
        _mark_forward(heads, out, lse)
        return out, lse

    @cached_property
    def plain(self) -> tuple[tuple[Words, Words], tuple[Words, Words]]:
        """(out, its error), (lse, its error) in binary64; an error is infinite where nothing is known."""
        heads = self.operands.heads
        shape = heads.q.shape[:2]
        out, lse = np.zeros((*shape, heads.v.shape[2])), np.zeros(shape)
        error, lse_error = np.zeros(out.shape), np.zeros(shape)
        features = heads.q.shape[2]
        scale = self.operands.scale[0]
        slacks = (
            abs(scale) * plain_dot_error(features + -features % 4),
            plain_sum_error(heads.k.shape[1] + TILE),
        )

        def write(head: int, queries: NDArray[np.int64], arguments: tuple[Any, ...]) -> None:
            arrays = [a[head, queries] for a in (out, error, lse, lse_error)]
            forward_plain(*arguments, scale, *slacks, *arrays)  # type: ignore[call-arg]
            for a, values in zip((out, error, lse, lse_error), arrays, strict=True):
                a[head, queries] = values

        self._in_blocks(np.ones(shape, dtype=np.bool_), write)
        for unusable, _ in SPOILED:
            rows, columns = _spoiled(heads, unusable)
            error[np.broadcast_to(columns, error.shape)] = np.inf
            lse_error[rows] = np.inf
        undefined = undefined_biases(heads)[0][:, :, 0]
        error[undefined], lse_error[undefined] = np.inf, np.inf
        return (out, error), (lse, lse_error)

    def _in_blocks(
        self,
        wanted: NDArray[np.bool_],
        write: Callable[[int, NDArray[np.int64], tuple[Any, ...]], None],
    ) -> None:
        """Call a kernel for a few queries at a time, with the arguments that all of them begin with."""
        require_ieee()
        operands, heads = self.operands, self.operands.heads
        # Made once, before threads ask for them.
        all_tiles, all_queries = operands.tiles, operands.queries

        def block(head: int, queries: NDArray[np.int64]) -> None:
            tiles, (q, norms) = all_tiles[head // heads.sharing], all_queries[head]
            seen = heads.seen.first[queries], heads.seen.last[queries]
            arguments = (q[queries], norms[queries], tiles.keys, tiles.key_sizes, tiles.values, *seen)
            write(head, queries, (*arguments, operands.bias(head, queries)))

        run_all(
            [
                partial(block, head, queries[start : start + _BLOCK])
                for head, queries in enumerate(map(np.flatnonzero, wanted))
                for start in range(0, len(queries), _BLOCK)
            ]
        )

    def rounded(self, which: int, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Results rounded to a format, flat, and the places where that is not decided.

        Formats of 24 bits or fewer are decided by binary64 where it can, from operands of such formats.
        """
        narrow = max(fmt.precision, self.operands.heads.fmt.precision) <= _NARROW_BITS
        if "results" in self.__dict__ or not narrow:
            return self.results[which].rounded(fmt)
        values, known = decided(*self.plain[which], fmt)
        open_rows = np.asarray(~known.reshape(*known.shape[:2], -1).all(axis=2))
        if not open_rows.any():
            return values.reshape(-1), np.empty(0, dtype=np.int64)
        again = self.of_queries(open_rows)[which][open_rows]
        values[open_rows] = again.rounded(fmt)[0].reshape(again.high.shape)
        places = np.arange(values.size).reshape(values.shape)[open_rows].reshape(-1)
        return values.reshape(-1), places[again.rounded(fmt)[1]]


def _mark_forward(heads: Heads, out: Pairs, lse: Pairs) -> None:
    """Make results NaN, or leave them to the oracles, where operands were cleaned."""
    for unusable, settle in SPOILED:
        rows, columns = _spoiled(heads, unusable)
        settle(out, columns)
        settle(lse, rows)
    undefined, _ = undefined_biases(heads)
    out.set_nan(np.broadcast_to(undefined, out.high.shape))
    lse.set_nan(undefined[:, :, 0])


def _spoiled(
    heads: Heads, unusable: Callable[[Words], NDArray[np.bool_]]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Queries whose scores, (H, L), and outputs that depend on operands which are unusable, (H, L, C)."""
    q, k, v = (unusable(a) for a in (heads.q, heads.k, heads.v))
    rows = any_of(q) & sees_any(heads) | seen_by_queries(heads, any_of(k))
    return rows[:, :, 0], rows | seen_by_queries(heads, v)


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


class Pass(Protocol):
    """A pass over all queries, which gives several results at once."""

    @property
    def results(self) -> tuple[Pairs, ...]:
        """The results in double words."""

    def rounded(self, which: int, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """One of them rounded to a format, flat, and the places where that is not decided."""


@dataclass(frozen=True)
class Result:
    """One of the results of a pass, computed with the others when it is first asked for."""

    of: Pass
    which: int

    @property
    def split(self) -> Split:
        """Every element in 53 + 53 bits and a width; of kind SLOW where nothing is known."""
        return self.of.results[self.which].split

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format, flat, and the places where that is not decided."""
        return self.of.rounded(self.which, fmt)


@dataclass(frozen=True)
class Merge:
    """The merge of two partial results, (n, C) and (n,) each."""

    out_a: Words
    lse_a: Words
    out_b: Words
    lse_b: Words

    @cached_property
    def results(self) -> tuple[Pairs, Pairs]:
        """(out, lse), of shapes (n, C) and (n,)."""
        require_ieee()
        out, lse = Pairs.of_shape(*self.out_a.shape), Pairs.of_shape(*self.lse_a.shape)
        a, b = (np.ascontiguousarray(x) for x in (self.out_a, self.out_b))
        merge(a, self.lse_a, b, self.lse_b, out.words, out.exponent, lse.words, lse.exponent)
        return out, lse

    def rounded(self, which: int, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """One of the results rounded to a format, flat, and the places where that is not decided."""
        return self.results[which].rounded(fmt)
