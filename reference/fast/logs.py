"""Rows of logsumexp and log_softmax in double words; the derivation stands in docs/explanation/fast.md."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.compiled import compiled, from_bits, inlined
from softcert.reference.fast.double_word import exp_dw, two_sum
from softcert.reference.fast.rows import MISSING, largest, product, total, weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Absolute error of the logarithm of a row's sum.
LOG_ERROR = 2.0**-99
#: Relative error of the additions that follow.
SUM_ERROR = 2.0**-103
#: What a first logarithm may be wrong by; whoever computed it, Newton's step proves the second.
_CLOSE = 2.0**-50


@inlined
def _log_of_sum(h: float, l: float) -> tuple[float, float, bool]:  # noqa: E741
    """log(h + l), h >= 1, as a double word, and whether it is as good as `LOG_ERROR`."""
    y = math.log(h)
    eh, el, k = exp_dw(-y, 0.0, 0.0)
    p, e = product(h, l, eh, el)
    scale = from_bits((k + 1023) << 52)
    delta = (p * scale - 1.0) + e * scale
    gh, gl = two_sum(y, delta - 0.5 * delta * delta)
    return gh, gl, -_CLOSE < delta < _CLOSE


@inlined
def _only_one(x: NDArray[np.float64]) -> bool:
    """Whether one logit alone is finite: the sum is 1 then, and its logarithm 0, exactly."""
    finite = 0
    for j in range(x.size):
        finite += x[j] > -np.inf
    return finite == 1


@compiled
def logsumexp_pairs(
    x: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    error: NDArray[np.float64],
    exponent: NDArray[np.int64],
) -> None:
    """Logsumexp of rows as high + low up to an absolute error; exponent `MISSING` where it is not given."""
    wh, wl = np.empty(x.shape[1]), np.empty(x.shape[1])
    for i in range(x.shape[0]):
        exponent[i] = MISSING
        top, special = largest(x[i])
        if special or top == -np.inf:
            continue
        q1, q2, q3, _ = weights(x[i], top, 1.0, wh, wl)
        h, l = total(q1, q2, q3)  # noqa: E741
        gh, gl, good = _log_of_sum(h, l)
        s, e = two_sum(top, gh)
        alone = _only_one(x[i])
        high[i], low[i] = two_sum(s, e + gl)
        error[i] = 0.0 if alone else LOG_ERROR + SUM_ERROR * abs(s)
        if good:
            exponent[i] = 0


@compiled
def log_softmax_pairs(
    x: NDArray[np.float64],
    high: NDArray[np.float64],
    low: NDArray[np.float64],
    error: NDArray[np.float64],
    exponent: NDArray[np.int64],
) -> None:
    """log_softmax of rows, as `logsumexp_pairs`; high is -inf at a logit -inf."""
    wh, wl = np.empty(x.shape[1]), np.empty(x.shape[1])
    for i in range(x.shape[0]):
        exponent[i] = MISSING
        top, special = largest(x[i])
        if special or top == -np.inf:
            continue
        q1, q2, q3, _ = weights(x[i], top, 1.0, wh, wl)
        h, l = total(q1, q2, q3)  # noqa: E741
        gh, gl, good = _log_of_sum(h, l)
        alone = _only_one(x[i])
        for j in range(x.shape[1]):
            d, dl = two_sum(x[i, j], -top)
            s, e = two_sum(d, -gh)
            high[i, j], low[i, j] = two_sum(s, e + (dl - gl))
            error[i, j] = 0.0 if alone else LOG_ERROR + SUM_ERROR * abs(s)
            if x[i, j] == -np.inf:
                high[i, j], low[i, j] = -np.inf, 0.0
                exponent[i, j] = 0
            elif good and d > -np.inf:
                exponent[i, j] = 0
