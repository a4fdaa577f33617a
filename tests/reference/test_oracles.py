"""mpmath and Arb must agree wherever they are asked."""

import math
from fractions import Fraction

import flint
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import iv

from softcert import reference
from softcert.reference import OracleDisagreement, arb_oracle, cross_check, interval, mp_oracle
from softcert.reference.exactness import group
from softcert.reference.interval import Interval

SETTINGS = settings(derandomize=True, max_examples=80, deadline=None)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FAMILIES = {
    "normal": st.lists(st.floats(-8, 8), min_size=1, max_size=12),
    "wide": st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=8),
    "any": st.lists(FINITE, min_size=1, max_size=8),
    "subnormal": st.lists(st.floats(-1e-305, 1e-305), min_size=1, max_size=8),
    "ties": st.lists(st.sampled_from([0.0, -0.0, 1.0, 2.0, -3.5]), min_size=1, max_size=12),
    "near ties": st.lists(st.integers(-4, 4).map(lambda k: 1 + k * 2.0**-52), min_size=1, max_size=8),
    "tails": st.lists(st.sampled_from([0.0, -40.0, -700.0, -746.0, -1e5, -1e300]), min_size=1, max_size=8),
    "specials": st.lists(st.sampled_from([0.0, 3.0, -math.inf, math.inf, math.nan]), min_size=1, max_size=5),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_softmax_functions_agree(family):
    @SETTINGS
    @given(FAMILIES[family], st.sampled_from([1.0, 0.5, -2.0, 0.1, 0.0, 1e-300, 1e10, Fraction(1, 3)]))
    def check(row, beta):
        cross_check("softmax", row, beta=beta)
        cross_check("log_softmax", row)
        cross_check("logsumexp", row)
        cross_check("softmax_jacobian", row[:5], beta=beta)
        cross_check("logsumexp_hessian", row[:5])

    check()


@SETTINGS
@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=6))
def test_the_rational_functions_agree_exactly(pairs):
    y, d = zip(*pairs, strict=True)
    for op in ("softmax_vjp", "softmax_jvp"):
        e = cross_check(op, y, d)
        mean = sum((Fraction(a) * Fraction(b) for a, b in pairs), Fraction(0))
        assert e.contains([Fraction(a) * (Fraction(b) - mean) for a, b in pairs]).all()
        assert e.is_exact().all()
    assert cross_check("exact_sum", y).contains(sum(map(Fraction, y), Fraction(0)))


@pytest.mark.parametrize("seed", range(4))
def test_thousands_of_random_values_agree(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(25, 16)) * np.exp(rng.uniform(-3, 6, size=(25, 1)))
    for op in ("softmax", "log_softmax", "logsumexp"):
        cross_check(op, x)
        cross_check(op, x.astype(np.float32), axis=0)


@SETTINGS
@given(
    st.integers(0, 2**70), st.integers(-1100, 900), st.sampled_from([1, 3, 10**9 + 7]), st.integers(40, 900)
)
def test_exponentials_are_enclosed_at_any_precision(n, s, q, prec):
    narrow = mp_oracle.exp_of_gap(-n, s, q, prec)
    finer = mp_oracle.exp_of_gap(-n, s, q, prec + 200)
    assert interval.overlaps(narrow, finer)
    # the finer one lies inside, and the widening was not spent
    assert interval.compare_dyadic(narrow.lo, narrow.exp, finer.lo, finer.exp) <= 0
    assert interval.compare_dyadic(narrow.hi, narrow.exp, finer.hi, finer.exp) >= 0
    assert (narrow.hi - narrow.lo) << (prec - 2) <= narrow.hi


@SETTINGS
@given(st.integers(1, 2**60), st.integers(-3000, 100), st.integers(40, 400))
def test_log1p_is_enclosed(m, e, prec):
    narrow, finer = (mp_oracle.log1p(Interval(m, m, e), p) for p in (prec, prec + 3200))
    assert interval.compare_dyadic(narrow.lo, narrow.exp, finer.lo, finer.exp) <= 0
    assert interval.compare_dyadic(narrow.hi, narrow.exp, finer.hi, finer.exp) >= 0
    assert (narrow.hi - narrow.lo) << (prec - 4) <= narrow.hi


@pytest.mark.parametrize("text", ["-0x1.dee594558c8d2p-2", "-0x1.de559f2af98a4p-1"])
def test_why_mpmaths_interval_exp_is_not_used(text):
    """mpmath's iv.exp has upper ends below the true value, as both oracles show."""
    value = float.fromhex(text)
    numerator, denominator = value.as_integer_ratio()
    _, mantissa, exponent, _ = iv.exp(iv.mpf(value)).b._mpi_[1]
    below_truth = Fraction(int(mantissa)) * Fraction(2) ** int(exponent)
    ours = mp_oracle.exp_of_gap(numerator, 1 - denominator.bit_length(), 1, 120)
    assert interval.compare_rational(ours.lo, ours.exp, below_truth) > 0
    with flint.ctx.workprec(200):
        assert flint.arb(value).exp() > flint.arb(flint.fmpq(below_truth.numerator, below_truth.denominator))


@pytest.mark.parametrize("oracle", [arb_oracle, mp_oracle])
def test_finer_precisions_give_narrower_enclosures_of_the_same_value(oracle):
    logits, _ = group([0.3, -1.0, 2.5, 2.5, -900.0, -1e12], Fraction(1))
    for name in ("softmax_row", "log_softmax_row", "jacobian_row"):
        coarse, fine = (getattr(oracle, name)(logits, prec) for prec in (100, 1000))
        for a, b in zip(coarse, fine, strict=True):
            assert interval.overlaps(a, b)
            assert (a.hi - a.lo) << 98 <= max(abs(a.lo), abs(a.hi))
            assert (b.hi - b.lo) << 990 <= max(abs(b.lo), abs(b.hi))


def test_arb_leaves_the_precision_of_others_alone():
    flint.ctx.prec = 77
    try:
        reference.softmax([0.0, 1.0, -1e300]).digits(60)
        assert flint.ctx.prec == 77
    finally:
        flint.ctx.default()


@pytest.mark.parametrize(
    ("mid", "rad"), [(1.0, 0.75), (0.0, 1.0), (-3.0, 2.0**-30), (1e300, 1e200), (2.0**-1000, 0.0), (1.0, 5.0)]
)
def test_balls_lie_within_their_intervals(mid, rad):
    ball = flint.arb(mid, rad)
    t = arb_oracle.interval_of(ball, 100)
    with flint.ctx.workprec(3000):  # so that the ends are exact
        ends = [ball.lower().man_exp(), ball.upper().man_exp()]
    for m, e in ends:
        assert interval.compare_dyadic(t.lo, t.exp, int(m), int(e)) <= 0
        assert interval.compare_dyadic(t.hi, t.exp, int(m), int(e)) >= 0


def test_disagreement_stops_the_run(monkeypatch):
    honest = mp_oracle.softmax_row

    def off_by_little(row, prec):
        return [t._replace(lo=t.lo + (t.hi >> 60), hi=t.hi + (t.hi >> 60)) for t in honest(row, prec)]

    monkeypatch.setattr(mp_oracle, "softmax_row", off_by_little)
    with pytest.raises(OracleDisagreement, match=r"softmax at \(0,\): mpmath .* do not overlap"):
        cross_check("softmax", [0.0, 1.0])
