"""scikit-learn's softmax, sklearn.utils.extmath.softmax, which multinomial classifiers predict with.

It takes a matrix and normalizes its rows, so that other axes are moved there and back. As SciPy's does, it
computes in the input's own format, in which NumPy adds float16 rows that lie apart in memory; it is declared
for float64 and float32, the formats that scikit-learn's estimators keep.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.types import Array, Backend


def sklearn_backend() -> Backend:
    """Backend `sklearn`: the one function, called with its default of copying."""
    import sklearn
    from sklearn.utils import extmath

    def softmax(x: Array, axis: int = -1) -> Array:
        rows = np.moveaxis(x, axis, -1)
        found = extmath.softmax(rows.reshape(-1, rows.shape[-1]))
        return np.moveaxis(found.reshape(rows.shape), -1, axis)

    return Backend(
        name="sklearn",
        ops={"softmax": softmax},
        dtypes=("float64", "float32"),
        contract=Contract(form="division"),
        versions={"scikit-learn": sklearn.__version__},
    )
