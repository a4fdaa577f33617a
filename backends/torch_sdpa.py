"""PyTorch's scaled_dot_product_attention on the CPU, one backend for each of its two kernels.

`torch-sdpa-math` is the unfused program, whose gradient is autograd's own: it makes the forward pass anew
and takes no lse. `torch-sdpa-flash` is the fused kernel; the op that autograd records gives its lse, and
takes one on the way back. Both align a causal mask top-left. Operands get the four axes that the fused
kernel wants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.ops import DTYPES
from softcert.backends.torch_axes import four_axes, gradient, like
from softcert.backends.types import Array, Backend, Kernel

#: Queries after which the flash kernel, on its way back, adds to gradients that are stored in the input's
#: format: 32, or more from 192 queries on (torch 2.13, aten/src/ATen/native/cpu/FlashAttentionKernel.cpp).
_GRADIENT_BLOCK = 32


def math_backend() -> Backend:
    """Backend `torch-sdpa-math`: scores, softmax and product one after the other."""
    import torch
    from torch.nn.attention import SDPBackend

    return Backend(
        name="torch-sdpa-math",
        ops={
            "attention": forward(SDPBackend.MATH),
            "attention_vjp": autograd(SDPBackend.MATH),
        },
        dtypes=DTYPES,
        contract=Contract(causal="top-left", rematerialized=False),
        versions={"torch": torch.__version__},
    )


def flash_backend() -> Backend:
    """Backend `torch-sdpa-flash`: the fused kernel, which holds no matrix of scores.

    Its lse of a query that sees no key is 0.
    """
    import torch
    from torch.nn.attention import SDPBackend

    return Backend(
        name="torch-sdpa-flash",
        ops={
            "attention": forward(SDPBackend.FLASH_ATTENTION),
            "attention_lse": _flash_with_lse,
            "attention_vjp": _flash_vjp,
        },
        dtypes=DTYPES,
        contract=Contract(
            causal="top-left", masked_lse="zero", gradient_block=_GRADIENT_BLOCK, memory="linear"
        ),
        versions={"torch": torch.__version__},
    )


def forward(kind: Any, device: str = "cpu") -> Kernel:
    """scaled_dot_product_attention on a device, held to one of its kernels."""
    from torch.nn.attention import sdpa_kernel

    attend = _sdpa()

    def attention(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Array:
        with sdpa_kernel(kind):
            out = attend(*(four_axes(a, device) for a in (q, k, v)), scale=scale, causal=causal, mask=mask)
        return like(out, q)

    return attention


def autograd(kind: Any, device: str = "cpu") -> Kernel:
    """Gradient of scaled_dot_product_attention as autograd gives it, the forward pass made anew."""
    from torch.nn.attention import sdpa_kernel

    attend = _sdpa()

    def attention_vjp(
        q: Array,
        k: Array,
        v: Array,
        out: Array,  # noqa: ARG001 - autograd takes neither
        lse: Array,  # noqa: ARG001 - see above
        dout: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        def attended(*tensors: Tensor) -> Tensor:
            with sdpa_kernel(kind):
                return attend(*tensors, scale=scale, causal=causal, mask=mask)

        dq, dk, dv = gradient(attended, (q, k, v), dout, partial(four_axes, device=device))
        return like(dq, q), like(dk, k), like(dv, v)

    return attention_vjp


def _sdpa() -> Callable[..., Tensor]:
    import torch

    def attend(
        q: Tensor, k: Tensor, v: Tensor, *, scale: float | None, causal: bool, mask: Array | None
    ) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if mask is None else _mask_axes(mask).to(q.device),
            is_causal=causal,
            scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )

    return attend


def _flash_with_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array]:
    import torch

    tensors = _with_equal_heads(*map(four_axes, (q, k, v)))
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # noqa: SLF001 - it alone gives lse
    out, lse = kernel(*tensors, 0.0, causal, attn_mask=_additive(mask, tensors[0]), scale=scale)
    return like(out, q), from_torch(lse).reshape(q.shape[:-1])


def _flash_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    dout: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> tuple[Array, Array, Array]:
    import torch

    result, cotangent = four_axes(out), four_axes(dout)
    tensors = _with_equal_heads(*map(four_axes, (q, k, v)))
    sums = four_axes(lse[..., np.newaxis])[..., 0]
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward  # noqa: SLF001 - takes an lse
    dq, dk, dv = kernel(
        cotangent, *tensors, result, sums, 0.0, causal, attn_mask=_additive(mask, tensors[0]), scale=scale
    )
    return like(dq, q), _gathered(dk, k), _gathered(dv, v)


def _mask_axes(mask: Array) -> Tensor:
    """A mask with the two or four axes that the fused kernel takes."""
    tensor = to_torch(mask)
    return tensor[(None,) * (4 - mask.ndim)] if mask.ndim == 3 else tensor


def _additive(mask: Array | None, q: Tensor) -> Tensor | None:
    """A mask as the fused kernel takes it, booleans turned as scaled_dot_product_attention turns them."""
    import torch

    if mask is None:
        return None
    tensor = _mask_axes(mask)
    if tensor.dtype is not torch.bool:
        return tensor
    return torch.zeros(tensor.shape, dtype=q.dtype).masked_fill(~tensor, -math.inf)


def _with_equal_heads(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """k and v repeated for every head of q, as scaled_dot_product_attention does before the fused kernel."""
    shared = q.shape[1] // k.shape[1]
    if shared == 1:
        return q, k, v
    return q, k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)


def _gathered(gradient: Tensor, shared: Array) -> Array:
    """A gradient summed over the heads that share a key, as autograd does for what was repeated."""
    heads = shared.shape[-3] if shared.ndim > 2 else 1
    if gradient.shape[1] != heads:
        gradient = gradient.unflatten(1, (heads, -1)).sum(dim=2)
    return like(gradient, shared)
