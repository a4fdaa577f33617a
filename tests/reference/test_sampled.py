"""Losses and moments over samples of the classes, against their definitions and every sequence of draws."""

import math
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from mpmath import mp, mpf

from softcert.reference.cross_check import require_overlap
from softcert.reference.errors import DomainError
from softcert.reference.sampled import sampled_softmax_loss, target_sampling
from softcert.reference.sampled_moments import (
    gradient_bias,
    importance_gradient,
    importance_log_partition,
    importance_partition,
    log_partition_bias,
    sampled_loss_moments,
    target_sampling_moments,
)
from softcert.reference.softmax import log_softmax, logsumexp, softmax

RNG = np.random.default_rng(23)
SCORES = np.array([0.5, -1.25, 2.0])
PROPOSAL = [1, 2, 5]


def both(op, *operands, **params):
    results = {method: op(*operands, **params, method=method) for method in ("mpmath", "arb")}
    if isinstance(results["arb"], tuple):
        for parts in zip(*results.values(), strict=True):
            require_overlap(op.__name__, dict(zip(results, parts, strict=True)))
    else:
        require_overlap(op.__name__, results)
    return results["arb"]


def exactly(value):
    fraction = Fraction(value)
    return mpf(fraction.numerator) / fraction.denominator


def holds(enclosure, values):
    lower, upper = enclosure.reshape(-1).bounds_decimal(30)
    return all(
        mpf(low) - mpf("1e-40") <= value <= mpf(high) + mpf("1e-40")
        for low, high, value in zip(lower, upper, values, strict=True)
    )


# --- one sample ----------------------------------------------------------------------------------------


def test_target_sampling_is_softmax_over_the_subset():
    scores = RNG.normal(size=6)
    share = both(target_sampling, scores, 4, [0, 2, 2, 4])
    assert share.shape == (3,)
    assert share.overlaps(softmax(scores[[0, 2, 4]])).all()


def test_no_share_is_below_that_of_the_whole_and_all_classes_give_it():
    scores = RNG.normal(scale=4.0, size=7)
    whole = softmax(scores).to_float64()
    for size in range(7):
        members = sorted({3, *range(size)})
        assert (target_sampling(scores, 3, range(size)).to_float64() > whole[members] * (1 - 1e-15)).all()
    assert target_sampling(scores, 3, range(7)).overlaps(softmax(scores)).all()


@pytest.mark.parametrize("remove", [True, False])
def test_sampled_loss_is_the_cross_entropy_of_corrected_scores(remove):
    scores, counts = RNG.normal(scale=3.0, size=5), [0.5, 1.25, 0.125, 2.0, 0.75]
    sample = [1, 1, 3, 2, 4, 2]
    loss = both(sampled_softmax_loss, scores, 2, sample, counts, remove_accidental_hits=remove)
    with mp.workdps(60):
        corrected = [exactly(s) - mp.log(exactly(c)) for s, c in zip(scores.tolist(), counts, strict=True)]
        logits = [corrected[2]] + [corrected[k] for k in sample if k != 2 or not remove]
        expected = mp.log(mp.fsum(mp.exp(v) for v in logits)) - corrected[2]
        assert holds(loss, [expected])


def test_sampled_loss_of_every_other_class_once_is_the_whole_loss():
    scores = RNG.normal(size=6)
    loss = sampled_softmax_loss(scores, 1, [0, 2, 3, 4, 5], [0.25] * 6)
    assert loss.round("binary64") == -log_softmax(scores).round("binary64")[1]


def test_sampled_losses_that_are_exact_or_next_to_a_float():
    assert sampled_softmax_loss([3.0, 1.0], 0, [0, 0], [1.0, 1.0]).is_exact().all()
    assert sampled_softmax_loss([3.0, 1.0], 0, [], [1.0, 1.0]).round("binary64") == 0.0
    # log(1 + exp(-1000)) is below half the smallest subnormal, and 1000 + that is above 1000.
    assert sampled_softmax_loss([1e3, 0.0], 0, [1], [1.0, 1.0]).round("binary64") == 0.0
    high = sampled_softmax_loss([0.0, 1e5], 0, [1], [1.0, 1.0])
    assert high.round("binary64") == 1e5
    assert not high.contains(1e5)
    ones = sampled_softmax_loss([0.0, 0.0], 0, [1], [1.0, 1.0])
    assert ones.digits(20) == "0.69314718055994530942"


