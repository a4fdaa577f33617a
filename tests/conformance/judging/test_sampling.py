"""Statistics of samples: faithful samplers pass at every seed, and each catalogued defect is caught."""

import math

import ml_dtypes
import numpy as np
import pytest

from softcert import reference
from softcert.backends import numpy_gumbel, numpy_sampled
from softcert.conformance.judging import chance, gumbel_samples, sampling

X = np.array([0.5, -1.0, 0.0, 1.25], dtype=np.float32)
MANY = 1 << 16


def rows(n, x=X):
    return np.tile(x, (n, 1))


def soft(v):
    weights = np.exp(v - v.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


# --- what has the law ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tau", [0.05, 0.5, 1.0, 20.0])
def test_faithful_samples_pass(dtype, tau):
    x = X.astype(getattr(ml_dtypes, dtype, dtype))
    for seed in range(2):
        y = numpy_gumbel.gumbel_softmax(rows(MANY, x), tau, np.random.default_rng(seed))
        assert gumbel_samples.gumbel_softmax_departure(y, x, tau) is None


def test_faithful_classes_noise_and_rows_pass_at_every_seed():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        classes = numpy_gumbel.gumbel_max(rows(4000), rng)
        assert sampling.argmax_departure(classes, X) is None
        assert sampling.rows_departure(classes.reshape(-1, 5), X) is None
        assert sampling.noise_departure(numpy_gumbel.gumbel_noise((4000,), rng)) is None


def test_a_false_alarm_would_be_seen_at_a_larger_rate(monkeypatch):
    """Accused below 10^-1 in place of 10^-9, faithful samplers are so at some seeds: the statistics live."""
    monkeypatch.setattr(chance, "ALPHA", 0.5)
    alarms = [
        sampling.argmax_departure(numpy_gumbel.gumbel_max(rows(500), np.random.default_rng(seed)), X)
        for seed in range(200)
    ]
    count = sum(alarm is not None for alarm in alarms)
    assert 0 < count <= 100


def test_a_verdict_depends_on_the_samples_alone():
    y = numpy_gumbel.gumbel_softmax(rows(1000), 1.0, np.random.default_rng(0)) ** 2
    assert gumbel_samples.gumbel_softmax_departure(y, X, 1.0) == gumbel_samples.gumbel_softmax_departure(
        y.copy(), X, 1.0
    )


def test_subnormal_shares_stand_for_what_is_rounded_to_them():
    """Shares of some six of the smallest subnormals, which rounding moves by a tenth."""
    x = np.array([0.0, -101.5], dtype=np.float32)
    y = numpy_gumbel.gumbel_softmax(rows(1 << 14, x), 1.0, np.random.default_rng(0))
    assert (y[:, 1] < 1e-38).all()
    assert gumbel_samples.pair_departure(y, x, 1.0, 0, 1) is None
    assert gumbel_samples.pair_departure(y, np.array([0.0, -100.0], dtype=np.float32), 1.0, 0, 1) is not None


def test_probabilities_are_multiplied_by_how_many_were_looked_at():
    far = np.array([50.0])
    five = sampling.law_departure(far, far, sampling.LOGISTIC, "pair")
    assert five.log_chance == pytest.approx(math.log(5) - 50)
    missed = sampling.law_departure(far, far, sampling.LOGISTIC, "pair", missed=1e-12)
    assert missed.log_chance == pytest.approx(math.log(1e-12))

    def departure(log_chance):
        return sampling.Departure("pair", 1, 0.0, log_chance, "")

    assert sampling.worst([departure(-22.0), None, None]).log_chance == -22.0 + math.log(3)
    assert sampling.worst([departure(-21.5), None, None]) is None
    assert sampling.worst([None]) is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_laws_agree_with_certified_ones(dtype):
    """The binary64 functions of distribution are within 2^-40 of the enclosed ones."""
    z = np.linspace(-30, 30, 241)
    t = (1 / (1 + np.exp(-z / 0.5)))[z < 16]
    lower, upper = (np.array(end, dtype=float) for end in reference.pair_cdf(t, 0.75, 0.5).bounds_decimal(20))
    found = np.exp(sampling.LOGISTIC.below(0.5 * (np.log(t) - np.log1p(-t)) - 0.75))
    # t itself is rounded: 2^-53 in it moves logit(t) by as much over t (1 - t).
    room = 2.0**-40 + 2.0**-52 / np.minimum(t, 1 - t).clip(1e-300)
    assert ((found >= lower - room) & (found <= upper + room)).all()
    g = np.linspace(-8, 40, 241).astype(dtype)
    law = np.exp(sampling.GUMBEL.below(g.astype(float)))
    assert np.abs(law - reference.gumbel_cdf(g).to_float64()).max() < 2.0**-40
    np.testing.assert_allclose(np.exp(sampling.GUMBEL.above(g.astype(float))), 1 - law, atol=1e-14)


# --- what has not --------------------------------------------------------------------------------------


def unit(rng, n=MANY):
    return rng.random((n, len(X)))


#: Defect: samples of a temperature by a generator, the temperature, and the tests that may show it.
SOFT_DEFECTS = {
    "uniform noise": (lambda rng, _: soft(X + unit(rng)), 1.0),
    "normal noise": (lambda rng, _: soft(X + rng.normal(size=(MANY, 4))), 1.0),
    "noise of the other sign": (lambda rng, _: soft(X + np.log(-np.log(unit(rng)))), 1.0),
    "exponential noise": (lambda rng, _: soft(X - np.log(unit(rng))), 1.0),
    "no noise": (lambda rng, _: soft(rows(MANY)), 1.0),
    "one noise for all classes": (lambda rng, _: soft(X + rng.gumbel(size=(MANY, 1))), 1.0),
    "temperature of the logits alone": (lambda rng, tau: soft(X / tau + rng.gumbel(size=(MANY, 4))), 0.5),
    "temperature of the noise alone": (lambda rng, tau: soft(X + rng.gumbel(size=(MANY, 4)) / tau), 0.5),
    "temperature upside down": (lambda rng, tau: soft((X + rng.gumbel(size=(MANY, 4))) * tau), 0.5),
    "logits taken for probabilities": (
        lambda rng, _: soft(np.log(np.abs(X) + 1e-9) + rng.gumbel(size=(MANY, 4))),
        1.0,
    ),
    "a guard of 1e-3 in the logarithm": (
        lambda rng, _: soft(X - np.log(-np.log(unit(rng)) + 1e-3)),
        1.0,
    ),
    "zero among uniform numbers of 11 bits": (
        lambda rng, _: soft(X + numpy_gumbel.gumbel_of(rng.integers(0, 2048, size=(MANY, 4)) / 2048)),
        1.0,
    ),
    "noise of bfloat16": (
        lambda rng, _: soft(X + rng.gumbel(size=(1 << 18, 4)).astype(ml_dtypes.bfloat16).astype(np.float32)),
        1.0,
    ),
}


@pytest.mark.parametrize("defect", SOFT_DEFECTS)
def test_wrong_soft_samples_are_caught(defect):
    sampler, tau = SOFT_DEFECTS[defect]
    found = gumbel_samples.gumbel_softmax_departure(sampler(np.random.default_rng(7), tau), X, tau)
    assert found is not None
    assert found.log_chance <= math.log(chance.ALPHA)


def test_one_zero_in_a_float32_uniform_number_is_caught_once_it_is_drawn():
    """Once in 2^24 draws; the guarded noise of the same numbers passes."""
    u = np.random.default_rng(0).random(1 << 16)
    u[12345] = 0.0
    noise = numpy_gumbel.gumbel_of(u).astype(np.float32)
    assert sampling.noise_departure(noise).test == "number"
    u[12345] = 2.0**-25
    assert sampling.noise_departure(numpy_gumbel.gumbel_of(u).astype(np.float32)) is None
    x = np.zeros(2, dtype=np.float32)
    y = soft(np.stack([noise, np.zeros_like(noise)], axis=-1))
    assert gumbel_samples.pair_departure(y, x, 1.0, 0, 1) is not None


NOISE_DEFECTS = {
    "uniform": lambda rng: rng.random(MANY),
    "logistic": lambda rng: rng.logistic(size=MANY),
    "of the other sign": lambda rng: -rng.gumbel(size=MANY),
    "half the scale": lambda rng: rng.gumbel(size=MANY) / 2,
    "without its mean": lambda rng: rng.gumbel(size=MANY) - np.euler_gamma,
    "guarded by 1e-3": lambda rng: -np.log(-np.log(rng.random(MANY)) + 1e-3),
    "of float16": lambda rng: rng.gumbel(size=1 << 19).astype(np.float16),
    "of 12 bits": lambda rng: numpy_gumbel.gumbel_of((rng.integers(0, 4096, size=1 << 18) + 0.5) / 4096),
}


@pytest.mark.parametrize("defect", NOISE_DEFECTS)
def test_wrong_noise_is_caught(defect):
    noise = NOISE_DEFECTS[defect](np.random.default_rng(5)).astype(np.float32)
    assert sampling.noise_departure(noise) is not None


def test_wrong_classes_are_caught():
    rng = np.random.default_rng(2)
    shares = reference.softmax(X).to_float64()
    for wrong in (shares**2, shares + np.array([0.01, 0, 0, -0.01]), np.full(4, 0.25), [0.4, 0.3, 0.3, 0.0]):
        classes = rng.choice(4, size=MANY * 4, p=np.array(wrong) / np.sum(wrong))
        assert sampling.argmax_departure(classes, X).test == "argmax"
    assert "no class" in sampling.argmax_departure(np.array([0, 4]), X).message
    tied = rows(MANY, np.zeros(4)) + np.round(rng.gumbel(size=(MANY, 4)), 1)
    assert sampling.argmax_departure(tied.argmax(axis=-1), np.zeros(4)) is not None


def test_an_impossible_class_is_caught_by_one_sample():
    x = np.array([0.0, -np.inf], dtype=np.float32)
    assert sampling.argmax_departure(np.array([0, 0, 1]), x).log_chance == -math.inf
    assert sampling.argmax_departure(np.zeros(50, dtype=int), x) is None


def test_classes_of_logits_that_are_minus_infinity_are_zero():
    x = np.array([0.5, -np.inf, 0.0, 1.25], dtype=np.float32)
    y = numpy_gumbel.gumbel_softmax(rows(MANY, x), 0.5, np.random.default_rng(3))
    assert gumbel_samples.gumbel_softmax_departure(y, x, 0.5) is None
    assert gumbel_samples.gumbel_softmax_departure(y[:, [0, 1, 3, 2]], x, 0.5) is not None
    y[5, 1] = 1e-30
    assert "sample 5" in gumbel_samples.gumbel_softmax_departure(y, x, 0.5).message


def test_one_seed_for_all_rows_is_caught():
    """Each row alone has the right law."""
    once = numpy_gumbel.gumbel_max(rows(2000), np.random.default_rng(3))
    again = np.stack([once, once], axis=-1)
    assert sampling.argmax_departure(again[:, 0], X) is None
    assert sampling.rows_departure(again, X).test == "rows"


def test_numbers_that_are_none_are_caught():
    y = numpy_gumbel.gumbel_softmax(rows(10), 1.0, np.random.default_rng(0))
    y[3, 1] = np.nan
    found = gumbel_samples.gumbel_softmax_departure(y, X, 1.0)
    assert found.test == "number"
    assert "(3, 1)" in found.message


# --- estimators ----------------------------------------------------------------------------------------

SCORES = np.array([0.5, -1.25, 2.0, 0.0])
PROPOSAL = np.array([0.125, 0.25, 0.5, 0.125])
DRAWS = 3


def drawn(n=MANY, proposal=PROPOSAL, seed=1):
    return numpy_sampled.draw_classes(proposal, (n, DRAWS), np.random.default_rng(seed))


def test_classes_of_a_proposal():
    draws = drawn(proposal=PROPOSAL * 3)
    assert sampling.counts_departure(draws, PROPOSAL, "proposal") is None
    assert sampling.counts_departure(drawn(proposal=PROPOSAL + 0.01), PROPOSAL, "proposal") is not None


RATIOS = np.exp(SCORES) / PROPOSAL


def test_estimates_of_the_partition_function_have_the_exact_moments():
    moments = reference.importance_partition(SCORES, PROPOSAL, DRAWS)
    reach = RATIOS.min(), RATIOS.max()
    values = numpy_sampled.importance_partition(SCORES, PROPOSAL, drawn())
    assert sampling.mean_departure(values, moments, reach) is None
    # Without the division by the proposal, or by that of another, it is another sum.
    wrong = np.exp(SCORES[drawn()]).mean(axis=-1)
    assert sampling.mean_departure(wrong, moments, reach).test == "mean"


def test_estimates_of_its_logarithm_have_the_exact_bias():
    moments = reference.importance_log_partition(SCORES, PROPOSAL, DRAWS)
    reach = math.log(RATIOS.min()), math.log(RATIOS.max())
    values = numpy_sampled.importance_log_partition(SCORES, PROPOSAL, drawn())
    assert sampling.mean_departure(values, moments, reach) is None
    # Taken for without bias, it is caught.
    corrected = values - moments.bias.to_float64()
    assert sampling.mean_departure(corrected, moments, reach) is not None


def test_estimates_of_the_gradient_have_the_exact_bias():
    moments = reference.importance_gradient(SCORES, PROPOSAL, DRAWS)
    values = numpy_sampled.importance_gradient(SCORES, PROPOSAL, drawn())
    parts = [reference.Moments(*(enclosure[k] for enclosure in moments)) for k in range(4)]
    for k, part in enumerate(parts):
        assert sampling.mean_departure(values[:, k], part, (0.0, 1.0)) is None
    # Taken for without bias, the larger ones are caught.
    for k in (1, 2, 3):
        unbiased = values[:, k] - parts[k].bias.to_float64()
        assert sampling.mean_departure(unbiased, parts[k], (-0.1, 1.1)) is not None


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sampled_losses_have_the_exact_moments(dtype):
    moments = reference.sampled_loss_moments(SCORES, 3, PROPOSAL, DRAWS)
    counts, reach = DRAWS * PROPOSAL, (0.0, 6.0)
    scores, draws = SCORES.astype(dtype), drawn()
    values = numpy_sampled.sampled_softmax_loss(scores, 3, draws, counts)
    assert sampling.mean_departure(values, moments, reach) is None
    hits = numpy_sampled.sampled_softmax_loss(scores, 3, draws, counts, remove_accidental_hits=False)
    uncorrected = numpy_sampled.sampled_softmax_loss(scores, 3, draws, np.ones(4))
    for wrong in (hits, uncorrected):
        assert sampling.mean_departure(wrong, moments, reach) is not None


@pytest.mark.parametrize(("dtype", "off"), [("float32", 1e-4), ("float64", 1e-13)])
def test_estimates_may_be_rounded_and_no_more(dtype, off):
    """All r are alike, so that every estimate is log 2 + 7 exactly."""
    moments = reference.importance_log_partition([7.0, 7.0], [1, 1], DRAWS)
    exact = 7 + math.log(2)
    values = np.full(10, exact).astype(dtype)
    assert sampling.mean_departure(values, moments, (exact, exact)) is None
    assert sampling.mean_departure(values + values.dtype.type(off), moments, (exact, exact)) is not None


def test_estimates_that_are_no_numbers_are_caught():
    moments = reference.importance_partition(SCORES, PROPOSAL, DRAWS)
    assert sampling.mean_departure(np.array([1.0, np.inf]), moments, (0.0, 20.0)).test == "number"
