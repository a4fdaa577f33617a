"""Attention: cases by hand, exactness, masks, heads, formats, and the merge of key sets."""

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


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def operands(rng, length=3, keys=4, depth=5, columns=2, batch=(), kv_batch=None):
    kv_batch = batch if kv_batch is None else kv_batch
    return (
        rng.normal(size=(*batch, length, depth)),
        rng.normal(size=(*kv_batch, keys, depth)),
        rng.normal(size=(*kv_batch, keys, columns)),
    )


def by_mpmath(q, k, v, visible, scale=None, bias=None):
    """(out, lse) of one head by the definition, as lists of mpf at 200 bits."""
    out, lse = [], []
    for i in range(len(q)):
        weights = {}
        for j in range(len(k)):
            if visible[i][j]:
                dot = mp.fsum(mp.mpf(a) * mp.mpf(b) for a, b in zip(q[i], k[j], strict=True))
                factor = 1 / mp.sqrt(len(q[i])) if scale is None else scale
                weights[j] = mp.exp(dot * factor + (0 if bias is None else mp.mpf(bias[i][j])))
        total = mp.fsum(weights.values())
        lse.append(mp.log(total) if weights else -mp.inf)
        columns = range(len(v[0]))
        out.append([mp.fsum(w * v[j][c] for j, w in weights.items()) / (total or 1) for c in columns])
    return out, lse


def agrees(enclosure, expected, digits=30):
    """Whether each element is what mpmath found, to some digits."""
    lower, upper = (np.vectorize(mp.mpf, otypes=[object])(bound) for bound in enclosure.bounds_decimal(40))
    wanted = np.array(expected, dtype=object)
    slack = mp.mpf(10) ** -digits * (abs(wanted) + mp.mpf(10) ** -20)
    return bool((lower - slack <= wanted).all() and (wanted <= upper + slack).all())


@pytest.fixture(autouse=True)
def precise():
    with mp.workprec(200):
        yield


@pytest.mark.parametrize("method", METHODS)
def test_two_keys_by_hand(method):
    """With scores 0 and log-odds 1, out is the logistic function."""
    out, lse = reference.attention_lse([[1.0]], [[1.0], [0.0]], [[1.0], [0.0]], method=method)
    assert out.digits(12).tolist() == [["0.731058578630"]]
    assert lse.digits(12).tolist() == ["1.31326168752"]


@pytest.mark.parametrize("method", METHODS)
def test_the_default_scale_is_the_real_number(method):
    """1/sqrt(2) rounded to binary64 would be seen in the seventeenth digit of lse."""
    q, k = [[1e8, 1e8]], [[1.0, 0.0]]
    lse = reference.attention_lse(q, k, [[0.0]], method=method)[1]
    assert lse.digits(25).tolist() == [mp.nstr(mp.mpf(10) ** 8 / mp.sqrt(2), 25)]
    assert not lse.is_exact().any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [0.3, Fraction(1, 3), -2.0])
def test_a_scale_given_is_that_number(rng, method, scale):
    q, k, v = operands(rng)
    out, lse = reference.attention_lse(q, k, v, scale=scale, method=method)
    exact = mp.mpf(Fraction(scale).numerator) / Fraction(scale).denominator
    wanted = by_mpmath(q, k, v, np.ones((3, 4)), exact)
    assert agrees(out, wanted[0])
    assert agrees(lse, wanted[1])


def test_scale_zero_gives_the_mean():
    out, lse = reference.attention_lse([[5.0]], [[1.0], [2.0], [7.0]], [[1.0], [2.0], [4.0]], scale=0.0)
    assert out.contains(Fraction(7, 3)).all()
    assert out.is_exact().all()
    assert lse.digits(10).tolist() == ["1.098612289"]


@pytest.mark.parametrize("depth", [4, 5])
@pytest.mark.parametrize("method", METHODS)
def test_random_operands_against_the_definition(rng, method, depth):
    q, k, v = operands(rng, depth=depth)
    out, lse = reference.attention_lse(q, k, v, mask=MASK, method=method)
    wanted = by_mpmath(q, k, v, MASK)
    assert agrees(out, wanted[0])
    assert agrees(lse, wanted[1])


