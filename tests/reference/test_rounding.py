"""Intervals and rounding against exact rationals."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcert.reference import FORMATS, interval
from softcert.reference.interval import Interval
from softcert.reference.rounding import round_dyadic, round_fraction, round_interval

SETTINGS = settings(derandomize=True, max_examples=150, deadline=None)
FORMAT = st.sampled_from([FORMATS[n] for n in ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn")])
INTEGERS = st.integers(-(2**80), 2**80)
INTERVALS = st.builds(
    lambda a, b, e: Interval(min(a, b), max(a, b), e), INTEGERS, INTEGERS, st.integers(-200, 200)
)


def ends(t):
    return interval.to_fraction(t.lo, t.exp), interval.to_fraction(t.hi, t.exp)


def nearest_by_search(value, fmt):
    """Round by walking the format's own numbers: no arithmetic in common with the code under test."""
    sign = -1 if value < 0 else 1
    low, high = 0, fmt.encode(fmt.max_finite)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if Fraction(fmt.decode(middle)) <= abs(value) else (low, middle - 1)
    below = Fraction(fmt.decode(low))
    above = below + Fraction(2) ** fmt.ulp_exponent(math.frexp(fmt.decode(low))[1] - 1 if low else fmt.emin)
    distance = (abs(value) - below) - (above - abs(value))
    up = distance > 0 or (distance == 0 and low & 1)
    if up and low == fmt.encode(fmt.max_finite):
        return math.nan if not fmt.has_inf else math.inf * sign
    return fmt.decode(low + up) * sign


@SETTINGS
@given(st.fractions(max_denominator=10**12), st.integers(-1100, 1100), FORMAT)
def test_fractions_round_to_the_nearest_number(value, scale, fmt):
    value = value * Fraction(2) ** scale
    wanted, got = nearest_by_search(value, fmt), round_fraction(value, fmt)
    assert got == wanted or (math.isnan(got) and math.isnan(wanted))


@SETTINGS
@given(INTEGERS, st.integers(-1200, 1000), FORMAT)
def test_dyadics_round_like_fractions(m, e, fmt):
    got, wanted = round_dyadic(m, e, fmt), round_fraction(Fraction(m) * Fraction(2) ** e, fmt)
    assert got == wanted or (math.isnan(got) and math.isnan(wanted))


@SETTINGS
@given(INTERVALS, FORMAT)
def test_an_interval_rounds_only_where_both_ends_agree(t, fmt):
    low, high = (round_dyadic(m, t.exp, fmt) for m in (t.lo, t.hi))
    got = round_interval(t, fmt)
    if got is not None and not math.isnan(got):
        assert low == high == got
    elif got is None:
        assert low != high or (low == 0 and t.lo != t.hi) or math.isnan(low)


def test_open_ends_decide_midpoints():
    fmt = FORMATS["float32"]
    midpoint = (1 << 24) + 1
    assert round_interval(Interval(midpoint << 100, (midpoint << 100) + 1, -124), fmt) is None
    assert (
        round_interval(Interval(midpoint << 100, (midpoint << 100) + 1, -124, open_lo=True), fmt)
        == 1 + 2**-23
    )
    assert round_interval(Interval((midpoint << 100) - 1, midpoint << 100, -124, open_hi=True), fmt) == 1
    assert round_interval(Interval(0, 1, -3000, open_lo=True), fmt) == 0.0
    assert math.copysign(1, round_interval(Interval(-1, 0, -3000, open_hi=True), fmt)) == -1
    assert round_interval(Interval(-1, 1, -3000), fmt) is None


@SETTINGS
@given(INTERVALS, INTERVALS, st.integers(4, 120))
def test_sums_and_products_enclose_all_combinations(a, b, prec):
    total, product = interval.add(a, b, prec), interval.multiply(a, b, prec)
    for u in ends(a):
        for v in ends(b):
            assert interval.contains(total, u + v)
            assert interval.contains(product, u * v)


@SETTINGS
@given(INTERVALS, INTERVALS, st.integers(4, 120))
def test_quotients_enclose_all_combinations(a, b, prec):
    if b.lo <= 0:
        return
    quotient = interval.divide(a, b, prec)
    assert all(interval.contains(quotient, u / v) for u in ends(a) for v in ends(b))


@SETTINGS
@given(st.integers(1, 9), st.integers(0, 400), st.integers(8, 200))
def test_powers_are_enclosed(base, exponent, prec):
    t = interval.power(base, exponent, prec)
    assert interval.contains(t, Fraction(base) ** exponent)
    assert (t.hi - t.lo) * 2**prec <= t.hi


@SETTINGS
@given(INTERVALS, INTERVALS)
def test_overlap_is_what_rationals_say(a, b):
    (a_low, a_high), (b_low, b_high) = ends(a), ends(b)
    assert interval.overlaps(a, b) == (a_low <= b_high and b_low <= a_high)


def test_far_apart_exponents_are_compared_by_magnitude():
    huge = 1 << 4000
    assert interval.compare_dyadic(3, -huge, 1, 0) == -1
    assert interval.compare_dyadic(-3, huge, 5, -huge) == -1
    assert interval.compare_dyadic(3, -huge, 6, -huge - 1) == 0
    total = interval.add(Interval(1, 1, 0), Interval(1, 1, -huge), 50)
    assert interval.contains(total, Fraction(1))
    assert total.hi - total.lo == 1


def test_strict_bounds_cut_only_what_reaches_them():
    t = Interval(10, 20, 0)
    assert interval.below(t, 15, 0) == Interval(10, 15, 0, open_hi=True)
    assert interval.below(t, 31, -1) == Interval(20, 31, -1, open_hi=True)
    assert interval.below(t, 21, 0) == t
    assert interval.above(t, 15, 0) == Interval(15, 20, 0, open_lo=True)
    assert not interval.contains(interval.below(t, 15, 0), Fraction(15))
    assert not interval.overlaps(interval.below(t, 15, 0), Interval(15, 16, 0))


def test_what_touches_only_at_an_open_end_does_not_overlap():
    low, high = Interval(0, 4, 0), Interval(2, 3, 1)
    assert interval.overlaps(low, high)
    assert not interval.overlaps(low._replace(open_hi=True), high)
    assert not interval.overlaps(high, low._replace(open_hi=True))
    assert not interval.overlaps(low, high._replace(open_lo=True))


def test_a_divisor_that_may_vanish_is_refused():
    with pytest.raises(ZeroDivisionError):
        interval.divide(Interval(1, 1, 0), Interval(0, 1, 0), 10)


def test_rationals_are_enclosed_as_tightly_as_asked():
    for value in (Fraction(1, 3), Fraction(-7, 11), Fraction(10**40, 7)):
        t = interval.from_fraction(value, 90)
        assert interval.contains(t, value)
        assert (t.hi - t.lo) << 80 <= max(abs(t.lo), abs(t.hi))
    assert interval.from_fraction(Fraction(3, 8), 4) == Interval(3, 3, -3)


def test_float_rounding_of_large_integers_matches_python():
    rng = np.random.default_rng(5)
    for _ in range(300):
        n = int(rng.integers(1, 2**62)) ** 3
        assert round_dyadic(n, 0, FORMATS["float64"]) == float(n)
