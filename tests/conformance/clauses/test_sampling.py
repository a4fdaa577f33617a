"""Drawing actions: the counts, what is rigorous of the chance to be accused, and what is caught."""

from __future__ import annotations

import bisect
import itertools
import random

import mpmath
import numpy as np
import pytest

from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance import CLAUSES
from softcert.conformance.clauses.sampling import FALSE_ALARM_BITS, drawn
from softcert.conformance.context import Context
from softcert.conformance.judging.chance import divergence, evidence_against
from softcert.conformance.model import Trial

(CLAUSE,) = (clause for clause in CLAUSES if clause.id == "sampling.actions")


def judged(x, answer, seed=1, draws=20_000):
    trial = Trial((Call("softmax", (x,), {"axis": -1}),), {"seed": seed, "draws": draws})
    asked = Context(op="softmax", dtype="float64", contract=Contract(form="division"), ops=("softmax",))
    return CLAUSE.judge(trial, (answer,), asked).finding


def test_inversion_takes_the_first_action_whose_cumulated_probability_exceeds_the_number():
    probabilities = np.array([0.25, 0.0, 0.5, 0.25])
    numbers = np.array([0.0, 0.2499, 0.25, 0.7499, 0.75, 0.9999])
    assert drawn(probabilities, numbers).tolist() == [2, 0, 2, 2]
    generator = random.Random(3)
    numbers = [generator.random() for _ in range(500)]
    edges = list(itertools.accumulate(probabilities.tolist()))[:-1]
    chosen = [bisect.bisect_right(edges, u) for u in numbers]
    assert drawn(probabilities, np.array(numbers)).tolist() == [chosen.count(k) for k in range(4)]


def exact_tail(count, draws, p):
    """P(Binomial >= count), or <= count below the mean, to 30 digits."""
    with mpmath.workdps(30):
        ks = range(count, draws + 1) if count > draws * p else range(count + 1)
        q = mpmath.mpf(p)
        return mpmath.fsum(mpmath.binomial(draws, k) * q**k * (1 - q) ** (draws - k) for k in ks)


@pytest.mark.parametrize("p", [0.5, 0.01, 0.9])
@pytest.mark.parametrize("count", [0, 1, 5, 20, 50, 90, 119, 120])
def test_the_evidence_never_exceeds_that_of_the_exact_binomial_tail(p, count):
    evidence = evidence_against(count, 120, p, p)
    exact = -mpmath.log(exact_tail(count, 120, p))
    assert evidence <= exact + 1e-9
    # sharp: what Chernoff loses is a factor of the order of the standard deviation
    assert evidence == 0 or exact - evidence < 5


def test_evidence_is_against_the_nearest_probability_that_is_possible():
    assert evidence_against(60, 100, 0.5, 0.7) == 0
    assert evidence_against(80, 100, 0.5, 0.7) == pytest.approx(100 * divergence(0.8, 0.7), rel=1e-9)
    assert evidence_against(40, 100, 0.5, 0.7) == pytest.approx(100 * divergence(0.4, 0.5), rel=1e-9)
    assert evidence_against(1, 100, 0.0, 0.0) == np.inf


X = np.array([1.0, 0.5, 0.25, 0.0])


@pytest.mark.parametrize("temperature", [1e6, 2.0, 0.5, 0.05])
def test_the_right_probabilities_pass_for_every_seed(temperature):
    x = X / temperature
    assert all(judged(x, numpy_.softmax(x), seed) is None for seed in range(40))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: numpy_.softmax(x / 16),  # divided by the temperature twice
        lambda x: np.eye(4)[0],  # greedy
        lambda x: np.full(4, 0.25),  # uniform
        lambda x: numpy_.softmax(x)[::-1].copy(),
        np.zeros_like,
    ],
)
def test_wrong_probabilities_are_counted_whatever_the_seed(wrong):
    x = 4 * X
    for seed in range(10):
        finding = judged(x, wrong(x), seed)
        assert "times of 20000" in finding.message
        assert "chi-square" in finding.message


def test_two_best_actions_share():
    x = np.array([64.0, 0.0, 64.0, 0.0])
    assert judged(x, numpy_.softmax(x)) is None
    assert judged(x, np.array([1.0, 0.0, 0.0, 0.0])) is not None


def test_nan_is_a_finding():
    assert "NaN" in judged(X, np.full(4, np.nan)).message


def test_chance_accuses_less_often_than_stated():
    """At 2^-4 in place of 2^-40, so that it can be counted: at most so many of 4000 rows of right draws."""
    rng = np.random.default_rng(11)
    p = np.array([0.5, 0.3, 0.15, 0.05])
    counts = rng.multinomial(1000, p, size=4000)
    enough = 4 * np.log(2) + np.log(2 * 4)
    accused = sum(
        any(evidence_against(int(n), 1000, q, q) > enough for n, q in zip(row, p, strict=True))
        for row in counts
    )
    assert 0 < accused < 4000 / 16
    assert FALSE_ALARM_BITS == 40
