"""Derivatives from the definitions, by sympy, for a symbolic number of classes.

The logits are the components x[1], ..., x[n] of an indexed symbol with symbolic n, the sums are
unevaluated, and each derivative is proven equal to the closed form that `gradients.py` computes.
"""

from __future__ import annotations

from typing import NamedTuple

from sympy import (
    Expr,
    IndexedBase,
    KroneckerDelta,
    S,
    Sum,
    Symbol,
    diff,
    exp,
    expand,
    log,
    simplify,
    symbols,
)

n = Symbol("n", integer=True, positive=True)
beta = Symbol("beta", real=True)
#: Free indices, and the bound ones of the sums; t is the target's.
i, j, k, m, t = symbols("i j k m t", integer=True)
#: Label smoothing and the factor of the z-loss.
smoothing, z_loss = symbols("s zeta", nonnegative=True)
x, y, v = IndexedBase("x"), IndexedBase("y"), IndexedBase("v")
#: The softmax outputs and the partition function, as plain symbols of the closed forms.
p_i, p_j, z = symbols("p_i p_j Z", positive=True)


class Proof(NamedTuple):
    """One derivative: from the definition, in closed form, and their simplified difference (0)."""

    name: str
    derived: Expr
    closed_form: Expr
    difference: Expr


def partition(scale: Expr = S.One) -> Expr:
    """sum_k exp(scale x_k)."""
    return Sum(exp(scale * x[k]), (k, 1, n))


def softmax_of(index: Symbol, scale: Expr = S.One) -> Expr:
    """exp(scale x_i) / sum_k exp(scale x_k): the definition."""
    return exp(scale * x[index]) / partition(scale)


def logsumexp_of() -> Expr:
    """log sum_k exp(x_k): the definition."""
    return log(partition())


def collapse(expression: Expr) -> Expr:
    """Evaluate sums over a Kronecker delta of the bound index.

    sympy differentiates x[k] by x[j] to delta(j, k) under the sum; for 1 <= j <= n the sum of
    f(k) delta(j, k) is f(j). sympy itself leaves a Piecewise over the range of j, or the sum as it is.
    """
    return expression.replace(lambda e: isinstance(e, Sum), _collapse_sum)


def _collapse_sum(total: Expr) -> Expr:
    body, (index, *_) = total.function, total.limits[0]
    terms = expand(body).as_ordered_terms()
    out = S.Zero
    for term in terms:
        deltas = [d for d in term.atoms(KroneckerDelta) if index in d.args]
        if not deltas:
            out += Sum(term, total.limits[0])
            continue
        delta = deltas[0]
        other = next(a for a in delta.args if a != index)
        out += (term / delta).subs(index, other)
    return out


def _prove(name: str, derived: Expr, closed_form: Expr) -> Proof:
    return Proof(name, derived, closed_form, simplify(derived - closed_form))


def softmax_jacobian_proof() -> Proof:
    """d softmax(beta x)_i / d x_j = beta p_i (delta_ij - p_j)."""
    derived = collapse(diff(softmax_of(i, beta), x[j]))
    closed = beta * softmax_of(i, beta) * (KroneckerDelta(i, j) - softmax_of(j, beta))
    return _prove("softmax_jacobian", derived, closed)


def logsumexp_gradient_proof() -> Proof:
    """d lse / d x_i = p_i."""
    return _prove("logsumexp_gradient", collapse(diff(logsumexp_of(), x[i])), softmax_of(i))


def logsumexp_hessian_proof() -> Proof:
    """d^2 lse / d x_i d x_j = p_i (delta_ij - p_j)."""
    derived = collapse(diff(collapse(diff(logsumexp_of(), x[i])), x[j]))
    closed = softmax_of(i) * (KroneckerDelta(i, j) - softmax_of(j))
    return _prove("logsumexp_hessian", derived, closed)


def log_softmax_jacobian_proof() -> Proof:
    """d (x_i - lse) / d x_j = delta_ij - p_j."""
    derived = collapse(diff(x[i] - logsumexp_of(), x[j]))
    return _prove("log_softmax_jacobian", derived, KroneckerDelta(i, j) - softmax_of(j))


def jacobian_symmetry_proof() -> Proof:
    """The Jacobian is its own transpose, so jvp and vjp are one function."""

    def entry(a: Symbol, b: Symbol) -> Expr:
        return collapse(diff(softmax_of(a, beta), x[b]))

    # where i = j both are the same expression, so the deltas' factors may be exchanged
    derived, closed = entry(i, j), entry(j, i)
    difference = (derived - closed).subs(KroneckerDelta(j, i), KroneckerDelta(i, j))
    off_diagonal = simplify(difference.subs(KroneckerDelta(i, j), 0))
    diagonal = simplify(difference.subs(i, j))
    return Proof("jacobian_symmetry", derived, closed, off_diagonal if off_diagonal != 0 else diagonal)


def product_proof() -> Proof:
    """sum_j y_i (delta_ij - y_j) v_j = y_i (v_i - sum_k y_k v_k): the closed form of vjp and jvp."""
    entry = y[i] * (KroneckerDelta(i, k) - y[k])
    derived = _pull_out(collapse(Sum(entry * v[k], (k, 1, n))))
    closed = expand(y[i] * (v[i] - Sum(y[k] * v[k], (k, 1, n))))
    return _prove("softmax_vjp_and_jvp", derived, closed)


def _pull_out(expression: Expr) -> Expr:
    """Move factors that do not depend on the bound index out of the sums."""

    def factored(total: Expr) -> Expr:
        index = total.limits[0][0]
        constant, rest = total.function.as_independent(index, as_Add=False)
        return constant * Sum(rest, total.limits[0])

    return expression.replace(lambda e: isinstance(e, Sum), factored)


def null_vector_proof() -> Proof:
    """sum_j p_i (delta_ij - p_j) = 0: shifting all logits changes nothing."""
    # sum_j exp(beta x_j) / Z = 1 by the definition of Z, here a symbol with that sum's value
    row = p_i * (KroneckerDelta(i, k) - exp(beta * x[k]) / z)
    derived = _pull_out(collapse(Sum(row, (k, 1, n)))).subs(partition(beta), z)
    return _prove("jacobian_rows_sum_to_zero", derived, S.Zero)


def cross_entropy_of() -> Expr:
    """(1 - s) (lse - x_t) + (s / n) sum_m (lse - x_m) + z lse^2: the definition, of a target t."""
    lse = logsumexp_of()
    spread = Sum(lse - x[m], (m, 1, n))
    return (1 - smoothing) * (lse - x[t]) + smoothing / n * spread + z_loss * lse**2


def cross_entropy_gradient_proof() -> Proof:
    """d loss / d x_j = p_j (1 + 2 z lse) - (1 - s) delta_tj - s / n."""
    derived = _pull_out(collapse(diff(cross_entropy_of(), x[j]))).doit()
    closed = softmax_of(j) * (1 + 2 * z_loss * logsumexp_of())
    closed -= (1 - smoothing) * KroneckerDelta(t, j) + smoothing / n
    return _prove("cross_entropy_gradient", derived, closed)


def prove_all() -> list[Proof]:
    """Every derivative that the reference evaluates, each with a difference that must be 0."""
    return [
        softmax_jacobian_proof(),
        logsumexp_gradient_proof(),
        logsumexp_hessian_proof(),
        log_softmax_jacobian_proof(),
        jacobian_symmetry_proof(),
        product_proof(),
        null_vector_proof(),
        cross_entropy_gradient_proof(),
    ]
