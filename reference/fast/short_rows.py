"""Certified errors of answers for very many rows of two or three finite logits.

A value t of softmax, log_softmax or logsumexp is taken as t = s (a + l) with a sign s, a word a >= 0 that is
exact, and a word l that is known up to an absolute error d: 1 - q for the larger of two probabilities,
max + L for logsumexp, -(gap + L) for the smaller logarithm. So neither what is next to 1 nor what is a hair
off a number of the format loses anything, and the error of an answer, (y - t) / ulp(t), is an interval about
2**-46 of l wide. What such an interval cannot settle (which ulp counts, whether half an ulp is exceeded,
whether the exact value overflows) is marked, for an exact oracle. The derivation stands in
docs/explanation/proofs-by-exhaustion.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softcert.reference.environment import require_ieee
from softcert.reference.fast.compiled import bits_of, compiled, fma, from_bits, inlined
from softcert.reference.fast.double_word import two_sum
from softcert.reference.fast.narrow import NEGLIGIBLE, exp_plain
from softcert.reference.fast.rows import power_of_two
from softcert.reference.formats import FloatFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

#: Proven relative error of q, of a weight's share, and of the logarithm of the sum: 2**-48 and something.
ERROR = 2.0**-47
#: The ops, as the kernel numbers them.
SHORT_OPS = ("softmax", "log_softmax", "logsumexp")
#: Longest row, and the largest precision, that the proof is about.
LONGEST_SHORT, FINEST_SHORT = 3, 24

_SOFTMAX, _LOG_SOFTMAX, _LOGSUMEXP = range(3)
#: Half of 2**-230, above all weights that are not computed: such a weight is enclosed in 2**-231 +- 2**-231.
_UNSEEN = 2.0**-231
#: Twice the unit roundoff: more than any one rounding here costs.
_EPS = 2.0**-52
_NEXT_TO_ONE = 1.0 - 2.0**-53
#: The weight of a gap of almost 2**-19, and what the third power leaves of such a gap.
_NEARLY_ONE, _CUBED = 1.0 - 2.0**-20, 2.0**-40
_OUTWARD = 1.0 + 2.0**-51
_INWARD = 1.0 - 2.0**-51
_LOG_2 = math.log(2.0)
#: 1, 1/3, 1/5, ...: enough for (1/9)**k / (2 k + 1) to be below 2**-55.
_A1, _A2, _A3, _A4, _A5, _A6, _A7, _A8, _A9, _A10, _A11, _A12, _A13, _A14, _A15, _A16 = (
    1.0 / (2 * k + 1) for k in range(1, 17)
)


class Errors(NamedTuple):
    """What is known of the answers to (N, n) logits; results have (N, n) or, of logsumexp, (N, 1).

    Attributes
    ----------
    lower, upper : certified error of each result in ulps at the exact value; NaN where that is left open.
    signed : the same error with its sign, its middle; NaN where that is left open.
    unit : ulp(t) is 2**unit.
    share : (N, n), the probabilities up to `ERROR`, 0 for those below 2**-230.
    log_sum : (N, 1), log of the sum of exp(x - max) up to `ERROR`, 0 where it is below 2**-229.
    """

    lower: Floats
    upper: Floats
    signed: Floats
    unit: NDArray[np.int64]
    share: Floats
    log_sum: Floats


def short_row_errors(op: str, x: Floats, y: Floats, fmt: FloatFormat) -> Errors:
    """Enclose the errors of answers for rows of two or three finite logits.

    Parameters
    ----------
    op : one of `SHORT_OPS`.
    x : (N, n) logits in binary64, n of 2 or 3, finite numbers of a format of at most 24 bits: multiples of
        2**-149 below 2**128, so that nothing that is exact here overflows or is as small as what is not seen.
    y : (N, n) answers in binary64, (N, 1) for logsumexp; anything, NaN included.
    fmt : the format of the answers, of at most 24 bits.

    Raises
    ------
    ValueError : rows of another length, or a format that is too fine.
    AlteredArithmetic : the processor does not compute as IEEE 754 says.
    """
    if x.shape[1] not in (2, LONGEST_SHORT) or fmt.precision > FINEST_SHORT:
        raise ValueError(f"rows of {x.shape[1]} logits with answers in {fmt.name} are none of short rows")
    require_ieee()
    lower, upper, signed = (np.empty(y.shape) for _ in range(3))
    unit = np.empty(y.shape, dtype=np.int64)
    share, log_sum = np.empty(x.shape), np.empty((len(x), 1))
    # Numbers from here on round to the infinity, or in E4M3 to NaN.
    limit = fmt.max_finite + math.ldexp(0.5, fmt.emax - fmt.precision + 1)
    facts = (fmt.precision, fmt.emin, fmt.emax, limit)
    _errors(SHORT_OPS.index(op), x, y, facts, lower, upper, signed, unit, share, log_sum)
    return Errors(lower, upper, signed, unit, share, log_sum)


@inlined
def _exponent(bits: int) -> int:
    """floor(log2(v)) of a positive normal number by its bits; -1023 for 0."""
    return ((bits >> 52) & 2047) - 1023


@inlined
def log1p_plain(z: float) -> float:
    """log(1 + z) for 0 <= z <= 1 up to 2**-50 of it: 2 atanh(z / (2 + z)), 17 terms of positive sign."""
    s = z / (2.0 + z)
    q = s * s
    p = fma(q, _A16, _A15)
    p = fma(p, q, _A14)
    p = fma(p, q, _A13)
    p = fma(p, q, _A12)
    p = fma(p, q, _A11)
    p = fma(p, q, _A10)
    p = fma(p, q, _A9)
    p = fma(p, q, _A8)
    p = fma(p, q, _A7)
    p = fma(p, q, _A6)
    p = fma(p, q, _A5)
    p = fma(p, q, _A4)
    p = fma(p, q, _A3)
    p = fma(p, q, _A2)
    p = fma(p, q, _A1)
    return 2.0 * s * fma(p, q, 1.0)


@inlined
def _weight(gap: float, rest: float) -> float:
    """exp(-(gap + rest)) for 0 <= gap <= 160 and |rest| <= 2**-53 gap, up to 2**-50 + 2**-52 of it."""
    w = exp_plain(-gap)
    return fma(-rest, w, w)


@inlined
def _row(x: Floats, i: int, share: Floats) -> tuple[float, int, float, float]:
    """(maximum, how often, sum of the other weights, what of it is not known) of a row.

    `share` gets the weights; 0 stands for one below 2**-230.
    """
    top = x[i, 0]
    for j in range(1, x.shape[1]):
        top = max(top, x[i, j])
    maxima, rest, unseen = 0, 0.0, 0.0
    for j in range(x.shape[1]):
        gap, tail = two_sum(top, -x[i, j])
        if gap == 0.0:
            maxima += 1
            share[i, j] = 1.0
        elif gap > -NEGLIGIBLE:
            unseen += _UNSEEN
            share[i, j] = 0.0
        else:
            # Below 1, which marks the maxima, however small the gap.
            share[i, j] = min(_weight(gap, tail), _NEXT_TO_ONE)
            rest += share[i, j]
    return top, maxima, rest, unseen


@inlined
def _log_of_sum(maxima: int, rest: float, unseen: float) -> tuple[float, float]:
    """log(maxima + rest) in [l - d, l + d], the left end excluded where nothing of `rest` was computed."""
    r = rest + unseen
    value = log1p_plain(r) if maxima == 1 and r <= 1.0 else _LOG_2 + log1p_plain((maxima - 2 + r) / 2.0)
    if maxima == 1 and rest == 0.0:
        return unseen, unseen
    return value, value * ERROR + unseen


@inlined
def _places(
    words: tuple[float, float, float], ends: tuple[float, float], fmt: tuple[int, int, int, float]
) -> tuple[int, bool, float, float]:
    """(unit, whether it is certain, ends) of |a + l|, l known up to d, least < a + l < most.

    Sums are rounded by half a unit of their last place at most, so that the next number beyond is an end.
    """
    v, rest = two_sum(words[0], words[1])
    least, most = ends
    if v < 0.0:
        v, rest, least, most = -v, -rest, -np.inf, np.inf
    d = words[2]
    high = min(v + (rest + d), most)
    low = v + (rest - d)
    if rest < d and low > 0.0:
        low = from_bits(bits_of(low) - 1)
    low = max(low, least)
    _, emin, emax, _ = fmt
    below = min(max(_exponent(bits_of(max(low, 0.0))), emin), emax)
    above = min(max(_exponent(bits_of(high) - (1 if high == most else 0)), emin), emax)
    return below - fmt[0] + 1, low >= 0.0 and below == above, low, high


@inlined
def _error(
    y: float,
    sign: float,
    words: tuple[float, float, float],
    ends: tuple[float, float],
    fmt: tuple[int, int, int, float],
) -> tuple[float, float, float, int]:
    """(lower, upper, signed, unit) for t = sign (a + l), l known up to d, least < a + l < most."""
    a, l, d = words  # noqa: E741 - as the derivation calls them
    unit, certain, low, high = _places(words, ends, fmt)
    if not certain:
        return np.nan, np.nan, np.nan, unit
    if not abs(y) < np.inf:
        # An infinite answer is right where the exact value rounds to it.
        right = sign * y == np.inf
        if right and low >= fmt[3]:
            return 0.0, 0.0, 0.0, unit
        if right and not from_bits(bits_of(high) + 1) < fmt[3] and ends[1] > fmt[3]:
            return np.nan, np.nan, np.nan, unit
        return np.inf, np.inf, np.inf if y > 0.0 else -np.inf, unit
    s, e = two_sum(sign * y, -a)
    v = e - l
    if e != 0.0:
        d = d + _EPS * abs(v)
    h, t = two_sum(s, v)
    direction = sign
    if h < 0.0:
        h, t, direction = -h, -t, -sign
    scale = power_of_two(-unit)
    h, t, d = h * scale, t * scale, d * scale
    upper = (h + (t + d)) * _OUTWARD
    lower = max((h + (t - d)) * _INWARD, 0.0)
    if lower <= 0.5 < upper:
        # Exact: Sterbenz. Words that cancel to +-d leave a strict sign, for l is no end of its interval.
        excess = (h - 0.5) + t
        if excess <= -d * _OUTWARD or (h == 0.5 and t <= -d):
            upper = 0.5
        elif not (excess * _INWARD >= d or (h == 0.5 and t >= d)):
            return np.nan, np.nan, np.nan, unit
    return lower, upper, direction * (h + t), unit


@inlined
def _share_of(
    w: float, maxima: int, rest: float, unseen: float
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Words and ends of one probability, of weight w."""
    if w == 0.0:
        return (0.0, _UNSEEN, _UNSEEN), (0.0, 0.5)
    total = maxima + (rest + unseen)
    if w < 1.0 or maxima > 2:
        p = w / total
        return (0.0, p, p * ERROR), (0.0, 0.5)
    if rest + unseen == 0.0:
        return (1.0 / maxima, 0.0, 0.0), (1.0 / maxima, np.inf)
    # 1 / (m + r) = 1/m - r / (m (m + r)).
    lost = (rest + unseen) / (maxima * total)
    d = unseen if rest == 0.0 else lost * ERROR + unseen
    return (1.0 / maxima, -lost, d), (0.0, 1.0 / maxima)


