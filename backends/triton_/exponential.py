"""The exponential of a difference, as accurate as the chip's own power of two allows.

`exp` of a GPU is 2^(d log2 e), whose exponent is rounded before the power is taken: of d = -80 that alone is
worth dozens of ulps. Here what both roundings lose, that of x - pivot and that of the product, is carried
along and put in afterwards: 2^(t + r) = 2^t (1 + r ln 2) as far as binary32 can tell, |r| being below 2^-16.

The chip's power of two (ex2.approx.ftz) is 0 where it would be a subnormal number, and so is this.
"""

# Triton gives types to what a kernel takes, and its constants stand in capitals.
# ruff: noqa: ANN001, ANN201, N803
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

#: log2(e) in two binary32 terms, and ln(2).
_LOG2E = tl.constexpr(1.4426950216293335)
_LOG2E_REST = tl.constexpr(1.925963033500011e-08)
_LN2 = tl.constexpr(0.6931471805599453)
#: Below it the exponential is 0 in binary32.
_NOTHING = tl.constexpr(-110.0)


@triton.jit
def exp_difference(x, pivot, EXACT: tl.constexpr):
    """exp(x - pivot) in binary32, x <= pivot, and 0 where x is -inf; NaN stays.

    EXACT: the difference counts with all its digits, of which a result of 16 bits would keep none.
    """
    d = x - pivot
    t = d * _LOG2E
    rest = tl.fma(d, _LOG2E, -t) + d * _LOG2E_REST
    if EXACT:
        # Knuth's TwoSum, which asks for no order of its operands.
        away = d - x
        rest += ((x - (d - away)) - (pivot + away)) * _LOG2E
    power = tl.math.exp2(t)
    # At -inf the rest is inf - inf.
    return tl.where(d >= _NOTHING, power * tl.fma(rest, _LN2, 1.0), power)
