"""Samples of Gumbel-softmax against their law at any temperature: pairs of shares, and the least share.

The statistics and what a verdict costs are those of `sampling.py`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array
from softcert.conformance.judging.sampling import (
    LOGISTIC,
    MEAN_NOISE,
    Departure,
    Law,
    argmax_departure,
    law_departure,
    number_departure,
    same_departure,
    with_ulp,
    worst,
)
from softcert.reference import format_of

Floats = NDArray[np.float64]

#: Roundings of the formula at the size of x + g: noise, sum, quotient, maximum; and those of exp and the sum.
_SUMS, _LAST = 5.0, 4.0
#: The chance that noise is larger than `slack` takes it to be; it is added to that of an accusation.
_MISSED = 2.0**-50


def pair_departure(y: Array, x: Array, tau: float, i: int, j: int) -> Departure | None:
    """Coordinates i and j of samples of Gumbel-softmax: tau log(y_i / y_j) - (x_i - x_j) is logistic.

    Parameters
    ----------
    y : (n, K), rows of outputs. x : logits (K,), finite. tau : above 0.

    Notes
    -----
    Each y stands for what is within 4 of its ulps, and the whole for x + g with `slack` as its error.
    """
    missing = number_departure(y.astype(np.float64), "pair")
    if missing is not None:
        return missing
    logits = np.asarray(x, dtype=np.float64)
    low_logs, high_logs = log_ends(y)
    gap, error = logits[i] - logits[j], slack(y, x, tau)
    low_ends = tau * (low_logs[:, i] - high_logs[:, j]) - gap - error
    high_ends = tau * (high_logs[:, i] - low_logs[:, j]) - gap + error
    return law_departure(low_ends, high_ends, LOGISTIC, "pair", f" of coordinates {i} and {j}", _MISSED)


def log_ends(y: Array) -> tuple[Floats, Floats]:
    """Logarithms of the least and the largest number that each y stands for, 4 ulps away from it."""
    values, ulp = with_ulp(y)
    with np.errstate(divide="ignore"):
        return np.log(np.maximum(values - 4 * ulp, 0.0)), np.log(values + 4 * ulp)


def slack(y: Array, x: Array, tau: float) -> float:
    """How far rounding may move tau log(y_i / y_j), for all samples but with a chance of `_MISSED`.

    Each of a handful of roundings moves it by u |x + g| for both coordinates, those of exp and of the last
    quotient by tau u; some |g| of n K exceeds log(2 n K / c) with probability c at most.
    """
    u = format_of(y.dtype).unit_roundoff
    size = float(np.abs(x.astype(np.float64)).max()) + math.log(2 * y.size / _MISSED)
    return u * (2 * _SUMS * size + _LAST * tau) + 1e-12 * (1.0 + size)


def least_departure(y: Array, x: Array, tau: float) -> Departure | None:
    """The least of the shares v_i of exp(x_i) y_i^-tau, which has the law 1 - (1 - K t)^(K - 1).

    Parameters
    ----------
    y, x, tau : as `pair_departure`, K >= 2.

    Notes
    -----
    The density of y is that of a v which is uniform on the simplex: v_i is the share of exp(-g_i), and those
    are independent exponential variables. All v_i exceed t in a simplex whose edges are 1 - K t as long.
    Unlike a pair of coordinates, it sees all of them at once.
    """
    missing = number_departure(y.astype(np.float64), "least")
    if missing is not None:
        return missing
    logits, count = np.asarray(x, dtype=np.float64), y.shape[-1]
    low_logs, high_logs = log_ends(y)
    low, high = logits - tau * high_logs, logits - tau * low_logs
    error = slack(y, x, tau)
    own = np.eye(count, dtype=np.bool_)

    def least(ends: Floats, others: Floats, room: float) -> Floats:
        gaps = others[:, np.newaxis, :] - ends[:, :, np.newaxis] + room
        with np.errstate(over="ignore"):
            return np.asarray((1.0 / np.where(own, 1.0, np.exp(gaps)).sum(axis=-1)).min(axis=-1))

    def above(t: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray((count - 1) * np.log1p(-np.clip(count * t, 0.0, 1.0)))

    def below(t: Floats) -> Floats:
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(-np.expm1(above(t))))

    ends = least(low, high, error), least(high, low, -error)
    return law_departure(*ends, Law(below, above), "least", " of the shares", _MISSED)


def coincidence_departure(y: Array, x: Array, tau: float, i: int, j: int) -> Departure | None:
    """Samples of coordinates i and j that differ in the last ulps at most: noise of too few different values.

    Parameters
    ----------
    y : (n, K), K >= 2; each row is compared with one neighbour, and left out where a coordinate is subnormal,
        0 or 1, as temperatures near 0 make them.

    Notes
    -----
    The logistic variables of two rows that are not told apart, of density 1/4 at most, lie within 2 (w + w'),
    what rounding may have moved them by, and so within four times the larger. That has probability 4 E[w] at
    most, for which the mean size of the noise is enough.
    """
    values, ulp = with_ulp(y[: len(y) // 2 * 2])
    two = values[:, [i, j]]
    inside = np.all((two >= 2.0 ** format_of(y.dtype).emin) & (two < 1), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = two[:, 0] / two[:, 1]
        spread: Floats = (4 * ulp[:, [i, j]] / two).sum(axis=-1)
        close = np.abs(ratios[::2] / ratios[1::2] - 1) <= spread[::2] + spread[1::2]
    same = int(np.count_nonzero(close & inside[::2] & inside[1::2]))
    n = len(y) // 2
    expected = n * 4 * mean_error(y, x, tau)
    return same_departure(same, n, expected)


def mean_error(y: Array, x: Array, tau: float) -> float:
    """How far rounding moves tau log(y_i / y_j) on average at most, 4 ulps of each y included."""
    u = format_of(y.dtype).unit_roundoff
    return mean_sum_error(x, u) + mean_share_error(tau, u)


def mean_share_error(tau: float, unit: float) -> float:
    """How far rounding of the shares alone moves tau log(y_i / y_j), 4 ulps of each included."""
    return (_LAST + 16.0) * tau * unit


def mean_sum_error(x: Array, unit: float) -> float:
    """How far rounding moves the difference of two x + g on average at most, `unit` its unit roundoff."""
    return 2 * _SUMS * unit * (float(np.abs(x.astype(np.float64)).max()) + MEAN_NOISE)


def exchanged(error: float, classes: int) -> float:
    """Bound of the probability that an error of this mean exchanges the two largest of some classes.

    It may where some pair of coordinates lies within the error, which each does with half of its mean as the
    probability at most, the density of a logistic variable being 1/4 at most.
    """
    return math.comb(classes, 2) * error / 2


def gumbel_softmax_departure(y: Array, x: Array, tau: float) -> Departure | None:
    """Soft samples against all that is known of their law: argmax, pairs of coordinates, the least share.

    Parameters
    ----------
    y : (n, K). x : logits (K,), where -inf makes a coordinate 0. tau : above 0.
    """
    classes = np.flatnonzero(np.isfinite(x.astype(np.float64)))
    shares = shares_departure(y, x, tau)
    y, x = y[:, classes], x[classes]
    error = exchanged(mean_error(y, x, tau), len(classes))
    return worst([shares, argmax_departure(np.argmax(y, axis=-1), x, error)])


def shares_departure(y: Array, x: Array, tau: float) -> Departure | None:
    """Soft samples against the law of their shares: neighbouring pairs of coordinates, and the least.

    Parameters
    ----------
    y, x, tau : as `gumbel_softmax_departure`.
    """
    classes = np.flatnonzero(np.isfinite(x.astype(np.float64)))
    wrong = np.argwhere(np.delete(y, classes, axis=-1) != 0)
    if wrong.size:
        message = f"sample {wrong[0, 0]} is not 0 where the logit is -inf"
        return Departure("number", len(y), math.nan, -math.inf, message)
    y, x = y[:, classes], x[classes]
    if len(classes) == 1:
        return number_departure(y.astype(np.float64), "share")
    neighbours = [(k, k + 1) for k in range(len(classes) - 1)]
    return worst(
        [
            *(pair_departure(y, x, tau, *pair) for pair in neighbours),
            *(coincidence_departure(y, x, tau, *pair) for pair in neighbours),
            least_departure(y, x, tau),
        ]
    )
