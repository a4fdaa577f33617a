"""Attention on Hopper for tensors of PyTorch: descriptors, grids and launches of the Gluon kernels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from softcert.backends.triton_.hopper_configurations import (
    BACKWARD_HEAD_DIMS,
    CONSUMER_ROWS,
    ENABLE_FP_FUSION,
    FORWARD_HEAD_DIMS,
    NUM_WARPS,
    TILE_ROWS,
    backward_keys_constexprs,
    backward_queries_constexprs,
    block_layout,
    forward_constexprs,
)

if TYPE_CHECKING:
    import torch

#: Triton's names of the dtypes that the kernels know; keys are text, as PyTorch is imported late.
_ELEMENTS = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}

#: Options of every launch, those of the configurations.
_OPTIONS = {"num_warps": NUM_WARPS, "enable_fp_fusion": ENABLE_FP_FUSION}

#: A smaller scale is no normal number once in units of log 2.
_SMALLEST_SCALE = 2.0**-125

_LOG2_E = 1.4426950408889634


def supported(dtype: torch.dtype, head_dim: int, *, backward: bool = False) -> bool:
    """Whether there is a kernel for this dtype and head dimension."""
    return str(dtype) in _ELEMENTS and head_dim in (BACKWARD_HEAD_DIMS if backward else FORWARD_HEAD_DIMS)


def forward(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, causal_offset: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention's output and lse.

    Parameters
    ----------
    q : (B, H, L, D), contiguous, bfloat16 or float16, on a device of compute capability 9.0.
    k, v : (B, G, S, D), contiguous, G dividing H: head h of q attends to head h // (H / G). A hidden key or
        value that is not finite may still disturb queries near those that see it: 0 * inf is NaN.
    scale : of the scores, any number; one closer to 0 than 2**-125 counts as 0.
    causal_offset : query i sees key j iff j <= i + causal_offset: S - L aligns bottom right, 0 top left.
        None hides no key.

    Returns
    -------
    out : (B, H, L, D), the dtype of q; 0 for a query that sees no key.
    lse : (B, H, L) float32, natural logarithm; -inf for a query that sees no key.
    """
    import torch

    from softcert.backends.triton_.hopper_forward import attention_forward

    _check(q, k, v, backward=False)
    batch, heads, n_queries, head_dim = q.shape
    n_keys = k.shape[2]
    out = torch.empty_like(q)
    lse = torch.empty((batch, heads, n_queries), dtype=torch.float32, device=q.device)
    if not q.numel() or not n_keys:
        return out.zero_(), lse.fill_(-math.inf)
    q, scale = _with_positive_scale(q, scale)
    constexprs = forward_constexprs(head_dim, causal=causal_offset is not None)
    row_tiles = _ceil_div(n_queries, TILE_ROWS)
    n_tiles = batch * heads * row_tiles
    # Persistent programs, of which a multiprocessor holds one.
    n_programs = min(n_tiles, torch.cuda.get_device_properties(q.device).multi_processor_count)
    with torch.cuda.device(q.device):
        attention_forward[(n_programs,)](
            _descriptor(q, CONSUMER_ROWS),
            _descriptor(k, constexprs["BLOCK_KEYS"]),
            _descriptor(v, constexprs["BLOCK_KEYS"]),
            _descriptor(out, CONSUMER_ROWS),
            lse,
            scale,
            n_queries,
            n_keys,
            _offset(causal_offset, n_queries, n_keys),
            heads // k.shape[1],
            row_tiles,
            n_tiles,
            **constexprs,
            **_OPTIONS,
        )
    return out, lse


