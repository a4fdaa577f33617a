"""Attention by double words says what Arb says, forward and backward, and decides what it claims."""

import math
import re
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from softcert import reference
from softcert.reference.errors import DomainError
from softcert.reference.fast import (
    attention_backward,
    attention_forward,
    attention_narrow,
    attention_weights,
    tiles,
)
from softcert.reference.fast.attention_heads import scale_words, sizes
from softcert.reference.fast.narrow_rounding import decided
from softcert.reference.formats import dyadic
from softcert.reference.rounding import round_dyadic

INF, NAN = math.inf, math.nan
FORMATS = ("float64", "float32", "float16", "bfloat16", "float8_e5m2")


def _normal(seed=5, length=5, keys=70, depth=6, columns=3, batch=(), kv_batch=None):
    rng = np.random.default_rng(seed)
    kv_batch = batch if kv_batch is None else kv_batch
    shapes = ((*batch, length, depth), (*kv_batch, keys, depth), (*kv_batch, keys, columns))
    return [rng.normal(size=shape) for shape in shapes]


def _changed(which, function, **shape):
    arrays = _normal(**shape)
    arrays[which] = function(arrays[which])
    return arrays


def _with(array, place, value):
    array = array.copy()
    array[place] = value
    return array


def _outliers(array):
    return np.where(np.random.default_rng(8).random(array.shape) < 0.02, array * 1e4, array)


#: Factors whose products with ones sum to the third of them, which their sum in two words loses.
CANCELLING = [2.0**77, 2.0**24, 2.0**-30, -(2.0**77), -(2.0**24), 0.0]
#: The same for 1000, which is lost, minus 1000, which is not.
MISLEADING = [2.0**200, 2.0**100, 1000.0, -(2.0**100), -(2.0**200), -1000.0]


def _pair(factors):
    """Two keys, of which one has the sum of the factors as its score, and the other 0."""
    return [np.ones((1, 6)), np.array([factors, [0.0] * 6]), np.array([[1.1, 0.3, 3.3], [0.7, 1.3, 2.3]])]


