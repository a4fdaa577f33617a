"""Sparsemax and entmax: exact cases, the conditions of optimality, and derivatives from the definition."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from mpmath import mp, mpf

from softcert import reference
from softcert.reference import DomainError, Enclosure, Interval, entmax, entmax_vjp, sparsemax, sparsemax_vjp
from softcert.reference.cells import Cells

INF, NAN = math.inf, math.nan


def drawn(*key, scale=1.0, size=1):
    """Normal numbers that depend on the key alone, whatever else is run."""
    return np.random.default_rng([5, *key]).normal(scale=scale, size=size)


ORDERS = (1.0625, Fraction(4, 3), 1.5, 1.7, 2.0, 3.0, 5.5)


def by_bisection(x, alpha):
    """Entmax with 60 digits, from the definition."""
    with mp.workdps(90):
        order = mpf(Fraction(alpha).numerator) / Fraction(alpha).denominator - 1
        z = [order * mpf(v) for v in x]
        low, high = max(z) - 1, max(z)
        for _ in range(260):
            tau = (low + high) / 2
            total = sum((v - tau) ** (1 / order) for v in z if v > tau)
            low, high = (tau, high) if total > 1 else (low, tau)
        return [(v - low) ** (1 / order) if v > low else mpf(0) for v in z]


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("spread", [0.1, 1.0, 4.0])
def test_enclosures_hold_what_the_definition_gives(alpha, spread):
    for n in (1, 2, 3, 7, 20):
        x = drawn(1, n, scale=spread, size=n)
        exact = by_bisection(x.tolist(), alpha)
        lower, upper = entmax(x, alpha=alpha).bounds_decimal(30)
        with mp.workdps(60):
            for low, high, value in zip(lower, upper, exact, strict=True):
                assert mpf(low) - mpf("1e-50") <= value <= mpf(high) + mpf("1e-50")
        enclosure = entmax(x, alpha=alpha)
        rounded = enclosure.round("binary64")
        # Of a midpoint, as order 3 has them, 60 digits do not tell the rounding.
        known = zip(enclosure.is_exact().tolist(), exact, rounded.tolist(), strict=True)
        assert all(certain or float(value) == nearest for certain, value, nearest in known)
        np.testing.assert_allclose(rounded, [float(v) for v in exact], rtol=2.0**-52)


def test_sparsemax_is_the_projection():
    """Rational throughout: sums to 1, and no point of the simplex is nearer."""
    for n in (1, 2, 5, 30):
        x = drawn(2, n, size=n)
        p = [Fraction(a) for a in _rationals(sparsemax(x))]
        assert sum(p) == 1
        excess = [Fraction(v) - q for v, q in zip(x.tolist(), p, strict=True)]
        tau = max(excess)
        assert all(e == tau for e, q in zip(excess, p, strict=True) if q)


def _rationals(enclosure):
    cells = [enclosure.known(k) for k in enclosure.cells_of_elements.tolist()]
    return [c if isinstance(c, Fraction) else Fraction(c.lo) * Fraction(2) ** c.exp for c in cells]


@pytest.mark.parametrize(
    ("x", "alpha", "expected"),
    [
        ([0.0, 0.0, 0.0], 1.5, [Fraction(1, 3)] * 3),
        ([7.0, -INF, 7.0], 3.0, [Fraction(1, 2), 0, Fraction(1, 2)]),
        ([0.0, -1.0], 2.0, [1, 0]),
        ([0.0, -2.0], 1.5, [1, 0]),
        ([1e300, 0.0], 1.01, [1, 0]),
        ([0.25, 0.0, -3.0], 2.0, [Fraction(5, 8), Fraction(3, 8), 0]),
        # u + sqrt(u^2 - d) = 1: two logits of order 3 have rational shares, here next to a midpoint.
        ([2.0**-54, 0.0], 3.0, [Fraction(1, 2) + Fraction(1, 2**54), Fraction(1, 2) - Fraction(1, 2**54)]),
        # tau is 4/5 below the largest
        ([1.0, 0.0, 0.0, 0.0, 0.0], 1.5, [Fraction(16, 25)] + [Fraction(9, 100)] * 4),
    ],
)
def test_exact_cases(x, alpha, expected):
    enclosure = entmax(x, alpha=alpha)
    assert enclosure.is_exact().all()
    assert _rationals(enclosure) == expected


def test_a_midpoint_of_two_rational_shares_is_rounded_to_even():
    x = np.array([2.0**-54, 0.0])
    np.testing.assert_array_equal(entmax(x, alpha=3.0).round("binary64"), [0.5, 0.5 - 2.0**-54])


@pytest.mark.parametrize("alpha", ORDERS)
@pytest.mark.parametrize("special", [NAN, INF])
def test_special_values(alpha, special):
    assert np.isnan(entmax([0.0, special, 1.0], alpha=alpha).to_float64()).all()
    assert np.isnan(entmax([-INF, -INF], alpha=alpha).to_float64()).all()
    assert entmax([0.0, -INF], alpha=alpha).round("binary64").tolist() == [1.0, 0.0]


def test_orders_one_and_two_are_softmax_and_sparsemax():
    x = drawn(3, size=(3, 5)).astype(np.float32)
    for axis in (0, 1):
        assert entmax(x, axis, 1).overlaps(reference.softmax(x, axis)).all()
        np.testing.assert_array_equal(
            entmax(x, axis, 2).round("binary32"), sparsemax(x, axis).round("binary32")
        )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: entmax([1.0], alpha=0.5), "below 1"),
        (lambda: entmax([1.0], alpha=INF), "not finite"),
        (lambda: sparsemax([]), "at least one element"),
        (lambda: sparsemax_vjp([1.0], [1.0, 2.0]), "has shape"),
        (lambda: entmax_vjp(np.empty((2, 0)), np.empty((2, 0))), "at least one element"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()


# --- derivatives -------------------------------------------------------------------------------------


def test_the_jacobian_follows_from_the_definition():
    """Implicit differentiation of sum u_i^e = 1, u_i = x_i / e - tau, for a symbolic e = 1 / (alpha - 1)."""
    e, slope = sympy.symbols("e slope", positive=True)
    u = sympy.symbols("u1:4", positive=True)
    weights = [v ** (e - 1) for v in u]
    for j in range(3):
        changes = [sympy.diff(v**e, v) * (int(i == j) / e - slope) for i, v in enumerate(u)]
        (solved,) = sympy.solve(sum(changes), slope)
        for i in range(3):
            closed = weights[i] * (int(i == j) - weights[j] / sum(weights))
            assert sympy.simplify(sympy.expand_power_exp(changes[i].subs(slope, solved) - closed)) == 0


@pytest.mark.parametrize("alpha", [1.25, 1.5, 1.7, 2.0, 3.0])
def test_products_are_those_of_difference_quotients(alpha):
    x, dx = drawn(4, size=4).tolist(), drawn(5, size=4).tolist()
    with mp.workdps(60):
        step = mpf(2) ** -60
        ahead, behind = (
            by_bisection([v + s * step * d for v, d in zip(x, dx, strict=True)], alpha) for s in (1, -1)
        )
        expected = [float((a - b) / (2 * step)) for a, b in zip(ahead, behind, strict=True)]
    y = entmax(np.array(x), alpha=alpha).round("binary64")
    got = entmax_vjp(y, dx, alpha=alpha).to_float64()
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-12)


def test_products_that_are_rational_are_exact():
    dy = [1.0, 2.0, 4.0, -1.0]
    assert entmax_vjp([0.25] * 4, dy).is_exact().all()
    assert _rationals(entmax_vjp([0.25] * 4, dy)) == [Fraction(v) / 2 for v in (-0.5, 0.5, 2.5, -2.5)]
    # square roots 1/2 and 1/4
    assert entmax_vjp([0.25, 0.0625], [1.0, 0.0]).is_exact().all()
    assert _rationals(entmax_vjp([0.5, 0.25], [3.0, 1.0], alpha=1)) == [Fraction(1, 3), Fraction(-1, 3)]
    assert _rationals(sparsemax_vjp([0.5, 0.0, 0.5], [1.0, 9.0, 2.0])) == [Fraction(-1, 2), 0, Fraction(1, 2)]


def test_products_that_vanish_are_exactly_zero():
    """The roots of 2^-5 and 2^-3 are as 1 to 2; that of 3 * 2^-5 is of a class of its own."""
    y = [2.0**-5, 2.0**-3, 3 * 2.0**-5]
    for dy, vanishes in (([1.0, 1.0, 1.0], True), ([3.0, 0.0, 1.0], True), ([3.0, 0.5, 1.0], False)):
        assert (_rationals(entmax_vjp(y, dy))[2] == 0) == vanishes
        assert entmax_vjp(y, dy).is_exact()[2] == vanishes
    assert np.isnan(entmax_vjp([0.0, 0.0], [1.0, 2.0]).to_float64()).all()


@pytest.mark.parametrize("alpha", ORDERS)
def test_both_paths_agree(alpha):
    """They share neither an algorithm nor what raises to a power."""
    for n in (1, 2, 5, 12):
        for x in (drawn(6, n, size=n), np.rint(drawn(7, n, size=n) * 2) / 4, np.full(n, 3.0)):
            reference.cross_check("entmax", x, alpha=alpha)
            y = entmax(x, alpha=alpha).to_float64()
            reference.cross_check("entmax_vjp", y, drawn(8, n, size=n), alpha=alpha)
            if alpha == 2:
                reference.cross_check("sparsemax", x)
                reference.cross_check("sparsemax_vjp", y, drawn(8, n, size=n))


def test_the_second_path_is_narrow_where_its_threshold_is_a_step_of_the_halving():
    """tau = -1/2 and tau = -3/4: the sum at the step itself has no certain sign."""
    for x, alpha in (([0.0, 0.0], 2.0), ([0.5, 0.0, 0.0], 2.0), ([0.0, 0.0, 0.0, 0.0], 1.5)):
        second = entmax(x, alpha=alpha, method="mpmath")
        assert second.overlaps(entmax(x, alpha=alpha)).all()
    narrow = entmax([0.25, 0.0, 0.0, -0.25], alpha=3.0, method="mpmath")
    low, high = narrow.bounds_decimal(30)
    assert all(abs(mpf(a) - mpf(b)) < mpf("1e-28") for a, b in zip(low, high, strict=True))


def test_unknown_methods_are_refused():
    for call in (lambda: sparsemax([1.0], method="sort"), lambda: entmax([1.0], method="sort")):
        with pytest.raises(ValueError, match="is not one of"):
            call()


@pytest.mark.parametrize("alpha", [1.75, 1.25, Fraction(4, 3), 3.0])
def test_shares_beside_one_at_the_threshold_are_known_exactly(alpha):
    """Four alike have a quarter each, although their threshold is no rational number."""
    step = Fraction(alpha) - 1
    depth = 4.0 ** -float(step) / float(step)
    for lower, shared in ((np.nextafter(-depth, -9), True), (np.nextafter(-depth, 0), False)):
        x = np.array([0.0, 0.0, 0.0, 0.0, lower])
        shares = entmax(x, alpha=alpha)
        assert shares.is_exact().all() == shared
        assert (shares.to_float64()[4] == 0.0) == shared
        np.testing.assert_allclose(shares.to_float64()[:4], 0.25, rtol=1e-12)


def test_a_point_value_is_near_where_thousands_of_bits_do_not_tell_a_binade():
    """A quarter, as an interval whose ends no float holds, in a block that gets no narrower."""
    cells = Cells()
    wide = Interval((1 << 9000) - 1, (1 << 9000) + 1, -9002)
    cells.add_block(lambda _prec: [wide], 1 << 13)
    assert Enclosure(cells, np.array([0])).to_float64().tolist() == [0.25]