def test_small_losses_keep_their_relative_accuracy():
    loss = sampled_softmax_loss([500.0, 0.0], 0, [1], [1.0, 1.0])
    with mp.workdps(40):
        assert loss.round("binary64") == float(mp.exp(-500))


# --- moments -------------------------------------------------------------------------------------------


def every_sequence(classes, m):
    """All draws one by one with their probabilities: no multinomial coefficient is involved."""
    total = sum(PROPOSAL[:classes])
    for draws in product(range(classes), repeat=m):
        yield draws, mp.fprod(mpf(PROPOSAL[k]) / total for k in draws)


def by_sequences(value, classes, m):
    with mp.workdps(60):
        first = second = mpf(0)
        for draws, chance in every_sequence(classes, m):
            first += chance * value(draws)
            second += chance * value(draws) ** 2
        return first, second - first**2


def ratio(k):
    return mp.exp(exactly(SCORES[k])) * sum(PROPOSAL) / PROPOSAL[k]


def truth(value):
    with mp.workdps(60):
        weights = [mp.exp(exactly(s)) for s in SCORES.tolist()]
        return value(weights, mp.fsum(weights))


def check(moments, value, exact, m):
    mean, variance = by_sequences(value, 3, m)
    with mp.workdps(60):
        assert holds(moments.expectation, [mean])
        assert holds(moments.variance, [variance])
        assert holds(moments.bias, [mean - exact])


@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_partition_function_is_estimated_without_bias(m):
    moments = both(importance_partition, SCORES, PROPOSAL, m)
    check(moments, lambda draws: mp.fsum(map(ratio, draws)) / m, truth(lambda _, z: z), m)
    assert moments.bias.is_exact().all()


@pytest.mark.parametrize("m", [1, 2, 5])
def test_its_logarithm_is_low_on_average(m):
    moments = both(importance_log_partition, SCORES, PROPOSAL, m)
    check(moments, lambda draws: mp.log(mp.fsum(map(ratio, draws)) / m), truth(lambda _, z: mp.log(z)), m)
    assert moments.bias.to_float64() < 0


@pytest.mark.parametrize("m", [1, 2, 5])
def test_the_gradient_is_biased(m):
    moments = both(importance_gradient, SCORES, PROPOSAL, m)
    for k in range(3):
        part = type(moments)(*(enclosure[k] for enclosure in moments))

        def share(draws, k=k):
            return mp.fsum(ratio(j) for j in draws if j == k) / mp.fsum(map(ratio, draws))

        check(part, share, truth(lambda w, z, k=k: w[k] / z), m)


@pytest.mark.parametrize("m", [1, 2, 4])
def test_target_sampling_is_high_on_average(m):
    moments = both(target_sampling_moments, SCORES, 1, PROPOSAL, m)

    def share(draws):
        weights = {k: mp.exp(exactly(SCORES[k])) for k in {1, *draws}}
        return weights[1] / mp.fsum(weights.values())

    check(moments, share, truth(lambda w, z: w[1] / z), m)
    assert moments.bias.to_float64() > 0


@pytest.mark.parametrize("m", [1, 2, 4])
def test_sampled_loss_moments_are_those_of_the_loss(m):
    moments = both(sampled_loss_moments, SCORES, 0, PROPOSAL, m)
    counts = [Fraction(m * q, sum(PROPOSAL)) for q in PROPOSAL]

    def loss(draws):
        text = sampled_softmax_loss(SCORES, 0, draws, counts).digits(50)
        return mpf(str(text))

    check(moments, loss, truth(lambda w, z: mp.log(z / w[0])), m)


def test_the_sampled_loss_may_be_above_the_whole_one():
    """TensorFlow's page calls it an underestimate generally: not with more draws than classes."""
    few = sampled_loss_moments(SCORES, 0, [1, 1, 1], 1).bias.to_float64()
    many = sampled_loss_moments(SCORES, 0, [1, 1, 1], 12).bias.to_float64()
    assert few < 0 < many