#: Operands, and what goes with them.
CASES = {
    "normal": (_normal(), {}),
    "one key": (_normal(keys=1), {}),
    "one query": (_normal(length=1), {}),
    "64 keys": (_normal(keys=64), {}),
    "65 keys": (_normal(keys=65), {"causal": True}),
    "causal": (_normal(length=9, keys=9), {"causal": True}),
    "causal, more queries": (_normal(length=9, keys=5), {"causal": True}),
    "causal, top-left": (_normal(length=9, keys=130), {"causal": "top-left"}),
    "one feature": (_normal(depth=1, columns=1), {}),
    "five features": (_normal(depth=5, columns=7), {}),
    "scale": (_normal(), {"scale": Fraction(1, 3)}),
    "negative scale": (_normal(), {"scale": -2.5}),
    "scale 0": (_normal(), {"scale": 0}),
    "tiny scale": (_normal(), {"scale": 1e-300}),
    "subnormal scale": (_normal(), {"scale": 2.0**-1060}),
    "large scale": (_normal(), {"scale": 1e6}),
    "mask": (_normal(), {"mask": np.random.default_rng(1).random((5, 70)) < 0.6}),
    "mask of one row": (_normal(), {"mask": np.arange(70) % 3 > 0}),
    "additive": (_normal(), {"mask": np.random.default_rng(1).normal(size=(5, 70))}),
    "sentinel": (_normal(), {"mask": np.where(np.arange(70) < 40, 0.0, -1e30)}),
    "largest sentinel": (_normal(), {"mask": np.where(np.arange(70) < 40, 0.0, np.finfo(float).min)}),
    "only sentinels": (_normal(keys=5), {"mask": np.full((5, 5), -1e9)}),
    "nothing seen": (_normal(), {"mask": np.arange(5)[:, None] > np.zeros(70)}),
    "heads": (_normal(batch=(2, 4), kv_batch=(2, 2), length=3, keys=7), {"causal": True}),
    "a mask a head": (
        _normal(batch=(2, 4), kv_batch=(2, 2), length=3, keys=7),
        {"mask": np.random.default_rng(2).random((4, 3, 7)) < 0.5},
    ),
    "packed": (_normal(length=9, keys=20), {"cu_seqlens": ([0, 2, 2, 9], [0, 9, 10, 20])}),
    "packed, causal": (
        _normal(length=9, keys=20),
        {"cu_seqlens": ([0, 2, 2, 9], [0, 9, 10, 20]), "causal": True},
    ),
    "ties": (_changed(1, lambda k: np.repeat(k[:14], 5, axis=0)), {}),
    "all tie": (_changed(1, np.zeros_like), {}),
    "midpoints": ([*_changed(1, np.zeros_like, keys=2)[:2], np.array([[1.0], [1.0 + 2.0**-52]])], {}),
    "constant values": (_changed(2, lambda v: np.full_like(v, 0.7)), {}),
    "no values": (_changed(2, np.zeros_like), {}),
    "one-hot values": (
        _changed(2, lambda v: np.eye(*v.shape), keys=9, columns=9, length=9),
        {"causal": True},
    ),
    "wide": (_changed(0, lambda q: q * 100), {}),
    "gaps of 700": (_changed(0, lambda q: q * 300), {}),
    "far": (_changed(0, lambda q: q * 1e8), {}),
    "huge": (_changed(0, lambda q: q * 1e100), {}),
    "beyond": (_changed(0, lambda q: q * 1e200), {}),
    "outliers": (_changed(1, _outliers), {}),
    "shifted": (_changed(1, lambda k: k + 1e3), {}),
    "values that cancel": ([np.ones((2, 1)), np.ones((2, 1)), np.array([[2.0**-149], [-(2.0**-149)]])], {}),
    "small values": (_changed(2, lambda v: v * 1e-6), {}),
    "tiny values": (_changed(2, lambda v: v * 1e-300), {}),
    "subnormal values": (_changed(2, lambda v: v * 2.0**-1060), {}),
    "huge values": (_changed(2, lambda v: v * 1e300), {}),
    "tiny keys": (_changed(1, lambda k: k * 1e-310), {}),
    "two apart": ([np.array([[1.0]]), np.array([[0.0], [2.0**-52]]), np.array([[0.0], [1.0]])], {"scale": 1}),
    "scores that cancel": (_pair(CANCELLING), {"scale": 1}),
    "scores that cancel in binary64": (_pair([2.0**27, 2.0**-27, -(2.0**27), 0.0, 0.0, 0.0]), {"scale": 1}),
    "scores that mislead": (_pair(MISLEADING), {"scale": 1}),
    "NaN in q": (_changed(0, lambda q: _with(q, (1, 2), NAN)), {"causal": True}),
    "infinity in k": (_changed(1, lambda k: _with(k, (68, 0), -INF)), {"causal": True}),
    "NaN in v": (_changed(2, lambda v: _with(v, (67, 1), NAN)), {"causal": True}),
    "NaN behind a mask": (_changed(1, lambda k: _with(k, 3, NAN)), {"mask": np.arange(70) != 3}),
    "undefined mask": (_normal(), {"mask": _with(np.zeros((5, 70)), ([1, 3], [4, 5]), [NAN, INF])}),
    "hidden NaN in the mask": (_normal(length=3, keys=3), {"mask": [[0, 0, NAN]] * 3, "causal": True}),
}


def _agree(ours, theirs, formats=FORMATS):
    """The same roundings, and errors that may be the same, of outputs near and far."""
    assert ours.shape == theirs.shape
    for fmt in formats:
        a, b = (e.round(fmt).astype(np.float64) for e in (ours, theirs))
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))
    assert ours.overlaps(theirs).all()
    y = theirs.round("float64")
    with np.errstate(over="ignore", invalid="ignore"):
        for output in (y, np.nextafter(y, INF), y * 1.5):
            mine, exact = ours.signed_error_ulp(output), theirs.signed_error_ulp(output)
            assert ((mine[0] <= exact[1]) & (exact[0] <= mine[1])).all()


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_lse_are_those_of_arb(case):
    operands, params = CASES[case]
    fast, slow = (reference.attention_lse(*operands, **params, method=m) for m in ("fast", "arb"))
    for ours, theirs in zip(fast, slow, strict=True):
        _agree(ours, theirs)


