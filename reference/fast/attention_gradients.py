"""The backward pass of attention by double words: dq row by row of queries, dk and dv of keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.attention_operands import BackwardOperands, Heads
from softcert.reference.environment import require_ieee
from softcert.reference.fast.attention import (
    SPOILED,
    Operands,
    Pairs,
    any_of,
    blocks_of,
    cleaned,
)
from softcert.reference.fast.attention_backward import add_pairs, finish, row_dots
from softcert.reference.fast.attention_heads import (
    padded_features,
    padded_rows,
    sizes,
    tiny_error,
    transposed_tiles,
)
from softcert.reference.fast.attention_weights import ROUNDED_UP
from softcert.reference.fast.marks import seen_by_keys, seen_by_queries, sees_any, undefined_biases
from softcert.reference.fast.oracle import run_all
from softcert.reference.fast.tiles import TILE, dot_error, sum_error
from softcert.reference.fast.vanishing import vanishing_keys, vanishing_queries
from softcert.reference.formats import FloatFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]
    Marks = NDArray[np.bool_]

_ONE = (1.0, 0.0)


@dataclass(frozen=True)
class Side:
    """The queries, or the keys, of one head: as rows, as tiles of columns, and as values of sums.

    Attributes
    ----------
    a, b : (n, D) and (n, C): q and dout, or k and v; cleaned.
    facts : (6, n padded to whole tiles): norms of a and b, lse, D in two words, its error.
    """

    a: Words
    b: Words
    facts: Words

    @cached_property
    def rows(self) -> tuple[Words, Words]:
        """Rows with whole features."""
        return padded_features(self.a), padded_features(self.b)

    @cached_property
    def tiles(self) -> tuple[Words, Words]:
        """Tiles of columns."""
        return transposed_tiles(self.a), transposed_tiles(self.b)

    @cached_property
    def values(self) -> tuple[Words, Words]:
        """Rows in whole tiles."""
        return padded_rows(self.a), padded_rows(self.b)

    @cached_property
    def tiny(self) -> tuple[float, float]:
        """What sums over a and over b can lose to underflow; see `tiny_error`."""
        return tiny_error(self.a), tiny_error(self.b)


@dataclass(frozen=True)
class Backward:
    """Cotangents of q, k and v."""

    operands: Operands
    given: BackwardOperands

    @cached_property
    def results(self) -> tuple[Pairs, Pairs, Pairs]:
        """(dq, dk, dv), of shapes (H, L, D), (G, S, D) and (G, S, C)."""
        require_ieee()
        heads = self.given.heads
        dq, dk, dv = (Pairs.of_shape(*a.shape) for a in (heads.q, heads.k, heads.v))
        queries = [self._queries(h) for h in range(len(heads.q))]
        keys = [self._keys(g) for g in range(len(heads.k))]
        sharing = heads.sharing
        of_queries = [(h, part) for h in range(len(heads.q)) for part in blocks_of(heads.q.shape[1])]
        of_keys = [(g, part) for g in range(len(heads.k)) for part in blocks_of(heads.k.shape[1])]
        run_all([partial(self._dq, *at, queries[at[0]], keys[at[0] // sharing], dq[at]) for at in of_queries])
        run_all([partial(self._dk_dv, *at, queries, keys[at[0]], dk[at], dv[at]) for at in of_keys])
        _mark(self.given, dq, dk, dv)
        for pairs, vanishing in ((dq, vanishing_queries), (dk, vanishing_keys)):
            pairs.set_zero(vanishing(self.given, any_of(pairs.perhaps_zero)[..., 0]))
        return dq, dk, dv

    def rounded(self, which: int, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """One of the results rounded to a format, flat, and the places where that is not decided."""
        return self.results[which].rounded(fmt)

    @cached_property
    def _slacks(self) -> tuple[float, float, float]:
        heads = self.given.heads
        longest = max(heads.k.shape[1], heads.sharing * (heads.q.shape[1] + TILE))
        return self.operands.dot_slack, dot_error(heads.v.shape[2]) * ROUNDED_UP, sum_error(longest)

    @cached_property
    def _seen(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The range of keys that each query sees, as columns."""
        return _padded(self.given.heads.seen.first), _padded(self.given.heads.seen.last)

    def _queries(self, head: int) -> Side:
        q, dout, out = (cleaned(a[head]) for a in (self.given.heads.q, self.given.dout, self.given.out))
        lse = np.where(np.isfinite(self.given.lse[head]), self.given.lse[head], 0.0)
        high, low = np.empty(len(q)), np.empty(len(q))
        row_dots(dout, out, high, low)
        norms = sizes(dout)
        error = dot_error(out.shape[1]) * ROUNDED_UP * norms * sizes(out)
        return Side(q, dout, _padded(np.stack([sizes(q), norms, lse, high, low, error])))

    def _keys(self, group: int) -> Side:
        k, v = cleaned(self.given.heads.k[group]), cleaned(self.given.heads.v[group])
        nothing = np.zeros(len(k))
        return Side(k, v, _padded(np.stack([sizes(k), sizes(v), nothing, nothing, nothing, nothing])))

    def _dq(self, head: int, part: slice, queries: Side, keys: Side, dq: Pairs) -> None:
        seen, count = self.given.heads.seen, part.stop - part.start
        known, nothing = np.ones(count, dtype=np.bool_), np.zeros((count, 0))
        everywhere = np.zeros(len(keys.values[0]), dtype=np.int64)
        add_pairs(
            (queries.rows[0][part], queries.rows[1][part]),
            queries.facts[:, part],
            (seen.first[part], seen.last[part], part.start),
            keys.tiles,
            keys.facts,
            (everywhere, everywhere + len(queries.a)),
            self.operands.bias(head, np.arange(part.start, part.stop)),
            self.operands.scale,
            self._slacks,
            (keys.values[0], *dq.words),
            (keys.values[1][:, :0], nothing, nothing, nothing),
            known,
        )
        finish(dq.words, known, self.operands.scale, keys.tiny[0], dq.exponent)

    def _dk_dv(self, group: int, part: slice, queries: list[Side], keys: Side, dk: Pairs, dv: Pairs) -> None:
        heads = self.given.heads
        known = np.ones(part.stop - part.start, dtype=np.bool_)
        ranges = _ranges(heads, part)
        of_group = range(group * heads.sharing, (group + 1) * heads.sharing)
        for head in of_group:
            side = queries[head]
            add_pairs(
                (keys.rows[0][part], keys.rows[1][part]),
                keys.facts[:, part],
                (*ranges, part.start),
                side.tiles,
                side.facts,
                self._seen,
                self.operands.bias_of_keys(head, np.arange(part.start, part.stop)),
                self.operands.scale,
                self._slacks,
                (side.values[0], *dk.words),
                (side.values[1], *dv.words),
                known,
            )
        tiny_q, tiny_dout = (max(queries[h].tiny[which] for h in of_group) for which in (0, 1))
        finish(dk.words, known, self.operands.scale, tiny_q, dk.exponent)
        finish(dv.words, known, _ONE, tiny_dout, dv.exponent)


