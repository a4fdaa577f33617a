"""The softmax functions in Arb's ball arithmetic (python-flint): the second, independent oracle.

Each operation returns a ball that contains the exact result for every point of the operand balls
(F. Johansson, Arb: efficient arbitrary-precision midpoint-radius interval arithmetic, IEEE Trans.
Computers 66, 2017). Nothing is shared with the mpmath path but the floats of the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from flint import arb, ctx, fmpq

from softcert.reference.exactness import Logits
from softcert.reference.interval import Interval

#: Gaps of this many bits before the point are recomputed with as many bits more.
_NEAR = 16


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Arb's working precision, put back afterwards; it is one for all threads of a process."""
    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def interval_of(ball: arb, wp: int) -> Interval:
    """Interval of a ball.

    rel_accuracy_bits a certifies rad <= |mid| 2**-a (it compares the exponents of the two), so one
    extraction, of the midpoint, is enough.
    """
    accuracy = min(int(ball.rel_accuracy_bits()), wp)
    if accuracy < 4:
        return _loose_interval(ball)
    mantissa, exponent = ball.mid().man_exp()
    mid, exp = int(mantissa), int(exponent)
    # |mid| < 2**bits, hence rad < 2**(bits + exp - accuracy) = 4 units of the exponent chosen
    shift = accuracy + 2 - mid.bit_length()
    if shift >= 0:
        mid <<= shift
        return Interval(mid - 4, mid + 4, exp - shift)
    mid >>= -shift
    return Interval(mid - 4, mid + 5, exp - shift)


def _loose_interval(ball: arb) -> Interval:
    """Interval of a ball that may contain zero."""
    (low, low_exp), (high, high_exp) = ball.lower().man_exp(), ball.upper().man_exp()
    exp = min(int(low_exp), int(high_exp))
    return Interval(int(low) << (int(low_exp) - exp), int(high) << (int(high_exp) - exp), exp)


def _gap_bits(value: float, top: float, beta_bits: int) -> int:
    """Bits before the point of beta * (value - top), at most one too many."""
    return math.frexp(value / 2 - top / 2)[1] + 1 + beta_bits


def _gap(row: Logits, k: int) -> arb:
    """beta * (x_k - x_top) at the precision in force."""
    gap = arb(row.values[k]) - arb(row.values[row.top])
    if row.beta == 1:
        return gap
    return gap * arb(row.beta.numerator) / arb(row.beta.denominator)


def _weight(row: Logits, k: int, beta_bits: int, wp: int) -> arb:
    """exp(beta * (x_k - x_top)), relatively accurate however large the gap is."""
    bits = _gap_bits(row.values[k], row.values[row.top], beta_bits)
    if bits <= _NEAR:
        return _gap(row, k).exp()
    with precision(wp + bits + 8):
        return _gap(row, k).exp()


def weights(row: Logits, wp: int) -> list[arb]:
    """Every distinct value's weight."""
    if row.beta == 1:
        top_value = row.values[row.top]
        spread = max(top_value / 2 - min(row.values) / 2, 0.0)
        if spread < 2.0 ** (_NEAR - 2):
            top = arb(top_value)
            return [(arb(value) - top).exp() for value in row.values]
    beta_bits = max(0, row.beta.numerator.bit_length() - row.beta.denominator.bit_length() + 1)
    return [_weight(row, k, beta_bits, wp) for k in range(len(row.values))]


def tail_of(row: Logits, w: list[arb]) -> arb:
    """Sum of the weights of all logits but those equal to the top."""
    tail = arb(0)
    for k, (weight, count) in enumerate(zip(w, row.counts, strict=True)):
        if k != row.top:
            tail += weight if count == 1 else weight * count
    return tail


def working(row: Logits, prec: int) -> int:
    """Precision at which the sums' own roundings do not matter."""
    return prec + 12 + len(row.values).bit_length()


def softmax_row(row: Logits, prec: int) -> list[Interval]:
    """Softmax at each distinct value; relative width about 2**-prec."""
    wp = working(row, prec)
    with precision(wp):
        w = weights(row, wp)
        total = tail_of(row, w) + row.counts[row.top]
        return [interval_of(weight / total, wp) for weight in w]


def log_total(row: Logits, wp: int) -> arb:
    """Return lse - max, without cancellation."""
    tail = tail_of(row, weights(row, wp))
    n = row.counts[row.top]
    return tail.log1p() if n == 1 else (tail + n).log()


def logsumexp_row(row: Logits, prec: int) -> Interval:
    """Logsumexp of the row (beta = 1)."""
    wp = working(row, prec)
    with precision(wp):
        return interval_of(arb(row.values[row.top]) + log_total(row, wp), wp)


def log_softmax_row(row: Logits, prec: int) -> list[Interval]:
    """log_softmax at each distinct value (beta = 1)."""
    wp = working(row, prec)
    with precision(wp):
        above, top = log_total(row, wp), arb(row.values[row.top])
        return [interval_of(arb(value) - top - above, wp) for value in row.values]


def jacobian_row(row: Logits, prec: int) -> list[Interval]:
    """Entries beta p_a (delta - p_b): the m diagonal ones, then those of the pairs a <= b, row by row."""
    wp = working(row, prec)
    with precision(wp):
        w = weights(row, wp)
        total = tail_of(row, w) + row.counts[row.top]
        factor = arb(row.beta.numerator) / arb(row.beta.denominator) / (total * total)
        before, after = [arb(0)], [arb(0)]
        terms = [weight * count for weight, count in zip(w, row.counts, strict=True)]
        for term in terms:
            before.append(before[-1] + term)
        for term in reversed(terms):
            after.append(after[-1] + term)
        size = len(w)
        rests = [before[k] + w[k] * (row.counts[k] - 1) + after[size - 1 - k] for k in range(size)]
        diagonal = [interval_of(w[k] * rests[k] * factor, wp) for k in range(size)]
        pairs = [interval_of(-w[a] * w[b] * factor, wp) for a in range(size) for b in range(a, size)]
        return diagonal + pairs


def _rational(value: float) -> fmpq:
    return fmpq(*value.as_integer_ratio())


def jvp_row(y: list[float], direction: list[float]) -> list[Interval]:
    """y_i (d_i - sum_k y_k d_k) in FLINT's exact rationals."""
    weights, tangents = [_rational(v) for v in y], [_rational(v) for v in direction]
    mean = sum((w * t for w, t in zip(weights, tangents, strict=True)), fmpq(0))
    return [_exact(w * (t - mean)) for w, t in zip(weights, tangents, strict=True)]


def sum_row(values: list[float]) -> Interval:
    """Exact sum in FLINT's rationals."""
    return _exact(sum((_rational(v) for v in values), fmpq(0)))


def _exact(value: fmpq) -> Interval:
    numerator = int(value.p)
    return Interval(numerator, numerator, 1 - int(value.q).bit_length())
