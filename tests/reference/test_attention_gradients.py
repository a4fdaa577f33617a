"""The backward pass of attention: by hand, by differences, by autograd, exact cases and special values."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mpmath import mp

from softcert import reference
from softcert.reference.errors import DomainError

INF, NAN = math.inf, math.nan
METHODS = ["mpmath", "arb", "fast"]
MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, True, True]])


def operands(seed=21, length=3, keys=4, depth=5, columns=2, batch=(), kv_batch=()):
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(*batch, length, depth)),
        rng.normal(size=(*kv_batch, keys, depth)),
        rng.normal(size=(*kv_batch, keys, columns)),
        rng.normal(size=(*batch, length, columns)),
    )


def forward(q, k, v, **params):
    """Out and lse, correctly rounded to binary64."""
    return tuple(e.round("float64") for e in reference.attention_lse(q, k, v, **params))


def exact(array):
    return [[mp.mpf(value) for value in row] for row in np.asarray(array).tolist()]


def probabilities_times_slopes(q, k, v, out, lse, dout, visible):
    """sum_ij exp(s_ij - lse_i) (dout_i . v_j - dout_i . out_i), whose derivatives attention_vjp gives."""
    total = mp.mpf(0)
    for i, j in np.argwhere(visible).tolist():
        score = mp.fdot(q[i], k[j]) / mp.sqrt(len(q[i]))
        total += mp.exp(score - lse[i]) * (mp.fdot(dout[i], v[j]) - mp.fdot(dout[i], out[i]))
    return total


def loss(q, k, v, dout, visible):
    """sum_ic dout_ic out_ic by the definition of attention."""
    total = mp.mpf(0)
    for i in range(len(q)):
        seen = [j for j in range(len(k)) if visible[i][j]]
        weights = [mp.exp(mp.fdot(q[i], k[j]) / mp.sqrt(len(q[i]))) for j in seen]
        slopes = [mp.fdot(dout[i], v[j]) for j in seen]
        total += mp.fdot(weights, slopes) / mp.fsum(weights)
    return total


def differences(function, matrix):
    """Central differences of a function by each entry of a matrix that it reads; error about h**2."""
    h, found = mp.mpf(2) ** -200, []
    for row in matrix:
        for c, value in enumerate(row):
            row[c] = value + h
            above = function()
            row[c] = value - h
            found.append((above - function()) / (2 * h))
            row[c] = value
    return found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("visible", [np.ones((3, 4), dtype=bool), MASK])
def test_against_differences_of_what_is_given(method, visible):
    q, k, v, dout = operands()
    out, lse = forward(q, k, v, mask=visible)
    results = reference.attention_vjp(q, k, v, out, lse, dout, mask=visible, method=method)
    with mp.workprec(700):
        a, b, c, o, g = (exact(x) for x in (q, k, v, out, dout))
        shift = [mp.mpf(value) for value in lse.tolist()]
        for result, matrix in zip(results, (a, b, c), strict=True):
            wanted = differences(lambda: probabilities_times_slopes(a, b, c, o, shift, g, visible), matrix)
            lower, upper = result.bounds_decimal(40)
            for low, high, value in zip(lower.ravel(), upper.ravel(), wanted, strict=True):
                slack = mp.mpf(10) ** -35
                assert mp.mpf(low) - slack <= value <= mp.mpf(high) + slack


def test_against_differences_of_the_loss():
    """Here out and lse are rounded to binary64, which is all that separates the two."""
    q, k, v, dout = operands(seed=22)
    results = reference.attention_vjp(q, k, v, *forward(q, k, v, mask=MASK), dout, mask=MASK)
    with mp.workprec(700):
        a, b, c, g = (exact(x) for x in (q, k, v, dout))
        for result, matrix in zip(results, (a, b, c), strict=True):
            wanted = [float(d) for d in differences(lambda: loss(a, b, c, g, MASK), matrix)]
            np.testing.assert_allclose(result.to_float64().ravel(), wanted, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("causal", [False, True, "top-left"])
def test_against_autograd(causal):
    torch = pytest.importorskip("torch")
    q, k, v, dout = operands(length=3, keys=4, batch=(2, 4), kv_batch=(2, 2))
    results = reference.attention_vjp(q, k, v, *forward(q, k, v, causal=causal), dout, causal=causal)
    visible = np.tril(np.ones((3, 4), dtype=bool), {False: 4, True: 1, "top-left": 0}[causal])
    leaves = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    shared = [leaves[0], *(leaf.repeat_interleave(2, dim=1) for leaf in leaves[1:])]
    scores = (shared[0] @ shared[1].transpose(-1, -2)) / math.sqrt(5)
    weights = torch.softmax(scores.masked_fill(torch.tensor(~visible), -INF), dim=-1)
    (weights @ shared[2]).backward(torch.tensor(dout))
    for leaf, result in zip(leaves, results, strict=True):
        np.testing.assert_allclose(result.to_float64(), leaf.grad.numpy(), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("method", METHODS)
def test_one_key_by_hand(method):
    """P = exp(s - lse) is 1, so dv is dout and the score has no slope."""
    results = reference.attention_vjp(
        [[2.0]], [[3.0]], [[5.0]], [[5.0]], [6.0], [[7.0]], scale=1.0, method=method
    )
    assert [r.digits(5).tolist() for r in results] == [[["0"]], [["0"]], [["7.0000"]]]
    assert all(r.is_exact().all() for r in results)


@pytest.mark.parametrize("method", METHODS)
def test_out_and_lse_are_taken_as_given(method):
    """lse one too small makes P = e; out 4 makes D = 8, and dP - D = 10 - 8."""
    dq, dk, dv = reference.attention_vjp(
        [[2.0]], [[3.0]], [[5.0]], [[4.0]], [5.0], [[2.0]], scale=1.0, method=method
    )
    assert dq.digits(12).tolist() == [[mp.nstr(6 * mp.e, 12)]]
    assert dk.digits(12).tolist() == [[mp.nstr(4 * mp.e, 12)]]
    assert dv.digits(12).tolist() == [[mp.nstr(2 * mp.e, 12)]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("scale", "depth"), [(Fraction(3), 1), (None, 4)])
def test_the_scale_multiplies_the_gradients(method, scale, depth):
    """All entries 0 but the first, lse the score, so that P = 1; dP - D = 10 - 8."""
    factor = Fraction(1, 2) if scale is None else scale
    q, k = np.zeros((1, depth)), np.zeros((1, depth))
    q[0, 0], k[0, 0] = 2.0, 3.0
    dq, dk, _ = reference.attention_vjp(
        q, k, [[5.0]], [[4.0]], [float(6 * factor)], [[2.0]], scale=scale, method=method
    )
    assert dq[0, 0].contains(6 * factor).all()
    assert dk[0, 0].contains(4 * factor).all()
    assert dq.is_exact().all()


def test_what_cancels_is_exactly_zero():
    """Two tied keys with the same key vector: their slopes are opposite, and dq is 0."""
    q, k, v = [[1.0, 2.0]], [[1.0, 1.0], [1.0, 1.0]], [[0.0], [2.0]]
    lse = reference.attention_lse(q, k, v)[1].round("float64")
    dq, dk, _ = reference.attention_vjp(q, k, v, [[1.0]], lse, [[1.0]])
    assert dq.is_exact().all()
    assert dq.round("float64").tolist() == [[0.0, 0.0]]
    assert (dk.to_float64()[0] == -dk.to_float64()[1]).all()
    assert not dk.is_exact().any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("far", "rounded"), [(1.0, 1.0 + 2.0**-23), (-1.0, 1.0)])
def test_a_vanishing_term_decides_a_midpoint(method, far, rounded):
    """dv = 1 * midpoint + e**-1e12 * far."""
    q, k = [[1e6], [0.0]], [[1e6]]
    dv = reference.attention_vjp(
        q, k, [[0.0]], [[0.0], [0.0]], [1e12, 1e12], [[1 + 2.0**-24], [far]], method=method
    )[2]
    assert dv.round("float32").tolist() == [[rounded]]


def test_a_midpoint_is_exact():
    dv = reference.attention_vjp([[1.0]] * 2, [[1.0]], [[0.0]], [[0.0]] * 2, [1.0] * 2, [[1.0], [2.0**-53]])[
        2
    ]
    assert dv.is_exact().all()
    assert dv.contains(1 + Fraction(1, 2**53)).all()
    assert dv.round("float64").tolist() == [[1.0]]


def test_an_irrational_multiple_of_a_rational_is_rounded():
    """P = 1, so dq = (dP - D) k / sqrt(2): no exponential is left, and the value is no float."""
    q, k = [[0.0, 0.0]], [[1.0, 0.0]]
    dq, dk, _ = reference.attention_vjp(q, k, [[3.0]], [[1.0]], [0.0], [[1.0]])
    assert dq.digits(20).tolist() == [["1.4142135623730950488", "0"]]
    assert dk.is_exact().all()


def test_what_sees_nothing_and_what_is_not_seen_gets_zero():
    q, k, v, dout = operands(length=3, keys=2)
    out, lse = forward(q, k, v, causal=True)
    assert lse[0] == -INF
    dq, dk, dv = reference.attention_vjp(q, k, v, out, lse, dout, causal=True)
    assert dq.is_exact()[0].all()
    assert (dq.to_float64()[0] == 0).all()
    hidden = np.array([True, False])
    out, lse = forward(q, k, v, mask=hidden)
    k[1], v[1] = NAN, INF
    dq, dk, dv = reference.attention_vjp(q, k, v, out, lse, dout, mask=hidden)
    assert np.isfinite(dq.to_float64()).all()
    assert (dk.to_float64()[1] == 0).all()
    assert (dv.to_float64()[1] == 0).all()


def nan_pattern(changed, at):
    q, k, v, dout = operands(length=2, keys=2, depth=1, columns=2)
    out, lse = forward(q, k, v, causal=True)
    given = {"q": q, "k": k, "v": v, "out": out, "lse": lse, "dout": dout}
    given[changed][at] = NAN
    results = reference.attention_vjp(*given.values(), causal=True)
    return ["".join("n" if bad else "." for bad in np.isnan(r.to_float64()).ravel()) for r in results]


@pytest.mark.parametrize(
    ("changed", "at", "pattern"),
    [
        # query 0 sees key 0, query 1 both; dv has two columns
        ("q", (0, 0), ["n.", "n.", "nn.."]),
        ("k", (1, 0), [".n", ".n", "..nn"]),
        ("lse", (1,), [".n", "nn", "nnnn"]),
        ("v", (1, 0), [".n", ".n", "...."]),
        ("out", (1, 0), [".n", "nn", "...."]),
        ("dout", (1, 0), [".n", "nn", "n.n."]),
    ],
)
def test_what_is_not_finite_reaches_what_depends_on_it(changed, at, pattern):
    assert nan_pattern(changed, at) == pattern


def test_shared_heads_add_up():
    q, k, v, dout = operands(batch=(4,), kv_batch=(2,))
    k2, v2 = np.repeat(k, 2, axis=0), np.repeat(v, 2, axis=0)
    out, lse = forward(q, k, v)
    shared = reference.attention_vjp(q, k, v, out, lse, dout)
    alone = reference.attention_vjp(q, k2, v2, out, lse, dout)
    assert shared[0].round("float64").tolist() == alone[0].round("float64").tolist()
    for together, single in zip(shared[1:], alone[1:], strict=True):
        summed = single.to_float64().reshape(2, 2, *single.shape[1:]).sum(axis=1)
        np.testing.assert_allclose(together.to_float64(), summed, rtol=1e-13, atol=1e-14)


def test_narrow_formats_are_the_numbers_they_are():
    arrays = [a.astype(ml_dtypes.float8_e4m3fn) for a in operands()]
    wide = [a.astype(np.float64) for a in arrays]
    out, lse = forward(*arrays[:3])
    narrow = reference.attention_vjp(*arrays[:3], out, lse, arrays[3])
    for ours, theirs in zip(narrow, reference.attention_vjp(*wide[:3], out, lse, wide[3]), strict=True):
        assert ours.round("float32").tolist() == theirs.round("float32").tolist()


@pytest.mark.parametrize("name", ["out", "lse", "dout"])
def test_shapes_that_do_not_fit(name):
    q, k, v, dout = operands()
    out, lse = forward(q, k, v)
    given = {"out": out, "lse": lse, "dout": dout}
    given[name] = given[name][:2]
    with pytest.raises(DomainError, match=f"^{name} has shape"):
        reference.attention_vjp(q, k, v, *given.values())
