"""Powers of rationals in Arb's ball arithmetic: what entmax of any order is enclosed by."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from itertools import count, islice

from flint import arb, fmpq, fmpz

from softcert.reference.arb_oracle import interval_of, precision
from softcert.reference.interval import ZERO, Interval

#: A float's numerator and denominator have no roots of a higher degree, but of 0 and 1.
_FEW_ROOTS = 1100
#: How many residues tell classes apart: of degree 2 by chance one pair in 2^24 is not told.
_CHARACTERS = 24


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


def newton_step(
    depths: list[Fraction], counts: list[int], exponent: Fraction, tau: Fraction, prec: int
) -> Fraction:
    """Where Newton's method goes from tau in search of the tau at which the sum is 1; of no known error."""
    with precision(prec):
        power = _ball(exponent)
        excess, slope = arb(-1), arb(0)
        for depth, many in zip(depths, counts, strict=True):
            if depth > tau:
                share = many * _power(depth - tau, power)
                excess += share
                slope += share / _ball(depth - tau)
        step = (excess / (power * slope)).mid()
        mantissa, exponent_of_two = (int(part) for part in step.man_exp())
    return tau + Fraction(mantissa) * Fraction(2) ** exponent_of_two


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


def rational_powers(bases: Iterable[Fraction], exponent: Fraction) -> list[Fraction] | None:
    """bases**exponent where each is rational, of bases >= 0; None as soon as one is not."""
    powers = []
    for base in bases:
        power = rational_power(base, exponent)
        if power is None:
            return None
        powers.append(power)
    return powers


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
        alike: dict[Hashable, list[int]] = {}
        members: dict[Fraction, tuple[int, Fraction]] = {}
        for value in dict.fromkeys(values):
            candidates = alike.setdefault(_sign_of_class(value, exponent.denominator), [])
            ratios = ((k, rational_power(value / bases[k], exponent)) for k in candidates)
            found = next(((k, ratio) for k, ratio in ratios if ratio is not None), None)
            if found is None:
                found = len(bases), Fraction(1)
                bases.append(value)
                candidates.append(found[0])
            members[value] = found
        return cls(tuple(bases), tuple(members[value] for value in values), exponent)

    @property
    def rational(self) -> bool:
        """Whether all weights are."""
        return rational_powers(self.bases, self.exponent) is not None

    def common_mean(self, numbers: list[Fraction]) -> Fraction | None:
        """The weighted mean of the numbers where all classes have the same; else it is no rational number."""
        sizes = [Fraction(0)] * len(self.bases)
        sums = [Fraction(0)] * len(self.bases)
        for (k, ratio), number in zip(self.members, numbers, strict=True):
            sizes[k] += ratio
            sums[k] += ratio * number
        means = {sum_ / size for size, sum_ in zip(sizes, sums, strict=True)}
        return means.pop() if len(means) == 1 else None

    def exact_products(self, numbers: list[Fraction]) -> list[Fraction]:
        """w_i (d_i - sum_k w_k d_k / sum_k w_k), of rational weights."""
        powers = rational_powers(self.bases, self.exponent)
        assert powers is not None  # noqa: S101 - the caller has asked whether they are rational
        weights = [ratio * powers[k] for k, ratio in self.members]
        moment = sum((w * d for w, d in zip(weights, numbers, strict=True)), Fraction(0))
        mean = moment / sum(weights, Fraction(0))
        return [weight * (number - mean) for weight, number in zip(weights, numbers, strict=True)]

    def products(self, numbers: list[Fraction], places: list[int], prec: int) -> list[Interval]:
        """Enclosures of the same, at some places."""
        wp = prec + 32
        with precision(wp):
            exponent = _ball(self.exponent)
            powers = [_ball(base) ** exponent for base in self.bases]
            weights = [_ball(ratio) * powers[k] for k, ratio in self.members]
            slopes = [_ball(number) for number in numbers]
            moment = sum((w * d for w, d in zip(weights, slopes, strict=True)), arb(0))
            mean = moment / sum(weights, arb(0))
            return [interval_of(weights[i] * (slopes[i] - mean), wp) for i in places]


def _sign_of_class(value: Fraction, degree: int) -> Hashable:
    """What two rationals have in common if their ratio is a power of a degree.

    Of a degree beyond all roots the value itself; of another its residues' power (p - 1) / degree modulo
    primes p = 1 mod degree, which such a power leaves as they are.
    """
    if degree > _FEW_ROOTS:
        return value
    residues = []
    for prime in _primes(degree):
        n, d = value.numerator % prime, value.denominator % prime
        if not n or not d:
            return None
        residues.append(pow(n * pow(d, -1, prime), (prime - 1) // degree, prime))
    return tuple(residues)


@cache
def _primes(degree: int) -> tuple[int, ...]:
    """Some large primes that are 1 modulo a degree."""
    first = (1 << 40) // degree * degree + 1
    found = (p for p in count(first, degree) if fmpz(p).is_prime())
    return tuple(islice(found, _CHARACTERS))
