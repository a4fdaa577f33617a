"""Liger's Triton softmax, which normalizes the last axis, and its cross-entropy, fused with the gradient.

Other axes are moved there and back. `z_loss` is what Liger calls lse_square_scale.
"""

from __future__ import annotations

from importlib.metadata import version

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.gpu import DEVICE, start
from softcert.backends.torch_losses import row_losses
from softcert.backends.types import Array, Backend


def liger_backend() -> Backend:
    """Backend `liger`: liger_softmax and liger_cross_entropy of liger_kernel.transformers.functional."""
    import torch
    from liger_kernel.transformers.functional import liger_cross_entropy, liger_softmax

    start()

    def softmax(x: Array, axis: int = -1) -> Array:
        rows = moved(to_torch(x), DEVICE).movedim(axis, -1).contiguous()
        return from_torch(liger_softmax(rows).movedim(-1, axis))

    def loss(
        rows: Tensor, target: Tensor, *, label_smoothing: float, ignore_index: int, z_loss: float
    ) -> Tensor:
        # It writes the gradient over the logits.
        return liger_cross_entropy(
            rows.clone(),
            target,
            reduction="none",
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            lse_square_scale=z_loss,
        )

    return Backend(
        name="liger",
        ops={"softmax": softmax, **row_losses(loss, DEVICE)},
        dtypes=("float32", "float16", "bfloat16"),
        contract=Contract(),
        versions={"liger-kernel": version("liger-kernel"), "torch": torch.__version__},
    )
