"""Errors in ulps, digits and bounds, against rationals and against mpmath at high precision."""

import math
from decimal import Decimal
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from softcert import reference
from softcert.reference import FORMATS, UndecidedRounding, format_of
from softcert.reference.cells import Cells
from softcert.reference.enclosure import Enclosure
from softcert.reference.interval import Interval, from_fraction

SETTINGS = settings(derandomize=True, max_examples=80, deadline=None)
DTYPE = st.sampled_from([np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
NAN, INF = math.nan, math.inf


def exactly(*values):
    """Enclosure of the given numbers."""
    cells = Cells()
    places = [cells.add_exact(v if isinstance(v, (float, Interval)) else Fraction(v)) for v in values]
    return Enclosure(cells, np.array(places, dtype=np.int64))


def ulp(t, fmt):
    """Return 2**(max(floor(log2|t|), emin) - (p - 1)), straight from the definition."""
    if t == 0:
        return Fraction(2) ** fmt.eta_exponent
    binade = t.numerator.bit_length() - t.denominator.bit_length() - 2
    while Fraction(2) ** (binade + 1) <= abs(t):
        binade += 1
    return Fraction(2) ** (min(max(binade, fmt.emin), fmt.emax) - (fmt.precision - 1))


def check_error(t, y, dtype):
    fmt = format_of(dtype)
    exact = (Fraction(float(y)) - t) / ulp(t, fmt)
    (low,), (high,) = exactly(t).signed_error_ulp(np.array([y], dtype=dtype))
    assert low == -INF or Fraction(low) <= exact
    assert high == INF or exact <= Fraction(high)
    if abs(exact) < 2**900:
        assert Fraction(high) - Fraction(low) <= abs(exact) / 2**48 + Fraction(1, 2**45)
    (alow,), (ahigh,) = exactly(t).error_ulp(np.array([y], dtype=dtype))
    if low >= 0 or high <= 0:
        assert (alow, ahigh) == ((low, high) if low >= 0 else (-high, -low))
    else:
        assert (alow, ahigh) == (0, max(-low, high))


@SETTINGS
@given(
    st.fractions(min_value=-2, max_value=2, max_denominator=10**30),
    st.integers(-1100, 1020),
    st.integers(-3, 3),
    DTYPE,
)
@example(Fraction(1), 0, 0, np.float64)
@example(Fraction(1), -1074, 1, np.float64)
@example(Fraction(1, 3), -1080, 0, np.float64)
@example(Fraction(-1, 3), 1020, 0, np.float32)
@example(Fraction(0), 0, 2, np.float16)
def test_error_of_rational_values(t, scale, steps, dtype):
    t = t * Fraction(2) ** scale
    fmt = format_of(dtype)
    y = float(reference.rounding.round_fraction(t, fmt))
    for _ in range(abs(steps)):
        y = fmt.next_up(y) if steps > 0 else fmt.next_down(y)
    if math.isfinite(y):
        check_error(t, y, dtype)


@SETTINGS
@given(
    st.fractions(min_value=-2, max_value=2, max_denominator=10**6),
    st.integers(-1074, 1020),
    st.floats(allow_nan=False, allow_infinity=False),
)
def test_error_of_unrelated_outputs(t, scale, y):
    check_error(t * Fraction(2) ** scale, y, np.float64)


def test_exact_values_have_exact_errors():
    e = exactly(1, Fraction(1, 2), -3, 0, Fraction(3, 2**1075))
    lower, upper = e.signed_error_ulp([1 + 2.0**-52, 0.5, -3 - 2.0**-51, 5e-324, 5e-324])
    assert lower.tolist() == upper.tolist() == [1, 0, -1, 1, -0.5]


def test_errors_where_something_is_no_number():
    e = exactly(NAN, NAN, INF, INF, INF, -INF, -INF, 1, 1, 1, 0)
    y = [NAN, 1.0, INF, 1.0, -INF, -INF, NAN, NAN, INF, -INF, INF]
    lower, upper = e.error_ulp(y)
    assert lower.tolist() == upper.tolist() == [0, INF, 0, INF, INF, 0, INF, INF, INF, INF, INF]
    assert e[9].signed_error_ulp(-INF)[0] == -INF


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "bfloat16", "float8_e5m2"])
def test_overflow_counts_from_the_threshold_on(name):
    fmt = FORMATS[name]
    dtype = reference.enclosure.numpy_dtype(fmt)
    top = Fraction(fmt.max_finite)
    half = Fraction(2) ** (fmt.emax - fmt.precision)
    e = exactly(top + half, -top - half, top + half - Fraction(1, 10**9), top + 2 * half, top)
    infinite = np.array([INF, -INF, INF, INF, INF]).astype(dtype)
    assert e.error_ulp(infinite)[1].tolist() == [0, 0, INF, 0, INF]
    assert e.error_ulp(-infinite)[0].tolist() == [INF] * 5
    with np.errstate(over="ignore"):
        finite = np.full(5, fmt.max_finite).astype(dtype)
    assert e.error_ulp(finite)[0][[0, 3, 4]].tolist() == [0.5, 1, 0]


