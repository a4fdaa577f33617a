"""The softmax functions: special values, exact cases, and the structures that are hardest to round."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from mpmath import mp, mpf

from softcert import reference
from softcert.reference import FORMATS, DomainError, Enclosure, Interval, UndecidedRounding
from softcert.reference.cells import Cells
from softcert.reference.rounding import round_fraction

NAN, INF = math.nan, math.inf


def same(got, wanted):
    np.testing.assert_array_equal(np.asarray(got, dtype=np.float64), np.asarray(wanted, dtype=np.float64))


@pytest.mark.parametrize(
    ("row", "softmax", "log_softmax", "lse"),
    [
        ([0.0, NAN, 1.0], [NAN] * 3, [NAN] * 3, NAN),
        ([0.0, INF, 1.0], [NAN] * 3, [NAN] * 3, INF),
        ([INF, -INF], [NAN] * 2, [NAN] * 2, INF),
        ([INF, NAN], [NAN] * 2, [NAN] * 2, NAN),
        ([-INF] * 3, [NAN] * 3, [NAN] * 3, -INF),
        ([-INF, NAN], [NAN] * 2, [NAN] * 2, NAN),
        ([-INF, 7.5], [0, 1], [-INF, 0], 7.5),
        ([-INF, 2.0, 2.0], [0, 0.5, 0.5], [-INF, -math.log(2), -math.log(2)], 2 + math.log(2)),
        ([1e300], [1], [0], 1e300),
        ([5e-324], [1], [0], 5e-324),
    ],
)
@pytest.mark.parametrize("method", ["auto", "mpmath", "arb"])
def test_special_values(row, softmax, log_softmax, lse, method):
    same(reference.softmax(row, method=method).round("float64"), softmax)
    same(reference.log_softmax(row, method=method).round("float64"), log_softmax)
    same(reference.logsumexp(row, method=method).round("float64"), lse)


@pytest.mark.parametrize(
    ("row", "beta", "wanted"),
    [
        ([-INF, 1.0], -1.0, [NAN, NAN]),
        ([INF, 1.0, 1.0], -1.0, [0, 0.5, 0.5]),
        ([INF, 1.0], 0.0, [NAN, NAN]),
        ([-INF, 1.0], 0.0, [NAN, NAN]),
        ([5.0, 1.0], 0.0, [0.5, 0.5]),
        ([5.0, 1.0, -3.0, 9.0], -0.0, [0.25] * 4),
        ([INF, INF], -2.0, [NAN, NAN]),
        ([NAN, 1.0], 0.0, [NAN, NAN]),
    ],
)
def test_beta_multiplies_before_anything_else(row, beta, wanted):
    same(reference.softmax(row, beta=beta).round("float64"), wanted)


def test_beta_is_an_exact_real():
    third = reference.softmax([3.0, 0.0], beta=Fraction(1, 3)).digits(40)
    assert third.tolist() == reference.softmax([1.0, 0.0]).digits(40).tolist()
    tenth = reference.softmax([1e6, 0.0], beta=0.1).digits(20)[1]
    with mp.workdps(60):
        assert tenth == mp.nstr(1 / (1 + mp.exp(mpf(0.1) * 10**6)), 20)
    assert reference.softmax([1.0, 0.0], beta=np.float32(0.5)).digits(9)[0] == "0.622459331"
    assert reference.softmax([1.0, 0.0], beta=2).digits(9)[0] == "0.880797078"
    assert reference.softmax([1.0, 0.0], beta=-1).digits(9)[1] == "0.731058579"


@pytest.mark.parametrize("precision", [53, 24, 11, 8])
def test_two_logits_one_ulp_apart(precision):
    """1/2 + d/4 - d**3/48: d/4 is a midpoint, and the cubic term decides downward."""
    name = {53: "float64", 24: "float32", 11: "float16", 8: "bfloat16"}[precision]
    fmt, d = FORMATS[name], 2.0 ** (1 - precision)
    exact = Fraction(1, 2) + Fraction(d) / 4 - Fraction(d) ** 3 / 48 + Fraction(d) ** 5 / 480
    got = reference.softmax([0.0, d]).round(name).astype(np.float64)
    assert got[1] == round_fraction(exact, fmt) == 0.5
    assert got[0] == round_fraction(1 - exact, fmt)


@pytest.mark.parametrize("d", [1e-320, 5e-324, 2.0**-600])
def test_nearly_equal_logits_stay_on_their_side_of_a_half(d):
    e = reference.softmax([0.0, d])
    same(e.round("float64"), [0.5, 0.5])
    lower, upper = e.error_ulp([0.5, 0.5])
    assert (upper < 2.0**-52).all()
    # the one below 1/2 is measured with the smaller ulp
    below = e.error_ulp([0.5 - 2.0**-54, 0.5])
    assert 1 - 1e-12 < below[0][0] <= below[1][0] < 1 + 1e-12
    assert (lower <= upper).all()


@pytest.mark.parametrize("gap", [700.0, 745.2, 5000.0, 1e10, 1e21, 1e300, 1.7976931348623157e308])
def test_far_gaps(gap):
    e = reference.softmax([0.0, -gap])
    lower, upper = e.error_ulp(np.array([1.0, 0.0]))
    assert 0 <= lower[0] <= upper[0] < 2.0**-52
    # below 1: an output one place below 1 is off by one of the smaller ulps
    assert reference.softmax([0.0, -gap])[0].error_ulp(1 - 2.0**-53)[1] <= 1.0000001
    for method in ("mpmath", "arb"):
        with mp.workprec(2400):
            exact = mp.exp(-mpf(gap)) / (1 + mp.exp(-mpf(gap)))
            exponent = mp.floor(mp.log10(exact))
            mantissa = mp.nstr(exact / mpf(10) ** exponent, 12, strip_zeros=False)
            wanted = f"{mantissa}e{int(exponent)}"
        assert reference.softmax([0.0, -gap], method=method).digits(12)[1] == wanted


@pytest.mark.parametrize(
    ("count", "fmt", "wanted"),
    [
        (1024, "float8_e4m3fn", 0.0),  # half of the smallest subnormal: a tie, and zero is even
        (1023, "float8_e4m3fn", 2.0**-9),
        (1025, "float8_e4m3fn", 0.0),
        (512, "float8_e4m3fn", 2.0**-9),
        (3, "float16", 0.333251953125),
        (3, "bfloat16", 0.333984375),
    ],
)
def test_all_logits_equal(count, fmt, wanted):
    e = reference.softmax(np.full(count, 3.25))
    assert e.is_exact().all()
    assert e.round(fmt).astype(np.float64).tolist() == [wanted] * count
    assert e[0].contains(Fraction(1, count))


def test_the_midpoint_of_binary16_at_two_to_the_25():
    """1/2**25 is half of binary16's smallest subnormal: 2**25 equal logits tie, and zero is even."""
    for count, wanted in ((2**25, 0.0), (2**25 - 1, 2.0**-24), (2**25 + 1, 0.0)):
        assert round_fraction(Fraction(1, count), FORMATS["float16"]) == wanted


