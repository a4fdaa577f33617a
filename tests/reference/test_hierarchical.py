"""The hierarchical softmax: the definition, sums to 1, exact cases, special scores, both oracles alike."""

import math
from fractions import Fraction

import numpy as np
import pytest
import sympy
from mpmath import mp, mpf

from softcert import reference
from softcert.reference import (
    DomainError,
    OracleDisagreement,
    arb_oracle,
    balanced_tree,
    hierarchical_derivation,
    hierarchical_log_softmax,
    hierarchical_log_softmax_vjp,
    hierarchical_softmax,
    huffman_tree,
)

INF, NAN = math.inf, math.nan
PROOFS = {proof.name: proof for proof in hierarchical_derivation.prove_all()}
TREES = {
    "two": balanced_tree(2),
    "balanced": balanced_tree(13),
    "zipf": huffman_tree([1000 // k for k in range(1, 20)]),
    "deep": huffman_tree([2**k for k in range(12)]),
}
METHODS = ("mpmath", "arb")


def scores(classes, kind, rng):
    """Node scores: ordinary, vast, next to 0, with ties, and such as give p no decimal digits."""
    n = classes - 1
    return {
        "normal": rng.normal(scale=3.0, size=n),
        "vast": rng.choice([-1e6, 1e6, 700.0, -700.0, 1.5], size=n),
        "beyond digits": rng.choice([-1e300, 1e300, 700.0, -700.0, 1.5], size=n),
        "tiny": rng.choice([5e-324, -5e-324, 1e-300, 0.0], size=n),
        "ties": rng.choice([0.0, 1.0, -1.0], size=n),
    }[kind]


KINDS = ("normal", "vast", "tiny", "ties")


def path(tree, leaf):
    part = slice(tree.path_starts[leaf], tree.path_starts[leaf + 1])
    return list(zip(tree.path_nodes[part].tolist(), tree.path_signs[part].tolist(), strict=True))


def sigma(x):
    return 1 / (1 + mp.exp(-mpf(x)))


def rationals(enclosure):
    cells = [enclosure.known(k) for k in enclosure.cells_of_elements.tolist()]
    return [c if isinstance(c, Fraction) else Fraction(c.lo) * Fraction(2) ** c.exp for c in cells]


# --- proofs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROOFS)
def test_each_closed_form_is_proven(name):
    assert PROOFS[name].difference == 0
    assert PROOFS[name].derived != 0


def test_the_derivative_is_about_paths_of_any_length():
    assert hierarchical_derivation.log_p().atoms(sympy.Sum)
    assert hierarchical_derivation.n in hierarchical_derivation.log_p().free_symbols
    wrong = hierarchical_derivation.sigma(hierarchical_derivation.score)
    found = hierarchical_derivation._prove("wrong", PROOFS["label_1"].derived, -wrong)
    assert found.difference != 0


@pytest.mark.parametrize("tree", [balanced_tree(5), huffman_tree([1, 1, 2, 3, 5])])
def test_leaves_sum_to_one_for_all_scores(tree):
    """Whole trees, with symbols for scores."""
    symbols = sympy.symbols("s:4", real=True)
    terms = [
        sympy.prod(hierarchical_derivation.sigma(sign * symbols[node]) for node, sign in path(tree, leaf))
        for leaf in range(5)
    ]
    assert sympy.simplify(sum(terms)) == 1


# --- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TREES)
def test_enclosures_hold_what_the_definition_gives(name, kind):
    tree = TREES[name]
    s = scores(tree.classes, kind, np.random.default_rng(1))
    leaves = np.arange(tree.classes)
    logs, shares = hierarchical_log_softmax(s, leaves, *tree), hierarchical_softmax(s, leaves, *tree)
    with mp.workdps(700):
        exact = [mp.fprod(sigma(sign * s[n]) for n, sign in path(tree, leaf)) for leaf in leaves]
        # not through p: 1 - 10^-(10^299) has no digits here, and its logarithm has
        exact_logs = [
            -mp.fsum(
                mp.log1p(mp.exp(-abs(mpf(s[n])))) + max(-sign * mpf(s[n]), 0) for n, sign in path(tree, leaf)
            )
            for leaf in leaves
        ]
        for enclosure, values in ((shares, exact), (logs, exact_logs)):
            lower, upper = enclosure.bounds_decimal(30)
            for low, high, value in zip(lower, upper, values, strict=True):
                slack = abs(value) * mpf("1e-600")
                assert mpf(low) - slack <= value <= mpf(high) + slack


@pytest.mark.parametrize("kind", [*KINDS, "beyond digits"])
@pytest.mark.parametrize("name", TREES)
def test_the_oracles_agree(name, kind):
    tree, rng = TREES[name], np.random.default_rng(2)
    s, leaves = scores(tree.classes, kind, rng), np.arange(tree.classes)
    dy = rng.choice([-2.0, 0.5, 3.0], size=tree.classes)
    for op, operands, fmt in (
        ("hierarchical_softmax", (s, leaves), "float32"),
        ("hierarchical_log_softmax", (s, leaves), "float32"),
        ("hierarchical_log_softmax_vjp", (s, dy, leaves), "float64"),
    ):
        arb = reference.cross_check(op, *operands, *tree).round(fmt)
        np.testing.assert_array_equal(reference.OPS[op](*operands, *tree, method="mpmath").round(fmt), arb)


def test_oracles_that_disagree_are_reported(monkeypatch):
    given = arb_oracle.softmax_row
    monkeypatch.setattr(arb_oracle, "softmax_row", lambda row, prec: given(row, prec)[::-1])
    with pytest.raises(OracleDisagreement, match="hierarchical_softmax"):
        reference.cross_check("hierarchical_softmax", [0.5], [0], *balanced_tree(2))


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_of_all_leaves_enclose_the_sum_one(kind):
    for tree in TREES.values():
        for s in (scores(tree.classes, kind, np.random.default_rng(k)) for k in range(2)):
            p = hierarchical_softmax(s, np.arange(tree.classes), *tree)
            p.bounds_decimal(20)
            ends = [p.known(k) for k in p.cells_of_elements.tolist()]
            # what is below 2^-2000 is left out of the lower end, and counted as that in the upper
            small = Fraction(1, 2**2000)
            low = sum(Fraction(c.lo) * Fraction(2) ** c.exp for c in ends if c.exp > -4000)
            high = sum(Fraction(c.hi) * Fraction(2) ** c.exp if c.exp > -4000 else small for c in ends)
            assert low <= 1 <= high
            assert high - low < Fraction(1, 2**60)


def test_two_leaves_are_the_logistic_function_and_softmax():
    s = np.array([[0.3], [-40.0], [1e-12], [800.0], [-800.0]])
    tree = balanced_tree(2)
    pair = np.concatenate([s, np.zeros_like(s)], axis=1)
    p, logs = hierarchical_softmax(s, [0, 1], *tree), hierarchical_log_softmax(s, [0, 1], *tree)
    for fmt in ("float64", "float32", "bfloat16"):
        np.testing.assert_array_equal(p.round(fmt), reference.softmax(pair).round(fmt))
        np.testing.assert_array_equal(logs.round(fmt), reference.log_softmax(pair).round(fmt))
    y = reference.softmax(pair[0]).to_float64()
    slope = hierarchical_log_softmax_vjp(s[0], [1.0, 0.0], [0, 1], *tree)
    assert abs(slope.to_float64()[0] - y[1]) < 1e-15


def test_shapes_are_broadcast_and_leaves_may_repeat():
    tree, rng = balanced_tree(6), np.random.default_rng(4)
    s = rng.normal(size=(2, 3, 5)).astype(np.float32)
    every = hierarchical_log_softmax(s, np.arange(6), *tree).round("float32")
    leaves = rng.integers(0, 6, (2, 3, 4))
    got = hierarchical_log_softmax(s, leaves, *tree)
    assert got.shape == (2, 3, 4)
    np.testing.assert_array_equal(got.round("float32"), np.take_along_axis(every, leaves, -1))
    twice = hierarchical_log_softmax_vjp(s[0, 0], [1.0, 1.0], [2, 2], *tree)
    once = hierarchical_log_softmax_vjp(s[0, 0], [2.0], [2], *tree)
    np.testing.assert_array_equal(twice.round("float64"), once.round("float64"))
    assert hierarchical_log_softmax(s, np.zeros((2, 3, 0), int), *tree).shape == (2, 3, 0)


# --- exact cases -------------------------------------------------------------------------------------


def test_scores_of_zero_give_powers_of_two_and_transcendental_logarithms():
    tree = TREES["deep"]
    p = hierarchical_softmax(np.zeros(11), np.arange(12), *tree)
    assert p.is_exact().all()
    assert rationals(p) == [Fraction(1, 2**n) for n in tree.lengths.tolist()]
    logs = hierarchical_log_softmax(np.zeros(11), np.arange(12), *tree)
    assert not logs.is_exact().any()
    np.testing.assert_array_equal(logs.round("float64"), -(tree.lengths * np.log(2.0)))


def test_a_tree_without_nodes_has_one_certain_leaf():
    tree = balanced_tree(1)
    s = np.empty((2, 0))
    assert hierarchical_softmax(s, [0], *tree).round("float64").tolist() == [[1.0], [1.0]]
    assert hierarchical_log_softmax(s, [0], *tree).is_exact().all()
    assert hierarchical_log_softmax(s, [0], *tree).round("float64").tolist() == [[0.0], [0.0]]
    assert hierarchical_log_softmax_vjp(s, [[1.0], [1.0]], [0], *tree).shape == (2, 0)


def test_roundings_next_to_an_exact_value_are_decided():
    tree = balanced_tree(4)
    # p is 1, and 1/2, less what vanishes
    s = np.array([[1e300, 1e300, 0.0], [1e300, 0.0, 0.0]])
    p = hierarchical_softmax(s, [0], *tree)
    assert p.round("float64")[:, 0].tolist() == [1.0, 0.5]
    lower, upper = p.error_ulp(np.array([[1.0], [0.5]]))
    assert (lower == 0).all()
    assert (upper < 1e-15).all()
    assert not p.is_exact().any()
    logs = hierarchical_log_softmax(s[0], [0], *tree).round("float64")
    assert logs[0] == 0.0
    assert np.signbit(logs[0])


def test_a_midpoint_with_something_vanishing_beside_it_is_rounded_away_from_zero():
    tree = huffman_tree([1, 1, 2])
    ((root, first), (inner, second)) = path(tree, 0)
    s = np.zeros(2)
    s[root], s[inner] = -first * 2.0**44, -second * 2.0**20
    # halfway between two numbers of float32, whose even one is the nearer to zero
    assert np.float32(-(2.0**44 + 2.0**20)) == -(2.0**44)
    got = hierarchical_log_softmax(s, [0], *tree)
    assert got.round("float32").tolist() == [-(2.0**44) - 2.0**21]
    assert not got.is_exact().any()


def test_a_probability_below_half_the_smallest_number_by_something_vanishing_is_zero():
    tree = huffman_tree([2**k for k in range(27)])
    ((last, sign),) = path(tree, 0)[-1:]
    s = np.zeros(26)
    assert len(path(tree, 0)) == 26
    s[last] = sign * 1e300
    p = hierarchical_softmax(s, [0, 1], *tree)
    # 2^-25 is the midpoint of 0 and the smallest number of float16
    assert p.round("float16").tolist() == [0.0, 0.0]
    assert p.round("float32").tolist() == [2.0**-25, 0.0]


# --- special scores ----------------------------------------------------------------------------------


def test_infinite_scores_decide_their_node():
    tree = balanced_tree(4)  # node 0 over (1: classes 0, 1) and (2: classes 2, 3)
    leaves = np.arange(4)
    cases = [
        ([INF, INF, 0.0], [0.0, -INF, -INF, -INF], [1, 0, 0, 0]),
        ([-INF, 0.0, -INF], [-INF, -INF, -INF, 0.0], [0, 0, 0, 1]),
        ([INF, NAN, 0.0], [NAN, NAN, -INF, -INF], [NAN, NAN, 0, 0]),
        ([NAN, 0.0, 0.0], [NAN] * 4, [NAN] * 4),
        ([-INF, NAN, INF], [NAN, NAN, 0.0, -INF], [NAN, NAN, 1, 0]),
    ]
    for s, logs, shares in cases:
        for method in METHODS:
            got = hierarchical_log_softmax(s, leaves, *tree, method=method)
            assert got.is_exact().all()
            np.testing.assert_array_equal(got.round("float64"), logs)
            np.testing.assert_array_equal(
                hierarchical_softmax(s, leaves, *tree, method=method).round("float64"), shares
            )


def test_what_is_off_the_path_does_not_matter():
    tree = balanced_tree(8)
    s = np.full(7, NAN)
    for node, _ in path(tree, 5):
        s[node] = 0.25 * node - 1
    plain = np.where(np.isnan(s), 0.0, s)
    a, b = (hierarchical_log_softmax(x, [5], *tree).round("float64") for x in (s, plain))
    np.testing.assert_array_equal(a, b)
    slope = hierarchical_log_softmax_vjp(s, [2.0], [5], *tree)
    off = [n for n in range(7) if n not in dict(path(tree, 5))]
    assert slope[off].is_exact().all()
    assert slope.round("float64")[off].tolist() == [0.0] * 4
    assert (slope.round("float64")[sorted(dict(path(tree, 5)))] != 0).all()


# --- the derivative ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TREES)
def test_products_are_those_of_difference_quotients(name):
    tree, rng = TREES[name], np.random.default_rng(8)
    s, dy = rng.normal(size=tree.classes - 1), rng.normal(size=tree.classes)
    got = hierarchical_log_softmax_vjp(s, dy, np.arange(tree.classes), *tree).to_float64()
    with mp.workdps(60):
        step = mpf(2) ** -60

        def objective(node, by):
            moved = [mpf(v) + (by if n == node else 0) for n, v in enumerate(s)]
            return mp.fsum(
                mpf(dy[leaf]) * mp.fsum(mp.log(sigma(sign * moved[n])) for n, sign in path(tree, leaf))
                for leaf in range(tree.classes)
            )

        for node in range(tree.classes - 1):
            quotient = (objective(node, step) - objective(node, -step)) / (2 * step)
            assert abs(mpf(got[node]) - quotient) < 1e-14


def test_products_that_are_rational_are_exact():
    tree = balanced_tree(2)
    for s, dy, wanted in (
        (0.0, [3.0, 1.0], 1),
        (0.7, [2.0, -2.0], 2),
        (-0.7, [2.0, -2.0], 2),
        (INF, [2.0, 5.0], -5),
        (-INF, [2.0, 5.0], 2),
        (0.0, [1.0, 1.0], 0),
    ):
        got = hierarchical_log_softmax_vjp([s], dy, [0, 1], *tree)
        assert got.is_exact().all()
        assert rationals(got) == [wanted]
    assert not hierarchical_log_softmax_vjp([0.7], [2.0, -1.0], [0, 1], *tree).is_exact().any()
    # beside -1 by something vanishing, on the side of zero
    near = hierarchical_log_softmax_vjp([1e300], [1.0, 1.0 + 2.0**-24], [0, 1], *tree)
    assert near.round("float32").tolist() == [-1.0]
    beyond = hierarchical_log_softmax_vjp([1e300], [-3.0, 1.0 + 2.0**-24], [0, 1], *tree)
    assert beyond.round("float32").tolist() == [-(1.0 + 2.0**-23)]
    for s, dy in ((NAN, [1.0, 1.0]), (0.5, [INF, 1.0]), (0.5, [NAN, 1.0])):
        assert np.isnan(hierarchical_log_softmax_vjp([s], dy, [0, 1], *tree).round("float64")).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda t: hierarchical_softmax([1.0, 2.0], [0], *t), "one node less"),
        (lambda t: hierarchical_softmax([1.0, 2.0, 3.0], [4], *t), "from 0 to 3"),
        (lambda t: hierarchical_softmax([1.0, 2.0, 3.0], [-1], *t), "from 0 to 3"),
        (lambda t: hierarchical_softmax([1.0, 2.0, 3.0], [0.0], *t), "integers"),
        (lambda t: hierarchical_softmax([1.0, 2.0, 3.0], 0, *t), "integers"),
        (lambda t: hierarchical_softmax(np.ones((2, 3)), np.zeros((3, 1), int), *t), "do not fit"),
        (lambda t: hierarchical_softmax([1.0, 2.0, 3.0], [0], t[0], t[1], -2 * t[2]), "1 or -1"),
        (lambda t: hierarchical_log_softmax_vjp([1.0, 2.0, 3.0], [1.0, 2.0], [0], *t), "dy has shape"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call(balanced_tree(4))


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="not one of"):
        hierarchical_softmax([1.0], [0], *balanced_tree(2), method="fast")


def test_no_rows_give_no_results():
    tree, none = balanced_tree(3), np.empty((0, 1), dtype=np.int64)
    assert hierarchical_log_softmax(np.empty((0, 2)), none, *tree).shape == (0, 1)
    assert hierarchical_log_softmax_vjp(np.empty((0, 2)), np.empty((0, 1)), none, *tree).round(
        "float32"
    ).shape == (0, 2)
