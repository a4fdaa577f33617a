"""The Boltzmann distribution: both oracles against closed forms, and its derivatives proven."""

from __future__ import annotations

from fractions import Fraction

import mpmath
import numpy as np
import pytest
from sympy import diff, log, simplify

from softcert import reference
from softcert.reference import (
    DomainError,
    boltzmann_mp,
    heat_capacity,
    largest_mean_gap,
    log_partition_function,
    mean_energy,
)
from softcert.reference.boltzmann_derivation import beta, mean, moment, prove_boltzmann
from softcert.reference.interval import negate

FUNCTIONS = (log_partition_function, mean_energy, heat_capacity)
RNG = np.random.default_rng(5)
ROWS = (
    [0.0, 1.0],
    [-1.0, 1.0, 1.0, 3.0],
    [2.0, 2.0],
    [5.0],
    [0.0, 1e5],
    [1e-300, 0.0, -1e-300],
    (RNG.standard_normal(9) * 3).tolist(),
)
BETAS = (1.0, -1.0, 0.0, Fraction(1, 3), 50.0, 2.0**-30)


def exact(row, coldness):
    """log Z, mean energy and C / k by their definitions, to 60 digits."""
    with mpmath.workdps(120):
        b = mpmath.mpf(Fraction(coldness).numerator) / Fraction(coldness).denominator
        energies = [mpmath.mpf(v) for v in row]
        weights = [mpmath.exp(-b * e) for e in energies]
        z = sum(weights)
        first = sum(w * e for w, e in zip(weights, energies, strict=True)) / z
        second = sum(w * (e - first) ** 2 for w, e in zip(weights, energies, strict=True)) / z
        return mpmath.log(z), first, b**2 * second


@pytest.mark.parametrize("coldness", BETAS, ids=str)
@pytest.mark.parametrize("method", ["arb", "mpmath"])
def test_enclosures_hold_the_definitions(method, coldness):
    for row in ROWS:
        for function, value in zip(FUNCTIONS, exact(row, coldness), strict=True):
            low, high = function(row, coldness, method=method).bounds_decimal(30)
            with mpmath.workdps(120):
                slack = abs(value) * mpmath.mpf(10) ** -80 + mpmath.mpf(10) ** -90
                assert mpmath.mpf(str(low)) - slack <= value <= mpmath.mpf(str(high)) + slack, (row, function)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_oracles_agree_and_round_alike(function):
    for row in (*ROWS, [1e300, -1e300, 0.0]):
        for coldness in BETAS:
            ours, theirs = (function(row, coldness, method=method) for method in ("arb", "mpmath"))
            assert ours.overlaps(theirs).all(), (row, coldness)
            np.testing.assert_array_equal(ours.round("float64"), theirs.round("float64"))


def test_an_oracle_that_errs_stops_a_cross_check(monkeypatch):
    energies = [0.0, 1.0, 3.5]
    for op in ("log_partition_function", "mean_energy", "heat_capacity"):
        assert reference.cross_check(op, energies, beta=2.0).shape == ()
    right = boltzmann_mp.heat_capacity
    monkeypatch.setattr(boltzmann_mp, "heat_capacity", lambda row, prec: negate(right(row, prec)))
    with pytest.raises(reference.OracleDisagreement, match="heat_capacity"):
        reference.cross_check("heat_capacity", energies, beta=2.0)


def test_log_z_is_the_logsumexp_of_the_scaled_energies():
    energies = np.array([[0.5, 1.25, 3.0], [2.0, -1.0, 0.0]])
    ours, theirs = log_partition_function(energies, 2.0), reference.logsumexp(-2.0 * energies)
    assert ours.shape == (2,)
    assert ours.digits(40).tolist() == theirs.digits(40).tolist()


def test_rows_along_any_axis():
    energies = RNG.standard_normal((3, 4))
    for function in FUNCTIONS:
        down = function(energies, axis=0).digits(20).tolist()
        assert down == [function(column).digits(20).item() for column in energies.T]