@pytest.mark.parametrize("method", ["arb", "mpmath"])
def test_a_vanishing_weight_decides_a_tie(method):
    """1024 equal logits alone tie at half of E4M3's smallest subnormal; anything more lies below."""
    e = reference.softmax([0.0] * 512 + [-1e300], method=method)
    lower, upper = e[0].error_ulp(np.float64(2.0**-9))
    assert 0 <= lower <= upper < 2.0**-52
    assert not e[0].contains(2.0**-9)
    assert e[0].round("float8_e4m3fn") == np.float64(2.0**-9)


@pytest.mark.parametrize("method", ["arb", "mpmath"])
@pytest.mark.parametrize("tail", [-100.0, -700.0, -1e4, -1e300])
def test_a_vanishing_tail_decides_midpoints_of_narrower_formats(tail, method):
    for fmt, p in (("float32", 24), ("float16", 11), ("bfloat16", 8)):
        midpoint = 1 + 2.0**-p
        up = 1 + 2.0 ** (1 - p)
        assert float(reference.logsumexp([midpoint, tail], method=method).round(fmt)) == up
        assert float(reference.logsumexp([-midpoint, tail], method=method).round(fmt)) == -1
    e = reference.logsumexp([1 + 2.0**-24, tail], method=method)
    assert not e.contains(1 + 2.0**-24)


@pytest.mark.parametrize("method", ["arb", "mpmath"])
def test_log_softmax_strictly_below_a_midpoint(method):
    midpoint = 2.0**20 * (1 + 2.0**-24)
    e = reference.log_softmax([0.0, -midpoint], method=method)
    # lse = log1p(exp(-midpoint)) is positive and vanishing, so the value lies below -midpoint
    assert float(e.round("float32")[1]) == -(2.0**20) * (1 + 2.0**-23)
    assert e.digits(5)[0].startswith("-")
    assert "e-4" in e.digits(5)[0]


def test_logsumexp_near_zero_keeps_its_digits():
    x = -math.log(2)
    e = reference.logsumexp([x, x])
    with mp.workdps(80):
        exact = mpf(x) + mp.log(2)
        assert e.digits(25) == mp.nstr(exact, 25)
        y = float(exact)
    lower, upper = e.error_ulp(y)
    assert lower <= upper <= 0.5
    third = reference.logsumexp([-math.log(3)] * 3)
    assert third.error_ulp(third.round("float64"))[1] <= 0.5


def test_subnormal_results_are_rounded_once():
    """A value just above a midpoint of binary64 must not be rounded to binary32 through it."""
    x = np.arange(-104.0, -86.0, 0.125)
    for shift in x.tolist():
        row = [0.0, shift]
        with mp.workdps(80):
            exact = Fraction(int(mp.floor(mp.exp(shift) / (1 + mp.exp(shift)) * mpf(2) ** 250)), 2**250)
        assert float(reference.softmax(row).round("float32")[1]) == round_fraction(exact, FORMATS["float32"])


