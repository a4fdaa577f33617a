"""The algorithms that Blanchard, Higham & Higham analyse, in float16 and float32, as their model has it.

doi:10.1093/imanum/draa038, algorithms 3.1 and 4.1 and the division-free softmax after each. The model is
fl(a op b) = (a op b)(1 + d) with |d| <= u, for exp, log and log1p too, sums in order, and nothing that over-
or underflows. Here every operation is IEEE arithmetic of the format; exp, log and log1p are binary64's and
rounded to it: that errs by at most u / (1 + u), and binary64 by far less than the rest of u.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert.reference import format_of
from softcert.reports.reproduce.bhh_theorems import Quantity

#: float16 or float32.
Narrow = NDArray[Any]


@dataclass(frozen=True)
class Computed:
    """One quantity of each row.

    Attributes
    ----------
    value : (rows,) or (rows, n), of the logits' dtype.
    within : (rows,), whether no step on the way to it over- or underflowed, as the theorems assume.
    """

    value: Narrow
    within: NDArray[np.bool_]


def run_algorithms(x: Narrow) -> dict[Quantity, Computed]:
    """Compute every quantity of rows of finite logits, (rows, n) in float16 or float32."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore"):
        return _unshifted(x) | _shifted(x)


def _unshifted(x: Narrow) -> dict[Quantity, Computed]:
    """Algorithm 3.1, and exp(x - y) with its y."""
    weights = _rounded(np.exp, x)
    total = _recursive_sum(weights)
    within = _normal(weights).all(axis=-1) & np.isfinite(total)
    lse, softmax = _rounded(np.log, total), weights / total[:, None]
    alternative = _rounded(np.exp, x - lse[:, None])
    return {
        "lse": Computed(lse, within),
        "softmax": Computed(softmax, within & _normal(softmax).all(axis=-1)),
        "alternative": Computed(alternative, within & _normal(alternative).all(axis=-1)),
    }


def _shifted(x: Narrow) -> dict[Quantity, Computed]:
    """Algorithm 4.1, which leaves one largest logit out of the sum, and exp(x - y) with its y."""
    one = x.dtype.type(1)
    top = x.max(axis=-1)
    weights = _rounded(np.exp, x - top[:, None])
    others = weights.copy()
    # Adding zero is exact, so that the sum is of the n - 1 others in order.
    others[np.arange(len(x)), x.argmax(axis=-1)] = 0
    total = _recursive_sum(others)
    log_sum = _rounded(np.log1p, total)
    within = _normal(weights).all(axis=-1) & np.isfinite(total) & _normal(log_sum)
    lse, softmax = top + log_sum, weights / (one + total)[:, None]
    alternative = _rounded(np.exp, x - lse[:, None])
    return {
        "log1p": Computed(log_sum, within),
        "shifted lse": Computed(lse, within),
        "shifted softmax": Computed(softmax, within & _normal(softmax).all(axis=-1)),
        "shifted alternative": Computed(alternative, within & _normal(alternative).all(axis=-1)),
    }


def _rounded(function: Callable[[NDArray[np.float64]], Any], x: Narrow) -> Narrow:
    """Apply a function of binary64 and round its result to x's format."""
    value: Narrow = np.asarray(function(x.astype(np.float64)), dtype=np.float64).astype(x.dtype)
    return value


def _recursive_sum(terms: Narrow) -> Narrow:
    """Add the columns from left to right, each sum rounded to the format."""
    total: Narrow = terms[:, 0]
    for column in terms.T[1:]:
        total = total + column
    return total


def _normal(value: Narrow) -> NDArray[np.bool_]:
    """Whether each result has the full precision of its format."""
    smallest = format_of(value.dtype).min_normal
    normal: NDArray[np.bool_] = np.isfinite(value) & (np.abs(value.astype(np.float64)) >= smallest)
    return normal
