"""What estimators by samples of the classes average to: exact expectation, bias and variance.

m classes are drawn with replacement by a proposal Q. With r_k = exp(s_k) / Q_k the mean of r over the draws
estimates the partition function Z = sum_k exp(s_k), and the share of class k in the sum of r the softmax p_k,
the gradient of log Z (importance sampling: Y. Bengio and J.-S. Senecal, Adaptive importance sampling to
accelerate training of a neural probabilistic language model, IEEE Trans. Neural Networks 19, 2008). An
estimate depends on how often each class was drawn and on nothing else, so that its moments are finite sums
over the multinomial law of these counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial
from itertools import combinations, pairwise
from math import comb, factorial, isfinite, prod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.errors import DomainError
from softcert.reference.reals import Formula, Real, Reals, add_formula, known_method, summed
from softcert.reference.sampled import class_of, score_values
from softcert.reference.softmax import exact_factor

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

#: Samples, told apart by their counts, that are summed over at most.
MOST_COUNTS = 20_000

Counts = tuple[int, ...]


class Moments(NamedTuple):
    """Of an estimator its expectation, that less what it estimates, and its variance, all of one shape."""

    expectation: Enclosure
    bias: Enclosure
    variance: Enclosure


class Estimator(NamedTuple):
    """An estimator by the counts of a sample, in numbers of one kind.

    Attributes
    ----------
    of : its values at some counts, less `offset`.
    truth : what it estimates, less `offset`.
    offset : what is the same for every sample, kept apart so that it cancels exactly.
    """

    of: Callable[[Counts], list[Real]]
    truth: Callable[[], list[Real]]
    offset: Callable[[], list[Real]]


@dataclass(frozen=True)
class Draws:
    """m draws with replacement from classes with scores.

    Attributes
    ----------
    scores, proposal : exact, the latter above 0 and summing to 1.
    prec : precision at which moments are first evaluated.
    """

    scores: Sequence[Fraction]
    proposal: Sequence[Fraction]
    m: int
    prec: int

    @classmethod
    def of(cls, scores: ArrayLike, proposal: Sequence[float | Fraction], m: int) -> Draws:
        """Draws as the functions below are asked for them.

        Raises
        ------
        DomainError : scores that are not finite, proposals of another length or not above 0, m below 1.
        """
        values, prec = score_values(scores)
        if not all(map(isfinite, values)):
            raise DomainError("scores need to be finite")
        weights = [exact_factor(weight) for weight in proposal]
        if len(weights) != len(values) or min(weights) <= 0:
            raise DomainError(f"proposal needs {len(values)} numbers above 0, one for each class")
        count: object = m
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise DomainError(f"m={m!r} is not a number of draws")
        total = sum(weights, Fraction(0))
        return cls([Fraction(s) for s in values], [w / total for w in weights], int(m), prec)

    @property
    def top(self) -> Fraction:
        """Largest score."""
        return max(self.scores)

    def weights(self, reals: Reals) -> list[Real]:
        """exp(s_k - top) of each class."""
        return [reals.exp(score - self.top) for score in self.scores]

    def law(self) -> Iterator[tuple[Counts, Fraction]]:
        """Every vector of counts with its probability.

        Raises
        ------
        DomainError : more than `MOST_COUNTS`.
        """
        classes = len(self.scores)
        size = comb(self.m + classes - 1, classes - 1)
        if size > MOST_COUNTS:
            raise DomainError(f"{self.m} draws of {classes} classes have {size} counts, over {MOST_COUNTS}")
        for bars in combinations(range(self.m + classes - 1), classes - 1):
            edges = (-1, *bars, self.m + classes - 1)
            counts = tuple(b - a - 1 for a, b in pairwise(edges))
            chance = Fraction(factorial(self.m), prod(map(factorial, counts)))
            yield counts, chance * prod(q**c for q, c in zip(self.proposal, counts, strict=True))


def importance_partition(
    scores: ArrayLike, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Moments:
    """Moments of the mean of r: without bias, its variance the variance of one r by m.

    Parameters
    ----------
    scores : (K,), K >= 1, finite, any supported dtype.
    proposal : (K,), above 0, exact reals of the numbers given, taken in proportion to their sum.
    m : draws, at least 1; any number, since nothing is summed over samples.

    Returns
    -------
    Moments without axes.

    Raises
    ------
    DomainError : other operands. ValueError : no such method.
    """
    known_method(method)
    draws = Draws.of(scores, proposal, m)
    classes = list(zip(draws.scores, draws.proposal, strict=True))
    # Equal scores and proposals differ by exactly nothing.
    pairs = [pair for pair in combinations(classes, 2) if pair[0] != pair[1]]

    def expectation(reals: Reals) -> list[Real]:
        return [summed([reals.exp(score) for score in draws.scores])]

    def variance(reals: Reals) -> list[Real]:
        terms = _zeros(1, reals)
        for (s, q), (t, p) in pairs:
            gap = reals.exp(s) / reals.rational(q) - reals.exp(t) / reals.rational(p)
            terms.append(reals.rational(q * p / draws.m) * gap * gap)
        return [summed(terms)]

    formulas = (expectation, partial(_zeros, 1), variance)
    return _moments(formulas, (), len(pairs) + 1, method, draws.prec)


def importance_log_partition(
    scores: ArrayLike, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Moments:
    """Moments of log of the mean of r, which estimates log Z: below it on average.

    Parameters, result and errors as `importance_partition`, and m limited by `MOST_COUNTS` samples. The bias
    is 0 exactly where all r are alike.
    """

    def estimator(draws: Draws, reals: Reals) -> Estimator:
        weights, ratios = draws.weights(reals), _ratios(draws, reals)
        total = summed(weights)

        def of(counts: Counts) -> list[Real]:
            mean = _dot(counts, ratios, reals) / (reals.rational(Fraction(draws.m)) * total)
            return [reals.log(mean)]

        def offset() -> list[Real]:
            return [reals.rational(draws.top) + reals.log(total)]

        return Estimator(of, lambda: _zeros(1, reals), offset)

    return _by_counts(estimator, Draws.of(scores, proposal, m), (), method)


def importance_gradient(
    scores: ArrayLike, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Moments:
    """Moments of the share of each class in the sum of r, which estimates the softmax, the gradient of log Z.

    Returns
    -------
    Moments (K,), of each class by itself.

    Raises
    ------
    DomainError, ValueError : as `importance_log_partition`.
    """

    def estimator(draws: Draws, reals: Reals) -> Estimator:
        # Made where they are needed, so that a single draw stays rational.
        ratios = cache(partial(_ratios, draws, reals))

        def of(counts: Counts) -> list[Real]:
            if draws.m in counts:  # one class alone has all of it, whatever its r
                return [reals.rational(Fraction(count, draws.m)) for count in counts]
            total = _dot(counts, ratios(), reals)
            return [reals.rational(Fraction(c)) * r / total for c, r in zip(counts, ratios(), strict=True)]

        return Estimator(of, lambda: _shares(draws.weights(reals)), lambda: _zeros(len(draws.scores), reals))

    draws = Draws.of(scores, proposal, m)
    return _by_counts(estimator, draws, (len(draws.scores),), method)


def target_sampling_moments(
    scores: ArrayLike, target: int, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Moments:
    """Moments of the target's share among itself and the classes drawn, which estimates its softmax.

    Parameters, result and errors as `importance_log_partition`, and `target` the index of a class. No share
    is below the softmax, nor is their mean.
    """

    def estimator(draws: Draws, reals: Reals) -> Estimator:
        weights = draws.weights(reals)
        truth = class_of(target, len(weights))

        def of(counts: Counts) -> list[Real]:
            others = [w for k, w in enumerate(weights) if counts[k] and k != truth]
            # Nothing else drawn: the share is 1 whatever the weight.
            return [
                weights[truth] / summed([weights[truth], *others]) if others else reals.rational(Fraction(1))
            ]

        return Estimator(of, lambda: [_shares(weights)[truth]], lambda: _zeros(1, reals))

    return _by_counts(estimator, Draws.of(scores, proposal, m), (), method)


def sampled_loss_moments(
    scores: ArrayLike, target: int, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Moments:
    """Moments of `sampled_softmax_loss` over samples, with counts m Q_k and hits removed.

    Parameters, result and errors as `importance_log_partition`, and `target` the index of a class. The bias
    is the difference from -log p_target, and has no one sign: the loss is that of telling the target from the
    sample, which corrects its gradient and not its value.
    """

    def estimator(draws: Draws, reals: Reals) -> Estimator:
        classes = range(len(draws.scores))
        truth = class_of(target, len(classes))
        gaps = [reals.exp(score - draws.scores[truth]) for score in draws.scores]
        corrected = [reals.rational(draws.proposal[truth] / draws.proposal[k]) * gaps[k] for k in classes]

        def of(counts: Counts) -> list[Real]:
            drawn = [k for k in _drawn(counts) if k != truth]
            rivals = [reals.rational(Fraction(counts[k])) * corrected[k] for k in drawn]
            return [reals.log1p(summed(rivals))] if rivals else _zeros(1, reals)

        def whole() -> list[Real]:
            rest = [gaps[k] for k in classes if k != truth]
            return [reals.log1p(summed(rest))] if rest else _zeros(1, reals)

        return Estimator(of, whole, lambda: _zeros(1, reals))

    return _by_counts(estimator, Draws.of(scores, proposal, m), (), method)


def log_partition_bias(
    scores: ArrayLike, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Enclosure:
    """-Var_Q(p / Q) / (2 m), what the bias of `importance_log_partition` is but for terms in 1 / m^2.

    Parameters and errors as `importance_partition`.
    """
    draws = Draws.of(scores, proposal, m)

    def formula(reals: Reals) -> list[Real]:
        one = reals.rational(Fraction(1))
        return [reals.rational(Fraction(1, 2 * draws.m)) * (one - _second_moment(draws, reals))]

    return _enclosure(formula, (), len(draws.scores), method, draws.prec)


def gradient_bias(
    scores: ArrayLike, proposal: Sequence[float | Fraction], m: int, method: str = "auto"
) -> Enclosure:
    """p_k (E_Q[(p / Q)^2] - p_k / Q_k) / m, the bias of `importance_gradient` but for terms in 1 / m^2.

    Returns
    -------
    Enclosure (K,). Errors as `importance_partition`.
    """
    draws = Draws.of(scores, proposal, m)

    def formula(reals: Reals) -> list[Real]:
        shares, second = _shares(draws.weights(reals)), _second_moment(draws, reals)
        by_m = reals.rational(Fraction(1, draws.m))
        pairs = zip(shares, draws.proposal, strict=True)
        return [by_m * p * (second - p * reals.rational(1 / q)) for p, q in pairs]

    return _enclosure(formula, (len(draws.scores),), len(draws.scores), method, draws.prec)


# --- sums over samples -------------------------------------------------------------------------------


def _by_counts(
    estimator: Callable[[Draws, Reals], Estimator], draws: Draws, shape: tuple[int, ...], method: str
) -> Moments:
    known_method(method)
    law = list(draws.law())

    def averaged(found: Estimator, reals: Reals, power: int) -> list[Real]:
        rows = ([_weighted(v, chance, power, reals) for v in found.of(counts)] for counts, chance in law)
        return [summed(column) for column in zip(*rows, strict=True)]

    def expectation(reals: Reals) -> list[Real]:
        found = estimator(draws, reals)
        return [a + b for a, b in zip(averaged(found, reals, 1), found.offset(), strict=True)]

    def bias(reals: Reals) -> list[Real]:
        found = estimator(draws, reals)
        return [a - b for a, b in zip(averaged(found, reals, 1), found.truth(), strict=True)]

    def variance(reals: Reals) -> list[Real]:
        found = estimator(draws, reals)
        means, squares = averaged(found, reals, 1), averaged(found, reals, 2)
        return [square - mean * mean for mean, square in zip(means, squares, strict=True)]

    return _moments((expectation, bias, variance), shape, len(law) * len(draws.scores), method, draws.prec)


def _weighted(value: Real, chance: Fraction, power: int, reals: Reals) -> Real:
    return reals.rational(chance) * (value if power == 1 else value * value)


def _moments(
    formulas: tuple[Formula, Formula, Formula], shape: tuple[int, ...], size: int, method: str, prec: int
) -> Moments:
    return Moments(*(_enclosure(formula, shape, size, method, prec) for formula in formulas))


def _enclosure(formula: Formula, shape: tuple[int, ...], size: int, method: str, prec: int) -> Enclosure:
    known_method(method)
    cells = Cells()
    return Enclosure(cells, np.array(add_formula(cells, formula, method, size, prec)).reshape(shape))


def _zeros(size: int, reals: Reals) -> list[Real]:
    return [reals.rational(Fraction(0))] * size


def _drawn(counts: Counts) -> list[int]:
    return [k for k, count in enumerate(counts) if count]


def _ratios(draws: Draws, reals: Reals) -> list[Real]:
    """exp(s_k - top) / Q_k."""
    pairs = zip(draws.weights(reals), draws.proposal, strict=True)
    return [weight * reals.rational(1 / q) for weight, q in pairs]


def _shares(weights: Sequence[Real]) -> list[Real]:
    total = summed(weights)
    return [weight / total for weight in weights]


def _second_moment(draws: Draws, reals: Reals) -> Real:
    """E_Q[(p / Q)^2] = sum_k p_k^2 / Q_k."""
    pairs = zip(_shares(draws.weights(reals)), draws.proposal, strict=True)
    return summed([p * p * reals.rational(1 / q) for p, q in pairs])


def _dot(counts: Counts, numbers: Sequence[Real], reals: Reals) -> Real:
    """Sum of the numbers, each as often as it was drawn."""
    return summed([reals.rational(Fraction(counts[k])) * numbers[k] for k in _drawn(counts)])
