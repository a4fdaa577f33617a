"""Bounds of probabilities against exact ones: never below, and not far above."""

import math
from itertools import product

import numpy as np
import pytest
from mpmath import gammainc, mp

from softcert.conformance.judging import chance


def multinomial(n, probabilities):
    """Every vector of counts with its probability."""
    for counts in product(range(n + 1), repeat=len(probabilities)):
        if sum(counts) == n:
            ways = math.factorial(n) / math.prod(map(math.factorial, counts))
            yield counts, ways * math.prod(p**c for p, c in zip(probabilities, counts, strict=True))


LAWS = [(0.5, 0.5), (0.1, 0.9), (0.001, 0.999), (0.2, 0.3, 0.5), (0.01, 0.04, 0.95), (0.25, 0.25, 0.25, 0.25)]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [1, 3, 12])
def test_no_relative_entropy_is_less_probable_than_its_bound_says(law, n):
    statistics = [(chance.relative_entropy(c, law), p) for c, p in multinomial(n, law)]
    for level, _ in statistics:
        tail = math.fsum(p for s, p in statistics if s >= level)
        assert tail <= math.exp(chance.entropy_log_chance(level, len(law))) * (1 + 1e-12)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("factor", [0.25, 0.5, 0.75])
def test_the_moment_generating_function_is_that_of_a_gamma_law_at_most(law, factor):
    """The theorem that the bound follows from, at some n: (1 - factor)^(1 - k)."""
    for n in (1, 2, 7, 12):
        mean = math.fsum(
            p * math.exp(factor * chance.relative_entropy(c, law)) for c, p in multinomial(n, law)
        )
        assert mean <= (1 - factor) ** (1 - len(law))


@pytest.mark.parametrize("cells", [2, 3, 20])
@pytest.mark.parametrize("times", [1.5, 4.0, 30.0])
def test_the_bound_is_the_best_that_the_moment_generating_function_gives(cells, times):
    """Markov's inequality: exp(-factor t) (1 - factor)^(1 - k), at the best of a million factors."""
    statistic, factors = times * (cells - 1), np.linspace(0, 1, 1_000_001)[:-1]
    best = (-factors * statistic - (cells - 1) * np.log1p(-factors)).min()
    assert chance.entropy_log_chance(statistic, cells) == pytest.approx(best, abs=1e-8)


@pytest.mark.parametrize("cells", [2, 5, 20])
def test_the_price_of_a_bound_without_limit_laws(cells):
    """The statistic that is accused is at most 1.6 times what chi-square's tail of 10^-9 would accuse."""
    with mp.workdps(30):
        half = (cells - 1) / mp.mpf(2)
        level = mp.findroot(
            lambda t: mp.log(gammainc(half, t, regularized=True)) + 9 * mp.log(10),
            (20 + half, 25 + 2 * half),
            solver="secant",
        )
    assert chance.entropy_log_chance(1.6 * float(level), cells) < math.log(chance.ALPHA)
    assert chance.entropy_log_chance(float(level), cells) > math.log(chance.ALPHA)


def test_relative_entropy_is_rounded_downward_and_knows_the_impossible():
    with mp.workdps(50):
        exact = mp.fsum(c * mp.log(mp.mpf(c) / 1000 / p) for c, p in ((513, 0.5), (487, 0.5)))
    found = chance.relative_entropy([513, 487], [0.5, 0.5])
    assert found <= exact
    assert found == pytest.approx(float(exact), abs=1e-11)
    assert chance.relative_entropy([3, 1], [1.0, 0.0]) == math.inf
    assert chance.entropy_log_chance(math.inf, 2) == -math.inf
    assert chance.entropy_log_chance(0.0, 1) == 0.0


def test_distances_are_bounded_for_few_samples_too():
    """Of one sample of a continuous law sup |F_1 - F| = max(F, 1 - F) exceeds d with chance 2 (1 - d)."""
    for d in (0.5, 0.8, 0.99):
        assert 2 * (1 - d) <= math.exp(chance.distance_log_chance(d, 1))
    assert chance.distance_log_chance(0.01, 10**6) == pytest.approx(math.log(2) - 200)
    assert chance.distance_log_chance(-1.0, 5) == 0.0


def test_distances_are_those_of_the_definition():
    rng = np.random.default_rng(3)
    sample = np.sort(rng.random(50))
    points = np.concatenate([sample, np.nextafter(sample, 0.0), np.linspace(0, 1, 1001)])
    exact = max(abs((sample <= z).mean() - z) for z in points)
    found = chance.largest_distance(sample, sample)
    assert found == pytest.approx(exact, abs=1e-9)
    assert found <= exact
    # What a sample may be only lessens the distance.
    assert chance.largest_distance(sample - 0.01, sample + 0.01) < exact


def test_counts_and_means_against_the_binomial_law():
    n, p = 30, 0.1
    masses = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    for k in range(n + 1):
        assert math.fsum(masses[k:]) <= math.exp(chance.count_log_chance(k, n * p)) * (1 + 1e-12)
        far = math.fsum(m for j, m in enumerate(masses) if abs(j / n - p) >= abs(k / n - p) - 1e-12)
        assert far <= math.exp(chance.mean_log_chance(abs(k / n - p), n, p * (1 - p), 1 - p)) * (1 + 1e-12)
    assert chance.count_log_chance(1, 0.0) == -math.inf
    assert chance.mean_log_chance(0.1, 5, 0.0, 0.0) == -math.inf
    assert chance.mean_log_chance(0.0, 5, 1.0, 1.0) == 0.0


def test_means_far_out_are_bounded_with_their_variance():
    """400 fair coins, with 150 heads at most or 250 at least: 5 standard errors."""
    tail = 2 * math.fsum(math.comb(400, k) for k in range(151)) / 2**400
    bound = math.exp(chance.mean_log_chance(0.125, 400, 0.25, 0.5))
    assert tail <= bound < 50 * tail


def test_extremes_of_uniform_samples():
    """P(min <= v) = 1 - (1 - v)^n and P(max >= 1 - v) alike."""
    n, v = 100, 0.003
    low, inside_low, high, inside_high = chance.extreme_log_chances(
        (math.log(v), math.log(v)), (math.log(v), math.log(v)), n
    )
    assert 1 - (1 - v) ** n <= math.exp(low) == math.exp(high)
    assert (1 - v) ** n <= math.exp(inside_low) == math.exp(inside_high)
