"""Softmax of many rows by double words: rounded where that is certain, split for certified arithmetic."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.chunks import in_chunks
from softcert.reference.environment import require_ieee
from softcert.reference.fast.narrow import softmax_binary32, softmax_plain
from softcert.reference.fast.narrow_rounding import decided
from softcert.reference.fast.rows import LONGEST, MISSING, softmax_binary64, softmax_pairs
from softcert.reference.formats import FORMATS, FloatFormat
from softcert.reference.split import (
    EXACT_ZERO,
    FAR,
    IS_NAN,
    MINUS_INF,
    NUMBER,
    SLOW,
    WIDEST,
    Split,
    round_split,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Relative error of a quotient in double words: proven to be below 2**-100 (docs/explanation/fast.md).
ERROR = 2.0**-98
_BINARY32_BITS = 24
#: Below so many elements a second thread costs more than it brings.
_WORTH_A_THREAD = 1 << 15
#: Parts of a matrix for each thread, so that none waits long for a slower one.
_PARTS = 4


def threads() -> int:
    """Number of threads used: SOFTCERT_THREADS, else the processors this process may run on."""
    asked = os.environ.get("SOFTCERT_THREADS", "")
    return int(asked) if asked.isdecimal() and int(asked) > 0 else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class FastRows:
    """Softmax of the rows of a matrix.

    Parameters
    ----------
    rows : (R, n) logits, C-contiguous, n from 1 to 2**20; binary32 or binary64.
    beta : inverse temperature, finite, not 0; negative ones are given as -beta of -rows.
    """

    rows: NDArray[Any]
    beta: float = 1.0

    @staticmethod
    def takes(n: int, beta: float) -> bool:
        """Whether rows of n logits can be given with this beta."""
        return 1 <= n <= LONGEST and np.isfinite(beta) and 2.0**-500 < abs(beta) < 2.0**500

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format, flat, and the places where that is not decided.

        The values come in the format's own dtype or in binary64, which holds them.
        """
        require_ieee()
        if fmt == FORMATS["binary64"] and self.rows.dtype == np.float64:
            out, undecided = self._run(softmax_binary64, np.float64, self.beta, ERROR)
        elif fmt == FORMATS["binary32"] and self.rows.dtype == np.float32:
            out, undecided = self._run(softmax_binary32, np.float32, self.beta, ERROR)
        elif fmt.precision < _BINARY32_BITS and self.rows.dtype == np.float32:
            out, undecided = self._narrowed(fmt)
        else:
            values, decided = round_split(self.split, fmt)
            return values, np.flatnonzero(~decided)
        again = np.flatnonzero(undecided)
        values = out
        places = np.empty(0, dtype=np.int64)
        if again.size:
            part = FastRows(np.ascontiguousarray(self.rows[again]), self.beta)
            second, decided = round_split(part.split, fmt)
            values[again] = second.reshape(again.size, -1)
            n = self.rows.shape[1]
            where = np.flatnonzero(~decided)
            places = again[where // n] * n + where % n
        return values.reshape(-1), places

    def _narrowed(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format narrower than binary32, and how many of each row are open."""
        values, error = np.zeros(self.rows.shape), np.empty(self.rows.shape)
        _in_threads(lambda p: softmax_plain(self.rows[p], self.beta, values[p], error[p]), self.rows)
        out, known = decided(values, error, fmt)
        return out, np.asarray((~known).sum(axis=1))

    def _run(
        self, kernel: Callable[..., None], dtype: Any, *constants: float
    ) -> tuple[NDArray[Any], NDArray[np.int64]]:
        out = np.empty(self.rows.shape, dtype=dtype)
        undecided = np.zeros(len(self.rows), dtype=np.int64)
        _in_threads(lambda part: kernel(self.rows[part], *constants, out[part], undecided[part]), self.rows)
        return out, undecided

    @cached_property
    def split(self) -> Split:
        """Every element in 53 + 53 bits and a width; of kind SLOW where this cannot give it."""
        require_ieee()
        rows = self.rows.astype(np.float64, copy=False)
        high, low = np.empty(rows.shape), np.empty(rows.shape)
        exponent = np.empty(rows.shape, dtype=np.int64)
        _in_threads(lambda p: softmax_pairs(rows[p], self.beta, high[p], low[p], exponent[p]), rows)
        alone = np.isfinite(rows).sum(axis=1, keepdims=True) == 1
        error = np.where(alone, 0.0, ERROR * high)
        split = split_pairs(high.reshape(-1), low.reshape(-1), exponent.reshape(-1), error.reshape(-1))
        # Word by word: a sum would round 1 - 2**-60 to 1.
        near_one = (high >= 1.0) & (low + error >= 0.0) & ~alone & (exponent == 0)
        return _below_one(split, np.flatnonzero(near_one))


Pairs = Callable[..., None]


@dataclass(frozen=True)
class PairedRows:
    """What a kernel gives as double words with an absolute error.

    Parameters
    ----------
    kernel : takes the operands, then arrays for high, low, error and exponent.
    operands : matrices of binary64, C-contiguous, of one shape.
    reduces : one result a row.
    """

    kernel: Pairs
    operands: tuple[NDArray[np.float64], ...]
    reduces: bool = False

    @cached_property
    def split(self) -> Split:
        """Every element in 53 + 53 bits and a width; of kind SLOW where the kernel cannot give it."""
        require_ieee()
        rows = self.operands[0]
        shape = rows.shape[:1] if self.reduces else rows.shape
        high, low, error = (np.zeros(shape) for _ in range(3))
        exponent = np.empty(shape, dtype=np.int64)
        _in_threads(
            lambda p: self.kernel(*(a[p] for a in self.operands), high[p], low[p], error[p], exponent[p]),
            rows,
        )
        return split_pairs(high.reshape(-1), low.reshape(-1), exponent.reshape(-1), error.reshape(-1))

    def rounded(self, fmt: FloatFormat) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Every element rounded to a format, flat, and the places where that is not decided."""
        values, decided = round_split(self.split, fmt)
        return values, np.flatnonzero(~decided)


def split_pairs(
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    exponent: NDArray[np.int64],
    error: NDArray[np.float64],
) -> Split:
    """(high + low) 2**exponent, known up to the absolute error `error` 2**exponent, as a `Split`.

    Parameters
    ----------
    high, low : |low| is at most half an ulp of high; high may be exactly 0, -inf or NaN.
    exponent : `MISSING` where nothing is known.
    error : 0 stands for values that are exact.
    """
    return Split(*in_chunks(_split_chunk, high, low, exponent, error))


def _split_chunk(
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    exponent: NDArray[np.int64],
    error: NDArray[np.float64],
) -> tuple[NDArray[Any], ...]:
    # What a step overflowed in is known no better than what is missing.
    unbounded = np.isfinite(high) & ~(np.isfinite(low) & np.isfinite(error))
    missing = (exponent == MISSING) | unbounded
    undefined = np.isnan(high) & ~missing
    infinite = np.isneginf(high) & ~missing
    zero = (high == 0.0) & (error == 0.0) & ~missing
    with np.errstate(over="ignore"):
        known = ~(missing | zero | infinite | undefined) & (np.abs(high) > 4.0 * error)
    sign = np.where(known & (high < 0.0), -1.0, 1.0)
    mantissa, binary = np.frexp(np.where(known, np.abs(high), 1.0))
    leading = mantissa * 2.0**53
    # What lies below the leading 53 bits, in units of the last of the next 53.
    tail = np.ldexp(np.where(known, low * sign, 0.0), -binary) * 2.0**106
    slack = np.ldexp(np.where(known, error, 0.0), -binary) * (2.0**106 * (1.0 + 2.0**-50))
    slack = np.where(error > 0.0, slack + 1.0, 0.0)
    # Beyond 2**53 the sums are rounded, by far less than is added here.
    slack = np.where(slack < 2.0**52, slack, slack * (1.0 + 2.0**-50))
    below, above = np.floor(tail - slack), np.ceil(tail + slack)
    borrowed = np.floor(below * 2.0**-53)
    leading = leading + borrowed
    base = below - borrowed * 2.0**53
    width = np.where(slack < 2.0**52, above - below, (above - below) * (1.0 + 2.0**-50))
    # Below a power of two the units are half as large.
    halved = leading < 2.0**52
    carry = halved & (base >= 2.0**52)
    leading = np.where(halved, 2.0 * leading + carry, leading)
    base = np.where(halved, 2.0 * base - np.where(carry, 2.0**53, 0.0), base)
    width = np.where(halved, 2.0 * width, width)
    binary = binary - halved
    # An interval across a power of two, or so wide that it says little, is for the exact path.
    room = ((2.0**53 - leading) * 2.0**53 - base) * (1.0 - 2.0**-50)
    lost = (width >= room) | (leading < 2.0**52) | ~(width < WIDEST)
    usable = known & ~lost
    kind = np.where(usable, NUMBER, np.where(zero, EXACT_ZERO, np.where(infinite, MINUS_INF, SLOW)))
    kind = np.where(undefined, IS_NAN, kind)
    zeros = np.zeros(high.shape)
    return (
        kind.astype(np.int8),
        sign,
        np.where(usable, binary - 1 + np.where(usable, exponent, 0), np.where(zero, -FAR, 0)),
        np.where(usable, leading, zeros),
        np.where(usable, base, zeros),
        np.where(usable, width, zeros),
    )


def _below_one(split: Split, places: NDArray[np.int64]) -> Split:
    """The split with probabilities that may touch 1 kept below it, as they are beside another logit."""
    width = np.ceil(2.0 * ERROR * 2.0**106) + 2.0
    below = (NUMBER, 1.0, -1, 2.0**53 - 1.0, 2.0**53 - width, width)
    columns = [column.copy() for column in split.columns] if places.size else []
    for column, value in zip(columns, below, strict=False):
        column[places] = value
    return Split(*columns) if places.size else split


def _in_threads(task: Callable[[slice], None], rows: NDArray[Any]) -> None:
    """Run a task on consecutive parts of the rows; each row's result does not depend on the parts."""
    if rows.size < 2 * _WORTH_A_THREAD:
        task(slice(0, len(rows)))
        return
    run_all([partial(task, part) for part in _parts(len(rows), min(len(rows), _PARTS * threads()))])


def run_all(tasks: Sequence[Callable[[], None]]) -> None:
    """Run tasks, each of which writes to places of its own, on as many threads as there are."""
    count = min(threads(), len(tasks))
    if count <= 1:
        _run_in_order(tasks)
        return
    # Handing over a task takes longer than many a task.
    shares = min(len(tasks), _PARTS * count)
    for done in [_pool(count).submit(_run_in_order, tasks[k::shares]) for k in range(shares)]:
        done.result()


def _run_in_order(tasks: Sequence[Callable[[], None]]) -> None:
    for task in tasks:
        task()


@lru_cache(maxsize=1)
def _pool(count: int) -> ThreadPoolExecutor:
    """Threads, kept because starting them takes as long as a million elements."""
    return ThreadPoolExecutor(count)


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)


def _parts(total: int, count: int) -> Iterator[slice]:
    bounds = [total * k // count for k in range(count + 1)]
    return (slice(a, b) for a, b in pairwise(bounds))
