"""The law of the least share, and what a class that is drawn in place of another leaves of the statistics."""

import math

import numpy as np
import pytest

from softcert.backends import as_dtype, numpy_gumbel
from softcert.conformance.judging import gumbel_samples, sampling

X = np.array([0.5, -1.0, 0.0, 1.25])
MANY = 1 << 14


def drawn(x, tau, change=lambda g: g, dtype="float64", seed=0):
    rows = np.tile(x, (MANY, 1))
    z = (rows + change(numpy_gumbel.gumbel_noise(rows.shape, np.random.default_rng(seed)))) / tau
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(as_dtype(dtype))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tau", [0.25, 1.0, 5.0])
def test_faithful_samples_have_the_law_of_the_least_share(dtype, tau):
    x = X.astype(as_dtype(dtype))
    assert gumbel_samples.least_departure(drawn(x.astype(float), tau, dtype=dtype), x, tau) is None


def test_two_classes_have_the_law_of_a_pair():
    y = drawn(X[:2], 1.0)
    assert gumbel_samples.least_departure(y, X[:2], 1.0) is None
    assert gumbel_samples.least_departure(y, X[1::-1], 1.0) is not None


def test_the_least_share_sees_what_neighbours_do_not():
    """The third class has the noise of the first: every pair of neighbours has the right law."""

    def alike(g):
        return g[:, [0, 1, 0, 3]]

    y = drawn(X, 1.0, alike)
    for k in range(3):
        assert gumbel_samples.pair_departure(y, X, 1.0, k, k + 1) is None
    assert gumbel_samples.least_departure(y, X, 1.0).test == "least"


def test_samples_that_are_no_numbers_are_caught():
    y = drawn(X, 1.0)
    y[5, 2] = np.nan
    assert gumbel_samples.least_departure(y, X, 1.0).test == "number"


def test_an_exchange_of_classes_is_allowed_for_and_no_more():
    """Three of a hundred draws give the first of four equal classes in place of the last."""
    shares, n = np.full(4, 0.25), 1 << 16
    counts = (n * np.array([0.28, 0.25, 0.25, 0.22])).astype(int)
    choices = np.repeat(np.arange(4), counts)
    assert sampling.counts_departure(choices, shares, "argmax") is not None
    assert sampling.counts_departure(choices, shares, "argmax", 0.03) is None
    found = sampling.counts_departure(choices, shares, "argmax", 0.01)
    # Taken together, cells that may all be larger by 0.01 show nothing.
    assert found.statistic < 0 < -found.log_chance
    assert "likelihood" not in found.message


def test_two_draws_that_agree_too_often_are_caught():
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 2, MANY) for _ in range(2))
    x = np.zeros(2)
    assert sampling.pairs_departure(first, second, x) is None
    assert sampling.pairs_departure(first, np.where(rng.random(MANY) < 0.1, first, second), x) is not None


def test_an_exchange_needs_a_gap_within_the_error():
    """Of two logistic differences so near to 0, half of the error's mean, and one for each pair."""
    assert gumbel_samples.exchanged(0.01, 2) == 0.005
    assert gumbel_samples.exchanged(0.01, 4) == pytest.approx(0.03)
    assert gumbel_samples.exchanged(0.01, 1) == 0.0
    size = gumbel_samples.mean_sum_error(np.array([0.0, -100.0]), 2.0**-24)
    assert size == pytest.approx(
        10 * 2.0**-24 * (100 + math.sqrt(math.pi**2 / 6 + np.euler_gamma**2)), rel=1e-3
    )