def test_the_page_on_sampling_shows_the_exact_biases():
    page = (Path(__file__).resolve().parents[2] / "docs" / "explanation" / "sampling.md").read_text("utf-8")
    table = page.partition("<!-- exact biases -->")[2].split("\n\n")[0].strip().splitlines()[2:]
    scores, proposal = [0.5, -1.25, 2.0, 0.0], [1, 2, 4, 1]
    for line in table:
        count, *shown = [cell.strip() for cell in line.strip("|").split("|")]
        asked = scores, proposal, int(count)
        exact = (
            importance_log_partition(*asked).bias,
            log_partition_bias(*asked),
            importance_gradient(*asked).bias[2],
            gradient_bias(*asked)[2],
            target_sampling_moments(scores, 3, proposal, int(count)).bias,
            sampled_loss_moments(scores, 3, proposal, int(count)).bias,
        )
        assert shown == [str(value.digits(5)) for value in exact]
    assert len(table) == 6


def test_expansions_are_approached_at_second_order():
    for exact, stated in (
        (importance_log_partition, log_partition_bias),
        (importance_gradient, gradient_bias),
    ):
        errors = [
            np.abs(
                exact(SCORES, PROPOSAL, m).bias.to_float64() - stated(SCORES, PROPOSAL, m).to_float64()
            ).max()
            for m in (20, 40, 80)
        ]
        assert 3.2 < errors[0] / errors[1] < 5.0
        assert 3.6 < errors[1] / errors[2] < 4.5
        both(stated, SCORES, PROPOSAL, 20)


def test_a_wrong_expansion_would_be_seen():
    """Half or twice the stated first order is not approached."""
    exact = [importance_log_partition(SCORES, PROPOSAL, m).bias.to_float64() for m in (40, 80)]
    wrong = [2 * log_partition_bias(SCORES, PROPOSAL, m).to_float64() for m in (40, 80)]
    assert abs(exact[0] - wrong[0]) / abs(exact[1] - wrong[1]) < 2.5


def test_equal_scores_drawn_evenly_have_nothing_to_estimate():
    for op, shape in ((importance_log_partition, ()), (importance_gradient, (3,))):
        moments = both(op, [7.0, 7.0, 7.0], [2, 2, 2], 3)
        assert moments.bias.shape == shape
        assert moments.bias.is_exact().all()
        assert (moments.bias.to_float64() == 0).all()
    assert importance_partition([7.0, 7.0], [1, 1], 3).variance.round("binary64") == 0.0
    assert importance_log_partition([7.0, 7.0], [1, 1], 3).variance.is_exact().all()


def test_one_class_is_known():
    moments = importance_log_partition([7.5], [0.3], 4)
    assert [part.round("binary64") for part in moments] == [7.5, 0.0, 0.0]


def test_one_draw_is_its_class():
    moments = importance_gradient(SCORES, [0.5, 0.25, 0.25], 1)
    assert moments.expectation.is_exact().all()
    assert moments.variance.is_exact().all()
    assert moments.expectation.round("binary64").tolist() == [0.5, 0.25, 0.25]
    assert moments.variance.round("binary64").tolist() == [0.25, 0.1875, 0.1875]


def test_scores_far_apart_and_large():
    moments = both(importance_log_partition, [1e4, -1e4], [1, 1], 2)
    # Z is doubled, met, or missed but for the small one: with chances 1/4, 1/2 and 1/4.
    expected = 0.25 * math.log(2) + 0.25 * (math.log(2) - 2e4)
    assert moments.bias.to_float64() == pytest.approx(expected, rel=1e-12)
    assert logsumexp([1e4, -1e4]).round("binary64") == 1e4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: target_sampling([1.0, 2.0], 2, []), "none of the classes"),
        (lambda: target_sampling([1.0, math.inf], 0, [1]), "not finite"),
        (lambda: target_sampling([[1.0]], 0, []), "one axis"),
        (lambda: sampled_softmax_loss([1.0, 2.0], 0, [1], [1.0]), "expected_counts"),
        (lambda: sampled_softmax_loss([1.0, 2.0], 0, [1], [1.0, 0.0]), "expected_counts"),
        (lambda: importance_partition([1.0, 2.0], [1.0, 0.0], 1), "proposal"),
        (lambda: importance_partition([1.0, math.nan], [1.0, 1.0], 1), "finite"),
        (lambda: importance_gradient([1.0, 2.0], [1, 1], 0), "number of draws"),
        (lambda: importance_gradient(np.zeros(20), [1] * 20, 20), "counts, over"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()
