"""Both oracles of attention: against each other, against themselves, and their own parts."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
from mpmath import mp

from softcert import reference
from softcert.reference import attention_arb, attention_check, attention_mp
from softcert.reference.attention_scores import ExpSum, Score, group_scores
from softcert.reference.errors import DomainError, OracleDisagreement
from softcert.reference.interval import overlaps

METHODS = ["mpmath", "arb"]
MASK = np.array([[True, False, True, True], [False, True, True, False], [True, True, True, True]])


@pytest.fixture
def rng():
    return np.random.default_rng(23)


def operands(rng, depth):
    return rng.normal(size=(2, 3, depth)), rng.normal(size=(1, 4, depth)), rng.normal(size=(1, 4, 2))


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("spread", [1e-9, 1.0, 60.0])
def test_both_oracles_overlap(rng, depth, spread):
    q, k, v = operands(rng, depth)
    out, lse = reference.cross_check_attention("attention_lse", q * spread, k, v, mask=MASK)
    given = (out.round("float64"), lse.round("float64"), rng.normal(size=out.shape))
    reference.cross_check_attention("attention_vjp", q * spread, k, v, *given, mask=MASK)
    reference.cross_check_attention("attention_merge", given[0], given[1], given[2], -given[1])
    for exponent in (200, 900):  # narrow enclosures overlap, too
        a, b = (reference.attention(q * spread, k, v, method=method) for method in METHODS)
        assert a.digits(exponent // 4).tolist() == b.digits(exponent // 4).tolist()


@pytest.mark.parametrize("liar", ["mpmath", "arb", "fast"])
def test_a_wrong_oracle_is_noticed(monkeypatch, liar):
    def wrong(*operands, method):
        return reference.attention(*operands, scale=1.001 if method == liar else 1.0, method=method)

    monkeypatch.setattr(attention_check, "ATTENTION_OPS", {"attention": (wrong, ("out",))})
    with pytest.raises(OracleDisagreement, match=r"out of attention at \(1, 0\)"):
        reference.cross_check_attention("attention", [[0.0], [1.0]], [[1.0], [2.0]], [[1.0], [2.0]])
    with pytest.raises(DomainError, match="op 'none'"):
        reference.cross_check_attention("none")


def test_enclosures_nest_as_precision_grows(rng):
    q, k, v = operands(rng, 5)
    for method in METHODS:
        out = reference.attention(q, k, v, method=method)
        coarse = reference.attention(q, k, v, method=method)
        for at in itertools.product(range(2), range(3), range(2)):
            out._cells.refine(int(out._index[at]), 1000)
        assert coarse.overlaps(out).all()
        assert (out.width_bits() > coarse.width_bits()).all()


@pytest.mark.parametrize("radicand", [2, 3, 4, 5, 128, 10**9 + 7])
@pytest.mark.parametrize("prec", [10, 53, 500])
def test_inverse_roots_are_enclosed(radicand, prec):
    root = attention_mp._inverse_root(radicand, prec)
    one = 1 << -2 * root.exp
    assert root.lo**2 * radicand <= one <= root.hi**2 * radicand
    assert root.lo.bit_length() >= prec
    assert root.hi - root.lo <= 1


def test_scores_are_compared_by_their_squares():
    big, small = Score(Fraction(3), Fraction(-2)), Score(Fraction(1), Fraction(-1))
    assert big.sign(2) == 1  # 3 / sqrt(2) > 2
    assert small.sign(2) == -1
    assert Score(Fraction(-3), Fraction(2)).sign(2) == -1
    assert Score(Fraction(2), Fraction(-3, 2)).sign(3) == -1  # 2 / sqrt(3) < 3/2
    assert Score(Fraction(0), Fraction(0)).sign(3) == 0
    row = group_scores([small, big, small], 2)
    assert (row.counts, row.top, row.member) == ([2, 1], 1, [0, 1, 0])


@pytest.mark.parametrize("oracle", [attention_mp, attention_arb])
@pytest.mark.parametrize(
    "exponent", [(-(2**200), 3), (2**200, 0), (10**6, -(10**6)), (1, -(2**200)), (Fraction(1, 3), 0), (0, -5)]
)
def test_exponentials_keep_their_relative_precision(oracle, exponent):
    """One term, so that nothing cancels: exp(root / sqrt(5) + rational) / sqrt(5)."""
    score = Score(*map(Fraction, exponent))
    value = oracle.exp_sum(ExpSum([(score, Fraction(-3, 7))], 5, rooted=True), 200)
    assert value.hi < 0
    assert (-value.hi).bit_length() - (value.hi - value.lo).bit_length() >= 190
    with mp.workprec(1000):
        argument = (
            mp.mpf(score.root.numerator) / score.root.denominator / mp.sqrt(5) + score.rational.numerator
        )
        wanted = -mp.mpf(3) / 7 * mp.exp(argument) / mp.sqrt(5)
        assert mp.ldexp(value.lo, value.exp) <= wanted <= mp.ldexp(value.hi, value.exp)


def test_sums_overlap_at_every_precision(rng):
    terms = [(Score(Fraction(a), Fraction(b)), Fraction(c)) for a, b, c in rng.normal(size=(5, 3)).tolist()]
    total = ExpSum(terms, 7, rooted=True)
    for one, other in itertools.product((60, 200, 1000), repeat=2):
        assert overlaps(attention_mp.exp_sum(total, one), attention_arb.exp_sum(total, other))
