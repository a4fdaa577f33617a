"""The softmax functions by mpmath's exp and log, in integer intervals widened by an argued error.

Why not ``mpmath.iv``: its exp evaluates a truncated fixed-point series and rounds the truncated value
up, so that an upper end can lie below the true value (mpmath issue 1181). Here mpmath's point values
are taken with `GUARD` = 40 bits more than are needed and widened by 2**-(prec + 6) relatively.

The argument, from mpmath 1.3's ``libmp.libelefun``: on the arguments that reach it from here (0 <= r
< log 2, not an integer unless 0), mpf_exp sums a Taylor series of at most a few hundred truncated
terms after r ~ sqrt(wp) halvings, with r + 14 more bits than asked, and squares r times, each squaring
doubling the relative error: less than 2**12 units of 2**-(wp + 14). mpf_log sums a comparable
number of truncated terms at wp + 20 bits, and shifts its precision by the cancellation near 1. Either
loses less than a unit in the last place, while the widening allows 2**33 of them. ln2_fixed is used
with the same guard. No step relies on mpmath's huge-argument or integer-power branches: arguments
are reduced here, in exact integers. The Arb oracle recomputes everything independently.
"""

from __future__ import annotations

from mpmath.libmp import from_man_exp, ln2_fixed, mpf_exp, mpf_log

from softcert.reference.exactness import Logits
from softcert.reference.interval import (
    ZERO,
    Interval,
    add,
    at_exponent,
    divide,
    from_fraction,
    hull,
    multiply,
    negate,
    times_integer,
    trim,
)

GUARD = 40


def _widened(value: tuple[int, int, int, int], prec: int) -> Interval:
    """The relative neighbourhood of radius 2**-(prec + 6) of a positive mpf, at least."""
    _, mantissa, exponent, bits = value
    shift = prec + GUARD - bits
    scaled = int(mantissa) << shift if shift > 0 else int(mantissa)
    exponent = int(exponent) - max(shift, 0)
    radius = (scaled >> (prec + 6)) + 1
    return Interval(scaled - radius, scaled + radius, exponent)


def exp_of_gap(n: int, s: int, q: int, prec: int) -> Interval:
    """Enclose exp(n * 2**s / q), n <= 0, with relative width about 2**-prec, however large the argument."""
    if n == 0:
        return Interval(1, 1, 0)
    size = max(0, n.bit_length() + s - q.bit_length() + 1)
    wp = prec + size + GUARD
    shift = s + wp
    fixed = (n << shift) // q if shift >= 0 else n // (q << -shift)
    # floor and ln2_fixed err by a few units of 2**-wp, the latter times k < 2**(size + 1)
    k, rest = divmod(fixed, int(ln2_fixed(wp)))
    reduced = from_man_exp(rest >> size, size - wp)
    value = _widened(mpf_exp(reduced, prec + GUARD, "n"), prec)
    return value._replace(exp=value.exp + k)


def log_point(m: int, e: int, prec: int) -> Interval:
    """Enclose log(m * 2**e), of a number of at least 1 (0 itself at 1)."""
    if m == 1 << max(-e, 0) and e <= 0:
        return ZERO
    return _widened(mpf_log(from_man_exp(m, e), prec + GUARD, "n"), prec)


def log1p(t: Interval, prec: int) -> Interval:
    """Enclose log(1 + t), t > 0, relatively well however small t is."""
    t = at_exponent(t, min(t.exp, t.exp + t.lo.bit_length() - prec - GUARD))
    if t.hi.bit_length() + t.exp < -prec - 2:
        # t (1 - t/2) <= log(1 + t) <= t
        return Interval(t.lo - (t.lo >> prec) - 1, t.hi, t.exp)
    t = trim(t, prec + GUARD)
    one, exp = (1 << -t.exp, t.exp) if t.exp < 0 else (1, 0)
    scale = t.exp - exp
    return hull(log_point(one + (t.lo << scale), exp, prec), log_point(one + (t.hi << scale), exp, prec))


