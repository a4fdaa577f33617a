"""Rows of logits in canonical form, and which of their results are algebraic.

Theorem. Let t_1 > ... > t_m be the distinct finite values of beta * x_i, with multiplicities n_k, and
let beta be rational. Then every softmax entry is transcendental if m >= 2 and is 1/K if m = 1;
logsumexp and log_softmax are transcendental unless there is one single finite logit.

Proof. By Lindemann and Weierstrass, exp(t_1), ..., exp(t_m) are linearly independent over the algebraic
numbers (Baker, Transcendental Number Theory, 1975, theorem 1.4). If exp(t_a) / sum_k n_k exp(t_k) = r
were algebraic, (1 - r n_a) exp(t_a) - sum_{k != a} r n_k exp(t_k) = 0 would make all coefficients
vanish: with m >= 2 some r n_k = 0, so r = 0, but then 1 - r n_a = 1. If lse = r were algebraic,
exp(r) = sum_k n_k exp(t_k) needs r = t_k, m = 1 and n_1 = 1. log_softmax differs from -lse by an
algebraic number. QED. A transcendental number is neither a float nor a midpoint of two, so its
rounding is decided at some finite precision; the others are rational and are rounded exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from softcert.reference.interval import Interval, above, below


@dataclass(frozen=True)
class Logits:
    """The finite logits of one row, equal ones grouped.

    Attributes
    ----------
    values : the distinct finite floats (0.0 and -0.0 are one value).
    counts : how often each occurs.
    top : index of the value whose product with beta is largest.
    beta : the exact factor of every logit, not 0.
    """

    values: Sequence[float]
    counts: Sequence[int]
    top: int
    beta: Fraction = Fraction(1)

    @property
    def total(self) -> int:
        """Number of finite logits."""
        return sum(self.counts)

    @cached_property
    def gaps(self) -> tuple[list[int], int, int]:
        """(n, s, q) with beta * (values[i] - values[top]) == n[i] * 2**s / q <= 0 exactly; q odd or 1."""
        ratios = [v.as_integer_ratio() for v in self.values]
        scale = max(d.bit_length() for _, d in ratios) - 1
        integers = [n << (scale - d.bit_length() + 1) for n, d in ratios]
        top, factor = integers[self.top], self.beta.numerator
        gaps = [(n - top) * factor for n in integers]
        trailing = min(((g & -g).bit_length() - 1 for g in gaps if g), default=0)
        return [g >> trailing for g in gaps], trailing - scale, self.beta.denominator

    @cached_property
    def top_dyadic(self) -> tuple[int, int]:
        """(m, e) with values[top] == m * 2**e."""
        n, d = self.values[self.top].as_integer_ratio()
        return n, 1 - d.bit_length()


def group(values: Sequence[float], beta: Fraction) -> tuple[Logits, list[int]]:
    """Group the finite logits `values`, at least one, and tell which group each belongs to.

    With beta = 0 all logits are equal, whatever the values.
    """
    if beta == 0:
        return Logits((0.0,), (len(values),), 0), [0] * len(values)
    ids: dict[float, int] = {}
    member = [ids.setdefault(v, len(ids)) for v in values]
    counts = [0] * len(ids)
    for k in member:
        counts[k] += 1
    distinct = list(ids)
    top = distinct.index(max(distinct) if beta > 0 else min(distinct))
    return Logits(distinct, counts, top, beta), member


def softmax_if_rational(row: Logits) -> Fraction | None:
    """1/K where all logits are equal, else None: every entry is transcendental."""
    return Fraction(1, row.total) if len(row.values) == 1 else None


def clip_softmax(row: Logits, entries: list[Interval]) -> list[Interval]:
    """Use that n_k p_k < 1 strictly (m >= 2): it decides p = 1/n_top minus something vanishing."""
    n = row.counts[row.top]
    if n & (n - 1) == 0:  # only then is 1/n a number that an interval's end can be
        entries[row.top] = below(entries[row.top], 1, 1 - n.bit_length())
    return entries


def clip_logsumexp(row: Logits, value: Interval) -> Interval:
    """Use that lse exceeds the largest logit strictly (K >= 2)."""
    return above(value, *row.top_dyadic)


def clip_log_softmax(row: Logits, entries: list[Interval]) -> list[Interval]:
    """Use that x_i - lse lies strictly below x_i - max (K >= 2); it matters where lse - max is tiny."""
    top = entries[row.top]
    if row.counts[row.top] > 1 or top.lo.bit_length() + top.exp > -60:
        return entries
    gaps, exponent, _ = row.gaps
    return [below(t, gap, exponent) for t, gap in zip(entries, gaps, strict=True)]


def clip_jacobian(row: Logits, entries: list[Interval]) -> list[Interval]:
    """Use that p_i p_j and p_i (1 - p_i) stay strictly below 1/4 (m >= 2: p_i = 1/2 is algebraic)."""
    numerator, denominator = abs(row.beta.numerator), row.beta.denominator
    if denominator & (denominator - 1):
        return entries
    exponent = -1 - denominator.bit_length()
    return [above(below(t, numerator, exponent), -numerator, exponent) for t in entries]