@pytest.mark.parametrize("fmt", ["float64", "float32", "bfloat16", "float8_e5m2"])
def test_correctly_rounded_results_are_within_half_an_ulp(rng, fmt):
    for enclosure in reference.attention_lse(*operands(rng), mask=MASK):
        lower, upper = enclosure.error_ulp(enclosure.round(fmt))
        assert (lower <= upper).all()
        assert (upper <= 0.5).all()


# exactness


@pytest.mark.parametrize("fmt", ["float64", "float32"])
@pytest.mark.parametrize("method", METHODS)
def test_a_mean_of_tied_keys_is_exact_where_it_is_a_midpoint(method, fmt):
    """Ziv's loop would never end on (1 + (1 + 2**-52)) / 2."""
    v = [[1.0], [1.0 + 2.0**-52]]
    out = reference.attention([[3.0]], [[0.5], [0.5]], v, method=method)
    assert out.is_exact().all()
    assert out.contains(1 + Fraction(1, 2**53)).all()
    assert out.round(fmt).tolist() == [[1.0]]


@pytest.mark.parametrize("method", METHODS)
def test_groups_whose_means_coincide_give_that_mean(method):
    out = reference.attention([[1.0]], [[0.0], [0.0], [2.0]], [[0.0], [2.0], [1.0]], method=method)
    assert out.is_exact().all()
    assert out.round("float64").tolist() == [[1.0]]


def test_one_column_may_be_exact_beside_others():
    out = reference.attention([[1.0]], [[0.0], [2.0]], [[3.0, 0.0], [3.0, 1.0]])
    assert out.is_exact().tolist() == [[True, False]]


