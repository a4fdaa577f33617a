"""One row of each op of softmax in lanes, of any dtype: the largest logit first, then the sum, then results.

Differences from the largest logit are carried in two words, and sums in float64, so that an output of float32
is within 7.2 units in the last place, whatever the length (docs/explanation/numba-kernels.md). No row depends
on another. A NaN or +inf logit, and a row of -inf alone, make the whole row of (log_)softmax NaN.

Numbers of 16 bits come as their bits (`lanes_memory`); `work` is (rows, n), or (1, n), of the dtype
computed in: float64 of float64, float32 of all others.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import compiled, inlined
from softcert.backends.numba_.exponential import exponential
from softcert.backends.numba_.lanes import (
    at_least,
    larger,
    largest_of,
    splat,
    sum_of,
    unless_below,
)
from softcert.backends.numba_.lanes_memory import load, load_part, prefetch, store, store_part
from softcert.backends.numba_.words import (
    plus_first,
    plus_first_product,
    plus_last,
    plus_last_product,
    two_words,
    width,
)

#: Differences below it have no second word that matters; that of -inf, or next to it, is NaN.
_FAR = -1.0e30
#: Elements whose terms are taken as soon as their largest is known: logits and terms stay in the first cache.
_CHUNK = 1024
#: Lengths of rows that are read sooner than memory answers. Longer ones are not, and of shorter ones the
#: processor asks for the next itself.
_SOON = (256, 4096)


@inlined
def gap(x: Any, m: Any) -> tuple[Any, Any]:
    """x - m in two words, exactly where both are finite: Knuth's 2Sum."""
    d = x - m
    b = d - x
    return d, (x - (d - b)) - (m + b)


@inlined
def largest(x: Any, work: Any) -> Any:
    """The largest logit of a row, NaN passed over: -inf where there is no other."""
    n, w, least = x.size, width(work), work.dtype.type(-np.inf)
    a = b = c = d = splat(least)
    whole = n - n % (4 * w)
    for i in range(0, whole, 4 * w):
        a, b = larger(a, load(x, i)), larger(b, load(x, i + w))
        c, d = larger(c, load(x, i + 2 * w)), larger(d, load(x, i + 3 * w))
    for i in range(whole, n, w):
        a = larger(a, load_part(x, i, n - i, least))
    return largest_of(larger(larger(a, b), larger(c, d)))


@inlined
def _term(x: Any, i: int, top: Any, work: Any) -> Any:
    d, e = gap(load(x, i), top)
    term = exponential(d, e)
    store(work, i, term)
    return term


@inlined
def sum_of_terms(x: Any, m: Any, work: Any, ahead: int) -> float:
    """The sum of exp(x - m), which are kept in `work`.

    What lies `ahead` of each logit, in the next row as a rule, is asked for meanwhile.
    """
    n, w = x.size, width(work)
    top = splat(m)
    s = t = splat(0.0)
    whole = n - n % (4 * w)
    for i in range(0, whole, 4 * w):
        for j in range(i, i + 4 * w, w):
            prefetch(x, j + ahead)
        four = (_term(x, i, top, work) + _term(x, i + w, top, work)) + (
            _term(x, i + 2 * w, top, work) + _term(x, i + 3 * w, top, work)
        )
        s, t = plus_first(s, four), plus_last(t, four)
    for i in range(whole, n, w):
        d, e = gap(load_part(x, i, n - i, work.dtype.type(-np.inf)), top)
        term = exponential(d, e)
        store_part(work, i, n - i, term)
        s, t = plus_first(s, term), plus_last(t, term)
    return sum_of(s + t)


@inlined
def log_of_sum(x: Any, m: Any, work: Any) -> float:
    """log(sum(exp(x - m))), the terms that are 1 apart from the others.

    Next to 1 the others would be rounded off, and the log-probability of a logit far above all others is
    nothing but them.
    """
    n, w = x.size, width(work)
    none, one = splat(work.dtype.type(0.0)), splat(work.dtype.type(1.0))
    top = splat(m)
    s = t = splat(0.0)
    ties = none
    for i in range(0, n, w):
        d, e = gap(load_part(x, i, n - i, work.dtype.type(-np.inf)), top)
        # d itself is the 0 of a tie, and NaN where the logit is.
        term = unless_below(d, none, exponential(d, e), d)
        ties = ties + unless_below(d, none, none, one)
        s, t = plus_first(s, term), plus_last(t, term)
    rest, count = sum_of(s + t), np.float64(sum_of(ties))
    return math.log(count) + math.log1p(rest / count) if count else math.log(rest)


@compiled
def softmax(x: Any, y: Any, work: Any) -> None:
    """Softmax of rows (m, n); terms are kept in the rows of `work`, or in turn in its only one."""
    rows, n = x.shape
    w, zero = width(work), work.dtype.type(0.0)
    whole = n - n % (4 * w)
    top = largest(x[0], work) if rows else zero
    for r in range(rows):
        row, result, kept = x[r], y[r], work[r if len(work) == rows else 0]
        ahead = min(r + (2 if _SOON[0] <= n <= _SOON[1] else 1), rows - 1) - r
        total = sum_of_terms(row, top, kept, ahead * n)
        if r + 1 < rows:
            # Already: what it waits for is there by the time that this row has been written.
            top = largest(x[r + 1], work)
        share = splat(work.dtype.type(1.0 / total))
        for i in range(0, whole, 4 * w):
            for j in range(i, i + 4 * w, w):
                store(result, j, load(kept, j) * share)
        for i in range(whole, n, w):
            store_part(result, i, n - i, load_part(kept, i, n - i, zero) * share)