def _padded(a: NDArray[Any]) -> NDArray[Any]:
    """An array with zeros added along its last axis, up to whole tiles."""
    return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, -a.shape[-1] % TILE)])


def _ranges(heads: Heads, part: slice) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The queries [first, last) outside of which none sees each of some keys.

    The ranges of keys that queries see begin and end ever later.
    """
    keys = np.arange(part.start, part.stop)
    first = np.searchsorted(heads.seen.last, keys, side="right")
    last = np.searchsorted(heads.seen.first, keys, side="right")
    return first, np.maximum(first, last)


def _mark(given: BackwardOperands, dq: Pairs, dk: Pairs, dv: Pairs) -> None:
    """Make results NaN, or leave them to the oracles, where operands were cleaned.

    Which operand spoils which result is said by `reference.attention_vjp`.
    """
    heads = given.heads
    by_query, by_key = undefined_biases(heads)
    for pairs, marks in ((dq, by_query), (dk, by_key), (dv, by_key)):
        pairs.set_nan(np.broadcast_to(marks, pairs.high.shape))
    seen = sees_any(heads)
    for unusable, settle in SPOILED:
        q, out, dout = (any_of(unusable(a)) & seen for a in (heads.q, given.out, given.dout))
        k, v = (any_of(unusable(a)) for a in (heads.k, heads.v))
        q |= unusable(given.lse)[:, :, None] & seen
        if not any(marks.any() for marks in (q, k, v, out, dout)):
            continue
        by_query = q | out | dout | seen_by_queries(heads, k | v)
        settle(dq, np.broadcast_to(by_query, dq.high.shape))
        seen_key = seen_by_keys(heads, np.ones_like(q))
        by_key = seen_by_keys(heads, q | out | dout) | (k | v) & seen_key
        settle(dk, np.broadcast_to(by_key, dk.high.shape))
        spoiled = seen_by_keys(heads, q) | k & seen_key
        settle(dv, spoiled | seen_by_keys(heads, unusable(given.dout)))
