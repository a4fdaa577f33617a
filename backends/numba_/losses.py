"""Cross-entropy of rows of logits and its gradient in lanes: the logits are read twice.

The largest logit first; then the terms exp(x - max), which are kept where the gradient will stand, with their
sum; then the gradient from them. What is common to a row is in float64. Formats, bits and `work` are those of
`rows`.

`one` is 1, which the compiler must not know: LLVM 22 makes of a masked store of one lane a store of all the
32 bits that a bfloat16 was narrowed from, over the next number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import compiled, inlined
from softcert.backends.numba_.exponential import exponential
from softcert.backends.numba_.lanes import fma, splat, sum_of, unless_below
from softcert.backends.numba_.lanes_memory import load, load_part, store, store_part
from softcert.backends.numba_.rows import gap, largest, log_of_sum
from softcert.backends.numba_.words import plus_first, plus_last, width


@inlined
def _element(x: Any, i: int, one: int, work: Any) -> float:
    """One logit, in float64."""
    return float(sum_of(load_part(x, i, one, work.dtype.type(0.0))))


@inlined
def _mean_gap(x: Any, m: Any, work: Any) -> float:
    """The mean of max - x."""
    n, w, top = x.size, width(work), splat(m)
    s = t = splat(0.0)
    for i in range(0, n, w):
        d = top - load_part(x, i, n - i, m)
        s, t = plus_first(s, d), plus_last(t, d)
    mean: float = sum_of(s + t) / n
    return mean


@inlined
def _loss(x: Any, t: int, m: Any, log: float, smoothing: float, z: float, one: int, work: Any) -> float:
    """The loss of a row, of the largest logit and lse - max."""
    loss = 0.0
    # A weight of 0 adds nothing, also where its logarithm is infinite.
    if smoothing < 1.0:
        loss += (1.0 - smoothing) * ((m - _element(x, t, one, work)) + log)
    if smoothing > 0.0:
        loss += smoothing * (_mean_gap(x, m, work) + log)
    if z > 0.0:
        loss += z * (m + log) * (m + log)
    return loss


@compiled
def losses(
    x: Any, target: Any, smoothing: float, ignored: int, z: float, one: int, y: Any, work: Any
) -> None:
    """Losses of rows (m, n) into y (m,), of float64; nothing is kept in `work`."""
    for r in range(x.shape[0]):
        if target[r] == ignored:
            y[r] = 0.0
        else:
            m = largest(x[r], work)
            y[r] = _loss(x[r], target[r], m, log_of_sum(x[r], m, work), smoothing, z, one, work)


@inlined
def _kept_terms(x: Any, m: Any, work: Any) -> tuple[float, float]:
    """Terms exp(x - m) into `work`; how many are 1, as the largest logit's is, and the sum of the others."""
    n, w = x.size, width(work)
    none, one = splat(work.dtype.type(0.0)), splat(work.dtype.type(1.0))
    top = splat(m)
    s = t = splat(0.0)
    ties = none
    whole = n - n % w
    for i in range(0, whole, w):
        d, e = gap(load(x, i), top)
        term = exponential(d, e)
        store(work, i, term)
        # d itself is the 0 of a tie, and NaN where the logit is.
        other = unless_below(d, none, term, d)
        ties = ties + unless_below(d, none, none, one)
        s, t = plus_first(s, other), plus_last(t, other)
    for i in range(whole, n, w):
        d, e = gap(load_part(x, i, n - i, work.dtype.type(-np.inf)), top)
        term = exponential(d, e)
        store_part(work, i, n - i, term)
        other = unless_below(d, none, term, d)
        ties = ties + unless_below(d, none, none, one)
        s, t = plus_first(s, other), plus_last(t, other)
    return np.float64(sum_of(ties)), sum_of(s + t)


@inlined
def _filled(y: Any, work: Any) -> None:
    """Zeros in a whole row."""
    n, w, zero = y.size, width(work), splat(work.dtype.type(0.0))
    for i in range(0, n, w):
        store_part(y, i, n - i, zero)


@compiled
def losses_and_slopes(
    x: Any,
    target: Any,
    dloss: Any,
    smoothing: float,
    ignored: int,
    z: float,
    one: int,
    y: Any,
    slopes: Any,
    work: Any,
) -> None:
    """Losses of rows (m, n) into y (m,), of float64, and their gradients into `slopes` (m, n).

    dloss : (m,) of float64.
    """
    rows, n = x.shape
    w, zero = width(work), work.dtype.type(0.0)
    whole = n - n % w
    for r in range(rows):
        row, result, kept, t = x[r], slopes[r], work[r if len(work) == rows else 0], target[r]
        if t == ignored:
            y[r] = 0.0
            _filled(result, work)
            continue
        m = largest(row, work)
        count, rest = _kept_terms(row, m, kept)
        log = math.log(count) + math.log1p(rest / count) if count else math.nan
        y[r] = _loss(row, t, m, log, smoothing, z, one, work)
        total, lift = count + rest, 2.0 * z * (m + log)
        own = np.float64(kept[t])
        if own + own > total:
            # The largest logit's, whose term is 1. What p lacks of 1 is all beside it: p rounded first would
            # have lost that.
            lacking = ((count - 1.0) + rest) / total
            slope = (lift - lacking * (1.0 + lift)) + smoothing * (1.0 - 1.0 / n)
        else:
            slope = own / total * (1.0 + lift) - (1.0 - smoothing + smoothing / n)
        share = splat(work.dtype.type(dloss[r] * (1.0 + lift) / total))
        taken = splat(work.dtype.type(-dloss[r] * smoothing / n))
        for i in range(0, whole, w):
            store(result, i, fma(load(kept, i), share, taken))
        for i in range(whole, n, w):
            store_part(result, i, n - i, fma(load_part(kept, i, n - i, zero), share, taken))
        store_part(result, t, one, splat(work.dtype.type(dloss[r] * slope)))
