"""PyTorch's FlexAttention: a causal mask, and masks of either kind, by functions that the kernel is given.

Without torch.compile, as on the CPU here, it computes every score at once, in float32 for 16-bit inputs.
Compiled for the CPU it is a C++ kernel for each kind of call, without an lse, which takes a compiler and a
quarter of a minute, so that no check of many shapes would end; neither way has a gradient (pytorch#169224).
On a GPU it is compiled to Triton kernels, forward and backward. What they do not take they refuse in words of
their own.

The functions see the indices of a query and a key, so that the causal mask is aligned bottom-right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.convert import NotAnArrayError, Tensor, from_torch, to_torch
from softcert.backends.gpu import DEVICE, start
from softcert.backends.ops import DTYPES
from softcert.backends.torch_axes import four_axes, gradient, like
from softcert.backends.types import Array, Backend, Kernel

#: flex_attention, compiled or not: out, and beside it what an AuxRequest asks for.
Flex: TypeAlias = Callable[..., Any]
#: More kinds of calls than a check makes: beyond the limit a compiled function is called as it was written.
_KINDS_OF_CALLS = 1 << 16


def flex_backend() -> Backend:
    """Backend `torch-flex`: on the CPU, every score at once; forward alone, for it has no gradient there."""
    import torch

    return Backend(
        name="torch-flex",
        ops=_forward(_uncompiled(), "cpu"),
        dtypes=DTYPES,
        contract=Contract(),
        versions={"torch": torch.__version__},
    )


def cuda_flex_backend() -> Backend:
    """Backend `torch-cuda-flex`: compiled to Triton kernels, its gradient as autograd gives it."""
    import torch

    start()
    flex = _compiled()
    return Backend(
        name="torch-cuda-flex",
        ops={**_forward(flex, DEVICE), "attention_vjp": _backward(flex, DEVICE)},
        dtypes=("float32", "float16", "bfloat16"),
        contract=Contract(rematerialized=False, memory="linear"),
        versions={"torch": torch.__version__},
    )


def _uncompiled() -> Flex:
    from torch.nn.attention.flex_attention import flex_attention

    def flex(*qkv: Tensor, **options: Any) -> Any:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "flex_attention called without torch.compile", UserWarning)
            return flex_attention(*qkv, **options)

    return flex


def _compiled() -> Flex:
    import torch
    from torch.nn.attention.flex_attention import flex_attention

    compiled = torch.compile(flex_attention, fullgraph=True)

    def flex(*qkv: Tensor, **options: Any) -> Any:
        with torch._dynamo.config.patch(  # noqa: SLF001 - its documented way to set a limit for some calls
            recompile_limit=_KINDS_OF_CALLS, accumulated_recompile_limit=_KINDS_OF_CALLS
        ):
            return compiled(*qkv, **options)

    return flex


def _forward(flex: Flex, device: str) -> dict[str, Kernel]:
    """The ops `attention` and `attention_lse`."""
    from torch.nn.attention.flex_attention import AuxRequest

    def attention(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Array:
        tensors = (four_axes(a, device) for a in (q, k, v))
        return like(_attend(flex, *tensors, scale=scale, causal=causal, mask=mask), q)

    def attention_lse(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        tensors = (four_axes(a, device) for a in (q, k, v))
        asking = partial(flex, return_aux=AuxRequest(lse=True))
        out, aux = _attend(asking, *tensors, scale=scale, causal=causal, mask=mask)
        if aux.lse is None:
            raise NotAnArrayError("flex_attention gave None for the lse that it was asked for")
        return like(out, q), from_torch(aux.lse).reshape(q.shape[:-1])

    return {"attention": attention, "attention_lse": attention_lse}


def _backward(flex: Flex, device: str) -> Kernel:
    """The op `attention_vjp`, the forward pass made anew."""

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
        def attended(*tensors: Tensor) -> Any:
            return _attend(flex, *tensors, scale=scale, causal=causal, mask=mask)

        dq, dk, dv = gradient(attended, (q, k, v), dout, partial(four_axes, device=device))
        return like(dq, q), like(dk, k), like(dv, v)

    return attention_vjp


def _attend(
    flex: Flex,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: bool = False,
    mask: Array | None = None,
) -> Any:
    """What flex_attention gives of tensors with four axes."""
    shape = (*q.shape[:3], k.shape[2])
    full = None if mask is None else _spread(mask, shape, q.device)
    additive = mask is not None and mask.dtype != np.bool_
    return flex(
        q,
        k,
        v,
        score_mod=_adding(full) if additive else None,
        block_mask=_hiding(None if additive else full, causal, shape, q.device),
        scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _spread(mask: Array, shape: tuple[int, ...], device: Any) -> Tensor:
    """A mask as a tensor (B, H, L, S)."""
    return to_torch(mask)[(None,) * (4 - mask.ndim)].expand(shape).to(device)


def _adding(bias: Tensor) -> Callable[..., Tensor]:
    """What adds a mask of numbers to a score."""

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + bias[b, h, i, j]

    return score_mod


def _hiding(shown: Tensor | None, causal: bool, shape: tuple[int, ...], device: Any) -> Any:
    """The BlockMask of a mask of booleans and a causal one, None where every key is seen."""
    import torch
    from torch.nn.attention.flex_attention import create_block_mask

    batch, heads, queries, keys = shape
    # a tensor, since kernels are compiled anew for each number that a function holds
    offset = torch.tensor(keys - queries, device=device)

    def before(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:  # noqa: ARG001 - given to every mask_mod
        return j <= i + offset

    if shown is None:
        return create_block_mask(before, None, None, queries, keys, device=device) if causal else None
    seen: Tensor = shown

    def among(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return seen[b, h, i, j]

    def both(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return seen[b, h, i, j] & (j <= i + offset)

    return create_block_mask(both if causal else among, batch, heads, queries, keys, device=device)