def test_axes_and_shapes():
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    for axis in (-3, -2, -1, 0, 1, 2):
        whole = reference.softmax(x, axis=axis).round("float64")
        moved = np.moveaxis(x, axis, -1)
        rows = np.array([[reference.softmax(row).round("float64") for row in plane] for plane in moved])
        same(np.moveaxis(whole, axis, -1), rows)
        assert reference.logsumexp(x, axis=axis).shape == tuple(np.delete(x.shape, axis).tolist())
    assert reference.softmax(np.zeros((0, 5))).round("float32").shape == (0, 5)
    assert reference.logsumexp(np.zeros((4, 0))).round("float64").tolist() == [-INF] * 4
    assert reference.logsumexp([]).round("float64") == -INF
    assert reference.logsumexp(np.zeros((0, 3))).shape == (0,)


@pytest.mark.parametrize(
    "dtype",
    [np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2],
)
def test_every_dtype_is_taken_as_the_reals_it_holds(dtype):
    x = np.array([0.1, -1.7, 3.3, -0.0, 0.0]).astype(dtype)
    wide = reference.softmax(x.astype(np.float64))
    narrow = reference.softmax(x)
    assert narrow.digits(30).tolist() == wide.digits(30).tolist()
    same(narrow.round(dtype).astype(np.float64), wide.round(dtype).astype(np.float64))
    assert narrow.round(dtype).dtype == np.dtype(dtype)
    assert narrow.digits(20)[3] == narrow.digits(20)[4]


def test_long_rows_of_few_values_are_grouped():
    rng = np.random.default_rng(2)
    x = rng.choice(rng.normal(size=100) * 5, size=20000)
    e = reference.softmax(x)
    total = reference.exact_sum(e.round("float64"))
    assert abs(float(total.round("float64")) - 1) < 1e-12
    assert e.shape == (20000,)


@pytest.mark.parametrize(
    "call",
    [
        lambda: reference.softmax([[1.0, 2.0], [3.0]]),
        lambda: reference.softmax(["a"]),
        lambda: reference.softmax([1 + 2j]),
        lambda: reference.softmax(np.array([1.0, None], dtype=object)),
        lambda: reference.softmax(np.array([True, False])),
        lambda: reference.softmax([2**53 + 1, 0]),
        lambda: reference.softmax([10**400]),
        lambda: reference.softmax(3.0),
        lambda: reference.softmax([]),
        lambda: reference.softmax(np.zeros((3, 0))),
        lambda: reference.log_softmax([]),
        lambda: reference.softmax([1.0], axis=1),
        lambda: reference.softmax([1.0], axis=None),
        lambda: reference.softmax([1.0], axis=0.5),
        lambda: reference.softmax([1.0], beta=NAN),
        lambda: reference.softmax([1.0], beta=INF),
        lambda: reference.softmax([1.0], beta="2"),
        lambda: reference.softmax([1.0], beta=True),
        lambda: reference.softmax_vjp([1.0], [1.0, 2.0]),
        lambda: reference.softmax_vjp([], []),
        lambda: reference.softmax_jacobian([]),
        lambda: reference.exact_sum(1.0),
        lambda: reference.softmax([1.0]).round("float128"),
        lambda: reference.softmax([1.0]).digits(0),
        lambda: reference.softmax([1.0]).error_ulp([1.0, 2.0]),
        lambda: reference.softmax([1.0]).overlaps(reference.softmax([1.0, 2.0])),
        lambda: reference.cross_check("softmin", [1.0]),
    ],
)
def test_bad_input_is_one_clear_sentence(call):
    with pytest.raises(DomainError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 10


@pytest.mark.parametrize(
    "op", ["softmax", "log_softmax", "logsumexp", "softmax_jacobian", "logsumexp_hessian"]
)
def test_unknown_methods_are_refused_with_the_known_ones(op):
    with pytest.raises(ValueError, match="auto, mpmath, arb"):
        reference.OPS[op]([1.0, 2.0], method="magic")
    with pytest.raises(ValueError, match="auto, mpmath, arb"):
        reference.softmax_vjp([1.0], [1.0], method="magic")


def test_integers_that_float64_holds_are_taken():
    assert reference.softmax([1, 2, 8]).digits(4).tolist() == ["0.0009088", "0.002470", "0.9966"]
    assert reference.softmax(np.array([2**62, 0])).round("float64").tolist() == [1, 0]


def test_as_many_digits_as_wanted():
    text = reference.softmax([0.0, 1.0]).digits(10_000)[1]
    with mp.workdps(10_020):
        exact = mp.nstr(1 / (1 + mp.exp(-1)), 10_000)
    assert text == exact


def test_a_value_that_no_precision_decides_says_so():
    """An oracle whose enclosures always hold a midpoint of binary32 in their middle."""
    cells = Cells()
    midpoint = (1 << 24) + 1
    cells.add_block(lambda prec: [Interval((midpoint << prec) - 1, (midpoint << prec) + 1, -prec)], 100)
    e = Enclosure(cells, np.zeros((), dtype=np.int64))
    with pytest.raises(UndecidedRounding, match="16384 bits"):
        e.round("float32")
    assert e.round("float64") == midpoint