@pytest.mark.parametrize("case", CASES)
def test_cotangents_are_those_of_arb(case):
    operands, params = CASES[case]
    rounded = [e.round("float64") for e in reference.attention_lse(*operands, **params)]
    dout = np.random.default_rng(3).normal(size=rounded[0].shape)
    fast, slow = (
        reference.attention_vjp(*operands, *rounded, dout, **params, method=m) for m in ("fast", "arb")
    )
    for ours, theirs in zip(fast, slow, strict=True):
        _agree(ours, theirs, ("float64", "float32"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("out", NAN),
        ("lse", INF),
        ("lse", -INF),
        ("dout", NAN),
        ("dout", 1e200),
        ("lse", -650.0),
        ("lse", -720.0),
        ("lse", 700.0),
    ],
)
def test_cotangents_of_what_no_forward_pass_gives(name, value):
    """Whatever out, lse and dout hold, NaN goes where the definition takes it and numbers are proven."""
    operands = _normal(length=4, keys=6)
    given = dict(
        zip(("out", "lse"), (e.round("float64") for e in reference.attention_lse(*operands)), strict=True)
    )
    given["dout"] = np.random.default_rng(3).normal(size=given["out"].shape)
    given[name][(1, 2) if name != "lse" else 1] = value
    fast, slow = (
        reference.attention_vjp(*operands, *given.values(), causal=True, method=m) for m in ("fast", "arb")
    )
    for ours, theirs in zip(fast, slow, strict=True):
        _agree(ours, theirs, ("float64", "float32"))


@pytest.mark.parametrize("which", ["out", "v"])
def test_slopes_that_cancel(which):
    """D or dP is 2**-30 where its sum in two words is 0, and the other is 0 exactly."""
    q, k, v = _normal(length=2, keys=3, columns=6)
    rows = np.array([CANCELLING] * 3)
    v, out = (v * 0, rows[:2]) if which == "out" else (rows, np.zeros((2, 6)))
    fast, slow = (
        reference.attention_vjp(q, k, v, out, np.zeros(2), np.ones((2, 6)), method=m) for m in ("fast", "arb")
    )
    for ours, theirs in zip(fast, slow, strict=True):
        _agree(ours, theirs, ("float64", "float32"))


def test_gradients_that_cancel_to_their_last_words_are_counted():
    """One key takes almost all the weight, so that dP - D is what the rounding of out left."""
    q, k, v = _normal(length=6, keys=20)
    q *= 80.0
    out, lse = (e.round("float64") for e in reference.attention_lse(q, k, v))
    given = q, k, v, out, lse, np.random.default_rng(4).normal(size=out.shape)
    fast, slow = (reference.attention_vjp(*given, method=m) for m in ("fast", "arb"))
    assert max((e._fast.split.width >= 2.0**52).sum() for e in fast) >= 12
    for ours, theirs in zip(fast, slow, strict=True):
        near = theirs.round("float64") * (1 + 2.0**-50)
        (low, high), (lower, upper) = (e.signed_error_ulp(near) for e in (ours, theirs))
        assert ((low <= lower) & (upper <= high)).all()
        assert (high - low <= 2.0**-9 * ours.in_ulps("float64")[1]).all()
        _agree(ours, theirs, ("float64", "float32"))


@pytest.mark.parametrize("masked", [False, True])
def test_a_query_whose_values_are_all_its_output_has_no_gradient(masked):
    """Also where others of its batch have one; the values it does not see, or whose dout is 0, may differ."""
    q, k, v = _normal(batch=(2,), length=4, keys=6)
    v[0, 1:] = v[0, 0]
    v[1, 0] += 1.0
    dout = np.random.default_rng(4).normal(size=(2, 4, 3))
    dout[:, 1, 1] = 0.0
    v[0, 3, 1] += 1.0
    mask = np.ones((2, 4, 6), dtype=bool)
    mask[0, :, 3] = not masked
    out, lse = (e.round("float64") for e in reference.attention_lse(q, k, v, mask=mask))
    out[0] = v[0, 0]
    dq, dk, dv = reference.attention_vjp(q, k, v, out, lse, dout, mask=mask, method="fast")
    zero = (dq._fast.split.kind == 1).reshape(dq.shape)
    assert zero[0, 1].all()
    assert zero[0].all() == masked
    assert not zero[1].any()
    assert (
        (dk._fast.split.kind == 1).reshape(dk.shape)[0].all(axis=-1)
        == ([True] * 6 if masked else [True, True, True, False, True, True])
    ).all()
    exact = reference.attention_vjp(q, k, v, out, lse, dout, mask=mask, method="arb")
    for ours, theirs in zip((dq, dk, dv), exact, strict=True):
        _agree(ours, theirs, ("float64", "float32"))


