"""What a few rounds say of a time: the median, an interval that needs no distribution, noise, growth."""

from __future__ import annotations

import math
from statistics import linear_regression, median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

from softcert.backends.ops import ATTENTION_OPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_CONFIDENCE = 0.95
#: Quartiles further apart than this part of the median: the figure is noisy.
NOISY = 0.2
#: Lengths that a growth exponent is fitted over, the largest ones: below them what a call costs anyway rules.
_FITTED = 3


class Interval(NamedTuple):
    """An interval of a median.

    Attributes
    ----------
    confidence : how often such an interval holds the median, whatever the distribution of the rounds.
    """

    low: float
    high: float
    confidence: float


class Growth(NamedTuple):
    """How the time of a call grows: as a power of the length.

    Attributes
    ----------
    what : what the lengths are of: n, L queries or S keys.
    fixed : the axes that stay, in words.
    lengths : those that the exponent was fitted over.
    exponent : of the length.
    interval : of the exponents of the single rounds, or None where there are no rounds.
    """

    op: str
    dtype: str
    what: str
    fixed: str
    lengths: tuple[int, ...]
    exponent: float
    interval: Interval | None


def median_interval(samples: Sequence[float]) -> Interval:
    """Interval of the median between two order statistics, at 95 % where there are enough samples.

    H. A. David & H. N. Nagaraja, Order Statistics, 3rd ed., section 7.1: the k-th smallest and the k-th
    largest of n hold the median with probability 1 - 2 P(B < k), B binomial (n, 1/2).
    """
    ordered, n = sorted(samples), len(samples)
    k, missed = 0, 0.5**n
    while 2 * (k + 1) < n and 1 - 2 * (missed + math.comb(n, k + 1) * 0.5**n) >= _CONFIDENCE:
        k += 1
        missed += math.comb(n, k) * 0.5**n
    return Interval(ordered[k], ordered[n - 1 - k], 1 - 2 * missed)


def quartiles(samples: Sequence[float]) -> tuple[float, float]:
    """First and third quartile."""
    low, _, high = quantiles(samples, n=4, method="inclusive")
    return low, high


def unrest(samples: Sequence[float]) -> float:
    """Distance of the quartiles as a part of the median."""
    low, high = quartiles(samples)
    return (high - low) / median(samples)


def place_on_ladder(op: str, shape: Sequence[int]) -> tuple[str, str, int]:
    """Which length of a shape grows, what stays, in words, and the length."""
    if op not in ATTENTION_OPS:
        return "n", f"{math.prod(shape[:-1]):,} rows", int(shape[-1])
    heads, queries, keys, features = shape
    fixed = f"{heads} heads, {features} features"
    if queries == keys:
        return "L", f"{fixed}, S = L", int(keys)
    return "S", f"{fixed}, {queries} quer{'y' if queries == 1 else 'ies'}", int(keys)


def ladders(
    rows: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str, str, str], list[tuple[int, Mapping[str, Any]]]]:
    """(length, row) by rising length under (op, dtype, what grows, what stays); of at least two lengths."""
    found: dict[tuple[str, str, str, str], dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if len(row["shape"]) != (4 if row["op"] in ATTENTION_OPS else 2):
            continue
        what, fixed, length = place_on_ladder(row["op"], row["shape"])
        found.setdefault((row["op"], row["dtype"], what, fixed), {})[length] = row
    return {key: sorted(steps.items()) for key, steps in found.items() if len(steps) > 1}


def growths(rows: Iterable[Mapping[str, Any]]) -> tuple[Growth, ...]:
    """Fit the exponent of each ladder of a run's `speed` that has three lengths or more.

    Notes
    -----
    A line through the logarithms of the largest lengths and their median times; the interval is that of the
    median of such slopes, one from each round's times.
    """
    found = []
    for (op, dtype, what, fixed), steps in ladders(rows).items():
        fitted = steps[-_FITTED:]
        if len(fitted) < _FITTED or any(row["seconds"] <= 0 for _, row in fitted):
            continue
        lengths = tuple(length for length, _ in fitted)
        exponent = _slope(lengths, [row["seconds"] for _, row in fitted])
        rounds = list(zip(*(row.get("samples", ()) for _, row in fitted), strict=False))
        slopes = [_slope(lengths, times) for times in rounds if min(times) > 0]
        interval = median_interval(slopes) if len(slopes) > 1 else None
        found.append(Growth(op, dtype, what, fixed, lengths, exponent, interval))
    return tuple(found)


def _slope(lengths: Sequence[int], seconds: Sequence[float]) -> float:
    return float(linear_regression([math.log(n) for n in lengths], [math.log(s) for s in seconds]).slope)
