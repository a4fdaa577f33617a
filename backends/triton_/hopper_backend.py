"""Backend `triton-hopper`: the Gluon kernels for GPUs of compute capability 9.0."""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch
from softcert.backends.gpu import DEVICE, start
from softcert.backends.torch_axes import like
from softcert.backends.triton_.axes import four_axes, scale_of
from softcert.backends.triton_.hopper_configurations import BACKWARD_HEAD_DIMS, FORWARD_HEAD_DIMS
from softcert.backends.triton_.hopper_launch import backward, forward
from softcert.backends.types import Array, Backend


def hopper_backend() -> Backend:
    """Backend `triton-hopper`: attention without a mask, heads filled up with zeros to a width there is."""
    import torch
    import triton

    start()
    return Backend(
        name="triton-hopper",
        ops={"attention": _attention, "attention_lse": _attention_lse, "attention_vjp": _attention_vjp},
        dtypes=("float16", "bfloat16"),
        contract=Contract(flush_subnormals=True, batch_invariant=True, memory="linear"),
        versions={"triton": triton.__version__, "torch": torch.__version__},
    )


def _attention_lse(
    q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False
) -> tuple[Array, Array]:
    width = _width(FORWARD_HEAD_DIMS, q, v)
    queries, keys, values = (_filled(a, width) for a in (q, k, v))
    out, lse = forward(queries, keys, values, scale_of(scale, q.shape[-1]), _offset(causal, q, k))
    return like(out[..., : v.shape[-1]], q), from_torch(lse).reshape(q.shape[:-1])


def _attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False) -> Array:
    return _attention_lse(q, k, v, scale=scale, causal=causal)[0]


def _attention_vjp(
    q: Array,
    k: Array,
    v: Array,
    out: Array,
    lse: Array,
    dout: Array,
    *,
    scale: float | None = None,
    causal: bool = False,
) -> tuple[Array, Array, Array]:
    width = _width(BACKWARD_HEAD_DIMS, q, v)
    queries, keys, values, result, slopes = (_filled(a, width) for a in (q, k, v, out, dout))
    logs = four_axes(lse[..., None], DEVICE)[..., 0]
    found = backward(
        queries, keys, values, result, logs, slopes, scale_of(scale, q.shape[-1]), _offset(causal, q, k)
    )
    dq, dk, dv = (like(t[..., : a.shape[-1]], a) for t, a in zip(found, (q, k, v), strict=True))
    return dq, dk, dv


def _width(widths: tuple[int, ...], q: Array, v: Array) -> int:
    """The least width that holds both kinds of rows.

    Raises
    ------
    ValueError : they are wider than the kernels.
    """
    features = max(q.shape[-1], v.shape[-1])
    if features > widths[-1]:
        raise ValueError(f"the kernels take heads of at most {widths[-1]} features, not {features}")
    return next(width for width in widths if width >= features)


def _filled(array: Array, width: int) -> Tensor:
    """(..., H, n, m) as a contiguous tensor (B, H, n, width), zeros behind; they change no product."""
    import torch

    tensor = four_axes(array, DEVICE)
    return torch.nn.functional.pad(tensor, (0, width - array.shape[-1])).contiguous()


def _offset(causal: bool, q: Array, k: Array) -> int | None:
    return k.shape[-2] - q.shape[-2] if causal else None
