"""Double-word arithmetic: numbers as unevaluated sums of two binary64 numbers, and their exponential.

u = 2**-53 throughout. TwoSum: Knuth, TAOCP vol. 2, 4.2.2, theorem B. Fast2Sum: Dekker, Numer. Math. 18, 1971.
2Prod by fma is exact unless it underflows. The bounds are those of Joldes, Muller & Popescu, ACM TOMS
44(2), 2017, doi:10.1145/3121432; the derivation of `EXP_ERROR` stands in docs/explanation/fast.md.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np

from softcert.reference.fast.compiled import bits_of, fma, inlined

#: Proven relative error of `exp_dw`.
EXP_ERROR = 2.0**-103
#: Largest gap that `exp_dw` is called with.
LARGEST_GAP = 2.0**20

_TABLE_BITS = 8
_SIZE = 1 << _TABLE_BITS
#: Adding it rounds to an integer, which its low bits then hold.
TO_INTEGER = 1.5 * 2.0**52
TO_INTEGER_BITS = int(np.float64(TO_INTEGER).view(np.int64))


def _words(value: Any, count: int) -> tuple[float, ...]:
    """The leading binary64 words of a real number, each the rest of it rounded to nearest."""
    words = []
    for _ in range(count):
        words.append(float(value))
        value -= mpmath.mpf(words[-1])
    return tuple(words)


with mpmath.workprec(400):
    _INVERSE = float(_SIZE / mpmath.log(2))
    _STEP_1, _STEP_2, _STEP_3 = _words(mpmath.log(2) / _SIZE, 3)
    _SIXTH_HIGH, _SIXTH_LOW = _words(mpmath.mpf(1) / 6, 2)
    _24TH_HIGH, _24TH_LOW = _words(mpmath.mpf(1) / 24, 2)
    _POWERS = [_words(mpmath.mpf(2) ** (mpmath.mpf(j) / _SIZE), 2) for j in range(_SIZE)]
# Constants of a module are constants of the compiled code too: a loop that reads them can be vectorized.
_HIGH = np.array([high for high, _ in _POWERS])
_LOW = np.array([low for _, low in _POWERS])
_C5, _C6, _C7, _C8, _C9 = (1.0 / math.factorial(k) for k in range(5, 10))


@inlined
def two_sum(a: float, b: float) -> tuple[float, float]:
    """(s, e) with s = RN(a + b) and s + e = a + b exactly."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


@inlined
def fast_two_sum(a: float, b: float) -> tuple[float, float]:
    """The same where |a| >= |b| or a = 0."""
    s = a + b
    return s, b - (s - a)


@inlined
def exp_dw(a: float, b: float, c: float) -> tuple[float, float, int]:
    """(h, l, k) with (h + l) 2**k = exp(a + b + c) up to the relative error `EXP_ERROR`, 0.99 < h <= 2.

    -LARGEST_GAP <= a <= 0, |b| <= 3 u |a|, |c| <= 4 u^2 |a|. With n = round(a 256 / log 2), the reduced
    r = a + b + c - n log(2)/256 lies within 2**-9.5; exp(r) - 1 = r + r^2 (1/2 + r (1/6 + r (1/24 + ...)))
    is taken in double words down to 1/24.
    """
    shifted = fma(a, _INVERSE, TO_INTEGER)
    n = shifted - TO_INTEGER
    integer = bits_of(shifted) - TO_INTEGER_BITS
    head = fma(-n, _STEP_1, a)
    p = n * _STEP_2
    pe = fma(n, _STEP_2, -p)
    s, e1 = two_sum(b, -p)
    rh, e2 = two_sum(head, s)
    rl = fma(-n, _STEP_3, e2 + ((e1 - pe) + c))
    q = rh * fma(rh, fma(rh, fma(rh, fma(rh, _C9, _C8), _C7), _C6), _C5)
    gh, gl = fast_two_sum(_24TH_HIGH, q)
    gl = gl + _24TH_LOW
    z = rh * gh
    ze = fma(rh, gl, fma(rl, gh, fma(rh, gh, -z)))
    fh, fl = fast_two_sum(_SIXTH_HIGH, z)
    fl = fl + (_SIXTH_LOW + ze)
    z = rh * fh
    ze = fma(rh, fl, fma(rl, fh, fma(rh, fh, -z)))
    dh, dl = fast_two_sum(0.5, z)
    dl = dl + ze
    r2 = rh * rh
    r2e = fma(2.0 * rh, rl, fma(rh, rh, -r2))
    z = r2 * dh
    ze = fma(r2e, dh, fma(r2, dl, fma(r2, dh, -z)))
    mh, ml = two_sum(rh, z)
    ml = ml + (rl + ze)
    place = np.uint64(integer & (_SIZE - 1))
    th, tl = _HIGH[place], _LOW[place]
    z = th * mh
    ze = fma(tl, mh, fma(th, ml, fma(th, mh, -z)))
    h, low = fast_two_sum(th, z)
    h, low = fast_two_sum(h, low + (tl + ze))
    return h, low, integer >> _TABLE_BITS