@pytest.mark.parametrize(
    "dtype", [ml_dtypes.bfloat16, np.float16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2]
)
def test_narrow_inputs_are_the_reals_that_they_are(dtype):
    operands = [a.astype(dtype) for a in _normal()]
    for ours, theirs in zip(
        *(reference.attention_lse(*operands, method=m) for m in ("fast", "arb")), strict=True
    ):
        _agree(ours, theirs, (*FORMATS, "float8_e4m3fn"))


#: Those whose scale is not left to Arb.
TAKEN = [case for case, (_, params) in CASES.items() if params.get("scale") not in (1e-300, 2.0**-1060)]


def _in_binary32(case):
    """A case with its operands in binary32, and the pass over them."""
    operands, params = CASES[case]
    with np.errstate(over="ignore", under="ignore"):
        narrow = [a.astype(np.float32) for a in operands]
    return narrow, params, reference.attention_lse(*narrow, **params, method="fast")[0]._fast.of


@pytest.mark.parametrize("case", TAKEN)
def test_binary64_alone_decides_as_arb_does(case):
    narrow, params, _ = _in_binary32(case)
    fast, slow = (reference.attention_lse(*narrow, **params, method=m) for m in ("fast", "arb"))
    for ours, theirs in zip(fast, slow, strict=True):
        for fmt in FORMATS[1:]:
            a, b = (e.round(fmt).astype(np.float64) for e in (ours, theirs))
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(np.signbit(a[a == 0]), np.signbit(b[b == 0]))


@pytest.mark.parametrize("case", TAKEN)
def test_binary64_alone_keeps_its_bound(case):
    _, _, both = _in_binary32(case)
    for (values, error), words in zip(both.plain, both.results, strict=True):
        known = np.isfinite(error) & (words.exponent == 0) & np.isfinite(words.high)
        off = np.abs((values[known] - words.high[known]) - words.low[known])
        assert (off <= (error + words.error)[known]).all()
        assert np.isfinite(error[words.high == -INF]).all()


def test_binary64_alone_decides_almost_everything():
    """Of 10 000 roundings to binary32 it leaves less than one in a hundred, and its bound says something."""
    q, k, v = (a.astype(np.float32) for a in _normal(length=100, keys=500, depth=64, columns=100))
    both = reference.attention_lse(q, k, v, method="fast")[0]._fast.of
    (out, error), _ = both.plain
    assert (error < 2.0**-42).all()
    assert decided(out, error, reference.FORMATS["binary32"])[1].mean() > 0.99
    assert np.abs(out - both.results[0].high).max() > error.max() * 2.0**-10