def test_overflow_of_e4m3_is_nan():
    e = exactly(464, Fraction(4640001, 10000), 1000, 1, INF)
    y = np.array([NAN] * 5).astype(ml_dtypes.float8_e4m3fn)
    assert e.error_ulp(y)[0].tolist() == [INF, 0, 0, INF, 0]
    with np.errstate(invalid="ignore"):
        assert e.round("float8_e4m3fn").astype(np.float64).tolist()[0] == 448


def test_an_unknown_binade_counts_both_ulps():
    cells = Cells()
    e = Enclosure(cells, np.array(cells.add_exact(Interval(2**60 - 1, 2**60 + 1, -60))))
    lower, upper = e.signed_error_ulp(1 + 2.0**-52)
    assert lower <= 1 - 2.0**-8
    assert upper >= 2 + 2.0**-7 - 1e-9
    assert e.round("float64") == 1.0


ROWS = st.one_of(
    st.lists(st.floats(-30, 30), min_size=2, max_size=6),
    st.lists(st.floats(-800, 800), min_size=2, max_size=6),
    st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=4),
    st.lists(
        st.sampled_from([0.0, 1.0, -1.0, 2.0**-40, 5e-324, -1e-300, 88.7, -103.9]), min_size=2, max_size=6
    ),
    st.lists(st.integers(0, 8).map(lambda k: 1 + k * 2.0**-52), min_size=2, max_size=6),
)


def high_precision(op, row):
    """The op at hundreds of bits beyond what its exponents need, from its definition."""
    with mp.workprec(1800):
        x = sorted(map(mpf, row))
        top, rest = x[-1], mp.fsum(mp.exp(v - x[-1]) for v in x[:-1])
        if op == "softmax":
            return [mp.exp(v - top) / (1 + rest) for v in map(mpf, row)]
        log_total = mp.log1p(rest)
        return [v - top - log_total for v in map(mpf, row)]


def as_fraction(value, *, strict):
    sign, mantissa, exponent, _ = value._mpf_
    if exponent < -6000:
        return Fraction(0)
    if mantissa == 1 and strict:  # rounded up: 1/n and x_i - max are reached from below, never
        value = (-1 if sign else 1) * Fraction(2) ** int(exponent)
        return value - abs(value) / 2**3000
    return (-1 if sign else 1) * Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


@SETTINGS
@given(ROWS, st.sampled_from(["softmax", "log_softmax"]), st.sampled_from(["arb", "mpmath"]), DTYPE)
def test_certified_errors_hold_the_true_ones(row, op, method, dtype):
    fmt = format_of(dtype)
    e = reference.OPS[op](row, method=method)
    exact = [as_fraction(t, strict=len(set(row)) > 1) for t in high_precision(op, row)]
    rounded = [reference.rounding.round_fraction(t, fmt) for t in exact]
    np.testing.assert_array_equal(e.round(dtype).astype(np.float64), np.array(rounded))
    for y in (rounded, [fmt.next_down(v) for v in rounded]):
        if not all(map(math.isfinite, y)):
            continue
        lower, upper = e.signed_error_ulp(np.array(y).astype(dtype))
        for t, value, low, high in zip(exact, y, lower.tolist(), upper.tolist(), strict=True):
            true = (Fraction(value) - t) / ulp(t, fmt)
            slack = Fraction(1, 10**80)  # of the high-precision value itself
            assert Fraction(low) <= true + slack
            assert true - slack <= Fraction(high)
            assert Fraction(high) - Fraction(low) < Fraction(1, 10**6)


