"""Samples against the law that they are to have: None, or a departure that chance explains below ALPHA.

Every statistic is one of `chance.py`. Where several are looked at, their number multiplies the probability of
the least probable one (Bonferroni). Samples are floats: each stands for all reals that may have been rounded
to it, so that a law which only rounding departs from is not accused. Nothing is drawn here, so a verdict on
given samples is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.backends.types import Array
from softcert.conformance.judging import chance
from softcert.reference import Moments, format_of

Floats = NDArray[np.float64]

#: Cells in which fewer samples are expected are taken together.
_RARE = 5.0
#: Roundings of the formula at the size of x + g: noise, sum, quotient, maximum; and those of exp and the sum.
_SUMS, _LAST = 5.0, 4.0
#: The chance that noise is larger than `slack` takes it to be; it is added to that of an accusation.
_MISSED = 1e-12
#: The root of pi^2 / 6 + gamma^2, the mean square of Gumbel noise, which its mean size does not exceed.
_MEAN_NOISE = 1.411


@dataclass(frozen=True)
class Departure:
    """What samples show of another law.

    Attributes
    ----------
    test : "argmax", "pair", "noise", "rows", "coincidence", "mean" or "number".
    samples : how many were looked at.
    statistic : the figure that the message explains.
    log_chance : logarithm of a bound of its probability under the law asked for.
    """

    test: str
    samples: int
    statistic: float
    log_chance: float
    message: str


class Law(NamedTuple):
    """A continuous law on the reals, by the logarithms of its distribution function and of 1 less that."""

    below: Callable[[Floats], Floats]
    above: Callable[[Floats], Floats]


def _logistic_below(z: Floats) -> Floats:
    return -np.logaddexp(0.0, -z)


def _gumbel_below(g: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return -np.exp(-g)


def _gumbel_above(g: Floats) -> Floats:
    with np.errstate(over="ignore", divide="ignore"):
        return np.log(-np.expm1(-np.exp(-g)))


LOGISTIC = Law(_logistic_below, lambda z: _logistic_below(-z))
GUMBEL = Law(_gumbel_below, _gumbel_above)


# --- counts --------------------------------------------------------------------------------------------


def argmax_departure(choices: Array, x: Array, error: float = 0.0) -> Departure | None:
    """Chosen classes against softmax(x): the likelihood ratio of their counts.

    Parameters
    ----------
    choices : (n,) of integers, any other shape taken flat. x : logits (K,).
    error : as for `counts_departure`.
    """
    return counts_departure(choices, reference.softmax(x).round("binary64"), "argmax", error)


def counts_departure(
    choices: Array, probabilities: Floats, test: str, error: float = 0.0
) -> Departure | None:
    """Classes drawn against their probabilities, correctly rounded; rare ones are taken together.

    Parameters
    ----------
    choices : integers, any shape taken flat; one that is no class has probability 0.
    error : by how much each probability may be larger, which only lessens the statistic.
    """
    drawn = np.asarray(choices).ravel()
    possible = np.flatnonzero(probabilities > 0)
    outside = np.flatnonzero(~np.isin(drawn, possible))
    if outside.size:
        message = f"sample {outside[0]} is {drawn[outside[0]]}, which is no class that may be drawn"
        return Departure(test, drawn.size, math.inf, -math.inf, message)
    counts = np.bincount(drawn, minlength=len(probabilities))
    cells, masses = _merged(counts, probabilities)
    statistic = chance.relative_entropy(cells, [mass + error for mass in masses])
    log_chance = chance.entropy_log_chance(statistic, len(cells))
    k = int(np.argmax(np.abs(counts - drawn.size * probabilities)))
    expected = drawn.size * probabilities[k]
    message = (
        f"class {k} was drawn {counts[k]} times of {drawn.size}, expected {expected:.1f} times; likelihood "
        f"ratio {2 * statistic:.1f} with {len(cells) - 1} degrees of freedom"
    )
    return _accused(Departure(test, drawn.size, 2 * statistic, log_chance, message))


def rows_departure(choices: Array, x: Array) -> Departure | None:
    """Choices of neighbouring rows against independence: the counts of pairs, for rows with the same logits.

    Parameters
    ----------
    choices : (n, R), the classes chosen in R >= 2 rows that were drawn together, n times. x : logits (K,).
    """
    shares = reference.softmax(x).round("binary64")
    rows = np.asarray(choices)
    # Disjoint pairs, so that all of them are independent.
    first, second = rows[:, : rows.shape[1] // 2 * 2 : 2], rows[:, 1::2]
    return counts_departure(first * len(shares) + second, np.outer(shares, shares).ravel(), "rows")


def _merged(counts: NDArray[np.int64], probabilities: Floats) -> tuple[list[int], list[float]]:
    """Cells with the rare ones in one, which the probabilities alone decide."""
    rare = probabilities * counts.sum() < _RARE
    cells, masses = counts[~rare].tolist(), probabilities[~rare].tolist()
    if rare.any():
        # Downward would flatter: the sum is rounded upward by more than its roundings.
        return [*cells, int(counts[rare].sum())], [*masses, math.fsum(probabilities[rare]) * (1 + 2.0**-50)]
    return cells, masses


# --- laws on the reals ---------------------------------------------------------------------------------


def noise_departure(g: Array) -> Departure | None:
    """Noise against the law exp(-exp(-g)): its distribution function, ends, and how many values it takes.

    Parameters
    ----------
    g : any shape, taken flat, of a floating dtype; each stands for what is within 4 of its ulps.
    """
    values, ulp = _with_ulp(g.ravel())
    missing = _number(values, "noise")
    if missing is not None:
        return missing
    n, error = len(values) // 2, 4 * ulp
    apart = np.abs(values[: 2 * n : 2] - values[1 : 2 * n : 2])
    same = int((apart <= error[: 2 * n : 2] + error[1 : 2 * n : 2]).sum())
    # The density is at most 1/e, and |g - g'| at most twice the larger error, whose mean is 8 u E|g|.
    expected = n * 8 / math.e * 8 * format_of(g.dtype).unit_roundoff * _MEAN_NOISE
    return worst(
        [law_departure(values - error, values + error, GUMBEL, "noise"), _coincidence(same, n, expected)]
    )


def pair_departure(y: Array, x: Array, tau: float, i: int, j: int) -> Departure | None:
    """Coordinates i and j of samples of Gumbel-softmax: tau log(y_i / y_j) - (x_i - x_j) is logistic.

    Parameters
    ----------
    y : (n, K), rows of outputs. x : logits (K,), finite. tau : above 0.

    Notes
    -----
    Each y stands for what is within 4 of its ulps, and the whole for x + g with `slack` as its error.
    """
    values, ulp = _with_ulp(y)
    missing = _number(values, "pair")
    if missing is not None:
        return missing
    logits = np.asarray(x, dtype=np.float64)
    low, high = np.maximum(values - 4 * ulp, 0.0), values + 4 * ulp
    with np.errstate(divide="ignore"):
        low_logs, high_logs = np.log(low), np.log(high)
    gap, error = logits[i] - logits[j], slack(y, x, tau)
    low_ends = tau * (low_logs[:, i] - high_logs[:, j]) - gap - error
    high_ends = tau * (high_logs[:, i] - low_logs[:, j]) - gap + error
    return law_departure(low_ends, high_ends, LOGISTIC, "pair", f" of coordinates {i} and {j}", _MISSED)


def slack(y: Array, x: Array, tau: float) -> float:
    """How far rounding may move tau log(y_i / y_j), for all samples but with a chance of `_MISSED`.

    Each of a handful of roundings moves it by u |x + g| for both coordinates, those of exp and of the last
    quotient by tau u; some |g| of n K exceeds log(2 n K / c) with probability c at most.
    """
    u = format_of(y.dtype).unit_roundoff
    size = float(np.abs(x.astype(np.float64)).max()) + math.log(2 * y.size / _MISSED)
    return u * (2 * _SUMS * size + _LAST * tau) + 1e-12 * (1.0 + size)


def law_departure(
    low: Floats, high: Floats, law: Law, test: str, of: str = "", missed: float = 0.0
) -> Departure | None:
    """Samples that are known to lie between two ends each, against a law: distance, least and largest.

    Parameters
    ----------
    low, high : (n,).
    of : what the samples are, for the message.
    missed : the chance that some sample does not lie between its ends.
    """
    n = len(low)
    bottom, top = np.sort(low), np.sort(high)
    distance = chance.largest_distance(np.exp(law.below(bottom)), np.exp(law.below(top)))
    ends = law.below(np.array([top[0], bottom[0]])), law.above(np.array([bottom[-1], top[-1]]))
    extremes = chance.extreme_log_chances(tuple(ends[0].tolist()), tuple(ends[1].tolist()), n)
    found = [
        (
            chance.distance_log_chance(distance, n),
            distance,
            "has a distribution function {0:.4f} off",
        ),
        (extremes[0], top[0], "goes down to {0:.4g}, which is too low"),
        (extremes[1], bottom[0], "goes down to no less than {0:.4g}, which is too high"),
        (extremes[2], bottom[-1], "goes up to {0:.4g}, which is too high"),
        (extremes[3], top[-1], "goes up to no more than {0:.4g}, which is too low"),
    ]
    log_chance, statistic, words = min(found)
    message = f"the {test}{of} {words.format(statistic)} with {n} samples"
    probability = len(found) * math.exp(log_chance) + missed
    total = math.log(probability) if probability else log_chance
    return _accused(Departure(test, n, float(statistic), total, message))


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
    values, ulp = _with_ulp(y[: len(y) // 2 * 2])
    two = values[:, [i, j]]
    inside = np.all((two >= 2.0 ** format_of(y.dtype).emin) & (two < 1), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = two[:, 0] / two[:, 1]
        spread: Floats = (4 * ulp[:, [i, j]] / two).sum(axis=-1)
        close = np.abs(ratios[::2] / ratios[1::2] - 1) <= spread[::2] + spread[1::2]
    same = int(np.count_nonzero(close & inside[::2] & inside[1::2]))
    n = len(y) // 2
    expected = n * 4 * mean_error(y, x, tau)
    return _coincidence(same, n, expected)


def _coincidence(same: int, n: int, expected: float) -> Departure | None:
    message = f"{same} of {n} pairs of samples are the same, where {expected:.3g} are expected at most"
    return _accused(Departure("coincidence", n, same, chance.count_log_chance(same, expected), message))


def mean_error(y: Array, x: Array, tau: float) -> float:
    """How far rounding moves tau log(y_i / y_j) on average at most, 4 ulps of each y included."""
    size = float(np.abs(x.astype(np.float64)).max()) + _MEAN_NOISE
    return format_of(y.dtype).unit_roundoff * (2 * _SUMS * size + (_LAST + 16.0) * tau)


def gumbel_softmax_departure(y: Array, x: Array, tau: float) -> Departure | None:
    """Soft samples against all that is known of their law: argmax, and neighbouring pairs of coordinates.

    Parameters
    ----------
    y : (n, K). x : logits (K,), where -inf makes a coordinate 0. tau : above 0.

    Notes
    -----
    Rounding may exchange the two largest of a row where some pair of coordinates lies within the error, which
    each does with half the error's mean as its probability at most.
    """
    classes = np.flatnonzero(np.isfinite(x.astype(np.float64)))
    wrong = np.argwhere(np.delete(y, classes, axis=-1) != 0)
    if wrong.size:
        message = f"sample {wrong[0, 0]} is not 0 where the logit is -inf"
        return Departure("number", len(y), math.nan, -math.inf, message)
    y, x = y[:, classes], x[classes]
    exchanged = math.comb(len(classes), 2) * mean_error(y, x, tau) / 2
    neighbours = [(k, k + 1) for k in range(len(classes) - 1)]
    return worst(
        [
            *(pair_departure(y, x, tau, *pair) for pair in neighbours),
            *(coincidence_departure(y, x, tau, *pair) for pair in neighbours),
            argmax_departure(np.argmax(y, axis=-1), x, exchanged),
        ]
    )


# --- means ---------------------------------------------------------------------------------------------


def mean_departure(values: Array, moments: Moments, reach: tuple[float, float]) -> Departure | None:
    """Independent estimates against their exact expectation, by their exact variance.

    Parameters
    ----------
    values : (n,) estimates. moments : of one estimate, without axes.
    reach : the least and the largest value that an estimate can have.
    """
    estimates = np.asarray(values, dtype=np.float64)
    missing = _number(estimates, "mean")
    if missing is not None:
        return missing
    expected, variance = (float(part.round("binary64")) for part in (moments.expectation, moments.variance))
    farthest = max(expected - reach[0], reach[1] - expected)
    # The estimates' own roundings, in the precision that they came in, and those of the moments.
    rounding = 8 * format_of(values.dtype).unit_roundoff * (1 + float(np.abs(estimates).max()))
    variance *= 1 + 2.0**-50
    mean = math.fsum(estimates) / len(estimates)
    distance = abs(mean - expected) - rounding
    log_chance = chance.mean_log_chance(distance, len(estimates), variance, farthest)
    error = math.sqrt(variance / len(estimates))
    message = f"the mean of {len(estimates)} estimates is {mean:.6g}, expected {expected:.6g} +- {error:.2g}"
    return _accused(Departure("mean", len(estimates), mean - expected, log_chance, message))


def worst(found: Sequence[Departure | None]) -> Departure | None:
    """The least probable departure, if its chance is small enough for so many that were looked for."""
    departures = [d for d in found if d is not None]
    if not departures:
        return None
    least = min(departures, key=lambda d: d.log_chance)
    return _accused(
        Departure(
            least.test, least.samples, least.statistic, least.log_chance + math.log(len(found)), least.message
        )
    )


def _accused(departure: Departure) -> Departure | None:
    return departure if departure.log_chance <= math.log(chance.ALPHA) else None


def _number(values: Floats, test: str) -> Departure | None:
    """The first sample that is no number, which no law here has."""
    bad = np.argwhere(~np.isfinite(values))
    if not bad.size:
        return None
    place = tuple(int(k) for k in bad[0])
    return Departure("number", values.size, math.nan, -math.inf, f"the {test} at {place} is {values[place]}")


def _with_ulp(samples: Array) -> tuple[Floats, Floats]:
    """Samples in binary64, and the spacing of their own format at each."""
    values = samples.astype(np.float64)
    fmt = format_of(samples.dtype)
    counted = np.isfinite(values) & (values != 0)
    exponents = np.where(counted, np.frexp(np.where(counted, values, 1.0))[1] - 1, fmt.emin)
    return values, np.ldexp(1.0, np.maximum(exponents, fmt.emin) - fmt.precision + 1)
