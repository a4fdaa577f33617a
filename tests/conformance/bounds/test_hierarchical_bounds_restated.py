"""The bounds of the hierarchical softmax are what docs/explanation/bounds.md derives, restated node by node.

As in `test_bounds_restated.py`: in 200-bit numbers, with loops in place of arrays.
"""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from mpmath import exp, expm1, log1p, mpf

from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.hierarchical import (
    branches_of,
    hierarchical_log_bound,
    hierarchical_vjp_bound,
    sides_of,
)
from softcert.reference import balanced_tree, huffman_tree

SCORES = np.array([0.5, -2.25, 3.0, 0.0, -0.125, 7.5, -9.0, 1.0, -0.75, 2.0])
SLACK, EVALUATION = 1 + mpf(2) ** -30, mpf(2) ** -38
ARITHMETICS = [
    arithmetic(contract, dtype)
    for dtype in ("float64", "float32", "float16")
    for form in ("division", "any")
    for contract in (
        Contract(form=form),
        Contract(form=form, flush_subnormals=True),
        Contract(form=form, exp_ulp=1.5, compute="float32"),
        Contract(form=form, accumulator="float64", exp_ulp=50.0),
    )
]


def underflow(a):
    if a.flush:
        return max(mpf(a.lambda_out), mpf(a.lambda_compute)) * (1 + 4 * mpf(a.u_compute))
    return (mpf(a.exp_ulp) + 0.5) * mpf(a.eta_compute) + mpf(a.eta_out) / 2


def rounded(a, error, value):
    growth = expm1(mpf(a.u_out)) if a.u_out > a.u_compute else 0
    return (error + growth * (value + error) + (a.lambda_out if a.flush else 0) + mpf(a.eta_out)) * SLACK


def sigma(t):
    return 1 / (1 + exp(-t))


def close(found, wanted):
    assert abs(mpf(float(found)) - wanted) <= EVALUATION * abs(wanted) + 4 * mpf(2) ** -1074, (found, wanted)


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_the_logarithm_is_as_derived(a):
    u, eps = mpf(a.u_compute), 2 * mpf(a.exp_ulp) * a.u_compute
    tree, leaves = balanced_tree(11), np.arange(11)
    s = SCORES[:10]
    with mpmath.workprec(200):
        for t, found in zip(
            branches_of(s, leaves, *tree).t,
            hierarchical_log_bound(branches_of(s, leaves, *tree), a),
            strict=True,
        ):
            path = [mpf(v) for v in t if np.isfinite(v)]
            rest = sum(log1p(exp(-abs(v))) for v in path)
            alpha = [0 if a.division else 3 * u * abs(v) for v in path]
            shift = sum(sigma(-abs(v)) * expm1(x + eps) for v, x in zip(path, alpha, strict=True))
            shift += 0 if a.division else len(path) * expm1(u)
            logs = shift + expm1(eps) * (rest + shift)
            narrowed = u if a.u_sum < a.u_compute else 0
            kappa = (1 if a.division else 3) * u + (len(path) - 1) * mpf(a.u_sum) + narrowed
            value = rest + sum(max(-v, 0) for v in path)
            error = logs + expm1(kappa) * (value + logs) + 2 * len(path) * underflow(a)
            close(found, rounded(a, error, value))


@pytest.mark.parametrize("a", ARITHMETICS)
def test_the_bound_of_the_derivative_is_as_derived(a):
    u, eps = mpf(a.u_compute), 2 * mpf(a.exp_ulp) * a.u_compute
    tree, leaves = huffman_tree([2**k for k in range(9)]), np.array([1, 4, 4, 7])
    s, dy = SCORES[None, 2:10], np.array([[1.5, -2.25, 0.5, 3.0]])
    found = hierarchical_vjp_bound(s, *sides_of(dy, leaves, *tree), a)[0]
    narrowed = u if a.u_sum < a.u_compute else 0
    product_under = max(a.lambda_out, a.lambda_compute) if a.flush else mpf(a.eta_compute) + mpf(a.eta_out)
    with mpmath.workprec(200):
        for node in range(8):
            sides = {1: [], -1: []}
            for leaf, slope in zip(leaves.tolist(), dy[0].tolist(), strict=True):
                part = slice(tree.path_starts[leaf], tree.path_starts[leaf + 1])
                on_path = dict(
                    zip(tree.path_nodes[part].tolist(), tree.path_signs[part].tolist(), strict=True)
                )
                if node in on_path:
                    sides[on_path[node]].append(mpf(slope))
            count = len(sides[1]) + len(sides[-1])
            if not count:
                assert found[node] == 0
                continue
            score = mpf(s[0, node])
            ahead, aside = (sum(map(abs, sides[k]), mpf(0)) for k in (1, -1))
            additions = (count - 1) * mpf(a.u_sum) + narrowed
            if a.division:
                error = (ahead * sigma(-score) + aside * sigma(score)) * expm1(eps + 3 * u + additions)
            else:
                wrong = sigma(-abs(score)) * expm1(eps + 3 * u * abs(score)) * exp(4 * u + additions)
                error = (ahead + aside) * (wrong + expm1(4 * u + additions) + expm1(additions))
            error += (ahead + aside) * underflow(a) + count * product_under
            value = abs(sum(sides[1], mpf(0)) * sigma(-score) - sum(sides[-1], mpf(0)) * sigma(score))
            close(found[node], rounded(a, error, value))


def test_bounds_of_many_rows_are_derived_row_by_row():
    tree = balanced_tree(11)
    rng = np.random.default_rng(1)
    s, leaves = rng.normal(size=(2, 3, 10)), rng.integers(0, 11, (2, 3, 4))
    dy, a = rng.normal(size=(2, 3, 4)), ARITHMETICS[0]
    logs = hierarchical_log_bound(branches_of(s, leaves, *tree), a)
    slopes = hierarchical_vjp_bound(s, *sides_of(dy, leaves, *tree), a)
    assert logs.shape == (2, 3, 4)
    assert slopes.shape == (2, 3, 10)
    for at in np.ndindex(2, 3):
        alone = hierarchical_log_bound(branches_of(s[at], leaves[at], *tree), a)
        np.testing.assert_array_equal(logs[at], alone)
        np.testing.assert_array_equal(
            slopes[at], hierarchical_vjp_bound(s[at], *sides_of(dy[at], leaves[at], *tree), a)
        )
    # one list of leaves for all rows, and a tree without nodes
    np.testing.assert_array_equal(
        hierarchical_log_bound(branches_of(s, leaves[0, 0], *tree), a)[0, 0], logs[0, 0]
    )
    single = balanced_tree(1)
    assert hierarchical_log_bound(branches_of(np.empty((2, 0)), np.array([0]), *single), a).shape == (2, 1)
    sides, signed = sides_of(np.ones((2, 1)), np.array([0]), *single)
    assert hierarchical_vjp_bound(np.empty((2, 0)), sides, signed, a).shape == (2, 0)
