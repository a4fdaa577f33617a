"""The differentiated softmax: the masked dense matrix, gradients that stay in their block, exact cases."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mpmath import mp, mpf

from softcert import reference
from softcert.reference import (
    DomainError,
    differentiated_logits,
    differentiated_logits_vjp,
    differentiated_multiplications,
    differentiated_softmax,
    differentiated_softmax_vjp,
)

INF, NAN = math.inf, math.nan
SHAPES = {
    "one": [(4, 3)],
    "two": [(3, 4), (5, 2)],
    "three": [(2, 5), (4, 3), (7, 1)],
    "empty": [(3, 2), (0, 4), (2, 1)],
}


def layer(shapes, seed=0, rows=(2, 3), dtype=np.float64):
    rng = np.random.default_rng(seed)
    h = rng.normal(size=(*rows, sum(d for _, d in shapes))).astype(dtype)
    weights = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    return h, weights, [rng.normal(size=shape[0]).astype(dtype) for shape in shapes]


def dense(weights):
    """The matrix whose blocks they are, and 0 elsewhere."""
    whole = np.zeros((sum(w.shape[0] for w in weights), sum(w.shape[1] for w in weights)))
    row = column = 0
    for w in weights:
        whole[row : row + w.shape[0], column : column + w.shape[1]] = w
        row, column = row + w.shape[0], column + w.shape[1]
    return whole


def places(weights):
    """Where the blocks of the dense matrix are."""
    return dense([np.ones_like(w) for w in weights]) == 1


def rationals(enclosure):
    cells = [enclosure.known(k) for k in enclosure.cells_of_elements.tolist()]
    return [c if isinstance(c, Fraction) else Fraction(c.lo) * Fraction(2) ** c.exp for c in cells]


@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_the_exact_products(name):
    h, weights, biases = layer(SHAPES[name])
    whole, bias = dense(weights), np.concatenate(biases)
    exact = [
        sum(Fraction(a) * Fraction(b) for a, b in zip(row.tolist(), w.tolist(), strict=True)) + Fraction(c)
        for row in h.reshape(-1, h.shape[-1])
        for w, c in zip(whole, bias.tolist(), strict=True)
    ]
    got = differentiated_logits(h, weights, biases)
    assert got.shape == (2, 3, len(bias))
    assert got.is_exact().all()
    assert rationals(got) == exact


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, ml_dtypes.bfloat16])
def test_it_is_the_softmax_of_the_masked_dense_matrix(name, dtype):
    """A single block, whose matrix is 0 outside the blocks."""
    h, weights, biases = layer(SHAPES[name], dtype=dtype)
    bias = np.concatenate(biases)
    blocked = differentiated_softmax(h, weights, biases)
    whole = differentiated_softmax(h, [dense(weights)], [bias])
    assert blocked.shape == whole.shape == (2, 3, len(bias))
    np.testing.assert_array_equal(blocked.round("float64"), whole.round("float64"))
    p = blocked.to_float64()
    logits = differentiated_logits(h, weights, biases).to_float64()
    np.testing.assert_allclose(p, reference.softmax(logits).to_float64(), rtol=1e-12)
    assert np.allclose(p.sum(-1), 1)


@pytest.mark.parametrize("name", SHAPES)
def test_gradients_are_those_of_the_masked_dense_matrix(name):
    h, weights, biases = layer(SHAPES[name])
    y = differentiated_softmax(h, weights, biases).round("float64")
    dy = np.random.default_rng(5).normal(size=y.shape)
    dh, dw, db = differentiated_softmax_vjp(h, weights, y, dy)
    dh_dense, (dw_dense,), (db_dense,) = differentiated_softmax_vjp(h, [dense(weights)], y, dy)
    assert rationals(dh) == rationals(dh_dense)
    inside = np.array(rationals(dw_dense), dtype=object).reshape(dense(weights).shape)[places(weights)]
    assert [v for part in dw for v in rationals(part)] == inside.tolist()
    assert [v for part in db for v in rationals(part)] == rationals(db_dense)
    assert [part.shape for part in dw] == [w.shape for w in weights]


def test_gradients_are_difference_quotients():
    h, weights, biases = layer(SHAPES["three"], rows=(2,))
    dy = np.random.default_rng(6).normal(size=(2, 13))

    def objective(hidden, matrices, vectors):
        total = mpf(0)
        for row, slope in zip(hidden, dy, strict=True):
            z, at = [], 0
            for w, b in zip(matrices, vectors, strict=True):
                part = row[at : at + w.shape[1]]
                z += [
                    mp.fsum(mpf(a) * mpf(c) for a, c in zip(v, part, strict=True)) + mpf(o)
                    for v, o in zip(w, b, strict=True)
                ]
                at += w.shape[1]
            terms = [mp.exp(v) for v in z]
            total += mp.fsum(mpf(s) * t for s, t in zip(slope, terms, strict=True)) / mp.fsum(terms)
        return total

    y = differentiated_softmax(h, weights, biases).round("float64")
    dh, dw, db = differentiated_softmax_vjp(h, weights, y, dy)
    with mp.workdps(60):
        step = mpf(2) ** -60
        operands = [
            h.astype(object),
            *(w.astype(object) for w in weights),
            *(b.astype(object) for b in biases),
        ]
        for k, gradient in enumerate((dh, *dw, *db)):
            for corner in ((0, 0), (1, 0), (-1, -1)):
                at = corner[: operands[k].ndim]
                sides = []
                for sign in (1, -1):
                    moved = [o.copy() for o in operands]
                    moved[k][at] = mpf(moved[k][at]) + sign * step
                    sides.append(objective(moved[0], moved[1:4], moved[4:]))
                quotient = (sides[0] - sides[1]) / (2 * step)
                assert abs(quotient - mpf(gradient.to_float64()[at])) < 1e-14


@pytest.mark.parametrize("block", range(3))
def test_no_block_has_a_gradient_in_another(block):
    """The logits of one block alone: exactly 0 for features and weights of all others."""
    shapes = SHAPES["three"]
    h, weights, _ = layer(shapes)
    starts = np.cumsum([0, *(v for v, _ in shapes)])
    dz = np.zeros((2, 3, starts[-1]))
    dz[..., starts[block] : starts[block + 1]] = np.random.default_rng(2).normal(
        size=(2, 3, shapes[block][0])
    )
    dh, dw, db = differentiated_logits_vjp(h, weights, dz)
    features = np.cumsum([0, *(d for _, d in shapes)])
    inside = np.zeros(features[-1], bool)
    inside[features[block] : features[block + 1]] = True
    assert not any(rationals(dh[..., ~inside]))
    assert all(rationals(dh[..., inside]))
    for k, (by_weight, by_bias) in enumerate(zip(dw, db, strict=True)):
        assert by_weight.is_exact().all()
        assert any(rationals(by_weight)) == any(rationals(by_bias)) == (k == block)


@pytest.mark.parametrize("spread", [1.0, 1e150, 1e-160])
def test_the_oracles_agree(spread):
    h, weights, biases = layer(SHAPES["three"], seed=3)
    arb = reference.cross_check("differentiated_softmax", h * spread, weights, biases)
    other = differentiated_softmax(h * spread, weights, biases, method="mpmath")
    np.testing.assert_array_equal(arb.round("float32"), other.round("float32"))


def test_logits_beyond_all_floats_are_logits_still():
    big = 2.0**1000
    p = differentiated_softmax([big, 1.0], [[[big], [-big]], [[3.0]]])
    assert p.round("float64").tolist() == [1.0, 0.0, 0.0]
    assert not p.is_exact().any()
    # 2^2000 - 2^2000 + 1 against 0: products that no float holds cancel
    p = differentiated_softmax([big, big, 1.0, 0.0], [[[big, -big, 1.0]], [[0.0]]])
    assert p.round("float64")[0] == reference.softmax([1.0, 0.0]).round("float64")[0]


def test_equal_logits_are_rational():
    p = differentiated_softmax([0.5, 0.25], [[[1.0], [1.0]], [[2.0]]])
    assert p.is_exact().all()
    assert rationals(p) == [Fraction(1, 3)] * 3
    # half of the mass, less what vanishes
    p = differentiated_softmax([1e4, 0.0], [[[1.0], [1.0]], [[2.0]]])
    assert p.round("float64").tolist()[:2] == [0.5, 0.5]
    assert (p.error_ulp([0.5, 0.5, 0.0])[1][:2] < 1e-9).all()
    # 2^-10 less what vanishes: below the midpoint of 0 and the smallest number of E4M3
    p = differentiated_softmax([1e4, 0.0], [np.ones((1024, 1)), [[2.0]]])
    assert not p.round("float8_e4m3fn").astype(float).any()


def test_numbers_that_are_not_finite():
    weights, biases = [[[1.0], [2.0]], [[1.0]]], [[0.0, -INF], [0.0]]
    p = differentiated_softmax([1.0, 1.0], weights, biases).round("float64")
    assert p.tolist() == [0.5, 0.0, 0.5]
    for bad in ([INF, 1.0], [NAN, 1.0]):
        assert np.isnan(differentiated_softmax(bad, weights, biases).round("float64")).all()
    # -inf for both of a block leaves the other
    p = differentiated_softmax([-INF, 3.0], [[[1.0], [2.0]], [[1.0]]]).round("float64")
    assert p.tolist() == [0.0, 0.0, 1.0]
    assert np.isnan(differentiated_softmax([-INF, -INF], [[[1.0]], [[1.0]]]).round("float64")).all()
    z = differentiated_logits([INF, 1.0], [[[0.0], [-1.0]], [[2.0]]], [[0.0, 0.0], [INF]])
    np.testing.assert_array_equal(z.round("float64"), [NAN, -INF, INF])


def test_what_is_not_finite_spoils_the_gradients_that_it_enters_and_no_others():
    h, weights, _ = layer(SHAPES["two"], rows=(2,))
    dz = np.ones((2, 8))
    h[1, 0] = NAN
    dh, dw, db = (differentiated_logits_vjp(h, weights, dz)[k] for k in range(3))
    assert np.isfinite(dh.round("float64")).all()
    assert np.isnan(dw[0].round("float64")).sum() == 3
    assert np.isnan(dw[0].round("float64")[:, 0]).all()
    assert np.isfinite(dw[1].round("float64")).all()
    y, dy = np.full((2, 8), 0.125), np.ones((2, 8))
    dy[0, 3] = INF
    dh, _, db = differentiated_softmax_vjp(layer(SHAPES["two"], rows=(2,))[0], weights, y, dy)
    assert np.isnan(dh.round("float64")).all(axis=1).tolist() == [True, False]
    assert np.isnan(db[0].round("float64")).all()


def test_products_counted():
    _, weights, _ = layer(SHAPES["three"])
    assert differentiated_multiplications(weights) == 2 * 5 + 4 * 3 + 7 * 1
    assert differentiated_multiplications([dense(weights)]) == 13 * 9


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: differentiated_softmax([1.0], []), "one matrix or more"),
        (lambda: differentiated_softmax([1.0], [[1.0]]), "one matrix or more"),
        (lambda: differentiated_softmax([1.0, 2.0], [[[1.0]]]), "other features"),
        (lambda: differentiated_softmax([1.0], [[[1.0]]], [[1.0, 2.0]]), "biases have shapes"),
        (lambda: differentiated_softmax([1.0], [np.empty((0, 1))]), "at least one class"),
        (lambda: differentiated_logits_vjp([1.0], [[[1.0]]], [1.0, 2.0]), "dz has shape"),
        (lambda: differentiated_softmax_vjp([1.0], [[[1.0]]], [1.0], [[1.0]]), "dy has shape"),
    ],
)
def test_what_is_no_request_is_refused(call, words):
    with pytest.raises(DomainError, match=words):
        call()


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="not one of"):
        differentiated_softmax([1.0], [[[1.0]]], method="fast")