def test_ties_are_found_with_an_irrational_scale_and_a_mask():
    """Dots 2 and 2 with equal masks tie; equal sums of unequal parts cannot."""
    q, k = [[1.0, 1.0]], [[2.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
    v = [[1.0], [4.0], [2.5]]
    assert reference.attention(q, k, v, mask=[[0.25, 0.25, 7.0]]).contains(Fraction(5, 2)).all()
    assert reference.attention(q, k, v, mask=[[0.25, 0.25, 7.0]]).is_exact().all()
    assert not reference.attention(q, k, v, mask=[[0.25, 0.5, 7.0]]).is_exact().any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("far", "rounded"), [(5.0, 1.0 + 2.0**-23), (-5.0, 1.0)])
def test_a_vanishing_tail_decides_a_midpoint(method, far, rounded):
    """e**-1e12 is beyond any precision; only on which side of the midpoint it lies matters."""
    midpoint = 1.0 + 2.0**-24
    out = reference.attention([[1e6]], [[1e6], [0.0]], [[midpoint], [far]], method=method)
    assert out.round("float32").tolist() == [[rounded]]


def test_a_single_key_has_its_score_as_lse():
    out, lse = reference.attention_lse([[2.0, 0.0, 0.0, 0.0]], [[3.0, 1.0, 1.0, 1.0]], [[7.0]])
    assert lse.is_exact().all()
    assert lse.round("float64").tolist() == [3.0]
    assert out.round("float64").tolist() == [[7.0]]


@pytest.mark.parametrize("method", METHODS)
def test_huge_scores(method):
    q, k = [[1e300]], [[1e300], [-1e300]]
    out, lse = reference.attention_lse(q, k, [[1.0], [2.0]], scale=1.0, method=method)
    assert out.round("float64").tolist() == [[1.0]]
    assert lse.round("float64").tolist() == [INF]


@pytest.mark.parametrize("method", METHODS)
def test_lse_lies_above_a_midpoint_however_small_the_other_weights(method):
    lse = reference.attention_lse([[1.0]], [[1.0 + 2.0**-24], [-1e300]], [[1.0], [2.0]], method=method)[1]
    assert lse.round("float32").tolist() == [1.0 + 2.0**-23]


@pytest.mark.parametrize("method", METHODS)
def test_lse_of_tied_keys(method):
    """Three keys of score 1 and two of score 0, whose values are 1 and 0."""
    k, v = [[1.0]] * 3 + [[0.0]] * 2, [[1.0]] * 3 + [[0.0]] * 2
    out, lse = reference.attention_lse([[1.0]], k, v, method=method)
    assert lse.digits(20).tolist() == [mp.nstr(mp.log(3 * mp.e + 2), 20)]
    assert out.digits(20).tolist() == [[mp.nstr(3 * mp.e / (3 * mp.e + 2), 20)]]


# masks


@pytest.mark.parametrize(
    ("causal", "shape", "seen"),
    [
        (True, (2, 4), [3, 4]),
        ("bottom-right", (3, 2), [0, 1, 2]),
        ("top-left", (2, 4), [1, 2]),
        ("top-left", (3, 2), [1, 2, 2]),
        (False, (2, 3), [3, 3]),
    ],
)
def test_causal_alignments(causal, shape, seen):
    """With scale 0, lse is the log of the number of visible keys."""
    q, k = np.zeros((shape[0], 1)), np.zeros((shape[1], 1))
    lse = reference.attention_lse(q, k, k, scale=0, causal=causal)[1]
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(lse.to_float64(), np.log(seen))


def test_a_query_that_sees_nothing():
    out, lse = reference.attention_lse([[1.0], [1.0]], [[1.0]], [[NAN]], causal=True)
    assert out.digits(3).tolist() == [["0"], ["nan"]]
    assert lse.digits(3).tolist() == ["-inf", "1.00"]


def test_no_keys_at_all():
    out, lse = reference.attention_lse(np.ones((2, 3)), np.ones((0, 3)), np.ones((0, 4)))
    assert out.round("float32").tolist() == [[0.0] * 4] * 2
    assert lse.round("float32").tolist() == [-INF] * 2


def test_boolean_and_additive_masks_agree(rng):
    q, k, v = operands(rng)
    additive = np.where(MASK, 0.0, -INF)
    a, b = (reference.attention(q, k, v, mask=mask) for mask in (MASK, additive))
    assert a.round("float64").tolist() == b.round("float64").tolist()


def test_an_additive_mask_is_added_to_the_scaled_scores(rng):
    q, k, v = operands(rng)
    bias = rng.normal(size=(3, 4))
    out, lse = reference.attention_lse(q, k, v, mask=bias)
    wanted = by_mpmath(q, k, v, np.ones((3, 4)), bias=bias)
    assert agrees(out, wanted[0])
    assert agrees(lse, wanted[1])


@pytest.mark.parametrize("garbage", [NAN, INF, 1e300])
def test_what_hidden_keys_hold_does_not_matter(rng, garbage):
    q, k, v = operands(rng)
    mask = np.array([True, True, True, False])
    clean = reference.attention(q, k, v, mask=mask).round("float64")
    k[3], v[3] = garbage, garbage
    assert reference.attention(q, k, v, mask=mask).round("float64").tolist() == clean.tolist()


def test_what_is_not_finite_reaches_what_sees_it():
    q, k, v = np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 2))
    v[1, 0] = INF
    assert np.isnan(reference.attention(q, k, v, causal=True).to_float64()).tolist() == [
        [False, False],
        [True, False],
    ]
    k[1] = -INF
    out, lse = reference.attention_lse(q, k, v, causal=True)
    assert np.isnan(out.to_float64()).tolist() == [[False, False], [True, True]]
    assert np.isnan(lse.to_float64()).tolist() == [False, True]


@pytest.mark.parametrize("bias", [NAN, INF])
def test_a_mask_that_is_no_number_gives_nan(bias):
    out, lse = reference.attention_lse([[1.0]], [[1.0], [2.0]], [[1.0], [2.0]], mask=[[0.0, bias]])
    assert out.digits(3).tolist() == [["nan"]]
    assert lse.digits(3).tolist() == ["nan"]


def test_a_mask_does_not_matter_where_causality_hides():
    mask = [[0.0, NAN], [0.0, 0.0]]
    q = np.ones((2, 1))
    masked = reference.attention(q, q, [[1.0], [2.0]], mask=mask, causal=True)
    assert masked.round("float64").tolist() == [[1.0], [1.5]]


def test_tensors_are_taken_as_arrays(rng):
    torch = pytest.importorskip("torch")
    arrays = [*operands(rng), MASK]
    q, k, v, mask = map(torch.tensor, arrays)
    ours = reference.attention(q, k, v, mask=mask)
    theirs = reference.attention(*arrays[:3], mask=MASK)
    assert ours.round("float64").tolist() == theirs.round("float64").tolist()


# heads and formats


