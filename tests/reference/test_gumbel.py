"""Gumbel-softmax: enclosures against definitions, its laws proven, its density integrated with certainty."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from flint import acb, arb, ctx, fmpq
from mpmath import mp, mpf

from softcert.reference import gumbel_derivation
from softcert.reference.cross_check import require_overlap
from softcert.reference.errors import DomainError
from softcert.reference.gumbel import gumbel_argmax, gumbel_one_hot, gumbel_softmax, gumbel_softmax_vjp
from softcert.reference.gumbel_laws import (
    concrete_log_density,
    density_formula,
    exp_concrete_log_density,
    gumbel_cdf,
    pair_cdf,
)
from softcert.reference.reals import BallReals
from softcert.reference.softmax import softmax

INF, NAN = math.inf, math.nan
RNG = np.random.default_rng(11)
TEMPERATURES = (0.01, 0.1, Fraction(2, 3), 1.0, 5.0, 1e3)


def exactly(value):
    fraction = Fraction(value)
    return mpf(fraction.numerator) / fraction.denominator


def by_definition(x, g, tau):
    with mp.workdps(80):
        terms = [mp.exp((exactly(a) + exactly(b)) / exactly(tau)) for a, b in zip(x, g, strict=True)]
        return [term / mp.fsum(terms) for term in terms]


def density_by_definition(y, x, tau):
    """The formula as the papers print it."""
    with mp.workdps(80):
        n, t = len(y), exactly(tau)
        points, weights = [exactly(v) for v in y], [mp.exp(exactly(v)) for v in x]
        total = mp.fsum(p * v**-t for p, v in zip(weights, points, strict=True))
        product = mp.fprod(p / v ** (t + 1) for p, v in zip(weights, points, strict=True))
        return mp.log(mp.gamma(n) * t ** (n - 1) * total**-n * product)


def holds(enclosure, values):
    lower, upper = enclosure.reshape(-1).bounds_decimal(30)
    with mp.workdps(60):
        return all(
            mpf(low) - mpf("1e-45") <= value <= mpf(high) + mpf("1e-45")
            for low, high, value in zip(lower, upper, values, strict=True)
        )


def both(op, *operands, **params):
    results = {method: op(*operands, **params, method=method) for method in ("mpmath", "arb")}
    require_overlap(op.__name__, results)
    return results["arb"]


# --- the function of given noise -----------------------------------------------------------------------


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_enclosures_hold_what_the_definition_gives(tau, n):
    x, g = RNG.normal(scale=3.0, size=n), RNG.gumbel(size=n)
    enclosure = both(gumbel_softmax, x, g, tau=tau)
    assert holds(enclosure, by_definition(x.tolist(), g.tolist(), tau))
    assert (enclosure.round("binary64") <= 1.0).all()


def test_equal_sums_among_others_have_equal_shares():
    x, g = [1.0, 0.0, -2.0, 1.0], [0.5, 1.5, 0.25, -3.0]
    y = both(gumbel_softmax, x, g, tau=0.75)
    assert holds(y, by_definition(x, g, 0.75))
    assert y.cells_of_elements[0] == y.cells_of_elements[1]


def test_the_sum_of_logit_and_noise_is_not_rounded():
    """In binary64 both sums are 1, and both weights 1/2."""
    x, g = np.array([1.0, 1.0]), np.array([2.0**-60, 0.0])
    lower, upper = gumbel_softmax(x, g, tau=2.0**-60).bounds_decimal(20)
    assert float(lower[0]) > 0.731
    assert float(upper[1]) < 0.269


def test_sums_beyond_the_largest_float_are_numbers():
    largest = np.finfo(np.float64).max
    y = gumbel_softmax([largest, largest], [largest, largest], tau=0.5)
    assert y.is_exact().all()
    assert y.round("binary64").tolist() == [0.5, 0.5]
    assert gumbel_argmax([largest, 0.0], [largest, 0.0]) == 0


@pytest.mark.parametrize(
    ("x", "g", "expected"),
    [
        ([3.0, 1.0], [-2.0, 0.0], [0.5, 0.5]),
        ([0.0, -INF, 0.0], [1.0, 2.0, 1.0], [0.5, 0.0, 0.5]),
        ([0.0, -INF], [0.0, INF], [NAN, NAN]),
        ([0.0, 1.0], [0.0, INF], [NAN, NAN]),
        ([-INF, 0.0], [0.0, -INF], [NAN, NAN]),
        ([5.0], [-7.0], [1.0]),
    ],
)
def test_exact_and_special_cases(x, g, expected):
    y = both(gumbel_softmax, x, g, tau=0.25)
    np.testing.assert_array_equal(y.round("binary64"), expected)
    assert y.is_exact().all()


def test_the_largest_share_stays_below_one():
    """1 - exp(-1e5) is no float, and is rounded by the knowledge that it is below 1."""
    y = gumbel_softmax([0.0, -500.0], [0.0, -500.0], tau=0.01)
    assert y.round("binary64")[0] == 1.0
    assert not y.is_exact()[0]
    assert not y.contains(1.0)[0]


def test_argmax_is_that_of_every_temperature_and_the_limit():
    x, g = RNG.normal(size=(20, 6)), RNG.gumbel(size=(20, 6))
    chosen = gumbel_argmax(x, g)
    hot = gumbel_one_hot(x, g).round("binary64")
    for tau in TEMPERATURES:
        y = gumbel_softmax(x, g, tau).round("binary64")
        np.testing.assert_array_equal(y.argmax(axis=-1), chosen)
        top_two = np.sort(x + g, axis=-1)[:, -2:]
        rest = 5 * np.exp(-(top_two[:, 1] - top_two[:, 0]) / float(tau))
        assert (np.abs(y - hot).sum(axis=-1) <= 2 * rest / (1 + rest) * (1 + 1e-12)).all()


def test_uniform_as_the_temperature_grows():
    x, g = RNG.normal(size=(5, 7)), RNG.gumbel(size=(5, 7))
    width = (x + g).max(axis=-1) - (x + g).min(axis=-1)
    for tau in (1e2, 1e5):
        y = gumbel_softmax(x, g, tau).round("binary64")
        assert (7 * y.max(axis=-1) <= np.exp(width / tau)).all()
        assert (7 * y.min(axis=-1) >= np.exp(-width / tau)).all()


def test_the_first_of_equal_sums_is_chosen():
    assert gumbel_argmax([1.0, 0.5], [0.5, 1.0]) == 0
    assert gumbel_argmax([-INF, -INF], [0.0, 0.0]) == -1
    assert gumbel_one_hot([[1.0, 0.5]], [[0.5, 1.0]]).round("binary64").tolist() == [[1.0, 0.0]]
    assert np.isnan(gumbel_one_hot([NAN, 0.0], [0.0, 0.0]).to_float64()).all()


@pytest.mark.parametrize("tau", [0.1, Fraction(2, 3), 5.0])
def test_the_derivative_is_that_of_difference_quotients(tau):
    x, g, dy = RNG.normal(size=(3, 4))
    step = mpf(2) ** -60
    expected = []
    for j in range(4):
        with mp.workdps(60):
            ahead, behind = (
                by_definition([exactly_shifted(v, s * (i == j)) for i, v in enumerate(x)], g.tolist(), tau)
                for s in (1, -1)
            )
            slopes = [(a - b) / (2 * step) for a, b in zip(ahead, behind, strict=True)]
            expected.append(float(mp.fsum(s * v for s, v in zip(slopes, dy.tolist(), strict=True))))
    y = gumbel_softmax(x, g, tau).round("binary64")
    got = both(gumbel_softmax_vjp, y, dy, tau=tau)
    assert got.is_exact().all()
    np.testing.assert_allclose(got.to_float64(), expected, rtol=1e-9, atol=1e-13)


def exactly_shifted(value, sign):
    return Fraction(value) + sign * Fraction(1, 2**60)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: gumbel_softmax([1.0], [1.0], tau=0), "not above 0"),
        (lambda: gumbel_softmax([1.0], [1.0], tau=INF), "not finite"),
        (lambda: gumbel_softmax([1.0], [1.0, 2.0]), "has shape"),
        (lambda: concrete_log_density([1.0], [1.0], tau=-1.0), "not above 0"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="is not one of"):
        gumbel_softmax([1.0], [1.0], method="guess")


# --- densities and laws --------------------------------------------------------------------------------


@pytest.mark.parametrize("tau", TEMPERATURES)
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_log_densities_are_those_of_the_papers(tau, n):
    x, y = RNG.normal(size=n), RNG.dirichlet(np.ones(n))
    logs = np.log(y)
    assert holds(both(concrete_log_density, y, x, tau=tau), [density_by_definition(y, x, tau)])
    with mp.workdps(80):
        points = [mp.exp(exactly(v)) for v in logs.tolist()]
        n_, t = n, exactly(tau)
        total = mp.fsum(mp.exp(exactly(a)) * p**-t for a, p in zip(x, points, strict=True))
        product = mp.fprod(mp.exp(exactly(a)) * p**-t for a, p in zip(x, points, strict=True))
        expected = mp.log(mp.gamma(n_) * t ** (n_ - 1) * total**-n_ * product)
    assert holds(both(exp_concrete_log_density, logs, x, tau=tau), [expected])


def test_densities_that_are_one_are_told_exactly():
    """Two classes at tau = 1 and equal logits are uniform; so is any point of one class."""
    for y in ([0.25, 0.75], [0.5, 0.5], [2.0**-30, 1 - 2.0**-30]):
        value = both(concrete_log_density, y, [3.0, 3.0], tau=1.0)
        assert value.is_exact().all()
        assert value.round("binary64") == 0.0
    assert exp_concrete_log_density([0.0, 0.0], [1.0, 1.0], tau=4.0).is_exact().all()
    assert not exp_concrete_log_density([0.0, 0.0], [1.0, 1.0], tau=4.5).is_exact().any()


def test_rows_outside_the_open_simplex_have_no_density():
    y = np.array([[0.0, 1.0], [0.5, NAN], [0.5, 0.5]])
    x = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, -INF]])
    assert np.isnan(concrete_log_density(y, x).to_float64()).all()


@pytest.mark.parametrize(("gap", "tau"), [(0.0, 1.0), (1.5, 0.5), (-0.75, 2.0), (0.25, 0.125)])
def test_the_density_of_two_classes_integrates_to_its_law(gap, tau):
    """By certified quadrature of the formula of the reference in complex balls."""
    edges = np.array([0.0625, 0.5, 0.875])
    with ctx.workprec(128):
        reals, logits = BallReals(128), [acb(gap), acb(0)]

        def density(point, _):
            logs = [point.log(), (1 - point).log()]
            return (density_formula(logits, Fraction(tau), logs, reals) - logs[0] - logs[1]).exp()

        masses = [acb.integral(density, acb(a), acb(b)).real for a, b in pairwise(edges)]
        assert all(mass.rel_accuracy_bits() > 60 for mass in masses)
    law = pair_cdf(edges, gap, tau)
    ends = [arb_of(law, k) for k in range(3)]
    for mass, (low, high) in zip(masses, pairwise(ends), strict=True):
        assert mass.overlaps(high - low)


def arb_of(enclosure, k):
    cell = enclosure.known(k)
    if isinstance(cell, Fraction):
        return arb(fmpq(cell.numerator, cell.denominator))
    scale = arb(2) ** cell.exp
    return (arb(cell.lo) * scale).union(arb(cell.hi) * scale)


@pytest.mark.parametrize(("gap", "tau"), [(0.0, 1.0), (1.5, 0.5), (-0.75, 2.0)])
def test_the_density_of_two_classes_has_total_mass_one(gap, tau):
    """Over logit(y) = u the density is at most tau exp(|gap| - tau |u|), which bounds what lies beyond."""
    reach = 100 / tau
    with ctx.workprec(160):
        reals, logits = BallReals(160), [acb(gap), acb(0)]

        def density(u, _):
            # y (1 - y) du = dy takes away the product of 1 / y.
            logs = [-((-u).exp() + 1).log(), -(u.exp() + 1).log()]
            return density_formula(logits, Fraction(tau), logs, reals).exp()

        middle = sum(
            (acb.integral(density, acb(a), acb(a + 10)).real for a in np.arange(-reach, reach, 10.0)),
            arb(0),
        )
        beyond = 2 * (arb(abs(gap)) - arb(100)).exp()
        total = middle + arb(0, beyond)
        assert total.overlaps(arb(1))
        assert total.rad() < 1e-35


def test_pair_law_exact_cases_and_ends():
    law = both(pair_cdf, [0.0, 0.5, 1.0, -3.0, NAN, 0.25, 0.2], 0.0, tau=2.0)
    np.testing.assert_array_equal(law.round("binary64")[:6], [0.0, 0.5, 1.0, 0.0, NAN, 0.1])
    assert law.is_exact()[:6].all()
    shifted = both(pair_cdf, [0.5], 1.5, tau=0.3)
    with mp.workdps(60):
        assert holds(shifted, [1 / (1 + mp.exp(mpf(1.5)))])
    assert not shifted.is_exact().any()


def test_pair_law_of_the_smallest_and_largest_arguments():
    tiny = np.nextafter(0.0, 1.0)
    lower, upper = pair_cdf([tiny, 1 - 2.0**-53], 0.0, tau=0.01).bounds_decimal(10)
    assert 0.0005 < float(lower[0]) < float(upper[0]) < 0.0006
    assert float(lower[1]) < 0.6
    assert not pair_cdf([0.9], 0.0, tau=1e4).contains(1.0).any()


def test_gumbel_law():
    points = [-INF, -3.0, 0.0, 2.5, 1e3, INF, -1e300]
    law = both(gumbel_cdf, points)
    np.testing.assert_array_equal(law.round("binary64")[[0, 5, 6]], [0.0, 1.0, 0.0])
    with mp.workdps(60):
        expected = [mp.exp(-mp.exp(-exactly(v))) for v in points[1:5]]
    assert holds(law[1:5], expected)
    assert not law.contains(1.0)[4]
    assert not law.contains(0.0)[6]


@pytest.mark.parametrize("proof", gumbel_derivation.prove_all(), ids=lambda proof: proof.name)
def test_laws_are_proven(proof):
    assert proof.difference == 0


def test_a_wrong_closed_form_is_no_proof():
    """The check of the determinant can fail: tau^n in place of tau^(n - 1)."""
    proof = gumbel_derivation.determinant_proof(3)
    assert (
        gumbel_derivation.simplify(proof.derived**2 - (proof.closed_form * gumbel_derivation.tau) ** 2) != 0
    )


def test_argmax_of_exact_sums_has_the_law_of_softmax():
    """P(argmax = 0) for three classes by certified quadrature: the density of g_0 times the others' laws."""
    x = [0.5, -0.25, 1.0]
    with ctx.workprec(128):

        def integrand(u, _):
            # s = -log u, so that exp(-s) ds = du, over u > 0
            return (-(u * sum((arb(v) - arb(x[0])).exp() for v in x))).exp()

        total = sum((acb.integral(integrand, acb(k), acb(k + 1)).real for k in range(60)), arb(0))
        total += arb(0, (-arb(60)).exp())
    assert total.overlaps(arb_of(softmax(x), 0))