def backward(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    dout: torch.Tensor,
    scale: float,
    causal_offset: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of attention, deterministic.

    Parameters
    ----------
    q, k, v, scale, causal_offset : those of `forward`; the head dimension may be 64 or 128.
    out, lse : what `forward` gave for them.
    dout : (B, H, L, D), contiguous, the dtype of q: the gradient of the output.

    Returns
    -------
    dq, dk, dv : the shapes and dtypes of q, k and v; 0 where a query sees no key or a key is seen by none.
    """
    import torch

    from softcert.backends.triton_.hopper_backward_keys import attention_backward_keys
    from softcert.backends.triton_.hopper_backward_queries import attention_backward_queries

    _check(q, k, v, backward=True)
    _check_like(q, out=out, dout=dout)
    batch, heads, n_queries, head_dim = q.shape
    kv_heads, n_keys = k.shape[1:3]
    dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
    if not q.numel() or not k.numel():
        return dq.zero_(), dk.zero_(), dv.zero_()
    statistics = _statistics(out, lse, dout)
    padded_queries = statistics.shape[-1]
    offset = _offset(causal_offset, n_queries, n_keys)
    causal = causal_offset is not None
    by_key = backward_keys_constexprs(head_dim, causal=causal)
    by_query = backward_queries_constexprs(head_dim, causal=causal)
    with torch.cuda.device(q.device):
        attention_backward_keys[(batch * kv_heads, _ceil_div(n_keys, TILE_ROWS))](
            *(_descriptor(tensor, by_key["BLOCK_QUERIES"]) for tensor in (q, dout)),
            *(_descriptor(tensor, CONSUMER_ROWS) for tensor in (k, v, dk, dv)),
            statistics,
            scale,
            n_queries,
            padded_queries,
            offset,
            heads // kv_heads,
            **by_key,
            **_OPTIONS,
        )
        attention_backward_queries[(batch * heads, _ceil_div(n_queries, TILE_ROWS))](
            *(_descriptor(tensor, CONSUMER_ROWS) for tensor in (q, dout)),
            *(_descriptor(tensor, by_query["BLOCK_KEYS"]) for tensor in (k, v)),
            _descriptor(dq, CONSUMER_ROWS),
            statistics,
            scale,
            n_queries,
            padded_queries,
            n_keys,
            offset,
            heads // kv_heads,
            **by_query,
            **_OPTIONS,
        )
    return dq, dk, dv


def _statistics(out: torch.Tensor, lse: torch.Tensor, dout: torch.Tensor) -> torch.Tensor:
    """(B*H, 2, P) float32: lse in units of log 2, and delta; P is L rounded up to whole tiles."""
    import torch

    n_queries, _head_dim = out.shape[2:]
    padded = _ceil_div(n_queries, TILE_ROWS) * TILE_ROWS
    statistics = torch.zeros((out.shape[0] * out.shape[1], 2, padded), dtype=torch.float32, device=out.device)
    # A query past the last gets weights of 0.
    statistics[:, 0] = math.inf
    statistics[:, 0, :n_queries] = lse.reshape(-1, n_queries) * _LOG2_E
    products = out.float() * dout.float()
    statistics[:, 1, :n_queries] = products.sum(-1).reshape(-1, n_queries)
    return statistics


def _with_positive_scale(q: torch.Tensor, scale: float) -> tuple[torch.Tensor, float]:
    """Queries and a scale > 0 of the same scaled scores: the kernel hides and compares them unscaled."""
    if abs(scale) < _SMALLEST_SCALE:
        # The product, rather than zeros, so that what is not finite still gives NaN.
        return q * 0.0, 1.0
    return (-q, -scale) if scale < 0 else (q, scale)


def _offset(causal_offset: int | None, n_queries: int, n_keys: int) -> int:
    """The offset that the kernels take; without one, the least that hides no key.

    Offsets beyond -L and S hide all keys or none, and are brought back so that sums cannot overflow.
    """
    return n_keys if causal_offset is None else max(-n_queries, min(causal_offset, n_keys))


def _descriptor(tensor: torch.Tensor, rows: int) -> Any:
    """Descriptor of a contiguous (B, H, L, D) tensor as (B*H, L, D), in blocks of `rows` rows of one head.

    Heads have a coordinate of their own, so that rows past a head's last are read as zeros and not written.
    """
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

    length, head_dim = tensor.shape[2:]
    layout = block_layout(_ELEMENTS[str(tensor.dtype)], rows, head_dim)
    return TensorDescriptor.from_tensor(tensor.view(-1, length, head_dim), [1, rows, head_dim], layout)


def _ceil_div(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, backward: bool) -> None:
    """Raise ValueError for what the kernels would read wrongly or cannot run on."""
    import torch

    if q.device.type != "cuda" or torch.cuda.get_device_capability(q.device) != (9, 0):
        raise ValueError(f"the kernels need a device of compute capability 9.0, q is on {q.device}")
    batch, heads, _, head_dim = q.shape
    if not supported(q.dtype, head_dim, backward=backward):
        raise ValueError(f"no kernel for dtype={q.dtype}, head dimension {head_dim}")
    if k.shape[0] != batch or k.shape[3] != head_dim or not k.shape[1] or heads % k.shape[1]:
        raise ValueError(f"q of shape {tuple(q.shape)} cannot attend to k of shape {tuple(k.shape)}")
    _check_like(q, q=q)
    _check_like(k, k=k, v=v)
    if k.dtype != q.dtype or k.device != q.device:
        raise ValueError(f"q is {q.dtype} on {q.device}, k {k.dtype} on {k.device}")


def _check_like(model: torch.Tensor, **tensors: torch.Tensor) -> None:
    """Raise ValueError unless each tensor is contiguous and has the model's shape, dtype and device."""
    for name, tensor in tensors.items():
        kinds = [(one.shape, one.dtype, one.device) for one in (tensor, model)]
        if kinds[0] != kinds[1] or not tensor.is_contiguous():
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, strides {tensor.stride()}, on "
                f"{tensor.device}; needed: {model.dtype}, {tuple(model.shape)}, contiguous, on {model.device}"
            )
