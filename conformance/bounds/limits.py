"""Bounds of how far from arg max softmax lies, and of logsumexp above the maximum.

What is common to a row moves the maxima and the rest against each other and cancels in part, and near the
limit the sum is the number of maxima, whatever the length. The derivation stands in
docs/explanation/limits.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds import softmax as bounds
from softcert.conformance.bounds.arithmetic import Arithmetic
from softcert.conformance.bounds.softmax import Rows

Float = NDArray[np.float64]

_SLACK = 1.0 + 2.0**-30


def element_bound(rows: Rows, a: Arithmetic) -> Float:
    """Absolute bound of each probability, (..., n), with the sum known to be exact where it is."""
    exponent = bounds.softmax_exponent_error(rows, a, bounds.exact_sum(rows, a))
    absolute: Float = (bounds.absolute_error(rows, exponent) + a.underflow) * _SLACK
    return np.where(np.isfinite(rows.gap), absolute, 0.0)


def distance_bound(rows: Rows, a: Arithmetic) -> Float:
    """Absolute bound of sum(p below the maximum) + sum(1/m - p of the maxima), (...).

    Division form: the computed p_i are p_i exp(c + o_i), c common to the row and |o_i| <= q_i. With T and P
    the weight below the maximum and of the maxima, the distance then moves by (e^c - 1)(T - P) and by at most
    e^c sum(p_i (e^q_i - 1)), and underflow by its share of each element. Any form: the sum of the bounds.
    """
    total: Float = element_bound(rows, a).sum(axis=-1)
    if not a.division:
        return total
    p = np.exp(rows.log_p)
    top = rows.gap == 0.0
    common = bounds.softmax_denominator_error(rows, a, bounds.exact_sum(rows, a))[..., 0]
    balance = np.abs(np.where(top, -p, p).sum(axis=-1))
    own = bounds.absolute_error(rows, bounds.softmax_numerator_error(rows, a)).sum(axis=-1)
    with np.errstate(over="ignore"):
        # T - P is itself rounded in binary64, by far less than 2^-40.
        moved = np.expm1(common) * (balance + 2.0**-40) + np.exp(common) * own
    together: Float = (moved + rows.count * a.underflow) * _SLACK
    return np.minimum(total, together)


def excess_bound(rows: Rows, a: Arithmetic) -> Float:
    """Absolute bound of logsumexp, (...), with the sum known to be exact where it is."""
    return bounds.logsumexp_bound(rows, a, bounds.exact_sum(rows, a))[..., 0]