@compiled
def softmax_in_chunks(x: Any, y: Any, work: Any) -> None:
    """Softmax of long rows (m, n) of float32 or 16 bits, which are read from memory but once.

    Terms are taken from the largest logit up to their chunk, and the share of each chunk makes up for it
    (M. Milakov and N. Gimelshein, arXiv:1805.02867, algorithm 3, chunk by chunk).
    """
    rows, n = x.shape
    w, zero = width(work), work.dtype.type(0.0)
    chunks = -(-n // _CHUNK)
    tops, sums = np.empty(chunks), np.empty(chunks)
    for r in range(rows):
        row, result, kept = x[r], y[r], work[r if len(work) == rows else 0]
        m = work.dtype.type(-np.inf)
        for c in range(chunks):
            part = row[c * _CHUNK : (c + 1) * _CHUNK]
            m = max(m, largest(part, work))
            # -inf cannot be taken from itself: what is taken from 0 is 0, whatever its share.
            top = zero if m == -np.inf else m
            tops[c], sums[c] = top, sum_of_terms(part, top, kept[c * _CHUNK : (c + 1) * _CHUNK], 2 * _CHUNK)
        total = 0.0
        for c in range(chunks):
            tops[c] = math.exp(min(tops[c] - m, 0.0))
            total += tops[c] * sums[c]
        for c in range(chunks):
            share = splat(work.dtype.type(tops[c] / total))
            first, last = c * _CHUNK, min(n, (c + 1) * _CHUNK)
            whole = last - (last - first) % (4 * w)
            for i in range(first, whole, 4 * w):
                for j in range(i, i + 4 * w, w):
                    store(result, j, load(kept, j) * share)
            for i in range(whole, last, w):
                store_part(result, i, last - i, load_part(kept, i, last - i, zero) * share)


@inlined
def _less(x: Any, top: Any, h: Any, l: Any, far: Any, none: Any) -> Any:  # noqa: E741
    """x - top - (h + l), for a sum h + l of at least 0."""
    d, e = gap(x, top)
    return (d - h) + (unless_below(d, far, none, e) - l)


@compiled
def log_softmax(x: Any, y: Any, work: Any) -> None:
    """Logarithm of the softmax of rows (m, n); nothing is kept in `work`."""
    rows, n = x.shape
    w, least = width(work), work.dtype.type(-np.inf)
    far, none = splat(work.dtype.type(_FAR)), splat(work.dtype.type(0.0))
    whole = n - n % w
    for r in range(rows):
        row, result = x[r], y[r]
        m = largest(row, work)
        high, low = two_words(log_of_sum(row, m, work), work)
        top, h, l = splat(m), splat(high), splat(low)  # noqa: E741
        for i in range(0, whole, w):
            store(result, i, _less(load(row, i), top, h, l, far, none))
        for i in range(whole, n, w):
            store_part(result, i, n - i, _less(load_part(row, i, n - i, least), top, h, l, far, none))


@inlined
def _positive_sum(x: Any, work: Any) -> Any:
    """The sum of the logits above 0: NaN where any logit is."""
    n, w, zero = x.size, width(work), work.dtype.type(0.0)
    s = splat(zero)
    for i in range(0, n, w):
        s = s + at_least(load_part(x, i, n - i, zero), splat(zero))
    return sum_of(s)


@compiled
def logsumexp(x: Any, y: Any, work: Any) -> None:
    """log(sum(exp(x))) of rows (m, n) into y (m,), of float64: +inf where a logit is, NaN where NaN is."""
    for r in range(x.shape[0]):
        m = largest(x[r], work)
        # -inf cannot be taken from itself: without it the sum is 0, or NaN where a logit is.
        pivot = work.dtype.type(0.0) if m == -np.inf else m
        if m == np.inf:
            y[r] = _positive_sum(x[r], work)
        else:
            y[r] = pivot + log_of_sum(x[r], pivot, work)


@compiled
def softmax_vjp(y: Any, dy: Any, result: Any, work: Any) -> None:
    """y (dy - sum(y dy)) of rows (m, n)."""
    rows, n = y.shape
    w, zero = width(work), work.dtype.type(0.0)
    whole = n - n % w
    for r in range(rows):
        a, b = y[r], dy[r]
        s = t = splat(0.0)
        for i in range(0, whole, w):
            p, q = load(a, i), load(b, i)
            s, t = plus_first_product(s, p, q), plus_last_product(t, p, q)
        for i in range(whole, n, w):
            p, q = load_part(a, i, n - i, zero), load_part(b, i, n - i, zero)
            s, t = plus_first_product(s, p, q), plus_last_product(t, p, q)
        high, low = two_words(sum_of(s + t), work)
        h, l = splat(high), splat(low)  # noqa: E741
        for i in range(0, whole, w):
            store(result[r], i, load(a, i) * ((load(b, i) - h) - l))
        for i in range(whole, n, w):
            p, q = load_part(a, i, n - i, zero), load_part(b, i, n - i, zero)
            store_part(result[r], i, n - i, p * ((q - h) - l))