@SETTINGS
@given(ROWS)
def test_decimal_bounds_contain_the_value_and_are_tight(row):
    low, high = reference.softmax(row).bounds_decimal(30)
    for a, b, t in zip(low.tolist(), high.tolist(), high_precision("softmax", row), strict=True):
        with mp.workprec(1800):
            assert mpf(a) * (1 - mpf(10) ** -200) <= t <= mpf(b) * (1 + mpf(10) ** -200)
            assert t == 0 or mpf(b) - mpf(a) <= mpf(10) ** -28 * t


def leading_place(text):
    """Exponent of ten of the first significant digit."""
    significand, _, exponent = text.partition("e")
    return Decimal(significand).adjusted() + int(exponent or 0)


@SETTINGS
@given(ROWS, st.integers(1, 40))
def test_digits_are_those_of_the_value(row, n):
    for text, t in zip(
        reference.log_softmax(row).digits(n).tolist(), high_precision("log_softmax", row), strict=True
    ):
        if t == 0:
            continue
        with mp.workprec(1800):
            unit = mpf(10) ** (leading_place(text) - n + 1)
            assert abs(mpf(text) - t) <= unit / 2 * (1 + mpf(10) ** -150)
        assert sum(c.isdigit() for c in text.split("e")[0].lstrip("-0.")) == n


def test_digits_of_exact_values():
    e = exactly(
        Fraction(1, 3),
        Fraction(1, 8),
        Fraction(-2, 3),
        0,
        1,
        1234567,
        Fraction(999999, 10**6),
        NAN,
        -INF,
        2**70,
    )
    assert e.digits(3).tolist() == [
        "0.333", "0.125", "-0.667", "0", "1.00", "1.23e+6", "1.00", "nan", "-inf", "1.18e+21",
    ]  # fmt: skip
    assert exactly(Fraction(1, 8), Fraction(3, 8)).digits(2).tolist() == ["0.12", "0.38"]
    low, high = exactly(Fraction(1, 3), Fraction(1, 8), Fraction(-2, 3), 0, INF).bounds_decimal(4)
    assert low.tolist() == ["0.3333", "0.1250", "-0.6667", "0", "inf"]
    assert high.tolist() == ["0.3334", "0.1250", "-0.6666", "0", "inf"]


@pytest.mark.parametrize(
    "value", [Fraction(9999995, 10**12), Fraction(1, 10**9), Fraction(10**9 - 1), Fraction(7, 10**40)]
)
def test_decimal_bounds_of_rationals(value):
    (low,), (high,) = exactly(
        value,
    ).bounds_decimal(5)
    assert Fraction(low) <= value <= Fraction(high)
    assert Fraction(high) - Fraction(low) <= value / 1000
    (text,) = exactly(value).digits(5)
    assert abs(Fraction(text) - value) <= value / 10**4


def test_values_far_below_every_format_keep_their_digits():
    e = reference.softmax([0.0, -1e21])
    with mp.workprec(200):
        log10 = mpf(-(10**21)) / mp.log(10)
        mantissa = mp.nstr(mpf(10) ** (log10 - mp.floor(log10)), 12)
    assert e.digits(12)[1] == f"{mantissa}e-434294481903251827652"
    low, high = e.bounds_decimal(12)
    assert low[1][:10] == high[1][:10] == mantissa[:10]
    assert e[1].error_ulp(0.0)[1] < 1e-200
    lower, upper = e[1].error_ulp(5e-324)
    assert 1 - 2.0**-52 <= lower <= 1 <= upper <= 1 + 2.0**-51


def test_magnitude_in_ulps():
    e = exactly(1, Fraction(1, 2**1074), 0, Fraction(1, 3), NAN, -INF, Fraction(1, 2**3000), 5)
    lower, upper = e.in_ulps("float64")
    assert lower[:3].tolist() == upper[:3].tolist() == [2.0**52, 1, 0]
    assert Fraction(lower[3]) <= Fraction(2**54, 3) <= Fraction(upper[3])
    assert math.isnan(lower[4])
    assert lower[5] == INF
    assert 0 <= lower[6] <= upper[6] < 1e-200
    assert lower[7] == upper[7] == 5 * 2.0**50


