"""The kernels as operators of PyTorch, torch.ops.softcert: under autograd and under torch.compile.

An operator is opaque to a compiler, which is told the shapes of what it gives back.
"""

# PyTorch's decorators have no types where it is not installed.
# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from typing import Any

import torch

from softcert.backends.convert import Tensor
from softcert.backends.triton_ import attention as _attention
from softcert.backends.triton_ import softmax as _softmax
from softcert.backends.triton_.attention import Causal, Packing, Precision

_OPTIONS = (
    "Tensor? mask, Tensor? q_starts, Tensor? k_starts, int longest_q, int longest_k, "
    "float? scale, str causal, str precision"
)


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Softmax along an axis, differentiable once.

    Parameters
    ----------
    x : (..., n, ...), float32, float16 or bfloat16, on a GPU (or anywhere where Triton interprets).
    dim : the axis that is normalized.

    Returns
    -------
    The shape and dtype of `x`.
    """
    return torch.ops.softcert.softmax(x, dim)


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: Causal = "none",
    mask: Tensor | None = None,
    precision: Precision = "ieee",
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its scores, differentiable once by q, k and v through `out`.

    Parameters
    ----------
    q, k, v, scale, causal, mask, precision : those of `softcert.backends.triton_.attention.forward`.

    Returns
    -------
    out (B, H, L, Dv) and lse (B, H, L); no gradient flows through lse or into the mask.

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    out, lse = torch.ops.softcert.flash_attention(q, k, v, mask, None, None, 0, 0, scale, causal, precision)
    return out, lse


def flash_attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    packing: Packing,
    *,
    scale: float | None = None,
    causal: Causal = "none",
    precision: Precision = "ieee",
) -> tuple[Tensor, Tensor]:
    """Attention within each of several sequences that lie end to end, differentiable as `flash_attention` is.

    Parameters
    ----------
    q : (rows, H, D). k, v : (rows, G, D) and (rows, G, Dv).
    packing : where each sequence begins.
    scale, causal, precision : those of `flash_attention`; a causal mask is that of each sequence.

    Returns
    -------
    out (rows, H, Dv) and lse (H, rows).

    Raises
    ------
    ValueError : the shapes do not go together.
    """
    out, lse = torch.ops.softcert.flash_attention(
        *(tensor.transpose(0, 1)[None] for tensor in (q, k, v)),
        None,
        packing.q_starts,
        packing.k_starts,
        packing.queries,
        packing.keys,
        scale,
        causal,
        precision,
    )
    return out[0].transpose(0, 1), lse[0]


def _options(
    mask: Tensor | None,
    q_starts: Tensor | None,
    k_starts: Tensor | None,
    longest_q: int,
    longest_k: int,
    scale: float | None,
    causal: Any,
    precision: Any,
) -> dict[str, Any]:
    """Keywords of the launches."""
    packing = None
    if q_starts is not None and k_starts is not None:
        packing = Packing(q_starts, k_starts, longest_q, longest_k)
    return {"scale": scale, "causal": causal, "mask": mask, "precision": precision, "packing": packing}


@torch.library.custom_op("softcert::softmax", mutates_args=(), schema="(Tensor x, int dim) -> Tensor")
def _softmax_op(x: Tensor, dim: int) -> Tensor:
    return _softmax.forward("softmax", x, dim).contiguous()


@torch.library.custom_op(
    "softcert::softmax_backward", mutates_args=(), schema="(Tensor y, Tensor dy, int dim) -> Tensor"
)
def _softmax_backward_op(y: Tensor, dy: Tensor, dim: int) -> Tensor:
    return _softmax.backward(y, dy, dim).contiguous()


@torch.library.custom_op(
    "softcert::flash_attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_OPTIONS}) -> (Tensor, Tensor)",
)
def _attention_op(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return _attention.forward(q, k, v, **_options(*options))


@torch.library.custom_op(
    "softcert::flash_attention_backward",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor dout, "
    f"{_OPTIONS}) -> (Tensor, Tensor, Tensor)",
)
def _attention_backward_op(
    q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, dout: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return _attention.backward(q, k, v, out, lse, dout, **_options(*options))


@_softmax_op.register_fake
def _(x: Tensor, dim: int) -> Tensor:  # noqa: ARG001 - the operator's
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@_softmax_backward_op.register_fake
def _(y: Tensor, dy: Tensor, dim: int) -> Tensor:  # noqa: ARG001 - see above
    return torch.empty_like(y, memory_format=torch.contiguous_format)


@_attention_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:  # noqa: ARG001 - see above
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    return out, q.new_empty(q.shape[:-1], dtype=torch.float32)


@_attention_backward_op.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ARG001 - see above
    dq, dk, dv = (tensor.new_empty(tensor.shape) for tensor in (q, k, v))
    return dq, dk, dv


def _keep_softmax(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.dim = inputs[1]
    ctx.save_for_backward(output)


def _softmax_gradient(ctx: Any, dy: Tensor) -> tuple[Tensor, None]:
    return torch.ops.softcert.softmax_backward(*ctx.saved_tensors, dy, ctx.dim), None


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, q_starts, k_starts, *ctx.numbers = inputs
    ctx.save_for_backward(q, k, v, *output, mask, q_starts, k_starts)
    ctx.mark_non_differentiable(output[1])


def _attention_gradient(ctx: Any, dout: Tensor, dlse: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ARG001 - lse is not differentiable
    q, k, v, out, lse, *tensors = ctx.saved_tensors
    found = torch.ops.softcert.flash_attention_backward(q, k, v, out, lse, dout, *tensors, *ctx.numbers)
    return (*found, *[None] * (len(tensors) + len(ctx.numbers)))


_softmax_op.register_autograd(_softmax_gradient, setup_context=_keep_softmax)
_attention_op.register_autograd(_attention_gradient, setup_context=_keep_attention)
