"""Whether the processor still computes as IEEE 754 says: the proofs of the fast path rest on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.errors import AlteredArithmetic
from softcert.reference.fast.compiled import compiled, fma

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TINY = np.array([2.0**-1022, 0.5, 1.0, 2.0**-53, 3.0 * 2.0**-54])


@compiled
def _as_expected(v: NDArray[np.float64]) -> int:
    """0 where arithmetic is as it should be, else what is altered: 1 flushing, 2 rounding, 3 both."""
    half = v[0] * v[1]
    flushed = half == 0.0 or half + half != v[0]
    tie, above = v[2] + v[3], v[2] + v[4]
    negative = -v[2] - v[3]
    rounded = tie != v[2] or above == v[2] or negative != -v[2] or fma(v[2], v[4], v[2]) != above
    return (1 if flushed else 0) + (2 if rounded else 0)


def require_ieee() -> None:
    """Make sure that subnormals are kept and results are rounded to nearest, in this thread.

    Raises
    ------
    AlteredArithmetic : another library has changed the floating-point environment.
    """
    state = _as_expected(_TINY)
    if state:
        what = {1: "flushes subnormals to zero", 2: "does not round to nearest"}.get(
            state, "flushes subnormals to zero and does not round to nearest"
        )
        raise AlteredArithmetic(
            f"the processor {what}: a library of this process has changed the floating-point environment, "
            "and nothing can be certified by it"
        )
