"""scikit-learn's softmax, sklearn.utils.extmath.softmax, which multinomial classifiers predict with.

It takes a matrix and normalizes its rows, so that other axes are moved there and back. As SciPy's does, it
computes in the input's own format, in which NumPy adds float16 rows that lie apart in memory; it is declared
for float64 and float32, the formats that scikit-learn's estimators keep.

Its cross-entropy is sklearn.metrics.log_loss of those probabilities, row by row, without any option. It clips
them to [eps, 1 - eps] of their dtype, so that no loss passes 36.05 in float64 nor 15.95 in float32.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.types import Array, Backend


def sklearn_backend() -> Backend:
    """Backend `sklearn`: the one function, called with its default of copying."""
    import sklearn
    from sklearn.metrics import log_loss
    from sklearn.utils import extmath

    def softmax(x: Array, axis: int = -1) -> Array:
        rows = np.moveaxis(x, axis, -1)
        found = extmath.softmax(rows.reshape(-1, rows.shape[-1]))
        return np.moveaxis(found.reshape(rows.shape), -1, axis)

    def cross_entropy(x: Array, target: Array, axis: int = -1) -> Array:
        shares = softmax(np.moveaxis(x, axis, -1)).reshape(-1, x.shape[axis])
        labels = np.arange(x.shape[axis])
        losses = [
            log_loss([t], p[None], labels=labels, normalize=False)
            for t, p in zip(target.ravel().tolist(), shares, strict=True)
        ]
        return np.array(losses).reshape(target.shape).astype(x.dtype)

    return Backend(
        name="sklearn",
        ops={"softmax": softmax, "cross_entropy": cross_entropy},
        dtypes=("float64", "float32"),
        contract=Contract(form="division"),
        versions={"scikit-learn": sklearn.__version__},
    )
