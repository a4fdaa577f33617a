"""The Boltzmann distribution by mpmath's exp and log, in integer intervals: see `mp_oracle`.

The logits are -beta E, so the row's top is the ground state; gaps are energies above it, exact rationals.
"""

from __future__ import annotations

from fractions import Fraction

from softcert.reference.exactness import Logits
from softcert.reference.interval import (
    ZERO,
    Interval,
    add,
    compare_rational,
    divide,
    from_fraction,
    multiply,
    times_integer,
)
from softcert.reference.mp_oracle import exp_of_gap, log1p, weights


def _working(row: Logits, prec: int) -> int:
    """Precision at which the sums' own roundings do not matter."""
    return prec + 16 + 2 * len(row.values).bit_length()


def _total(terms: list[Interval], wp: int) -> Interval:
    total = ZERO
    for term in terms:
        total = add(total, term, wp)
    return total


def _counted(row: Logits, wp: int) -> list[Interval]:
    """Weight of each distinct energy: its degeneracy times exp(-beta (E - ground state))."""
    return [times_integer(w, n) for w, n in zip(weights(row, wp), row.counts, strict=True)]


def _levels(row: Logits) -> list[Fraction]:
    """Energies above the ground state; below it where beta is negative."""
    ground = Fraction(row.values[row.top])
    return [Fraction(v) - ground for v in row.values]


def log_partition(row: Logits, prec: int) -> Interval:
    """log sum_k exp(-beta E_k), beta being -row.beta."""
    wp = _working(row, prec)
    rest = [w for k, w in enumerate(_counted(row, wp)) if k != row.top]
    # the ground states weigh n: log1p(n - 1 + rest) does not cancel where the rest is tiny
    above = add(Interval(row.counts[row.top] - 1, row.counts[row.top] - 1, 0), _total(rest, wp), wp)
    log_total = ZERO if above == ZERO else log1p(above, wp)
    return add(from_fraction(row.beta * Fraction(row.values[row.top]), 2 * wp), log_total, wp)


def mean_energy(row: Logits, prec: int) -> Interval:
    """sum_k E_k exp(-beta E_k) / Z, as the ground state and what lies above it."""
    wp = _working(row, prec)
    counted = _counted(row, wp)
    terms = [
        multiply(w, from_fraction(level, wp), wp)
        for w, level in zip(counted, _levels(row), strict=True)
        if level
    ]
    above = divide(_total(terms, wp), _total(counted, wp), wp)
    return add(from_fraction(Fraction(row.values[row.top]), wp), above, wp)


def heat_capacity(row: Logits, prec: int) -> Interval:
    """beta^2 sum_{a < b} w_a w_b (E_a - E_b)^2 / Z^2: every term is positive, nothing cancels."""
    wp = _working(row, prec)
    counted, levels = _counted(row, wp), _levels(row)
    terms = [
        multiply(
            multiply(counted[a], counted[b], wp),
            from_fraction((row.beta * (levels[a] - levels[b])) ** 2, wp),
            wp,
        )
        for a in range(len(levels))
        for b in range(a)
    ]
    total = _total(counted, wp)
    return divide(_total(terms, wp), multiply(total, total, wp), wp)


def _sign(w: Fraction, count: int, prec: int) -> int:
    """Sign of w - (count - 1) exp(-(1 + w)), which rises with w; 0 where it is not decided."""
    negative = -(1 + w)
    power = negative.denominator.bit_length() - 1  # w is dyadic
    wanted = times_integer(exp_of_gap(negative.numerator, -power, 1, prec), count - 1)
    low = compare_rational(wanted.lo, wanted.exp, w)
    high = compare_rational(wanted.hi, wanted.exp, w)
    return 1 if high < 0 else -1 if low > 0 else 0


def largest_mean_gap(count: int, prec: int) -> Interval:
    """W((count - 1)/e) for count >= 2, between two numbers at which w - (count - 1) e^-(1 + w) has two signs.

    The number is irrational: a rational w > 0 would make exp(1 + w) = (count - 1)/w rational.
    """
    unit = prec + 8
    low, high = 0, (count.bit_length() + 1) << unit
    while high - low > 1:
        middle = (low + high) // 2
        sign = _sign(Fraction(middle, 1 << unit), count, 2 * unit)
        if sign == 0:
            return Interval(middle - 1, middle + 1, -unit)
        low, high = (low, middle) if sign > 0 else (middle, high)
    return Interval(low, high, -unit)
