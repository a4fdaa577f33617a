"""Rows of sparsemax, of entmax and of their derivatives: few logits can have a share, and they are set apart.

Whatever lies 1 / (alpha - 1) or more below the largest logit has none. The threshold is that of the others,
by Newton's steps from the left in float64: the sum is convex there for orders up to 2 (of order 2 they are
those of C. Michelot, J. Optim. Theory Appl. 50, 1986), and searched for by halving beyond. No row depends on
another. A NaN or +inf logit, and a row of -inf alone, make the whole row NaN.

`work` is (rows, n), or (1, n), of the dtype computed in, as in `rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import compiled, inlined
from softcert.backends.numba_.lanes import splat, unless_below
from softcert.backends.numba_.lanes_memory import load, load_part, store, store_part
from softcert.backends.numba_.rows import largest
from softcert.backends.numba_.words import two_words, width

#: More than Newton's steps need from -1, and than halvings need for all digits of a float64.
_STEPS = 200
_HALVINGS = 64


@inlined
def _widened(x: Any, to: Any, less: Any, work: Any) -> None:
    """x - less in the format computed in."""
    n, w, zero = x.size, width(work), work.dtype.type(0.0)
    whole = n - n % w
    top = splat(less)
    for i in range(0, whole, w):
        store(to, i, load(x, i) - top)
    for i in range(whole, n, w):
        store_part(to, i, n - i, load_part(x, i, n - i, zero) - top)


@inlined
def _power(t: float, power: float) -> float:
    return t if power == 1.0 else t * t if power == 2.0 else t**power


@compiled
def _threshold(z: Any, power: float) -> float:
    """The tau at which the sum of (z - tau)^power over z > tau is 1, the largest z being 0."""
    low, high = -1.0, 0.0
    if power < 1.0:
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            total = 0.0
            for v in z:
                if v > middle:
                    total += (v - middle) ** power
            low, high = (middle, high) if total >= 1.0 else (low, middle)
        return low
    for _ in range(_STEPS):
        total = slope = 0.0
        for v in z:
            if v > low:
                share = _power(v - low, power)
                total += share
                slope += share / (v - low)
        further = low + (total - 1.0) / (power * slope)
        if not further > low:
            # The first sums are many times 1, and so may have gone too far by many times their last digit.
            return further
        low = further
    return low


@inlined
def _write(d: Any, result: Any, tau: float, step: float, work: Any) -> None:
    """(step d - tau)^(1 / step) where that is above 0, of order 1.5 or 2."""
    n, w, zero = d.size, width(work), work.dtype.type(0.0)
    whole = n - n % w
    high, low = two_words(tau, work)
    none, h, l, scale = splat(zero), splat(high), splat(low), splat(work.dtype.type(step))  # noqa: E741
    for i in range(0, whole, w):
        t = (load(d, i) * scale - h) - l
        t = unless_below(t, none, none, t)
        store(result, i, t if step == 1.0 else t * t)
    for i in range(whole, n, w):
        t = (load_part(d, i, n - i, zero) * scale - h) - l
        t = unless_below(t, none, none, t)
        store_part(result, i, n - i, t if step == 1.0 else t * t)


@compiled
def entmax(x: Any, y: Any, work: Any, alpha: float) -> None:
    """alpha-entmax of rows (m, n), alpha > 1."""
    rows, n = x.shape
    step = alpha - 1.0
    power = 1.0 / step
    kept = np.empty(n)
    for r in range(rows):
        row, result, d = x[r], y[r], work[r if len(work) == rows else 0]
        _widened(row, d, largest(row, work), work)
        count = 0
        number = True
        for v in d:
            z = np.float64(v) * step
            if z > -1.0:
                kept[count] = z
                count += 1
            number = number and z == z  # noqa: PLR0124 - the NaN test
        tau = _threshold(kept[:count], power) if number else np.nan
        if power == 1.0 or power == 2.0:  # noqa: PLR1714 - compiled
            _write(d, result, tau, step, work)
        else:
            for i in range(n):
                t = np.float64(d[i]) * step - tau
                d[i] = 0.0 if t <= 0.0 else t**power
            _widened(d, result, work.dtype.type(0.0), work)


@inlined
def _weight(y: float, power: float) -> float:
    """y^power where y > 0, and y itself where it is 0 or NaN."""
    if not y > 0.0:
        return y
    return 1.0 if power == 0.0 else float(np.sqrt(y)) if power == 0.5 else y**power


@compiled
def entmax_vjp(y: Any, dy: Any, result: Any, work: Any, alpha: float) -> None:
    """s (dy - sum(s dy) / sum(s)) of rows (m, n), s = y^(2 - alpha) where y > 0 and else 0."""
    rows, n = y.shape
    power, zero = 2.0 - alpha, work.dtype.type(0.0)
    slopes = np.empty(n, work.dtype)
    for r in range(rows):
        s = work[r if len(work) == rows else 0]
        _widened(dy[r], slopes, zero, work)
        _widened(y[r], s, zero, work)
        total = moment = 0.0
        for i in range(n):
            weight = _weight(np.float64(s[i]), power)
            s[i] = weight
            total += weight
            if weight != 0.0:
                moment += weight * np.float64(slopes[i])
        mean = moment / total
        for i in range(n):
            weight = np.float64(s[i])
            s[i] = weight * (np.float64(slopes[i]) - mean) if weight != 0.0 else 0.0
        _widened(s, result[r], zero, work)
