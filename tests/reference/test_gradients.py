"""Jacobian and Hessian: exact cases, structure, and agreement with the derivation from the definition."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mpmath import mp
from sympy import KroneckerDelta, Rational, Sum, exp, log, symbols

from softcert import reference
from softcert.reference import derivation
from softcert.reference.enclosure import Enclosure

INF, NAN = math.inf, math.nan
PROOFS = {proof.name: proof for proof in derivation.prove_all()}


@pytest.mark.parametrize("name", PROOFS)
def test_each_closed_form_is_proven(name):
    assert PROOFS[name].difference == 0
    assert PROOFS[name].derived != 0 or name == "jacobian_rows_sum_to_zero"


def test_the_proofs_are_about_a_symbolic_number_of_classes():
    assert set(PROOFS) == {
        "softmax_jacobian",
        "logsumexp_gradient",
        "logsumexp_hessian",
        "log_softmax_jacobian",
        "jacobian_symmetry",
        "softmax_vjp_and_jvp",
        "jacobian_rows_sum_to_zero",
        "cross_entropy_gradient",
    }
    assert derivation.n in PROOFS["softmax_jacobian"].derived.free_symbols
    assert PROOFS["softmax_jacobian"].derived.atoms(Sum)


def test_a_wrong_closed_form_is_not_proven():
    wrong = derivation.softmax_of(derivation.i) * KroneckerDelta(derivation.i, derivation.j)
    assert derivation._prove("wrong", PROOFS["logsumexp_hessian"].derived, wrong).difference != 0


@pytest.mark.parametrize("name", ["softmax_jacobian", "logsumexp_hessian", "log_softmax_jacobian"])
def test_the_symbolic_derivative_is_that_of_a_concrete_one(name):
    """Collapsing sums over Kronecker deltas is the one step that is ours: check it with n = 3."""
    derived, size = PROOFS[name].derived, 3
    concrete = symbols("c1:4", real=True)
    total = sum((exp(derivation.beta * c) if name == "softmax_jacobian" else exp(c)) for c in concrete)
    for a in range(size):
        for b in range(size):
            scale = derivation.beta if name == "softmax_jacobian" else 1
            if name == "softmax_jacobian":
                wanted = (exp(scale * concrete[a]) / total).diff(concrete[b])
            elif name == "logsumexp_hessian":
                wanted = log(total).diff(concrete[a], concrete[b])
            else:
                wanted = (concrete[a] - log(total)).diff(concrete[b])
            got = derived.subs({derivation.n: size, derivation.i: a + 1, derivation.j: b + 1}).doit()
            got = got.subs({derivation.x[k + 1]: c for k, c in enumerate(concrete)})
            values = {c: Fraction(k * k - 2, 3) for k, c in enumerate(concrete)} | {
                derivation.beta: Fraction(7, 5)
            }
            assert abs((got - wanted).subs(values).evalf(30)) < 1e-25


@pytest.mark.parametrize("beta", [1.0, -0.5, 3.0])
def test_the_jacobian_is_what_the_derivation_says(beta):
    row = [0.25, -1.0, 2.0, 2.0, -30.0]
    e = reference.softmax_jacobian(row, beta=beta)
    for a in range(len(row)):
        for b in range(len(row)):
            places = {
                derivation.n: len(row),
                derivation.i: a + 1,
                derivation.j: b + 1,
                derivation.beta: Rational(beta),
            }
            derived = PROOFS["softmax_jacobian"].derived.subs(places).doit()
            exact = derived.subs({derivation.x[k + 1]: Rational(v) for k, v in enumerate(row)}).evalf(40)
            low, high = e[a, b].bounds_decimal(25)
            slack = abs(exact) * Rational(1, 10**38)
            assert Rational(low.item()) - slack <= exact <= Rational(high.item()) + slack


def test_equal_logits_have_a_rational_jacobian():
    e = reference.softmax_jacobian([7.0] * 3, beta=0.5)
    assert e.is_exact().all()
    assert e.contains(Fraction(-1, 18))[0, 1]
    assert e.contains(Fraction(1, 9))[1, 1]
    assert reference.softmax_jacobian([3.0]).round("float64").tolist() == [[0.0]]
    assert reference.softmax_jacobian([3.0, 4.0], beta=0.0).round("float64").tolist() == [[0, 0], [0, 0]]


def test_special_rows_of_the_jacobian():
    e = reference.softmax_jacobian([[0.0, -INF, 1.0], [NAN, 0.0, 1.0], [INF, 0.0, 0.0], [-INF] * 3])
    whole = e.round("float64")
    assert np.isnan(whole[1:]).all()
    assert (whole[0][1] == 0).all()
    assert (whole[0][:, 1] == 0).all()
    assert whole[0][0, 0] == -whole[0][0, 2] == whole[0][2, 2]
    assert e.shape == (4, 3, 3)


def test_entries_stay_below_a_quarter():
    e = reference.softmax_jacobian([0.0, 5e-324])
    assert e.round("float64").tolist() == [[0.25, -0.25], [-0.25, 0.25]]
    lower, upper = e.error_ulp(np.array([[0.25, -0.25], [-0.25, 0.25 - 2.0**-55]]))
    assert (upper[0] < 2.0**-50).all()
    assert 0.99 < lower[1, 1] <= upper[1, 1] < 1.01


@pytest.mark.parametrize("method", ["arb", "mpmath"])
def test_a_dominant_logit_does_not_cancel(method):
    """1 - p of the winner is the sum of the others, to full relative precision."""
    e = reference.softmax_jacobian([0.0, -800.0, -801.0], method=method)
    with mp.workdps(900):
        p = [mp.exp(v) for v in (0, -800, -801)]
        total = sum(p)
        wanted = mp.nstr(p[0] / total * (p[1] + p[2]) / total, 20)
    assert e[0, 0].digits(20).item() == wanted


def test_hessian_is_the_jacobian_at_beta_one():
    x = np.random.default_rng(4).normal(size=(2, 5))
    assert reference.logsumexp_hessian(x).overlaps(reference.softmax_jacobian(x)).all()
    assert isinstance(reference.logsumexp_hessian(x), Enclosure)


def test_products_with_the_jacobian_are_exact():
    rng = np.random.default_rng(8)
    y, d = rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))
    e = reference.softmax_vjp(y, d, axis=1)
    a, b = y[1, :, 2].tolist(), d[1, :, 2].tolist()
    mean = sum(Fraction(u) * Fraction(v) for u, v in zip(a, b, strict=True))
    assert e[1, :, 2].contains([Fraction(u) * (Fraction(v) - mean) for u, v in zip(a, b, strict=True)]).all()
    assert reference.softmax_jvp(y, d, axis=1).overlaps(e).all()
    assert (e.width_bits() == INF).all()
    lower, upper = e.error_ulp(e.round("float64"))
    assert (upper <= 0.5).all()
    assert (lower >= 0).all()


def test_products_take_any_scale_and_refuse_what_is_not_finite():
    e = reference.softmax_vjp([1e308, 5e-324], [1e308, -5e-324])
    assert e[0].round("float64") == -INF
    assert e[1].contains(
        Fraction(5e-324) * (Fraction(-5e-324) - Fraction(1e308) ** 2 + Fraction(5e-324) ** 2)
    )
    for bad in (NAN, INF, -INF):
        assert np.isnan(reference.softmax_vjp([0.5, 0.5], [bad, 1.0]).round("float64")).all()
        assert np.isnan(reference.softmax_jvp([bad, 0.5], [1.0, 1.0]).round("float64")).all()
    zero = reference.softmax_vjp([0.0, 1.0], [3.0, 3.0])
    assert zero.round("float64").tolist() == [0, 0]
    assert zero.error_ulp([0.0, 5e-324])[1].tolist() == [0, 1]


def test_exact_sums():
    values = [1e308, 1.0, -1e308, 5e-324]
    e = reference.exact_sum(values)
    assert e.shape == ()
    assert e.contains(1 + Fraction(5e-324))
    assert reference.exact_sum(np.zeros((3, 0))).round("float64").tolist() == [0, 0, 0]
    infinite = [[INF, 1.0], [-INF, 1.0], [INF, -INF], [NAN, INF]]
    np.testing.assert_array_equal(reference.exact_sum(infinite).round("float64"), [INF, -INF, NAN, NAN])
    narrow = np.array([0.1, 0.2, 0.7]).astype(ml_dtypes.bfloat16)
    assert reference.exact_sum(narrow).contains(sum(map(Fraction, narrow.astype(float).tolist())))
    assert reference.exact_sum(np.ones((2, 3, 4)), axis=1).shape == (2, 4)
