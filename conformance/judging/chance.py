"""Bounds of how probable a statistic of samples is: theorems for any number of samples, no limit laws.

Each function gives the logarithm of a probability that is not exceeded, so that 1e-400 is a number too. A
verdict that accuses below `ALPHA` accuses a faithful sampler that rarely at most. The clauses on bias accept
six standard errors, which chance exceeds with 2e-9.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The probability with which a verdict on samples may accuse a sampler that has the law asked for.
ALPHA = 1e-9
#: What binary64 rounds of a sum of logarithms, and of a function of distribution: generously, of 1.
_ROUNDED = 2.0**-40


def relative_entropy(counts: Sequence[int], probabilities: Sequence[float]) -> float:
    """n D(counts / n || probabilities) in nats, half of the likelihood ratio statistic, rounded downward.

    Parameters
    ----------
    counts : of samples in each cell.
    probabilities : of the cells, each correctly rounded to binary64; infinity where an impossible cell
        was seen.
    """
    n = sum(counts)
    terms = []
    for count, probability in zip(counts, probabilities, strict=True):
        if count and probability == 0.0:
            return math.inf
        if count:
            terms.append(count * math.log(count / n / probability))
    # A relative error of a few 2^-53 in the argument of each logarithm, and in each product.
    return math.fsum(terms) - 2.0**-49 * (n + math.fsum(map(abs, terms)))


def entropy_log_chance(statistic: float, cells: int) -> float:
    """Bound of log P(n D >= statistic) for samples of the law: exp(-t) (e t / (k - 1))^(k - 1).

    It is the least that the moment generating function, which is at most that of a gamma distribution with
    shape k - 1, gives (R. Agrawal, Finite-sample concentration of the multinomial in relative entropy,
    arXiv:1904.02291, IEEE Trans. Inf. Theory 66, 2020, theorem 1.2 and the bound after it).
    """
    degrees = cells - 1
    if degrees == 0 or statistic <= degrees:
        return 0.0 if statistic < math.inf else -math.inf
    if statistic == math.inf:
        return -math.inf
    return -statistic + degrees * (1.0 + math.log(statistic / degrees))


def divergence(rate: float, p: float) -> float:
    """Relative entropy of two coins, rate log(rate/p) + (1 - rate) log((1 - rate)/(1 - p))."""
    terms = ((rate, p), (1.0 - rate, 1.0 - p))
    return sum(a * math.log(a / b) if b > 0.0 else math.inf for a, b in terms if a > 0.0)


def evidence_against(count: int, draws: int, low: float, high: float) -> float:
    """-log of a bound of the chance of a count so far from a probability in [low, high].

    Chernoff: P(Binomial(N, p) >= k) <= exp(-N divergence(k/N, p)) for k/N >= p, and likewise below.
    """
    rate = count / draws
    if low <= rate <= high:
        return 0.0
    # the difference of two logarithms, rounded: by less than 2^-40 a draw
    return draws * max(divergence(rate, high if rate > high else low) - 2.0**-40, 0.0)


def distance_log_chance(distance: float, n: int) -> float:
    """Bound of log P(sup |F_n - F| >= distance): log(2 exp(-2 n d^2)).

    A. Dvoretzky, J. Kiefer and J. Wolfowitz, Ann. Math. Statist. 27 (1956), with the constant of P. Massart,
    Ann. Probab. 18 (1990); for every F, continuous or not.
    """
    return min(0.0, math.log(2.0) - 2.0 * n * max(distance, 0.0) ** 2)


def mean_log_chance(distance: float, n: int, variance: float, reach: float) -> float:
    """Bound of log P(|mean - mu| >= distance): log(2 exp(-n d^2 / (2 (variance + reach d / 3)))).

    S. N. Bernstein's inequality, of both sides.

    Parameters
    ----------
    variance, reach : at least the variance of a sample, and at least |sample - mu| always.
    """
    if distance <= 0:
        return 0.0
    if variance == 0 and reach == 0:
        return -math.inf
    return min(0.0, math.log(2.0) - n * distance**2 / (2.0 * (variance + reach * distance / 3.0)))


def count_log_chance(count: int, expected: float) -> float:
    """Bound of log P(X >= count) of independent events of which `expected` happen on average at most.

    H. Chernoff: exp(-expected) (e expected / count)^count.
    """
    if count <= expected:
        return 0.0
    if expected == 0:
        return -math.inf
    return count - expected + count * math.log(expected / count)


def extreme_log_chances(
    lowest: tuple[float, float], highest: tuple[float, float], n: int
) -> tuple[float, float, float, float]:
    """Bounds of log P for the least and the largest of n samples, to lie so far out or so far in.

    n F(v) for one sample below v, and (1 - F(v))^n <= exp(-n F(v)) for none; above v alike.

    Parameters
    ----------
    lowest : log F at the upper and at the lower end of what the least sample may be.
    highest : log(1 - F) at the lower and at the upper end of what the largest one may be.
    """
    far, near = zip(lowest, highest, strict=True)
    out = [min(0.0, math.log(n) + tail) for tail in far]
    inside = [-n * math.exp(tail) for tail in near]
    return (out[0], inside[0], out[1], inside[1])


def largest_distance(at_low: NDArray[np.float64], at_high: NDArray[np.float64]) -> float:
    """sup |F_n - F|, at least, of samples that are known to lie between two ends each.

    Parameters
    ----------
    at_low, at_high : F at the lower and at the upper ends, each sorted by itself.

    Notes
    -----
    At most as many samples are <= z as have a lower end <= z, and at least as many as have an upper end so.
    """
    n = len(at_low)
    ranks = np.arange(1, n + 1)
    above = float((ranks / n - at_high).max())
    below = float((at_low - (ranks - 1) / n).max())
    return max(above, below) - _ROUNDED
