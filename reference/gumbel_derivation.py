"""The laws of Gumbel noise by sympy: of the argmax, of two coordinates, and the density on the simplex.

The steps that hold for any number of classes n are done with a symbolic n; the Jacobian determinant of the
change of variables is computed for the n that it is asked for.
"""

from __future__ import annotations

from sympy import (
    Matrix,
    S,
    Symbol,
    diff,
    exp,
    expand_log,
    factor,
    gamma,
    integrate,
    limit,
    log,
    oo,
    powsimp,
    prod,
    simplify,
    symbols,
)

from softcert.reference.derivation import Proof

tau = Symbol("tau", positive=True)
s, gap = symbols("s gap", real=True)
t = Symbol("t", positive=True)
#: A sum of positive weights, and a number of classes.
total, n = symbols("A n", positive=True)


def argmax_proof() -> Proof:
    """P(i is the argmax) = exp(x_i) / sum_j exp(x_j), for any number of classes.

    Given g_i = s, the others stay below with probability prod_j exp(-exp(x_j - x_i - s)), so that with the
    density exp(-s - exp(-s)) of s the integrand is exp(-s - A exp(-s)), A = sum_j exp(x_j - x_i).
    """
    integrand = exp(-s) * exp(-total * exp(-s))
    # By t = exp(-s), which runs from oo down to 0.
    derived = integrate(simplify(integrand.subs(s, -log(t)) / t), (t, 0, oo))
    return Proof("gumbel_argmax", derived, 1 / total, simplify(derived - 1 / total))


def shift_integral_proof() -> Proof:
    """The integral over s of exp(-n s - A exp(-s)) is Gamma(n) / A^n, for symbolic n.

    It is what is left of the joint density of x_i + g_i = tau log y_i + s once s is integrated over.
    """
    derived = integrate(t ** (n - 1) * exp(-total * t), (t, 0, oo))
    closed = gamma(n) * total ** (-n)
    return Proof("shift_integral", derived, closed, simplify(derived - closed))


def determinant_proof(classes: int) -> Proof:
    """d(tau log y_i + s) / d(y_1, ..., y_(n-1), s) has determinant tau^(n-1) / prod_i y_i, up to its sign."""
    y = symbols(f"y1:{classes}", positive=True)
    points = (*y, 1 - sum(y))
    rows = [tau * log(point) + s for point in points]
    determinant = factor(Matrix([[diff(row, v) for v in (*y, s)] for row in rows]).det())
    closed = tau ** (classes - 1) / prod(points)
    difference = simplify(determinant**2 - closed**2)
    return Proof(f"determinant_{classes}", determinant, closed, difference)


def density_proof(classes: int) -> Proof:
    """The density of y: the joint one of the x_i + g_i, the determinant and the integral over s together."""
    y = symbols(f"y1:{classes + 1}", positive=True)
    pi = symbols(f"pi1:{classes + 1}", positive=True)
    scaled = [p * v ** (-tau) for p, v in zip(pi, y, strict=True)]
    # prod_i exp(x_i - z_i - exp(x_i - z_i)) at z_i = tau log y_i + s, without what depends on s
    derived = gamma(classes) * sum(scaled) ** (-classes) * prod(scaled) * tau ** (classes - 1) / prod(y)
    closed = (
        gamma(classes)
        * tau ** (classes - 1)
        * sum(scaled) ** (-classes)
        * prod(p / v ** (tau + 1) for p, v in zip(pi, y, strict=True))
    )
    return Proof(f"density_{classes}", derived, closed, simplify(powsimp(derived / closed)) - 1)


def pair_law_proof() -> Proof:
    """The derivative of sigma(tau logit(t) - gap) is the density of two classes, pi = (exp(gap), 1)."""
    u = Symbol("u", positive=True)
    # odds u = t / (1 - t) for t, so that sympy need not know that 1 - t is positive
    point = u / (1 + u)
    derived = diff(1 / (1 + exp(gap) * u ** (-tau)), u) / diff(point, u)
    first, second = exp(gap) * point ** (-tau), (1 / (1 + u)) ** (-tau)
    closed = tau * first * second / (first + second) ** 2 / (point / (1 + u))
    ratio = simplify(expand_log(log(simplify(derived / closed)), force=True))
    return Proof("pair_law", derived, closed, ratio)


def pair_limits_proof() -> Proof:
    """sigma(tau logit(t) - gap) rises from 0 to 1 on (0, 1), so that it is the law and no multiple of it."""
    # v = ((1 - t) / t)^tau falls from oo to 0 while t rises from 0 to 1
    v = Symbol("v", positive=True)
    law = 1 / (1 + exp(gap) * v)
    ends = limit(law, v, 0) - limit(law, v, oo)
    return Proof("pair_limits", ends, S.One, simplify(ends - 1))


def logistic_proof() -> Proof:
    """P(g_i - g_j <= z) = sigma(z): the integral over g_j = s of its density times P(g_i <= s + z)."""
    z = Symbol("z", real=True)
    rate = 1 + exp(-z)
    derived = integrate(exp(-rate * t), (t, 0, oo))
    return Proof("logistic", derived, 1 / rate, simplify(derived - 1 / rate))


def prove_all() -> list[Proof]:
    """Every law that `gumbel.py` states, each with a difference that must be 0."""
    return [
        argmax_proof(),
        shift_integral_proof(),
        *(determinant_proof(classes) for classes in (2, 3, 4)),
        *(density_proof(classes) for classes in (2, 3, 4)),
        logistic_proof(),
        pair_law_proof(),
        pair_limits_proof(),
    ]