def test_heads_share_keys_and_values(rng):
    q, k, v = operands(rng, batch=(2, 6), kv_batch=(2, 3))
    shared = reference.attention(q, k, v).round("float64")
    repeated = reference.attention(q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1)).round("float64")
    assert shared.tolist() == repeated.tolist()
    assert shared.shape == (2, 6, 3, 2)


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.bfloat16])
def test_narrow_formats_are_the_numbers_they_are(rng, dtype):
    narrow = [a.astype(dtype) for a in operands(rng)]
    wide = [a.astype(np.float64) for a in narrow]
    ours, theirs = reference.attention(*narrow).round("float32"), reference.attention(*wide).round("float32")
    assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3,), (4, 3), (4, 2)), "two axes"),
        (((2, 3), (4, 5), (4, 2)), "features"),
        (((2, 3), (4, 3), (5, 2)), "last axis"),
        (((3, 2, 3), (2, 4, 3), (2, 4, 2)), "multiple"),
        (((2, 1, 2, 3), (3, 1, 4, 3), (3, 1, 4, 2)), "batch"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    with pytest.raises(DomainError, match=message):
        reference.attention(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"scale": NAN}, "scale=nan"),
        ({"causal": "left"}, "causal='left'"),
        ({"causal": np.array([True, False])}, "causal=array"),
        ({"mask": np.ones((3, 3), dtype=bool)}, "broadcast"),
        ({"mask": [[1.0], [1.0, 2.0]]}, "mask is ragged"),
    ],
)
def test_parameters_that_are_none(params, message):
    with pytest.raises(DomainError, match=message):
        reference.attention(np.ones((2, 1)), np.ones((2, 1)), np.ones((2, 1)), **params)


def test_no_features_and_no_scale():
    with pytest.raises(DomainError, match="scale has to be given"):
        reference.attention(np.ones((2, 0)), np.ones((3, 0)), np.ones((3, 1)))
    assert reference.attention(np.ones((2, 0)), np.ones((3, 0)), np.ones((3, 1)), scale=1).is_exact().all()


def test_an_unknown_method():
    with pytest.raises(ValueError, match="method='slow'"):
        reference.attention([[1.0]], [[1.0]], [[1.0]], method="slow")


# merge


@pytest.mark.parametrize("method", METHODS)
def test_merging_is_attention_over_the_union(rng, method):
    """The parts are rounded to binary64, so the merge is that of the rounded parts."""
    q, k, v = operands(rng, keys=5)
    whole = reference.attention_lse(q, k, v)
    parts = [reference.attention_lse(q, k[s], v[s]) for s in (slice(0, 2), slice(2, 5))]
    rounded = [e.round("float64") for part in parts for e in part]
    for merged, wanted in zip(reference.attention_merge(*rounded, method=method), whole, strict=True):
        np.testing.assert_allclose(merged.to_float64(), wanted.to_float64(), rtol=1e-14, atol=1e-15)


def test_merging_scores_is_attention_with_them():
    out, lse = reference.attention_merge([[2.0]], [1.0], [[5.0]], [3.0])
    same = reference.attention_lse([[1.0]], [[1.0], [3.0]], [[2.0], [5.0]])
    assert out.digits(40).tolist() == same[0].digits(40).tolist()
    assert lse.digits(40).tolist() == same[1].digits(40).tolist()


def test_merging_with_an_empty_key_set():
    out, lse = reference.attention_merge(
        [[NAN], [2.0], [1.0], [1.0]], [-INF, -INF, NAN, INF], [[5.0], [INF], [1.0], [1.0]], [3.0, -INF, 0, 0]
    )
    assert out.digits(2).tolist() == [["5.0"], ["0"], ["nan"], ["nan"]]
    assert lse.digits(2).tolist() == ["3.0", "-inf", "nan", "nan"]


def test_merging_equal_parts_is_exact():
    out, lse = reference.attention_merge([[1.0]], [2.0], [[1.0 + 2.0**-52]], [2.0])
    assert out.is_exact().all()
    assert out.round("float64").tolist() == [[1.0]]
    assert lse.digits(10).tolist() == ["2.693147181"]


def test_merging_parts_that_do_not_fit():
    with pytest.raises(DomainError, match="do not fit"):
        reference.attention_merge([[1.0]], [1.0, 2.0], [[1.0]], [1.0])
