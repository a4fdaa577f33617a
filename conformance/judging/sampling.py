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
#: The root of pi^2 / 6 + gamma^2, the mean square of Gumbel noise, which its mean size does not exceed.
MEAN_NOISE = 1.411


@dataclass(frozen=True)
class Departure:
    """What samples show of another law.

    Attributes
    ----------
    test : "argmax", "pair", "least", "noise", "rows", "coincidence", "mean" or "number".
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
    error : how often a class may be drawn in place of another, which lessens the statistics.

    Notes
    -----
    An error makes cells blunt that are taken together, since any of them may be larger by so much. So each is
    looked at by itself too, against all others, by Chernoff's bound.
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
    if error:
        alone = max(
            chance.evidence_against(count, drawn.size, max(mass - error, 0.0), min(mass + error, 1.0))
            for count, mass in zip(cells, masses, strict=True)
        )
        log_chance = math.log(2.0) + min(log_chance, math.log(2.0 * len(cells)) - alone)
    k = int(np.argmax(np.abs(counts - drawn.size * probabilities)))
    expected = drawn.size * probabilities[k]
    message = f"class {k} was drawn {counts[k]} times of {drawn.size}, expected {expected:.1f} times"
    if statistic > 0:
        message += f"; likelihood ratio {2 * statistic:.1f} with {len(cells) - 1} degrees of freedom"
    return _accused(Departure(test, drawn.size, 2 * statistic, log_chance, message))


def rows_departure(choices: Array, x: Array) -> Departure | None:
    """Choices of neighbouring rows against independence: the counts of pairs, for rows with the same logits.

    Parameters
    ----------
    choices : (n, R), the classes chosen in R >= 2 rows that were drawn together, n times. x : logits (K,).
    """
    rows = np.asarray(choices)
    # Disjoint pairs, so that all of them are independent.
    return pairs_departure(rows[:, : rows.shape[1] // 2 * 2 : 2], rows[:, 1::2], x)


def pairs_departure(first: Array, second: Array, x: Array, error: float = 0.0) -> Departure | None:
    """Two choices that were drawn together, many times, against independence: the counts of pairs.

    Parameters
    ----------
    first, second : classes, of one shape, no choice in two pairs. x : logits (K,) of all of them.
    error : by how much the probability of each class may be larger.
    """
    shares = reference.softmax(x).round("binary64")
    pairs = np.asarray(first) * len(shares) + np.asarray(second)
    return counts_departure(pairs, np.outer(shares, shares).ravel(), "rows", error * (2.0 + error))


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
    values, ulp = with_ulp(g.ravel())
    missing = number_departure(values, "noise")
    if missing is not None:
        return missing
    n, error = len(values) // 2, 4 * ulp
    apart = np.abs(values[: 2 * n : 2] - values[1 : 2 * n : 2])
    same = int((apart <= error[: 2 * n : 2] + error[1 : 2 * n : 2]).sum())
    # The density is at most 1/e, and |g - g'| at most twice the larger error, whose mean is 8 u E|g|.
    expected = n * 8 / math.e * 8 * format_of(g.dtype).unit_roundoff * MEAN_NOISE
    return worst(
        [law_departure(values - error, values + error, GUMBEL, "noise"), same_departure(same, n, expected)]
    )


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


def same_departure(same: int, n: int, expected: float) -> Departure | None:
    """Pairs of samples that are the same, of n, where so many are expected at most."""
    message = f"{same} of {n} pairs of samples are the same, where {expected:.3g} are expected at most"
    return _accused(Departure("coincidence", n, same, chance.count_log_chance(same, expected), message))


# --- means ---------------------------------------------------------------------------------------------


def mean_departure(values: Array, moments: Moments, reach: tuple[float, float]) -> Departure | None:
    """Independent estimates against their exact expectation, by their exact variance.

    Parameters
    ----------
    values : (n,) estimates. moments : of one estimate, without axes.
    reach : the least and the largest value that an estimate can have.
    """
    estimates = np.asarray(values, dtype=np.float64)
    missing = number_departure(estimates, "mean")
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


def number_departure(values: Floats, test: str) -> Departure | None:
    """The first sample that is no number, which no law here has."""
    bad = np.argwhere(~np.isfinite(values))
    if not bad.size:
        return None
    place = tuple(int(k) for k in bad[0])
    return Departure("number", values.size, math.nan, -math.inf, f"the {test} at {place} is {values[place]}")


def with_ulp(samples: Array) -> tuple[Floats, Floats]:
    """Samples in binary64, and the spacing of their own format at each."""
    values = samples.astype(np.float64)
    fmt = format_of(samples.dtype)
    counted = np.isfinite(values) & (values != 0)
    exponents = np.where(counted, np.frexp(np.where(counted, values, 1.0))[1] - 1, fmt.emin)
    return values, np.ldexp(1.0, np.maximum(exponents, fmt.emin) - fmt.precision + 1)
