"""Liger's Triton softmax, which normalizes the last axis; other axes are moved there and back."""

from __future__ import annotations

from importlib.metadata import version

from softcert.backends.contract import Contract
from softcert.backends.convert import from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.gpu import DEVICE, start
from softcert.backends.types import Array, Backend


def liger_backend() -> Backend:
    """Backend `liger`: liger_kernel.transformers.functional.liger_softmax."""
    import torch
    from liger_kernel.transformers.functional import liger_softmax

    start()

    def softmax(x: Array, axis: int = -1) -> Array:
        rows = moved(to_torch(x), DEVICE).movedim(axis, -1).contiguous()
        return from_torch(liger_softmax(rows).movedim(-1, axis))

    return Backend(
        name="liger",
        ops={"softmax": softmax},
        dtypes=("float32", "float16", "bfloat16"),
        contract=Contract(),
        versions={"liger-kernel": version("liger-kernel"), "torch": torch.__version__},
    )
