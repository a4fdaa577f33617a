"""Derivatives of log Z in the inverse temperature, by sympy, for a symbolic number of states.

The energies are the components x[1], ..., x[n] of an indexed symbol with symbolic n, the sums are
unevaluated.
"""

from __future__ import annotations

from sympy import Expr, Sum, Symbol, diff, exp, log, simplify, symbols

from softcert.reference.derivation import Proof, beta, k, n, x

temperature, boltzmann = symbols("T k_B", positive=True)


def moment(power: int, coldness: Expr = beta) -> Expr:
    """sum_k x_k^power exp(-beta x_k); the partition function for power 0."""
    return Sum(x[k] ** power * exp(-coldness * x[k]), (k, 1, n))


def mean(power: int, coldness: Expr = beta) -> Expr:
    """<E^power>: the definition."""
    return moment(power, coldness) / moment(0, coldness)


def _proof(name: str, derived: Expr, closed_form: Expr) -> Proof:
    return Proof(name, derived, closed_form, simplify((derived - closed_form).doit(deep=False)))


def _in_beta(order: int) -> Expr:
    return diff(log(moment(0)), (beta, order))


def mean_energy_proof() -> Proof:
    """<E> = -d log Z / d beta."""
    return _proof("mean_energy", -_in_beta(1), mean(1))


def variance_proof() -> Proof:
    """<E^2> - <E>^2 = d^2 log Z / d beta^2, hence log Z is convex in beta."""
    return _proof("variance", _in_beta(2), mean(2) - mean(1) ** 2)


def heat_capacity_proof() -> Proof:
    """d <E> / d T = k beta^2 (<E^2> - <E>^2), beta = 1/(k T)."""
    coldness = 1 / (boltzmann * temperature)
    closed = boltzmann * coldness**2 * (mean(2, coldness) - mean(1, coldness) ** 2)
    return _proof("heat_capacity", diff(mean(1, coldness), temperature), closed)


def largest_mean_gap_proof() -> Proof:
    """(d - w) e^-d rises up to d = 1 + w and falls beyond, and is e^-(1 + w) there."""
    d, w = Symbol("d", nonnegative=True), Symbol("w", nonnegative=True)
    term = (d - w) * exp(-d)
    slope, largest = (1 + w - d) * exp(-d), exp(-(1 + w))
    difference = simplify(diff(term, d) - slope)
    peak = simplify(term.subs(d, 1 + w) - largest)
    return Proof("largest_mean_gap", diff(term, d), slope, difference if difference != 0 else peak)


def prove_boltzmann() -> list[Proof]:
    """Every derivative that `boltzmann` rests on, each with a difference that must be 0."""
    return [
        mean_energy_proof(),
        variance_proof(),
        heat_capacity_proof(),
        largest_mean_gap_proof(),
    ]