def weights(row: Logits, prec: int) -> list[Interval]:
    """Enclose exp(beta (x_k - x_top)) for each distinct value."""
    gaps, s, q = row.gaps
    return [exp_of_gap(n, s, q, prec) for n in gaps]


def tail_of(row: Logits, w: list[Interval], prec: int) -> Interval:
    """Return the sum of the weights of all logits but those equal to the top."""
    tail = ZERO
    for k, (weight, count) in enumerate(zip(w, row.counts, strict=True)):
        if k != row.top:
            tail = add(tail, times_integer(weight, count), prec)
    return tail


def working(row: Logits, prec: int) -> int:
    """Precision at which the sums' own roundings do not matter."""
    return prec + 8 + len(row.values).bit_length()


def softmax_row(row: Logits, prec: int) -> list[Interval]:
    """Softmax at each distinct value; relative width about 2**-prec."""
    wp = working(row, prec)
    w = weights(row, wp)
    total = add(Interval(row.counts[row.top], row.counts[row.top], 0), tail_of(row, w, wp), wp)
    return [divide(weight, total, wp) for weight in w]


def log_total(row: Logits, wp: int) -> Interval:
    """Return lse - max: log of the sum of the weights, without cancellation."""
    n = row.counts[row.top]
    tail = tail_of(row, weights(row, wp), wp)
    if n == 1:
        return ZERO if tail == ZERO else log1p(tail, wp)
    total = add(Interval(n - 1, n - 1, 0), tail, wp)
    return log1p(total, wp)


def logsumexp_row(row: Logits, prec: int) -> Interval:
    """Logsumexp of the row (beta = 1); absolute width about 2**-prec max(|x_top|, lse - x_top)."""
    wp = working(row, prec)
    m, e = row.top_dyadic
    return add(Interval(m, m, e), log_total(row, wp), wp)


def log_softmax_row(row: Logits, prec: int) -> list[Interval]:
    """log_softmax at each distinct value (beta = 1); both terms are negative, nothing cancels."""
    wp = working(row, prec)
    below = negate(log_total(row, wp))
    gaps, s, _ = row.gaps
    return [add(Interval(n, n, s), below, wp) if n else below for n in gaps]


def jacobian_row(row: Logits, prec: int) -> list[Interval]:
    """Entries beta p_a (delta - p_b): the m diagonal ones, then those of the pairs a <= b, row by row."""
    wp = working(row, prec)
    w = weights(row, wp)
    total = add(Interval(row.counts[row.top], row.counts[row.top], 0), tail_of(row, w, wp), wp)
    # beta / total**2, the common factor; sign kept apart so that the divisor stays positive
    beta = from_fraction(row.beta, wp)
    factor = divide(divide(beta, total, wp), total, wp)
    scaled = [multiply(weight, factor, wp) for weight in w]
    diagonal = [multiply(s, r, wp) for s, r in zip(scaled, _rests(row, w, wp), strict=True)]
    pairs = [negate(multiply(scaled[a], w[b], wp)) for a in range(len(w)) for b in range(a, len(w))]
    return diagonal + pairs


def _rests(row: Logits, w: list[Interval], wp: int) -> list[Interval]:
    """For each value the sum of all other logits' weights, by prefix and suffix sums: no cancellation."""
    terms = [times_integer(weight, n) for weight, n in zip(w, row.counts, strict=True)]
    before, after = [ZERO], [ZERO]
    for term in terms:
        before.append(add(before[-1], term, wp))
    for term in reversed(terms):
        after.append(add(after[-1], term, wp))
    after.reverse()
    own = [times_integer(weight, n - 1) if n > 1 else ZERO for weight, n in zip(w, row.counts, strict=True)]
    return [add(add(before[k], own[k], wp), after[k + 1], wp) for k in range(len(w))]
