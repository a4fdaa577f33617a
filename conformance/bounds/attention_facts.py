"""What the error bounds of attention need to know of its exact operands, a few queries at a time.

Only blocks of queries are held, so memory grows with the number of keys, not with queries times keys.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.model import RequestError

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Queries of one tile; fewer would leave the threads of a BLAS waiting for each other.
_QUERIES = 256
#: Twice the unit roundoff of binary64, in which all this is evaluated.
_EVALUATION = 2.0**-52
#: Beyond it expm1(x) is exp(x) to the last bit.
_LINEAR = 40.0


@dataclass(frozen=True)
class Operands:
    """q, k and v of attention, as exact reals.

    Attributes
    ----------
    q : (H, L, D). k : (G, S, D). v : (G, S, Dv), G a divisor of H: head h of q sees head h // (H / G).
    scale : a real number; None is 1 / sqrt(D).
    causal : False, True or "bottom-right" (key j is seen by query i iff j <= i + S - L), "top-left" (j <= i).
    mask : broadcast to (H, L, S); booleans, True where seen, or numbers that are added, -inf where hidden.
    """

    q: Float
    k: Float
    v: Float
    scale: float | None = None
    causal: bool | str = False
    mask: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        if self.causal not in (False, True, "bottom-right", "top-left"):
            raise RequestError(f"causal={self.causal!r} is not False, True, 'bottom-right' or 'top-left'")
        shapes = self.q.shape, self.k.shape, self.v.shape
        fits = (
            all(len(shape) == 3 for shape in shapes)
            and shapes[0][2] == shapes[1][2]
            and shapes[1][:2] == shapes[2][:2]
            and shapes[1][0] > 0
            and shapes[0][0] % shapes[1][0] == 0
        )
        if not fits:
            raise RequestError(f"q, k and v have shapes {shapes}, not (H, L, D), (G, S, D) and (G, S, Dv)")

    @property
    def factor(self) -> float:
        """The scale, as a number."""
        return 1.0 / math.sqrt(self.q.shape[-1]) if self.scale is None else float(self.scale)

    @property
    def sharing(self) -> int:
        """How many heads of q share one of k and v."""
        return len(self.q) // len(self.k)

    @cached_property
    def _mask(self) -> NDArray[np.generic] | None:
        if self.mask is None:
            return None
        return np.broadcast_to(self.mask, (*self.q.shape[:2], self.k.shape[1]))

    @cached_property
    def _broken_keys(self) -> Bool:
        """(G, S), keys whose k or v is no number."""
        return np.asarray(~(np.isfinite(self.k).all(-1) & np.isfinite(self.v).all(-1)))

    @cached_property
    def _broken_queries(self) -> Bool:
        """(H, L)."""
        return np.asarray(~np.isfinite(self.q).all(-1))

    def values(self, head: int) -> Float:
        """Values of the keys that a head of q sees, 0 where they are no numbers: (S, Dv)."""
        return _numbers(self.v[head // self.sharing])

    def keys(self, head: int) -> Float:
        """Keys that a head of q sees, 0 where they are no numbers: (S, D)."""
        return _numbers(self.k[head // self.sharing])

    def tiles(self, head: int) -> Iterator[Tile]:
        """The queries of one head, some at a time."""
        keys = self.keys(head)
        magnitudes = np.abs(keys)
        length = self.q.shape[1]
        for start in range(0, length, _QUERIES):
            yield self._tile(head, slice(start, min(start + _QUERIES, length)), keys, magnitudes)

    def _tile(self, head: int, rows: slice, keys: Float, magnitudes: Float) -> Tile:
        seen, count = self._seen(head, rows)
        queries = _numbers(self.q[head, rows]) * self.factor
        with np.errstate(over="ignore", invalid="ignore"):
            scores = queries @ keys[:count].T
            sizes = np.abs(queries) @ magnitudes[:count].T
        bias = self._bias(head, rows, count)
        if bias is not None and seen is not None:  # a mask that adds also hides
            scores += np.where(seen, bias, 0.0)
        number = np.full((len(scores), 1), float(count))
        if seen is not None:
            number = seen.sum(axis=-1, keepdims=True, dtype=np.float64)
        broken = self._broken(head, rows, bias, seen)
        if seen is not None:
            np.copyto(scores, -np.inf, where=~seen)
            np.copyto(sizes, 0.0, where=~seen)
            bias = None if bias is None else np.where(seen, np.abs(bias), 0.0)
        mass = np.abs(_numbers(self.q[head, rows])).sum(axis=-1, keepdims=True)
        mass = max(1.0, abs(self.factor)) * (mass + magnitudes.sum(axis=-1).max(initial=0.0))
        errs = self._evaluation(queries, keys)
        return Tile(rows, count, seen, scores, sizes, mass, bias, number, broken, errs)

    def _bias(self, head: int, rows: slice, count: int) -> Float | None:
        """What a mask adds to scores, (n, count)."""
        if self._mask is None or self._mask.dtype == np.bool_:
            return None
        return np.asarray(self._mask[head, rows, :count], dtype=np.float64)

    def _seen(self, head: int, rows: slice) -> tuple[Bool | None, int]:
        """Which of the first keys these queries see, None for all; and how many keys those are."""
        count = self.k.shape[1]
        seen: Bool | None = None
        if self.causal:
            offset = 0 if self.causal == "top-left" else count - self.q.shape[1]
            count = min(max(rows.stop + offset, 0), count)
            last = np.arange(rows.start, rows.stop)[:, None] + offset
            seen = np.arange(count) <= last
        if self._mask is not None:
            part = self._mask[head, rows, :count]
            shown = np.asarray(part if part.dtype == np.bool_ else part != -np.inf)
            seen = shown if seen is None else seen & shown
        return seen, count

    def _broken(self, head: int, rows: slice, bias: Float | None, seen: Bool | None) -> Bool:
        """(n, 1), queries for which something that counts is no number."""
        own = self._broken_queries[head, rows, None]
        others = self._broken_keys[head // self.sharing]
        if bias is None and not (own.any() or others.any()):
            return own
        count = self.k.shape[1] if seen is None else seen.shape[1]
        bad = np.broadcast_to(own | others[:count], (len(own), count))
        if bias is not None:
            bad = bad | ~np.isfinite(bias)
        return np.asarray((bad if seen is None else bad & seen).any(axis=-1, keepdims=True))

    def _evaluation(self, queries: Float, keys: Float) -> Float:
        """(n, 1), relative error of a weight evaluated here in binary64."""
        longest = float(np.sqrt((keys * keys).sum(axis=-1).max(initial=0.0)))
        size = np.sqrt((queries * queries).sum(axis=-1, keepdims=True)) * longest
        return np.asarray((keys.shape[-1] + 8) * _EVALUATION * size)

    def viewers(self, head: int) -> Float:
        """How many queries of a head see each key, (S,)."""
        total = np.zeros(self.k.shape[1])
        length = self.q.shape[1]
        for start in range(0, length, _QUERIES):
            rows = slice(start, min(start + _QUERIES, length))
            seen, count = self._seen(head, rows)
            total[:count] += (rows.stop - rows.start) if seen is None else seen.sum(axis=0)
        return total


@dataclass(frozen=True)
class Tile:
    """Some queries of one head and the first keys, those that one of them may see.

    Attributes
    ----------
    rows : the queries. count : number of keys.
    seen : (n, count), None where every query sees every key.
    scores : (n, count), exact scores to binary64, -inf where hidden.
    sizes : (n, count), |scale| sum_c |q_c k_c|, 0 where hidden.
    mass : (n, 1), what the scores would be if either q or k were 1 throughout, at most.
    bias : (n, count), magnitude of what a mask adds; None where it adds nothing.
    number : (n, 1), how many keys a query sees.
    broken : (n, 1), queries that meet what is no number.
    evaluation : (n, 1), relative error of exp(score) as evaluated here.
    """

    rows: slice
    count: int
    seen: Bool | None
    scores: Float
    sizes: Float
    mass: Float
    bias: Float | None
    number: Float
    broken: Bool
    evaluation: Float

    def clear_hidden(self, array: Float, value: float = 0.0) -> Float:
        """Set in place what belongs to hidden keys."""
        if self.seen is not None:
            np.copyto(array, value, where=~self.seen)
        return array

    def total(self, values: Float) -> Float:
        """Sum over the keys that each query sees of values, (count, width): (n, width) or (1, width)."""
        if self.seen is None:
            return np.asarray(values.sum(axis=0, keepdims=True))
        return np.asarray(self.seen.astype(np.float64) @ values)


def weighted_growth(weights: Float, log_weights: Float, exponents: Float) -> Float:
    """weights expm1(exponents), from above, for weights = exp(log_weights) and exponents of at least 0.

    `exponents` is overwritten. While they are below 1, expm1(x) <= x / (1 - x / 2). Where expm1 would
    overflow the product is taken through logarithms: the weight may be as small as its growth is large.
    """
    largest = float(exponents.max(initial=0.0))
    if largest < 1.0:
        half = exponents * -0.5
        half += 1.0
        exponents /= half
    elif largest < _LINEAR:
        np.expm1(exponents, out=exponents)
    else:
        logs = np.where(exponents > _LINEAR, exponents, np.log(np.expm1(exponents)))
        return np.exp(np.where(weights > 0.0, log_weights + logs, -np.inf))
    exponents *= weights
    return exponents


def _numbers(array: Float) -> Float:
    return array if np.isfinite(array).all() else np.where(np.isfinite(array), array, 0.0)


__all__ = ["Bool", "Float", "Operands", "Tile", "weighted_growth"]
