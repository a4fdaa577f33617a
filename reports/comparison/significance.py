"""Whether two sets of times differ: a rank test, an interval of their ratio, many of them at once.

Times are skewed and have stragglers, so that nothing here supposes a distribution: the rank sum test of
H. B. Mann and D. R. Whitney, Ann. Math. Statist. 18 (1947), by its exact null distribution for few
rounds; the shift and its interval of J. L. Hodges and E. L. Lehmann, Ann. Math. Statist. 34 (1963), of the
logarithms, so that the shift is a ratio; and the adjustment of S. Holm, Scand. J. Statist. 6 (1979), which
holds whatever the dependence between rows is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from statistics import NormalDist, median

#: The chance of at least one false alarm in a comparison that is accepted.
ALPHA = 0.05
#: With more rounds than this on a side, the normal approximation of the rank sum is as good.
_MOST_EXACT = 60


def ratio(old: Sequence[float], new: Sequence[float]) -> float:
    """Return by what factor the new times are longer: the median over all pairs of one old and one new."""
    return math.exp(median(_shifts(old, new)))


def ratio_interval(
    old: Sequence[float], new: Sequence[float], alpha: float = ALPHA
) -> tuple[float, float] | None:
    """Return the interval that holds the ratio with a confidence of at least 1 - alpha.

    Returns
    -------
    None where so few rounds cannot give one: three a side for the usual alpha.
    """
    shifts = sorted(_shifts(old, new))
    rank = _rank(len(old), len(new), alpha / 2)
    if rank == 0:
        return None
    return math.exp(shifts[rank - 1]), math.exp(shifts[-rank])


def chance(old: Sequence[float], new: Sequence[float], allowed: float = 1.0) -> float:
    """Return the two-sided probability of such times if the ratio lay within [1 / allowed, allowed].

    Parameters
    ----------
    allowed : at least 1; by 1 the question is whether the times differ at all.
    """
    slack = math.log(allowed)
    slower = _chance_of_larger([shift - slack for shift in _shifts(old, new)], len(old), len(new))
    faster = _chance_of_larger([-shift - slack for shift in _shifts(old, new)], len(old), len(new))
    return min(1.0, 2.0 * min(slower, faster))


def holm(chances: Sequence[float]) -> tuple[float, ...]:
    """Adjust probabilities so that below `ALPHA` all of them together raise a false alarm that often."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    raised = accumulate(
        (min(1.0, (len(chances) - place) * chances[index]) for place, index in enumerate(order)), max
    )
    adjusted = dict(zip(order, raised, strict=True))
    return tuple(adjusted[index] for index in range(len(chances)))


def _shifts(old: Sequence[float], new: Sequence[float]) -> list[float]:
    return [math.log(now / then) for now in new for then in old]


def _chance_of_larger(shifts: Sequence[float], n: int, m: int) -> float:
    """Probability that at least as many shifts are positive by chance; a tie speaks against."""
    wins = sum(shift > 0 for shift in shifts)
    if max(n, m) > _MOST_EXACT:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        return 1.0 - NormalDist(n * m / 2, deviation).cdf(wins - 0.5)
    # The distribution is symmetric: P(U >= wins) is P(U <= nm - wins).
    return _cumulative(n, m)[n * m - wins]


def _rank(n: int, m: int, tail: float) -> int:
    """How many of the sorted shifts lie outside the interval, each side, plus one; 0 where none may."""
    if max(n, m) > _MOST_EXACT:
        deviation = math.sqrt(n * m * (n + m + 1) / 12)
        return max(0, math.floor(NormalDist(n * m / 2, deviation).inv_cdf(tail) + 0.5))
    return sum(probability <= tail for probability in _cumulative(n, m))


@cache
def _cumulative(n: int, m: int) -> tuple[float, ...]:
    """P(U <= u) for u = 0 ... nm, U the number of pairs in which the one sample is larger, all alike.

    The numbers of orders are the coefficients of the Gaussian binomial, the product of
    (1 - q^(m + i)) / (1 - q^i) over i = 1 ... n.
    """
    counts = [1] + [0] * (n * m)
    for i in range(1, n + 1):
        for degree in range(n * m, m + i - 1, -1):
            counts[degree] -= counts[degree - m - i]
        for degree in range(i, n * m + 1):
            counts[degree] += counts[degree - i]
    orders = math.comb(n + m, n)
    return tuple(total / orders for total in accumulate(counts))
