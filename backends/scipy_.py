"""SciPy's softmax, log_softmax and logsumexp.

Declared for float64 and float32 alone: SciPy computes in the input's own format, and NumPy adds
float16 in float16 when the summed axis is not the innermost one in memory, so that a sum of ones
along axis 0 stops at 2048 (a softmax of 4096 equal float16 logits sums to 2 there, SciPy 1.17).
SciPy has no gradient kernels.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.types import Array, Backend


def scipy_backend() -> Backend:
    """Backend `scipy`: the three functions of scipy.special, called with the axis always given."""
    import scipy
    from scipy import special

    def softmax(x: Array, axis: int = -1) -> Array:
        result: Array = special.softmax(x, axis=axis)
        return result

    def log_softmax(x: Array, axis: int = -1) -> Array:
        result: Array = special.log_softmax(x, axis=axis)
        return result

    def logsumexp(x: Array, axis: int = -1) -> Array:
        result: Array = special.logsumexp(x, axis=axis)
        return result

    return Backend(
        name="scipy",
        ops={"softmax": softmax, "log_softmax": log_softmax, "logsumexp": logsumexp},
        dtypes=("float64", "float32"),
        contract=Contract(),
        versions={"scipy": scipy.__version__},
    )
