"""Softmax of many rows by double words: rounded where that is certain, split for certified arithmetic."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.fast import environment
from softcert.reference.fast.narrow import softmax_binary32
from softcert.reference.fast.rows import LONGEST, MISSING, softmax_binary64, softmax_pairs
from softcert.reference.formats import FORMATS, FloatFormat
from softcert.reference.split import EXACT_ZERO, NUMBER, SLOW, Split, round_split

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Relative error of a quotient in double words: proven to be below 2**-100 (docs/explanation/fast.md).
ERROR = 2.0**-98
#: Below so many elements a second thread costs more than it brings.
_WORTH_A_THREAD = 1 << 15

_FAR = 1 << 40


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
        environment.require_ieee()
        if fmt == FORMATS["binary64"] and self.rows.dtype == np.float64:
            out, undecided = self._run(softmax_binary64, np.float64, self.beta, ERROR)
        elif fmt == FORMATS["binary32"] and self.rows.dtype == np.float32 and self.beta == 1.0:
            out, undecided = self._run(softmax_binary32, np.float32, ERROR)
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
        environment.require_ieee()
        rows = self.rows.astype(np.float64, copy=False)
        high, low = np.empty(rows.shape), np.empty(rows.shape)
        exponent = np.empty(rows.shape, dtype=np.int64)
        _in_threads(lambda p: softmax_pairs(rows[p], self.beta, high[p], low[p], exponent[p]), rows)
        return split_pairs(high.reshape(-1), low.reshape(-1), exponent.reshape(-1), ERROR)


def split_pairs(
    high: NDArray[np.float64], low: NDArray[np.float64], exponent: NDArray[np.int64], error: float
) -> Split:
    """(high + low) 2**exponent, positive or exactly 0, known up to a relative error, as a `Split`."""
    missing = exponent == MISSING
    zero = (high == 0.0) & ~missing
    known = ~(missing | zero)
    mantissa, binary = np.frexp(np.where(known, high, 1.0))
    leading = mantissa * 2.0**53
    # What lies below the leading 53 bits, in units of the last of the next 53.
    scale = np.where(known, 2.0**106, 0.0)
    tail = np.ldexp(np.where(known, low, 0.0), -binary) * scale
    slack = error * mantissa * scale * (1.0 + 2.0**-50) + 1.0
    below, above = np.floor(tail - slack), np.ceil(tail + slack)
    borrow = below < 0.0
    leading = np.where(borrow, leading - 1.0, leading)
    base = np.where(borrow, below + 2.0**53, below)
    # An interval across a power of two, or wider than a unit of the leading bits, is for the exact path.
    lost = known & (
        (leading < 2.0**52) | (leading >= 2.0**53) | (base < 0.0) | (base + (above - below) > 2.0**53)
    )
    kind = np.where(zero, EXACT_ZERO, np.where(missing | lost, SLOW, NUMBER)).astype(np.int8)
    usable = kind == NUMBER
    return Split(
        kind=kind,
        sign=np.ones(high.shape),
        binade=np.where(usable, binary - 1 + np.where(usable, exponent, 0), np.where(zero, -_FAR, 0)),
        high=np.where(usable, leading, 0.0),
        low=np.where(usable, base, 0.0),
        width=np.where(usable, above - below, 0.0),
    )


def _in_threads(task: Callable[[slice], None], rows: NDArray[Any]) -> None:
    """Run a task on consecutive parts of the rows; each row's result does not depend on the parts."""
    count = min(threads(), len(rows), max(rows.size // _WORTH_A_THREAD, 1))
    if count <= 1:
        task(slice(0, len(rows)))
        return
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(task, part) for part in _parts(len(rows), count)]:
            done.result()


def _parts(total: int, count: int) -> Iterator[slice]:
    bounds = [total * k // count for k in range(count + 1)]
    return (slice(a, b) for a, b in pairwise(bounds))
