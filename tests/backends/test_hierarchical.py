"""The hierarchical and the differentiated softmax in NumPy and numba are within their bounds."""

import numpy as np
import pytest

from softcert import reference
from softcert.backends import DTYPES, as_dtype, numpy_differentiated, numpy_hierarchical
from softcert.backends.contract import Contract
from softcert.backends.numba_ import differentiated, hierarchical, threads
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.differentiated import (
    differentiated_bound,
    differentiated_vjp_bounds,
    logit_bound,
)
from softcert.conformance.bounds.hierarchical import (
    branches_of,
    hierarchical_log_bound,
    hierarchical_vjp_bound,
    sides_of,
)
from softcert.conformance.bounds.softmax import rows_of
from softcert.reference import balanced_tree, huffman_tree

HIERARCHICAL = {"numpy": numpy_hierarchical, "numba": hierarchical}
DIFFERENTIATED = {"numpy": numpy_differentiated, "numba": differentiated}
TREES = {
    "one": balanced_tree(1),
    "two": balanced_tree(2),
    "balanced": balanced_tree(21),
    "zipf": huffman_tree([1000 // k for k in range(1, 30)]),
    "deep": huffman_tree([2**k for k in range(40)]),
}
INF, NAN = np.inf, np.nan
CONTRACT = Contract(form="division")


def scores(tree, dtype, spread, rows=(2, 3)):
    rng = np.random.default_rng(2)
    return rng.normal(scale=spread, size=(*rows, tree.classes - 1)).astype(as_dtype(dtype))


@pytest.mark.parametrize("spread", [1e-3, 3.0, 40.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("backend", HIERARCHICAL)
def test_log_probabilities_are_within_their_bound(backend, tree, dtype, spread):
    paths = TREES[tree]
    s, leaves = scores(paths, dtype, spread), np.arange(paths.classes)
    got = HIERARCHICAL[backend].hierarchical_log_softmax(s, leaves, *paths)
    assert got.dtype == s.dtype
    assert got.shape == (2, 3, paths.classes)
    exact = reference.hierarchical_log_softmax(s, leaves, *paths).to_float64()
    bound = hierarchical_log_bound(
        branches_of(s.astype(np.float64), leaves, *paths), arithmetic(CONTRACT, dtype)
    )
    if dtype == "float64":
        bound = bound + 2.0**-52 * np.abs(exact)  # of the exact values in binary64
    assert (np.abs(got.astype(np.float64) - exact) <= bound).all()


@pytest.mark.parametrize("spread", [1e-3, 3.0, 40.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tree", ["two", "balanced", "deep"])
@pytest.mark.parametrize("backend", HIERARCHICAL)
def test_slopes_are_within_their_bound_and_zero_off_the_paths(backend, tree, dtype, spread):
    paths = TREES[tree]
    s, rng = scores(paths, dtype, spread), np.random.default_rng(3)
    leaves = rng.integers(0, paths.classes, (2, 3, 2))
    dy = rng.normal(size=leaves.shape).astype(as_dtype(dtype))
    got = HIERARCHICAL[backend].hierarchical_log_softmax_vjp(s, dy, leaves, *paths)
    assert got.dtype == s.dtype
    assert got.shape == s.shape
    exact = reference.hierarchical_log_softmax_vjp(s, dy, leaves, *paths).to_float64()
    sides = sides_of(dy.astype(np.float64), leaves, *paths)
    bound = hierarchical_vjp_bound(s.astype(np.float64), *sides, arithmetic(CONTRACT, dtype))
    if dtype == "float64":
        bound = bound + 2.0**-52 * np.abs(exact)
    assert (np.abs(got.astype(np.float64) - exact) <= bound).all()
    assert (bound == 0).any() == (sides[0].count == 0).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", HIERARCHICAL)
def test_special_scores_give_what_the_reference_says(backend, dtype):
    tree, leaves = balanced_tree(4), np.arange(4)
    s = np.array(
        [[INF, INF, 0], [-INF, 0, -INF], [INF, NAN, 0], [NAN, 0, 0], [-INF, NAN, INF]], as_dtype(dtype)
    )
    ops = HIERARCHICAL[backend]
    got = ops.hierarchical_log_softmax(s, leaves, *tree).astype(float)
    exact = reference.hierarchical_log_softmax(s, leaves, *tree).round(dtype).astype(float)
    np.testing.assert_array_equal(got, exact)
    dy = np.tile(np.array([1, 2, 4, 8], as_dtype(dtype)), (5, 1))
    got = ops.hierarchical_log_softmax_vjp(s, dy, leaves, *tree).astype(float)
    exact = reference.hierarchical_log_softmax_vjp(s, dy, leaves, *tree).round(dtype).astype(float)
    np.testing.assert_array_equal(got, exact)


@pytest.mark.parametrize("backend", HIERARCHICAL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deep_paths_neither_overflow_nor_vanish(backend, dtype):
    """1200 nodes: a product of probabilities would be 0, and one of their inverses infinite."""
    tree = huffman_tree([2**k for k in range(1201)])
    s = np.zeros((1, 1200), dtype)
    got = HIERARCHICAL[backend].hierarchical_log_softmax(s, np.array([0, 600]), *tree)
    np.testing.assert_allclose(got, [[-1200 * np.log(2), -601 * np.log(2)]], rtol=1e-5)


def test_threads_change_no_bit(monkeypatch):
    tree = balanced_tree(300)
    s = np.random.default_rng(1).normal(size=(64, 299)).astype(np.float32)
    leaves, dy = np.arange(300), np.ones((64, 300), np.float32)
    whole = hierarchical.hierarchical_log_softmax(s, leaves, *tree)
    slopes = hierarchical.hierarchical_log_softmax_vjp(s, dy, leaves, *tree)
    monkeypatch.setattr(threads, "processors", lambda: 1)
    assert threads.processors() >= 1
    np.testing.assert_array_equal(hierarchical.hierarchical_log_softmax(s, leaves, *tree), whole)
    np.testing.assert_array_equal(hierarchical.hierarchical_log_softmax_vjp(s, dy, leaves, *tree), slopes)
    np.testing.assert_array_equal(hierarchical.hierarchical_log_softmax(s[:1], leaves, *tree), whole[:1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("features", [1, 7, 64])
def test_a_step_is_the_composition_with_the_scores(dtype, features):
    tree, rng = huffman_tree([100 // k for k in range(1, 30)]), np.random.default_rng(5)
    h = rng.normal(size=(6, features)).astype(dtype)
    vectors = rng.normal(size=(28, features)).astype(dtype)
    leaves = rng.integers(0, 29, 6)
    logs, by_hidden, by_vector = hierarchical.hierarchical_step(h, vectors, leaves, *tree)
    s = h.astype(np.float64) @ vectors.T.astype(np.float64)
    chosen, ones = leaves[:, None], np.ones((6, 1))
    tight = 1e-4 if dtype == "float32" else 1e-12
    exact = reference.hierarchical_log_softmax(s, chosen, *tree).to_float64()[:, 0]
    np.testing.assert_allclose(logs, exact, rtol=tight)
    slopes = reference.hierarchical_log_softmax_vjp(s, ones, chosen, *tree).to_float64()
    np.testing.assert_allclose(by_hidden, slopes @ vectors, rtol=tight, atol=tight)
    place = 0
    for row, leaf in enumerate(leaves):
        path = tree.path_nodes[tree.path_starts[leaf] : tree.path_starts[leaf + 1]]
        expected = slopes[row, path][:, None] * h[row]
        np.testing.assert_allclose(by_vector[place : place + len(path)], expected, rtol=tight, atol=tight)
        place += len(path)
    assert place == len(by_vector)


# --- differentiated ----------------------------------------------------------------------------------

SHAPES = {"one": [(9, 5)], "three": [(2, 40), (7, 9), (30, 1)], "empty": [(3, 2), (0, 4), (2, 1)]}


def layer(shapes, dtype, rows=(2, 3)):
    rng = np.random.default_rng(7)
    kind = as_dtype(dtype)
    h = rng.normal(size=(*rows, sum(d for _, d in shapes))).astype(kind)
    weights = [rng.normal(size=s).astype(kind) for s in shapes]
    return h, weights, [rng.normal(size=s[0]).astype(kind) for s in shapes]


def wide(arrays):
    return [a.astype(np.float64) for a in arrays]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backend", DIFFERENTIATED)
def test_the_differentiated_softmax_is_within_its_bounds(backend, name, dtype):
    ops = DIFFERENTIATED[backend]
    h, weights, biases = layer(SHAPES[name], dtype)
    a = arithmetic(CONTRACT, dtype)
    for given in (biases, None):
        exact = reference.differentiated_softmax(h, weights, given).to_float64()
        logits = reference.differentiated_logits(h, weights, given).to_float64()
        zeros = [0.0 * b.astype(np.float64) for b in biases]
        moved = logit_bound(wide([h])[0], wide(weights), wide(given) if given else zeros, logits, a)
        bound = differentiated_bound(rows_of(logits, 1.0, any_order=False), moved, a)
        got = ops.differentiated_softmax(h, weights, given)
        assert got.dtype == h.dtype
        assert (np.abs(got.astype(np.float64) - exact) <= bound + 2.0**-53 * exact).all()
    y, rng = got, np.random.default_rng(8)
    dy = rng.normal(size=y.shape).astype(y.dtype)
    found, exact = (
        ops.differentiated_softmax_vjp(h, weights, y, dy),
        reference.differentiated_softmax_vjp(h, weights, y, dy),
    )
    limits = differentiated_vjp_bounds(wide([h])[0], wide(weights), *wide([y, dy]), a)
    for parts in zip(
        (found[0], *found[1], *found[2]),
        (exact[0], *exact[1], *exact[2]),
        (limits[0], *limits[1], *limits[2]),
        strict=True,
    ):
        got, truth, limit = parts
        assert got.dtype == h.dtype
        assert got.shape == truth.shape
        value = truth.to_float64()
        assert (np.abs(got.astype(np.float64) - value) <= limit + 2.0**-53 * np.abs(value)).all()


@pytest.mark.parametrize("backend", DIFFERENTIATED)
def test_features_of_another_block_do_not_move_a_blocks_ratios(backend):
    ops = DIFFERENTIATED[backend]
    h, weights, biases = layer(SHAPES["three"], "float64")
    p = ops.differentiated_softmax(h, weights, biases)
    h[..., :40] += 1.0
    q = ops.differentiated_softmax(h, weights, biases)
    np.testing.assert_allclose(p[..., 2:] / p[..., 2:3], q[..., 2:] / q[..., 2:3], rtol=1e-13)
    assert (np.abs(p[..., 0] / p[..., 2] * q[..., 2] / q[..., 0] - 1) > 1e-3).all()
