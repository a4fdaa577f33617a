"""The Boltzmann distribution in Arb's ball arithmetic: the second, independent oracle.

Nothing is shared with `boltzmann_mp` but the floats of the row; the heat capacity is another formula too.
"""

from __future__ import annotations

from flint import arb, fmpq

from softcert.reference.arb_oracle import interval_of, precision
from softcert.reference.exactness import Logits
from softcert.reference.interval import Interval


def _working(row: Logits, prec: int) -> int:
    """Bits beyond `prec` for the sums, and for as much as gaps of this size lose in exp."""
    spread = max(abs(v / 2 - row.values[row.top] / 2) for v in row.values) * 2
    size = max(
        0, int(spread).bit_length() + row.beta.numerator.bit_length() - row.beta.denominator.bit_length()
    )
    return prec + 24 + len(row.values).bit_length() + size


def _rational(value: float) -> arb:
    return arb(fmpq(*value.as_integer_ratio()))


def _levels(row: Logits) -> list[arb]:
    ground = _rational(row.values[row.top])
    return [_rational(v) - ground for v in row.values]


def _weights(row: Logits) -> list[arb]:
    beta = arb(fmpq(row.beta.numerator, row.beta.denominator))
    return [n * (beta * level).exp() for n, level in zip(row.counts, _levels(row), strict=True)]


def log_partition(row: Logits, prec: int) -> Interval:
    """log sum_k exp(-beta E_k), beta being -row.beta."""
    wp = _working(row, prec)
    with precision(wp):
        rest = sum((w for k, w in enumerate(_weights(row)) if k != row.top), arb(row.counts[row.top] - 1))
        beta = arb(fmpq(row.beta.numerator, row.beta.denominator))
        return interval_of(beta * _rational(row.values[row.top]) + rest.log1p(), wp)


def _mean(row: Logits) -> arb:
    """Mean energy above the ground state."""
    weights = _weights(row)
    moment = sum((w * level for w, level in zip(weights, _levels(row), strict=True)), arb(0))
    return moment / sum(weights, arb(0))


def mean_energy(row: Logits, prec: int) -> Interval:
    """sum_k E_k exp(-beta E_k) / Z."""
    wp = _working(row, prec)
    with precision(wp):
        return interval_of(_rational(row.values[row.top]) + _mean(row), wp)


def heat_capacity(row: Logits, prec: int) -> Interval:
    """beta^2 sum_k w_k (E_k - mean)^2 / Z."""
    wp = _working(row, prec)
    with precision(wp):
        weights, mean = _weights(row), _mean(row)
        # a product: the power of a ball around zero goes through its logarithm
        squares = [(e - mean) * (e - mean) for e in _levels(row)]
        spread = sum((w * s for w, s in zip(weights, squares, strict=True)), arb(0))
        factor = arb(fmpq(row.beta.numerator**2, row.beta.denominator**2))
        return interval_of(factor * spread / sum(weights, arb(0)), wp)


def largest_mean_gap(count: int, prec: int) -> Interval:
    """W((count - 1)/e) for count >= 2, by Arb's own Lambert function."""
    with precision(prec + 16):
        return interval_of((arb(count - 1) / arb(1).exp()).lambertw(), prec + 16)
