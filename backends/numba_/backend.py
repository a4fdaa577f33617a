"""Backend `numba`, with its contract."""

from __future__ import annotations

import numba

from softcert.backends.contract import Contract
from softcert.backends.numba_ import attention, cross_entropy, hierarchical, softmax
from softcert.backends.ops import DTYPES
from softcert.backends.trees import of_one_leaf, slopes_of_one_leaf
from softcert.backends.types import Backend


def numba_backend() -> Backend:
    """Backend `numba`: the kernels of this package, in every dtype."""
    return Backend(
        name="numba",
        ops={
            "softmax": softmax.softmax,
            "log_softmax": softmax.log_softmax,
            "logsumexp": softmax.logsumexp,
            "softmax_vjp": softmax.softmax_vjp,
            "softmax_jvp": softmax.softmax_jvp,
            "sparsemax": softmax.sparsemax,
            "sparsemax_vjp": softmax.sparsemax_vjp,
            "entmax": softmax.entmax,
            "entmax_vjp": softmax.entmax_vjp,
            "cross_entropy": cross_entropy.cross_entropy,
            "cross_entropy_vjp": cross_entropy.cross_entropy_vjp,
            "hierarchical_log_softmax": of_one_leaf(hierarchical.hierarchical_log_softmax),
            "hierarchical_log_softmax_vjp": slopes_of_one_leaf(hierarchical.hierarchical_log_softmax_vjp),
            "attention": attention.attention,
            "attention_lse": attention.attention_lse,
            "attention_vjp": attention.attention_vjp,
        },
        dtypes=DTYPES,
        contract=Contract(exp_ulp=1.0, form="division", batch_invariant=True, memory="linear"),
        versions={"numba": numba.__version__},
    )