@inlined
def _nearly_half(gap: float, larger: bool) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Words and ends of one of two probabilities where 0 < gap < 2**-19: 1/2 +- tanh(gap / 2) / 2.

    That is gap / 4 less its cube by 48 and something, of which 2**-40 is far more than it and all roundings.
    """
    off = gap / 4.0
    if larger:
        return (0.5, off, off * _CUBED), (0.5, np.inf)
    return (0.5, -off, off * _CUBED), (0.0, 0.5)


@inlined
def _log_share_of(
    gap: float, tail: float, log_sum: float, d: float
) -> tuple[tuple[float, float, float], tuple[float, float]]:
    """Words and ends of gap + tail + log of the sum."""
    if gap == 0.0:
        return (0.0, log_sum, d), (0.0, np.inf)
    low = tail + log_sum
    least = gap if tail >= 0.0 else 0.0
    most = gap if -tail >= log_sum + d else np.inf
    return (gap, low, d if tail == 0.0 else d + _EPS * abs(tail)), (least, most)


@compiled
def _errors(
    op: int,
    x: Floats,
    y: Floats,
    fmt: tuple[int, int, int, float],
    lower: Floats,
    upper: Floats,
    signed: Floats,
    unit: NDArray[Any],
    share: Floats,
    log_sum: Floats,
) -> None:
    """Fill all that `Errors` holds."""
    two = op == _SOFTMAX and x.shape[1] == 2
    for i in range(x.shape[0]):
        top, maxima, rest, unseen = _row(x, i, share)
        total = maxima + (rest + unseen)
        l, d = _log_of_sum(maxima, rest, unseen)  # noqa: E741 - the same
        log_sum[i, 0] = 0.0 if maxima == 1 and rest == 0.0 else l
        for j in range(y.shape[1]):
            sign = 1.0
            if op == _SOFTMAX:
                words, ends = _share_of(share[i, j], maxima, rest, unseen)
                if two and maxima == 1 and rest >= _NEARLY_ONE:
                    words, ends = _nearly_half(top - min(x[i, 0], x[i, 1]), share[i, j] == 1.0)
            elif op == _LOG_SOFTMAX:
                sign = -1.0
                gap, tail = two_sum(top, -x[i, j])
                words, ends = _log_share_of(gap, tail, l, d)
            else:
                sign = 1.0 if top >= 0.0 else -1.0
                words = (abs(top), sign * l, d)
                ends = (top, np.inf) if top >= 0.0 else (-np.inf, -top)
            lower[i, j], upper[i, j], signed[i, j], unit[i, j] = _error(y[i, j], sign, words, ends, fmt)
        for j in range(x.shape[1]):
            share[i, j] /= total