def test_two_levels_have_the_closed_forms():
    """E = D/(1 + e^(bD)), C = (bD)^2 e^(bD)/(1 + e^(bD))^2."""
    with mpmath.workdps(50):
        e = mpmath.exp(mpmath.mpf(3) / 2)
        mean_of, capacity = 3 / (1 + e), mpmath.mpf(9) / 4 * e / (1 + e) ** 2
        assert abs(mpmath.mpf(mean_energy([0.0, 3.0], 0.5).digits(40).item()) - mean_of) < 1e-38
        assert abs(mpmath.mpf(heat_capacity([0.0, 3.0], 0.5).digits(40).item()) - capacity) < 1e-38


def test_what_is_rational_is_exact():
    assert mean_energy([1.0, 2.0, 6.0], 0.0).contains(Fraction(3)).all()
    for enclosure in (
        mean_energy([1.0, 2.0, 6.0], 0.0),
        mean_energy([4.0, 4.0], 3.0),
        log_partition_function([4.0], Fraction(1, 3)),
        heat_capacity([4.0, 4.0]),
        heat_capacity([1.0, 2.0], 0.0),
        largest_mean_gap(1),
    ):
        assert enclosure.is_exact().all()
    assert not log_partition_function([4.0, 4.0]).is_exact().any()


@pytest.mark.parametrize("method", ["arb", "mpmath"])
def test_what_vanishes_beside_the_ground_state_still_decides_the_rounding(method):
    """<E> = 1 + 99999 e^-99999, beyond any precision tried: it is above 1, and that is enough."""
    for coldness, ground in ((1.0, 1.0), (-1.0, 1e5)):
        assert mean_energy([1.0, 1e5], coldness, method=method).round("float64") == ground
        assert (
            log_partition_function([1.0, 1e5], coldness, method=method).round("float64") == -coldness * ground
        )


@pytest.mark.parametrize("count", [2, 3, 10, 1000, 10**6])
def test_the_largest_mean_gap_solves_its_equation(count):
    ours, theirs = (largest_mean_gap(count, method=method) for method in ("arb", "mpmath"))
    assert ours.overlaps(theirs).all()
    with mpmath.workdps(50):
        w = mpmath.mpf(ours.digits(45).item())
        assert abs(w * mpmath.exp(w + 1) - (count - 1)) < mpmath.mpf(10) ** -35 * count


def test_no_row_exceeds_the_largest_mean_gap():
    for _ in range(50):
        n = int(RNG.integers(2, 30))
        row = np.append(RNG.exponential(RNG.choice([1.0, 3.0, 6.0]), n - 1), 0.0)
        assert mean_energy(row).round("float64") <= largest_mean_gap(n).round("float64")


def test_every_derivative_is_proven():
    proofs = prove_boltzmann()
    assert [proof.name for proof in proofs] == [
        "mean_energy",
        "variance",
        "heat_capacity",
        "largest_mean_gap",
    ]
    for proof in proofs:
        assert proof.difference == 0
        assert proof.derived.free_symbols


def test_a_wrong_closed_form_is_not_proven():
    assert simplify(diff(log(moment(0)), (beta, 2)) - mean(2)) != 0
    assert simplify(diff(log(moment(0)), beta) - mean(1)) != 0


@pytest.mark.parametrize(
    ("energies", "keywords", "words"),
    [
        ([1.0, np.inf], {}, "not finite"),
        ([1.0, np.nan], {}, "not finite"),
        ([], {}, "no energies"),
        ([1.0], {"axis": 1}, "axis=1"),
        ([1.0], {"beta": np.inf}, "beta="),
        (3.0, {}, "single number"),
    ],
)
def test_what_has_no_value_is_refused(energies, keywords, words):
    for function in FUNCTIONS:
        with pytest.raises(DomainError, match=words):
            function(energies, **keywords)


@pytest.mark.parametrize("count", [0, -1, 2.0, True, "3"])
def test_what_is_no_count_is_refused(count):
    with pytest.raises(DomainError, match="count="):
        largest_mean_gap(count)


def test_an_unknown_method_is_refused():
    for function in FUNCTIONS:
        with pytest.raises(ValueError, match="method='fast'"):
            function([1.0], method="fast")
    with pytest.raises(ValueError, match="method='fast'"):
        largest_mean_gap(2, method="fast")