@pytest.mark.parametrize("fmt", [f for f in reference.FORMATS.values() if f.precision <= 24])
def test_numbers_that_are_known_are_rounded_once(fmt):
    """Numbers next to midpoints of subnormals among them, which a first rounding would move onto those."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=400) * 2.0 ** rng.integers(fmt.eta_exponent - 3, fmt.emax + 2, 400)
    x[:40] = (np.arange(40) + 0.5) * fmt.eta * (1 + rng.choice([-1, 0, 1], 40) * 2.0**-30)
    values, known = decided(x, np.zeros(400), fmt)
    expected = [round_dyadic(*dyadic(v), fmt) for v in x.tolist()]
    np.testing.assert_array_equal(values[known], np.array(expected)[known])
    assert known[np.isfinite(expected)].all()


def test_packed_sequences_are_sequences():
    q, k, v = _normal(length=9, keys=20, batch=(2,))
    q_ends, k_ends = [0, 2, 2, 9], [0, 9, 10, 20]
    for causal in (False, True, "top-left"):
        packed = reference.attention(q, k, v, causal=causal, cu_seqlens=(q_ends, k_ends)).round("float64")
        for i in range(3):
            a, b = slice(*q_ends[i : i + 2]), slice(*k_ends[i : i + 2])
            alone = reference.attention(q[:, a], k[:, b], v[:, b], causal=causal).round("float64")
            np.testing.assert_array_equal(packed[:, a], alone)


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (([0, 5], [0, 3]), "cu_seqlens_k does not rise from 0 to the 4 rows of k"),
        (([0, 6, 5], [0, 2, 4]), "cu_seqlens_q does not rise"),
        (([0, 5], [0, 2, 4]), "ends 1 sequences and cu_seqlens_k 2"),
        (([5], [4]), "two or more integers"),
        (([0, 5], [0, 4], [0, 4]), "not a pair"),
        (([0, 5],), "not a pair"),
        (5, "not a pair"),
        (([0.0, 5.0], [0, 4]), "two or more integers"),
    ],
)
def test_ends_of_sequences_that_are_none(ends, message):
    with pytest.raises(DomainError, match=message):
        reference.attention(*_normal(keys=4), cu_seqlens=ends)


def test_what_is_left_wide_is_narrow_by_the_exact_path():
    """Of a weight e^-627 double words know few digits: their low words are below the normal numbers."""
    q, k, v = np.array([[[627.0]]]), np.array([[[0.0], [-1.0]]]), np.array([[[0.0], [1.0]]])
    wide = reference.attention(q, k, v, scale=1.0, method="fast")
    exact = reference.attention(q, k, v, scale=1.0, method="arb")
    right = exact.round("float64")
    off = right * (1.0 + 2.0**-44)
    assert wide.error_ulp(off)[0].item() == 0.0
    assert wide.error_ulp(off)[1].item() > 1e9
    for y in (right, off):
        (lower, upper), (low, high) = wide.exactly().error_ulp(y), exact.error_ulp(y)
        assert upper.item() - lower.item() < 1e-9
        assert lower.item() <= high.item()
        assert low.item() <= upper.item()
    assert exact.exactly() is exact


def test_many_pairs_are_taken_by_the_fast_path():
    """Arb would take minutes; the figures are those of binary64 to its last few bits."""
    q, k, v = _normal(length=300, keys=400, depth=16, columns=8)
    out, lse = reference.attention_lse(q, k, v)
    scores = q @ k.T / 4.0
    weights = np.exp(scores)
    np.testing.assert_allclose(out.round("float64"), weights @ v / weights.sum(1, keepdims=True), rtol=1e-11)
    np.testing.assert_allclose(lse.round("float64"), np.log(weights.sum(1)), rtol=1e-14)
    assert out.undecided == lse.undecided == 0


def test_the_same_bits_for_any_number_of_threads(monkeypatch):
    operands = _normal(length=90, keys=130, batch=(2,))
    seen = []
    for count in ("1", "2", "5"):
        monkeypatch.setenv("SOFTCERT_THREADS", count)
        out, lse = reference.attention_lse(*operands, causal=True, method="fast")
        given = out.round("float64"), lse.round("float64")
        cotangents = reference.attention_vjp(*operands, *given, given[0], causal=True, method="fast")
        seen.append([e.error_ulp(e.round("float32")) for e in (out, lse, *cotangents)])
    for other in seen[1:]:
        for a, b in zip(seen[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_undecided_roundings_are_counted_and_right():
    operands, params = CASES["midpoints"]
    out = reference.attention(*operands, **params, method="fast")
    assert out.round("float64").tolist() == [[1.0]] * 5
    assert out.undecided == 5


PARTS = {
    "normal": (_normal(length=20, columns=4)[2][:20], 0.0),
    "apart": (_normal(length=20, columns=4)[2][:20], np.linspace(-800.0, 800.0, 20)),
    "far": (_normal(length=20, columns=4)[2][:20], 1e300 * np.linspace(-1, 1, 20)),
    "equal": (np.ones((20, 4)) * 0.7, 0.0),
    "cancelling": (np.array([[1.0, -1.0, 2.0**-500, 0.0]] * 20), 0.0),
    "tiny": (_normal(length=20, columns=4)[2][:20] * 1e-300, np.linspace(-40.0, 40.0, 20)),
    "huge": (_normal(length=20, columns=4)[2][:20] * 1e200, 0.0),
    "special values": (np.where(np.eye(20, 4) > 0, [NAN, INF, -INF, 1.0], 2.0), [INF, NAN, -INF, 5.0] * 5),
    "nothing": (np.ones((20, 4)), -INF),
}


@pytest.mark.parametrize("kind", PARTS)
def test_merges_are_those_of_arb(kind):
    out_a, lse_a = PARTS[kind]
    lse_a = np.broadcast_to(lse_a, 20).astype(float)
    for out_b, lse_b in ((-out_a, np.zeros(20)), (_normal(keys=20, columns=4)[2], np.full(20, -INF))):
        fast, slow = (
            reference.attention_merge(out_a, lse_a, out_b, lse_b, method=m) for m in ("fast", "arb")
        )
        for ours, theirs in zip(fast, slow, strict=True):
            _agree(ours, theirs)


@pytest.mark.parametrize("radicand", [1, 2, 7, 128])
@pytest.mark.parametrize("rational", [Fraction(1), Fraction(-3, 7), Fraction(2) ** -390, Fraction(10) ** 100])
def test_the_scale_in_two_words(rational, radicand):
    high, low = map(Fraction, scale_words(rational, radicand))
    square, wanted = (high + low) ** 2 * radicand, rational**2
    assert abs(square / wanted - 1) < Fraction(1, 2**104)
    assert (high > 0) == (rational > 0)


def test_norms_are_rounded_up_without_underflow():
    rows = np.array([[3e-200, 4e-200], [3.0, 4.0], [0.0, 0.0]])
    norms = sizes(rows)
    for row, norm in zip(rows.tolist(), norms.tolist(), strict=True):
        square = sum(Fraction(x) ** 2 for x in row)
        assert square <= Fraction(norm) ** 2 <= square * Fraction(1001, 1000)


def test_dot_products_keep_their_bound():
    """Cancelling products: every bit of the errors of the first word is needed."""
    rng = np.random.default_rng(4)
    a = rng.normal(size=64) * 10.0 ** rng.integers(-8, 8, 64)
    b = np.zeros((64, tiles.TILE))
    b[:, :] = rng.normal(size=b.shape) * 10.0 ** rng.integers(-8, 8, b.shape)
    b[-1] = -(a[:-1] @ b[:-1]) / a[-1]
    high, low = np.empty(tiles.TILE), np.empty(tiles.TILE)
    tiles.dot_tile(a, b, high, low)
    worst = Fraction(0)
    for j in range(tiles.TILE):
        exact = sum(Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b[:, j].tolist(), strict=True))
        size = sum(abs(Fraction(x) * Fraction(y)) for x, y in zip(a.tolist(), b[:, j].tolist(), strict=True))
        worst = max(worst, abs(Fraction(high[j]) + Fraction(low[j]) - exact) / size)
    assert 0 < worst < Fraction(tiles.dot_error(64))


def test_errors_contain_what_is_lost():
    """The words themselves, before any rounding, lie within their error of the exact result."""
    operands = _normal(depth=32, keys=130)
    out, lse = reference.attention_lse(*operands, method="arb")
    fast = reference.attention_lse(*operands, method="fast")
    for exact, words in zip((out, lse), fast, strict=True):
        split = words._splits()
        relative = split.width * 2.0**-105
        assert (relative < 2.0**-80).all()
        assert (relative > 2.0**-104).all()
        assert words.overlaps(exact).all()


KERNELS = {
    "dot_tile": tiles.dot_tile,
    "weighted_sums": tiles.weighted_sums,
    "absorb": tiles.absorb,
    "to_scores": attention_weights.to_scores,
    "to_weights": attention_weights.to_weights,
    "forward": attention_forward.forward,
    "add_pairs": attention_backward.add_pairs,
    "finish": attention_backward.finish,
    "forward_plain": attention_narrow.forward_plain,
}


@pytest.fixture(scope="module")
def _compiled_here():
    """Every kernel compiled in this process: what is kept on disk has no text."""
    operands = _normal()
    out, lse = (e.round("float64") for e in reference.attention_lse(*operands, method="fast"))
    reference.attention_vjp(*operands, out, lse, out, method="fast")[0].round("float32")
    reference.attention(*(a.astype(np.float32) for a in operands), method="fast").round("float32")
    for kernel in reversed(KERNELS.values()):
        kernel.recompile()


@pytest.mark.usefixtures("_compiled_here")
@pytest.mark.parametrize("name", KERNELS)
def test_no_operation_may_be_rearranged(name):
    kernel = KERNELS[name]
    assert kernel.signatures
    text = kernel.inspect_llvm(kernel.signatures[0])
    arithmetic = re.findall(r"= (?:tail )?(?:fadd|fsub|fmul|fdiv|call [^@]*@llvm\.fma)[^\n]*", text)
    assert arithmetic
    for line in arithmetic:
        assert not re.search(r"\b(fast|reassoc|contract|nnan|ninf|nsz|arcp|afn)\b", line), line
