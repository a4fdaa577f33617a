"""The specification: every clause, in the order in which `softcert spec` prints them."""

from __future__ import annotations

from softcert.conformance.clauses import (
    accuracy,
    attention,
    attention_bias,
    attention_gradient,
    bias,
    boltzmann,
    determinism,
    gumbel,
    gumbel_samples,
    jacobian,
    limits,
    logistic,
    losses,
    luce,
    memory,
    order,
    permutation,
    purity,
    sampling,
    simplex,
    sparse,
    stability,
    translation,
    trees,
)
from softcert.conformance.spec import Clause

_MODULES = (
    simplex,
    accuracy,
    translation,
    bias,
    attention_bias,
    order,
    permutation,
    limits,
    logistic,
    luce,
    boltzmann,
    sampling,
    gumbel,
    gumbel_samples,
    jacobian,
    sparse,
    losses,
    trees,
    stability,
    attention,
    attention_gradient,
    memory,
    determinism,
    purity,
)

CLAUSES: tuple[Clause, ...] = tuple(clause for module in _MODULES for clause in module.CLAUSES)
