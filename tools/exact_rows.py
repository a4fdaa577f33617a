"""Exact values of softmax functions in rational intervals, from the standard library alone.

`decimal` rounds exp and ln correctly, so each result of one operation is within half a unit of its last
digit; the widening in `Row` adds those errors up. Rational results (gradients, sums, ties) are exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from fractions import Fraction

#: Precision in bits, exponent of the smallest and of the largest normal number, by dtype.
FORMATS: Mapping[str, tuple[int, int, int]] = {
    "float64": (53, -1022, 1023),
    "float32": (24, -126, 127),
    "float16": (11, -14, 15),
    "bfloat16": (8, -126, 127),
}
#: Beyond this distance below the maximum a weight counts as [0, TINY].
FAR = 39_500
TINY = Fraction(1, 10**17_000)

Doubt = bool | None  # None: this precision does not decide


class UnknownError(Exception):
    """There is no exact value, or this program cannot give it; the message says why."""


@dataclass(frozen=True)
class Interval:
    """A rational interval known to hold the exact value."""

    lo: Fraction
    hi: Fraction

    def inside(self, lo: Fraction | None, hi: Fraction | None) -> Doubt:
        """Whether the value held lies in [lo, hi], where None is no end."""
        if (lo is not None and self.hi < lo) or (hi is not None and self.lo > hi):
            return False
        certain = (lo is None or lo <= self.lo) and (hi is None or self.hi <= hi)
        return True if certain else None

    def distance(self, other: Fraction) -> Interval:
        """|other - value|."""
        ends = (abs(other - self.lo), abs(other - self.hi))
        return Interval(Fraction(0) if self.lo <= other <= self.hi else min(ends), max(ends))


class Row:
    """exp(beta x) of one row of finite or -inf logits, relative to its largest term.

    Parameters
    ----------
    row : the logits; at least one is finite, none is NaN or +inf.
    beta : inverse temperature.
    digits : decimal digits to compute with.
    """

    def __init__(self, row: Sequence[float], beta: Fraction, digits: int) -> None:
        self.context = Context(prec=digits, Emax=MAX_EMAX, Emin=MIN_EMIN)
        self.unit = Fraction(10) ** (1 - digits)
        counts = Counter(v if beta else 0.0 for v in row if v != -math.inf)
        largest = max(counts) if beta >= 0 else min(counts)
        self.top = beta * Fraction(largest)
        self.ties = counts.pop(largest)
        self.tied = not counts
        gaps = [(beta * Fraction(v) - self.top, counts[v]) for v in sorted(counts, reverse=beta < 0)]
        near = [(d, k) for d, k in gaps if -d <= FAR]
        # a weight is off by |d| units for rounding d, one for exp, one for its multiplicity,
        # and each addition by one more
        self.error = (-near[0][0] + 3 + len(near) if near else 1) * self.unit
        self.far = (sum(counts.values()) - sum(k for _, k in near)) * TINY
        others = Decimal(0)
        for d, k in near:  # smallest first
            others = self.context.add(others, self.context.multiply(self._weight(d), Decimal(k)))
        self.others = others

    def _weight(self, d: Fraction) -> Decimal:
        return self.context.exp(self.context.divide(Decimal(d.numerator), Decimal(d.denominator)))

    def softmax(self, logit: Fraction) -> Interval:
        """exp(logit - top) / total, `logit` already scaled by beta."""
        d = logit - self.top
        if self.tied:
            return Interval(Fraction(1, self.ties), Fraction(1, self.ties))
        if -d > FAR:
            return Interval(Fraction(0), TINY)
        value = Fraction(
            self.context.divide(self._weight(d), self.context.add(self.others, Decimal(self.ties)))
        )
        slack = 2 * ((-d + 5) * self.unit + self.error + self.far)
        return Interval(value * (1 - slack), value * (1 + slack))

    def log_total(self) -> Interval:
        """log(sum(exp(beta x))) - top."""
        if self.tied and self.ties == 1:
            return Interval(Fraction(0), Fraction(0))
        small = Fraction(self.others)
        if self.ties == 1 and small < Fraction(1, 10**20) and small * small < self.unit:
            # z - z^2/2 <= log(1 + z) <= z: no digit is lost to the 1
            low, high = small * (1 - 2 * self.error), small * (1 + 2 * self.error) + self.far
            return Interval(low - low * low / 2, high)
        value = Fraction(self.context.ln(self.context.add(self.others, Decimal(self.ties))))
        slack = (value + 3) * self.unit + 2 * (self.error + self.far)
        return Interval(max(value - slack, Fraction(0)), value + slack)


def exact_element(
    op: str, rows: Sequence[Sequence[float]], place: int, beta: Fraction
) -> Callable[[int], Interval]:
    """One element of an op on one row of each operand, as a function of the digits to compute with."""
    if op in {"softmax_vjp", "softmax_jvp"}:
        y, d = ([Fraction(v) for v in row] for row in rows)
        gradient = y[place] * (d[place] - sum((a * b for a, b in zip(y, d, strict=True)), Fraction(0)))
        return lambda _: Interval(gradient, gradient)
    logit = beta * Fraction(rows[0][place]) if op != "logsumexp" else Fraction(0)

    def value(digits: int) -> Interval:
        row = Row(rows[0], beta, digits)
        if op == "softmax":
            return row.softmax(logit)
        rest = row.log_total()
        if op == "logsumexp":
            return Interval(row.top + rest.lo, row.top + rest.hi)
        return Interval(logit - row.top - rest.hi, logit - row.top - rest.lo)

    return value


def special_element(op: str, rows: Sequence[Sequence[float]], place: int) -> float | None:
    """The value at a row with NaN or infinities by the strict rules; None where it is a finite real."""
    row = rows[0]
    if op in {"softmax_vjp", "softmax_jvp"}:
        if all(math.isfinite(v) for r in rows for v in r):
            return None
        raise UnknownError("a gradient of operands that are not finite has no exact value")
    if any(math.isnan(v) for v in row):
        return math.nan
    top = max(row)
    if op == "logsumexp":
        return top if math.isinf(top) else None
    if top == -math.inf or row[place] == math.inf:
        return math.nan
    if top == math.inf:
        raise UnknownError("the rules leave open what stands beside a +inf logit")
    if row[place] == -math.inf:
        return 0.0 if op == "softmax" else -math.inf
    return None


def floor_log2(value: Fraction) -> int:
    """The exponent e with 2**e <= value < 2**(e+1), for value > 0."""
    e = value.numerator.bit_length() - value.denominator.bit_length()
    return e if Fraction(2) ** e <= value else e - 1


def ulp_at(value: Interval, dtype: str) -> Fraction | None:
    """2**(max(floor(log2|t|), emin) - (p - 1)); None where the interval crosses a binade's end."""
    p, emin, _ = FORMATS[dtype]
    ends = [abs(value.lo), abs(value.hi), *([Fraction(0)] if value.lo <= 0 <= value.hi else [])]
    exponents = {max(floor_log2(v), emin) if v else emin for v in ends}
    return Fraction(2) ** (exponents.pop() - (p - 1)) if len(exponents) == 1 else None


def overflow_threshold(dtype: str) -> Fraction:
    """The smallest magnitude that rounds to an infinity."""
    p, _, emax = FORMATS[dtype]
    return Fraction(2) ** emax * (2 - Fraction(2) ** -p)


def in_digits(value: Fraction) -> str:
    """Eighteen significant digits."""
    if not value:
        return "0"
    context = Context(prec=25, Emax=MAX_EMAX, Emin=MIN_EMIN)
    return f"{context.divide(Decimal(value.numerator), Decimal(value.denominator)):.17e}"
