"""PyTorch on a GPU: its softmax kernels, and each kernel of scaled_dot_product_attention.

The same calls as on the CPU. What a kernel does not take, a mask, other widths of values or a format, it
refuses in words of its own. A causal mask is aligned top-left. The gradients of the fused kernels are added
up in an order that changes unless one asks for another, which is not asked here: none promises determinism.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.gpu import DEVICE, start
from softcert.backends.ops import DTYPES
from softcert.backends.torch_ import softmax_ops
from softcert.backends.torch_losses import cross_entropy_ops
from softcert.backends.torch_sdpa import autograd, forward
from softcert.backends.types import Backend


def cuda_backend() -> Backend:
    """Backend `torch-cuda`: the kernels of softmax and of cross-entropy, forward and backward."""
    import torch

    start()
    return Backend(
        name="torch-cuda",
        ops={**softmax_ops(DEVICE), **cross_entropy_ops(DEVICE)},
        dtypes=DTYPES,
        contract=Contract(),
        versions={"torch": torch.__version__},
    )


def math_backend() -> Backend:
    """Backend `torch-cuda-sdpa-math`: scores, softmax and product one after the other."""
    return _sdpa("math", "MATH", Contract(causal="top-left", rematerialized=False))


def flash_backend() -> Backend:
    """Backend `torch-cuda-sdpa-flash`: FlashAttention-2 as PyTorch ships it."""
    return _sdpa("flash", "FLASH_ATTENTION", _FUSED, ("float16", "bfloat16"))


def efficient_backend() -> Backend:
    """Backend `torch-cuda-sdpa-efficient`: the kernel that came from xFormers."""
    return _sdpa("efficient", "EFFICIENT_ATTENTION", _FUSED, ("float32", "float16", "bfloat16"))


def cudnn_backend() -> Backend:
    """Backend `torch-cuda-sdpa-cudnn`: cuDNN's fused attention."""
    return _sdpa("cudnn", "CUDNN_ATTENTION", _FUSED, ("float16", "bfloat16"))


_FUSED = Contract(causal="top-left", rematerialized=False, deterministic=False, memory="linear")


def _sdpa(name: str, kind: str, contract: Contract, dtypes: tuple[str, ...] = DTYPES) -> Backend:
    import torch
    from torch.nn.attention import SDPBackend

    start()
    kernel = getattr(SDPBackend, kind)
    return Backend(
        name=f"torch-cuda-sdpa-{name}",
        ops={"attention": forward(kernel, DEVICE), "attention_vjp": autograd(kernel, DEVICE)},
        dtypes=dtypes,
        contract=contract,
        versions={"torch": torch.__version__},
    )