def test_parts_share_what_they_know():
    e = reference.softmax(np.arange(12.0).reshape(3, 4))
    assert e[1].shape == (4,)
    assert e[1, 2].shape == ()
    assert len(e) == 3
    assert e[:, ::2].reshape(6).shape == (6,)
    assert e[2].round("float32").tolist() == e.round("float32")[2].tolist()
    assert e[0].overlaps(e[1]).all()  # a shift of a row changes nothing
    with pytest.raises(TypeError):
        len(e[0, 0])
    assert "Enclosure" in repr(e)


def test_containment_and_width():
    e = reference.softmax([0.0, 0.0, -INF, 1.0])
    assert e.contains([0.0, 0.0, 0.0, 1.0]).tolist() == [False, False, True, False]
    assert exactly(Fraction(1, 3), NAN, 2).contains([Fraction(1, 3), NAN, Fraction(2)]).all()
    assert not exactly(INF).contains(1.0).any()
    assert exactly(Fraction(1, 4)).contains(np.array([0.25], dtype=ml_dtypes.bfloat16)).all()
    assert exactly(3).contains(3).all()
    assert (e.width_bits()[[0, 1, 3]] > 150).all()
    assert e.width_bits()[2] == INF
    assert e.is_exact().tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    ("t", "lower", "upper"),
    [
        (Interval(-1, 1, 0), 0, 2.0**52),  # zero may be among them
        (Interval(-2, 3, -(1 << 70)), 0, 1e-200),
        (Interval(1, 1, 1 << 70), 1e308, INF),
        (Interval(-3, -1, 1 << 70), 1e308, INF),
        (Interval(1, 9, 0), 2.0**52, 2.0**53),
    ],
)
def test_intervals_that_say_little_are_still_enclosed(t, lower, upper):
    e = exactly(t)
    (low,), (high,) = e.in_ulps("float64")
    assert 0 <= low <= high
    assert low >= min(lower, 2.0**52 / 9) or low == 0 == lower
    assert high >= upper or high <= upper <= 1
    (elow,), (ehigh,) = e.error_ulp([0.0])
    assert elow <= ehigh
    assert (elow > 1e300) == (lower > 1e300)
    assert math.isfinite(e.to_float64()[0]) or t.exp > 1000


def test_cells_that_are_no_intervals_compare_by_value():
    third, half = exactly(Fraction(1, 3)), exactly(Fraction(1, 2))
    near = exactly(Interval(2**60 // 3, 2**60 // 3 + 1, -60))
    assert third.overlaps(third).all()
    assert third.overlaps(near).all()
    assert near.overlaps(third).all()
    assert not third.overlaps(half).any()
    assert not exactly(INF).overlaps(half).any()
    assert exactly(NAN, INF).overlaps(exactly(NAN, INF)).all()


def test_exact_values_have_any_number_of_digits():
    (text,) = exactly(Fraction(1, 2**40)).digits(6000)
    assert Decimal(text).compare(Decimal(2.0**-40)) == 0
    assert sum(c.isdigit() for c in text.split("e")[0]) == 6000


def test_coarse_values_are_refined_where_it_matters():
    cells = Cells()
    cells.add_block(lambda prec: [from_fraction(Fraction(1, 3), prec), Interval(-1, 1 << prec, -2 * prec)], 8)
    e = Enclosure(cells, np.arange(2))
    assert e[0].digits(10).item() == "0.3333333333"
    assert e[0].error_ulp(1 / 3)[1] <= 0.5
    with pytest.raises(UndecidedRounding):
        e[1].digits(3)


def test_float64_midpoints():
    x = np.random.default_rng(0).normal(size=50)
    e = reference.softmax(x)
    np.testing.assert_allclose(e.to_float64(), e.round("float64"), rtol=1e-15)
    special = exactly(NAN, INF, -INF, 0, -1, Fraction(1, 2**3000))
    assert special.to_float64().tolist()[1:] == [INF, -INF, 0, -1, 0]
