"""The hierarchical softmax from its definition, by sympy: sums to 1, and derivatives for any path length."""

from __future__ import annotations

from sympy import Expr, IndexedBase, S, Sum, Symbol, diff, exp, log, simplify, symbols

from softcert.reference.derivation import Proof, collapse, i, k, n

s, tau = IndexedBase("s"), IndexedBase("tau")
#: Scores of the nodes by vectors: s_n = sum_a v[n, a] h[a].
v, h = IndexedBase("v"), IndexedBase("h")
a, b = symbols("a b", integer=True)
#: Number of features.
m = Symbol("m", integer=True, positive=True)
score = Symbol("score", real=True)
#: What the leaves of either side of a node sum to, given that the node is reached.
left, right = symbols("left right", positive=True)


def sigma(x: Expr) -> Expr:
    """The logistic function."""
    return 1 / (1 + exp(-x))


def log_p() -> Expr:
    """sum_k log sigma(tau_k s_k) of a path of n nodes: the definition."""
    return Sum(log(sigma(tau[k] * s[k])), (k, 1, n))


def _prove(name: str, derived: Expr, closed_form: Expr) -> Proof:
    return Proof(name, derived, closed_form, simplify(derived - closed_form))


def sum_proof() -> Proof:
    """The leaves of a tree sum to 1: by induction, those of a node do if those of both its branches do."""
    derived = sigma(score) * left + sigma(-score) * right
    return _prove("leaves_sum_to_one", derived.subs({left: 1, right: 1}), S.One)


def two_leaves_proof() -> Proof:
    """A tree of two leaves is the softmax of (score, 0)."""
    derived = exp(score) / (exp(score) + exp(S.Zero))
    return _prove("two_leaves_are_logistic", derived, sigma(score))


def path_gradient_proof() -> Proof:
    """d log p / d s_i = tau_i (1 - sigma(tau_i s_i)), and nothing where i is off the path."""
    derived = collapse(diff(log_p(), s[i]))
    return _prove("path_gradient", derived, tau[i] * (1 - sigma(tau[i] * s[i])))


def label_proofs() -> list[Proof]:
    """tau (1 - sigma(tau s)) = t - sigma(s), t = 1 on the branch tau = 1 and 0 on tau = -1."""
    return [
        _prove(f"label_{label}", sign * (1 - sigma(sign * score)), label - sigma(score))
        for sign, label in ((S.One, S.One), (S.NegativeOne, S.Zero))
    ]


def vector_proofs() -> list[Proof]:
    """Through s_k = sum_a v_ka h_a: d log p / d v_ib = g_i h_b, and d log p / d h_b = sum_k g_k v_kb."""
    product = Sum(v[k, a] * h[a], (a, 1, m))
    one = Sum(v[i, a] * h[a], (a, 1, m))
    by_vector = collapse(diff(one, v[i, b]))
    by_hidden = collapse(diff(product, h[b]))
    return [
        _prove("score_by_node_vector", by_vector, h[b]),
        _prove("score_by_hidden_vector", by_hidden, v[k, b]),
    ]


def prove_all() -> list[Proof]:
    """Every identity that the reference or the docs rest on, each with a difference that must be 0."""
    return [sum_proof(), two_leaves_proof(), path_gradient_proof(), *label_proofs(), *vector_proofs()]
