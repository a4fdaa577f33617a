"""Powers of rationals in Arb's ball arithmetic: what entmax of any order is enclosed by."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from flint import arb, fmpq, fmpz

from softcert.reference.arb_oracle import interval_of, precision
from softcert.reference.interval import ZERO, Interval


def _ball(value: Fraction) -> arb:
    return arb(fmpq(value.numerator, value.denominator))


def _power(base: Fraction, exponent: arb) -> arb:
    """base**exponent for base >= 0 and exponent > 0."""
    return _ball(base) ** exponent if base else arb(0)


def sum_against_one(
    depths: list[Fraction], counts: list[int], exponent: Fraction, tau: Fraction, prec: int
) -> int:
    """Sign of sum_i counts_i max(depths_i - tau, 0)^exponent - 1; 0 where `prec` bits do not tell.

    Parameters
    ----------
    exponent : above 0.
    """
    with precision(prec):
        power = _ball(exponent)
        total = arb(-1)
        for depth, count in zip(depths, counts, strict=True):
            if depth > tau:
                total += count * _power(depth - tau, power)
        return 1 if total > 0 else -1 if total < 0 else 0


def power_between(low: Fraction, high: Fraction, exponent: Fraction, prec: int) -> Interval:
    """Enclosure of t^exponent for low <= t <= high, of low >= 0 and an exponent above 0."""
    if not high:
        return ZERO
    with precision(prec + 16):
        power = _ball(exponent)
        return interval_of(_power(low, power).union(_power(high, power)), prec + 16)


def rational_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """base**exponent where that is rational, of base >= 0; None where it is not."""
    degree = exponent.denominator
    roots = [_root(n, degree) for n in (base.numerator, base.denominator)]
    if None in roots or (not base and exponent <= 0):
        return None
    root = Fraction(*(r for r in roots if r is not None))
    return root**exponent.numerator


def _root(n: int, degree: int) -> int | None:
    """The integer whose power of a degree is n, if there is one."""
    if n < 2 or degree == 1:
        return n
    if degree > n.bit_length():
        return None
    root = int(fmpz(n).root(degree))
    return root if root**degree == n else None


@dataclass(frozen=True)
class Weights:
    """Powers of rationals above 0, by classes of those whose ratios are rational.

    Real powers of different classes are linearly independent over the rationals (A. S. Besicovitch, On the
    linear independence of fractional powers of integers, J. London Math. Soc. 15, 1940; L. J. Mordell, On
    the linear dependence of algebraic numbers, Pacific J. Math. 3, 1953).

    Attributes
    ----------
    bases : one of each class.
    members : for each weight its class, and its ratio to the power of the class's base.
    """

    bases: tuple[Fraction, ...]
    members: tuple[tuple[int, Fraction], ...]
    exponent: Fraction

    @classmethod
    def of(cls, values: list[Fraction], exponent: Fraction) -> Weights:
        """values**exponent."""
        bases: list[Fraction] = []
        members = []
        for value in values:
            ratios = ((k, rational_power(value / base, exponent)) for k, base in enumerate(bases))
            found = next(((k, ratio) for k, ratio in ratios if ratio is not None), None)
            if found is None:
                found = len(bases), Fraction(1)
                bases.append(value)
            members.append(found)
        return cls(tuple(bases), tuple(members), exponent)

    @property
    def rational(self) -> bool:
        """Whether all weights are."""
        return all(rational_power(base, self.exponent) is not None for base in self.bases)

    def centred(self, numbers: list[Fraction]) -> list[list[Fraction]]:
        """For each number and each class the sum of ratios times the number less those of the class."""
        sizes = [Fraction(0)] * len(self.bases)
        sums = [Fraction(0)] * len(self.bases)
        for (k, ratio), number in zip(self.members, numbers, strict=True):
            sizes[k] += ratio
            sums[k] += ratio * number
        return [[size * number - sum_ for size, sum_ in zip(sizes, sums, strict=True)] for number in numbers]

    def exact_products(self, sums: list[list[Fraction]]) -> list[Fraction]:
        """w_i (d_i - sum_k w_k d_k / sum_k w_k), of rational weights and what `centred` gave of d."""
        powers = [rational_power(base, self.exponent) or Fraction(0) for base in self.bases]
        weights = [ratio * powers[k] for k, ratio in self.members]
        total = sum(weights, Fraction(0))
        return [
            weight * sum((p * part for p, part in zip(powers, parts, strict=True)), Fraction(0)) / total
            for weight, parts in zip(weights, sums, strict=True)
        ]

    def products(self, wanted: list[tuple[int, list[Fraction]]], prec: int) -> list[Interval]:
        """Enclosures of the same, of some places."""
        wp = prec + 32
        with precision(wp):
            exponent = _ball(self.exponent)
            powers = [_ball(base) ** exponent for base in self.bases]
            weights = [_ball(ratio) * powers[k] for k, ratio in self.members]
            total = sum(weights, arb(0))
            results = []
            for place, parts in wanted:
                inner = sum((p * _ball(part) for p, part in zip(powers, parts, strict=True)), arb(0))
                results.append(interval_of(weights[place] * inner / total, wp))
            return results
