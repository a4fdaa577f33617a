"""Rows of logsumexp and log_softmax in double words; the derivation stands in docs/explanation/fast.md."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.compiled import compiled, inlined
from softcert.reference.fast.double_word import exp_dw, two_sum
from softcert.reference.fast.rows import MISSING, largest, power_of_two, product, total, weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Absolute error of the logarithm of a row's sum.
LOG_ERROR = 2.0**-99
#: Relative error of the additions that follow.
SUM_ERROR = 2.0**-103
#: What a first logarithm may be wrong by; whoever computed it, Newton's step proves the second.
_CLOSE = 2.0**-50


@inlined
def log_of_sum(h: float, l: float) -> tuple[float, float, bool]:  # noqa: E741
    """log(h + l), h >= 1, as a double word, and whether it is as good as `LOG_ERROR`."""
    y = math.log(h)
    eh, el, k = exp_dw(-y, 0.0, 0.0)
    p, e = product(h, l, eh, el)
    scale = power_of_two(k)
    delta = (p * scale - 1.0) + e * scale
    gh, gl = two_sum(y, delta - 0.5 * delta * delta)
    return gh, gl, -_CLOSE < delta < _CLOSE


@inlined
def lse_of(top: float, h: float, l: float) -> tuple[float, float, float, bool]:  # noqa: E741
    """top + log(h + l) in two words, its absolute error given h + l, and whether it is known."""
    gh, gl, good = log_of_sum(h, l)
    s, e = two_sum(top, gh)
    high, low = two_sum(s, e + gl)
    return high, low, LOG_ERROR + SUM_ERROR * abs(s), good


@inlined
def _only_one(x: NDArray[np.float64]) -> bool:
    """Whether one logit alone is finite: the sum is 1 then, and its logarithm 0, exactly."""
    finite = 0
    for j in range(x.size):
        finite += x[j] > -np.inf
    return finite == 1


@inlined
def _logarithm(
    x: NDArray[np.float64], high: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[float, float, float, float, bool]:
    """(largest logit, log of the sum beside it in two words, its error, whether they are known) of a row.

    Parameters
    ----------
    high, low : room for the row's weights.
    """
    top, special = largest(x)
    if special or top == -np.inf:
        return top, 0.0, 0.0, 0.0, False
    q1, q2, q3, _ = weights(x, top, 1.0, high, low)
    h, l = total(q1, q2, q3)  # noqa: E741
    gh, gl, good = log_of_sum(h, l)
    # One finite logit alone: the sum is 1 and its logarithm 0, exactly.
    return top, gh, gl, 0.0 if _only_one(x) else LOG_ERROR, good


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
        top, gh, gl, slack, known = _logarithm(x[i], wh, wl)
        s, e = two_sum(top, gh)
        high[i], low[i] = two_sum(s, e + gl)
        error[i] = slack + SUM_ERROR * abs(s) if slack > 0.0 else 0.0
        exponent[i] = 0 if known and abs(high[i]) < np.inf else MISSING


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
        top, gh, gl, slack, known = _logarithm(x[i], wh, wl)
        for j in range(x.shape[1]):
            d, dl = two_sum(x[i, j], -top)
            s, e = two_sum(d, -gh)
            high[i, j], low[i, j] = two_sum(s, e + (dl - gl))
            error[i, j] = slack + SUM_ERROR * abs(s) if slack > 0.0 else 0.0
            masked = x[i, j] == -np.inf
            if masked:
                high[i, j], low[i, j] = -np.inf, 0.0
            # Near the largest logits a step of two_sum may overflow, and NaN come of numbers.
            exponent[i, j] = 0 if known and (masked or abs(high[i, j]) < np.inf) else MISSING
