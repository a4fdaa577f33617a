"""A-priori rounding-error bounds of the differentiated softmax and of its derivatives.

Logits are products of rounded numbers, so that they reach the softmax with errors of their own; what follows
is the argument of `softmax.py` for such logits. The derivation stands in docs/explanation/bounds.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.conformance.bounds.softmax import Rows, absolute_error, vjp_bound

Float = NDArray[np.float64]

_SLACK = 1.0 + 2.0**-30
_LOG_2 = float(np.log(2.0))
#: Unit roundoff in which the exact logits are handed over.
_GIVEN = 2.0**-53


def _parts(lengths: Sequence[int]) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(accumulate(lengths, initial=0))]


def logit_bound(
    h: Float, weights: Sequence[Float], biases: Sequence[Float], logits: Float, a: Arithmetic
) -> Float:
    """Absolute error that the logits W_k h_k + b_k have where they enter the softmax, (..., K).

    d products and as many additions in the accumulator, in any order, then the rounding to the format that
    is computed in.

    Parameters
    ----------
    h : (..., D). weights, biases : of each block (V_k, d_k) and (V_k,). logits : (..., K), the exact ones.
    """
    columns = _parts([w.shape[1] for w in weights])
    sizes = [
        np.abs(h[..., part]) @ np.abs(w).T + np.abs(b)
        for w, b, part in zip(weights, biases, columns, strict=True)
    ]
    counts = np.concatenate([np.full(len(w), w.shape[1] + 1.0) for w in weights])
    error = np.expm1(counts * a.u_sum) * np.concatenate(sizes, axis=-1)
    error = error + counts * max(a.eta_compute, a.lambda_compute if a.flush else 0.0)
    narrowed = a.u_compute if a.u_sum < a.u_compute else 0.0
    return np.asarray((error + narrowed * (np.abs(logits) + error)) * _SLACK)


def differentiated_exponent_error(rows: Rows, moved: Float, a: Arithmetic) -> Float:
    """Perturbation of log p, (..., K), underflow apart, where each logit is off by up to `moved`.

    The computed maximum exceeds the exact one by `rise` at most, so that a computed gap is at most
    gap + moved + rise. The maximum is common to the row and cancels, whichever logit it is; the errors of the
    logits themselves do not.
    """
    u, n = a.u_compute, rows.count
    rise = (moved - rows.gap).max(axis=-1, keepdims=True)  # at least `moved` at the maximum
    gap = np.where(np.isfinite(rows.gap), rows.gap + moved + rise, 0.0)
    argument = u * gap + moved
    if not a.division:
        offset = a.u_offset * (rows.size + moved + rows.top + rise)
        argument = argument + 2.0 * u * gap + np.minimum(offset, np.maximum(gap, _LOG_2))
    exponential = np.where(gap > 0.0, a.exp_error, 0.0)
    # Which of nearly equal logits is the largest depends on their errors: any climb is possible.
    rescales = 0.0 if a.division else (n - 1) * a.rescale_error
    weight = argument + exponential + rescales
    mean = np.log1p(absolute_error(rows, weight).sum(axis=-1, keepdims=True))
    narrowed = u if a.u_sum < u else 0.0
    denominator = mean + (n - 1) * a.u_sum + n * a.underflow + narrowed
    quotient = 2.0 * u + (a.u_out if a.u_out > u else 0.0)
    division = argument + exponential + denominator + quotient
    if a.division:
        return np.asarray(division)
    log_sum = np.minimum(rows.log_sum + 2.0 * moved.max(axis=-1, keepdims=True), np.log(n))
    lse = np.minimum(a.u_offset * (rows.top + rise + log_sum), np.maximum(log_sum, u))
    distance = gap + log_sum
    through_lse = denominator + moved + lse + (u + a.exp_error) * log_sum + u * distance + quotient
    return np.asarray(np.maximum(division, through_lse + np.where(distance > 0.0, a.exp_error, 0.0)))


def differentiated_bound(rows: Rows, moved: Float, a: Arithmetic) -> Float:
    """Absolute bound of the computed probabilities, (..., K); 0 at logits of -inf.

    Parameters
    ----------
    rows : of the exact logits rounded to binary64. moved : `logit_bound` of them.
    """
    # p is evaluated from logits that are rounded themselves, which in binary64 is no less than an error.
    given = _GIVEN * (rows.size + rows.size.max(axis=-1, keepdims=True))
    absolute = absolute_error(rows, differentiated_exponent_error(rows, moved, a) + given) + a.underflow
    return np.where(np.isfinite(rows.gap), absolute * _SLACK, 0.0)


def differentiated_vjp_bounds(
    h: Float, weights: Sequence[Float], y: Float, dy: Float, a: Arithmetic
) -> tuple[Float, tuple[Float, ...], tuple[Float, ...]]:
    """Absolute bounds of dh, and of each block's dW and db, for the h, W, y and dy given.

    The cotangent of the logits errs as that of softmax does (`vjp_bound`); its products with W and h are sums
    in the accumulator, in any order.

    Parameters
    ----------
    h : (..., D). weights : of each block (V_k, d_k). y, dy : (..., K).
    """
    hidden = h.reshape(-1, h.shape[-1])
    inner = y * (dy - (y * dy).sum(axis=-1, keepdims=True))
    slope = inner.reshape(-1, y.shape[-1])
    error = vjp_bound(y, dy, a).reshape(slope.shape)
    size = np.abs(slope) + error
    by_hidden, by_weights, by_biases = np.empty_like(hidden), [], []
    rows, ones = len(hidden), np.ones((len(hidden), 1))
    columns = _parts([w.shape[1] for w in weights])
    for w, features, classes in zip(weights, columns, _parts([len(w) for w in weights]), strict=True):
        own, least, most = slope[:, classes], error[:, classes], size[:, classes]
        left, part = np.abs(w), hidden[:, features]
        by_hidden[:, features] = _of_products(least @ left, most @ left, own @ w, len(w), a)
        by_weights.append(_of_products(least.T @ np.abs(part), most.T @ np.abs(part), own.T @ part, rows, a))
        by_biases.append(_of_products(least.T @ ones, most.T @ ones, own.T @ ones, rows, a)[:, 0])
    return by_hidden.reshape(h.shape), tuple(by_weights), tuple(by_biases)


def _of_products(error: Float, size: Float, value: Float, count: int, a: Arithmetic) -> Float:
    """Bound of a sum of `count` products, from the error that its factors bring and the sum of sizes."""
    u = a.u_compute
    absolute = error + np.expm1(count * a.u_sum) * size
    absolute = absolute + count * max(a.eta_compute, a.lambda_compute if a.flush else 0.0)
    narrowed = (u if a.u_sum < u else 0.0) + (a.u_out if a.u_out > u else 0.0)
    tail = (a.lambda_out if a.flush else 0.0) + a.eta_out
    return np.asarray((absolute + np.expm1(narrowed) * (np.abs(value) + absolute) + tail) * _SLACK)


__all__ = [
    "differentiated_bound",
    "differentiated_exponent_error",
    "differentiated_vjp_bounds",
    "logit_bound",
]
