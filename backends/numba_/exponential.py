"""exp of vectors, without a branch and without a table.

The argument comes in two words, d + e, since that is how a difference of two floats is exact: with one word
alone exp(x - m) is off by up to |x - m| / 2 units in the last place, which is most of the error of other
softmax kernels. Cody and Waite's reduction: d = n ln(2) + r, where n ln(2) is taken off in two parts, the
first of so few digits that n times it is exact; then a polynomial in r, and a multiplication by 2**n.

Coefficients: `tools/exp_coefficients.py`. Largest error in units in the last place, over every float32 d from
-104 to 0 with e = 0: below 0.895 (proved by trying all, `tests/backends/test_numba_lanes.py`); float64:
below 1, the largest seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from softcert.backends.numba_.compiled import chosen_by_type
from softcert.backends.numba_.lanes import F32, at_least, fma, splat, times_power, unless_below

_f32 = np.float32
#: Results are 0 from here down, and 2**n stays within the reach of `times_power`.
_LEAST_32, _LEAST_64 = _f32(-104.0), -746.0
#: Adding it rounds to a whole number, whose bits stand at the end of the sum's.
_ROUNDER_32, _ROUNDER_64 = _f32(1.5 * 2.0**23), 1.5 * 2.0**52
_LOG2E_32, _LOG2E_64 = _f32(1.4426950408889634), 1.4426950408889634
#: -ln(2) in two parts: the first has 15 (float32) and 33 (float64) digits.
_LN2_32 = (_f32(-float.fromhex("0x1.62e4p-1")), _f32(-float.fromhex("0x1.7f7d1cp-20")))
_LN2_64 = (-float.fromhex("0x1.62e42feep-1"), -float.fromhex("0x1.a39ef35793c76p-33"))
_C32 = tuple(
    _f32(float.fromhex(c))
    for c in ("0x1.fffff8p-2", "0x1.55548ep-3", "0x1.555b96p-5", "0x1.123bccp-7", "0x1.68532cp-10")
)
_C64 = tuple(
    float.fromhex(c)
    for c in (
        "0x1.000000000000bp-1",
        "0x1.555555555550fp-3",
        "0x1.55555555502a6p-5",
        "0x1.1111111122b4fp-7",
        "0x1.6c16c18529f74p-10",
        "0x1.a01a014493a95p-13",
        "0x1.a01997cd32dd4p-16",
        "0x1.71deec77b25ddp-19",
        "0x1.28af3b651cd0bp-22",
        "0x1.add741be6cfcap-26",
    )
)
_ONE = _f32(1.0)


def exponential(d: Any, e: Any) -> Any:
    """exp(d + e) in each lane.

    Parameters
    ----------
    d : lanes, at most 0, or above it by so little that the result is finite; -inf gives 0 and NaN gives NaN.
    e : lanes, at most an ulp of d in size; whatever it is where d is -inf.
    """
    raise NotImplementedError("only compiled code calls this")


def _exp_32(d: Any, e: Any) -> Any:
    e = unless_below(d, splat(_LEAST_32), splat(_f32(0.0)), e)
    d = at_least(d, splat(_LEAST_32))
    shifted = fma(d, splat(_LOG2E_32), splat(_ROUNDER_32))
    n = shifted - splat(_ROUNDER_32)
    r = fma(n, splat(_LN2_32[0]), d) + fma(n, splat(_LN2_32[1]), e)
    p = fma(splat(_C32[4]), r, splat(_C32[3]))
    p = fma(p, r, splat(_C32[2]))
    p = fma(p, r, splat(_C32[1]))
    p = fma(p, r, splat(_C32[0]))
    p = fma(p, r, splat(_ONE))
    return times_power(fma(p, r, splat(_ONE)), n, shifted)


def _exp_64(d: Any, e: Any) -> Any:
    e = unless_below(d, splat(_LEAST_64), splat(0.0), e)
    d = at_least(d, splat(_LEAST_64))
    shifted = fma(d, splat(_LOG2E_64), splat(_ROUNDER_64))
    n = shifted - splat(_ROUNDER_64)
    r = fma(n, splat(_LN2_64[0]), d) + fma(n, splat(_LN2_64[1]), e)
    p = fma(splat(_C64[9]), r, splat(_C64[8]))
    p = fma(p, r, splat(_C64[7]))
    p = fma(p, r, splat(_C64[6]))
    p = fma(p, r, splat(_C64[5]))
    p = fma(p, r, splat(_C64[4]))
    p = fma(p, r, splat(_C64[3]))
    p = fma(p, r, splat(_C64[2]))
    p = fma(p, r, splat(_C64[1]))
    p = fma(p, r, splat(_C64[0]))
    p = fma(p, r, splat(1.0))
    return times_power(fma(p, r, splat(1.0)), n, shifted)


@chosen_by_type(exponential)
def _exponential(d: Any, e: Any) -> Any:
    return _exp_32 if d == F32 and e == F32 else _exp_64
