"""Ops of attention from a kernel of PyTorch's tensors on a GPU whose heads stand behind the queries.

Such a kernel is `attend(q, k, v, scale=..., causal=...)`, of (B, L, H, D) and (B, S, Hk, D), without a mask.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from softcert.backends.convert import Tensor
from softcert.backends.gpu import DEVICE
from softcert.backends.torch_axes import four_axes, gradient, like
from softcert.backends.types import Array, Kernel


def laid(array: Array) -> Tensor:
    """(..., n, m) as a tensor (B, n, H, m) on the GPU."""
    return four_axes(array, DEVICE).transpose(1, 2)


def back(tensor: Tensor, array: Array) -> Array:
    """(B, n, H, m) as an array with the leading axes of another."""
    return like(tensor.transpose(1, 2), array)


def attention_of(attend: Callable[..., Tensor]) -> Kernel:
    """The op `attention`."""

    def attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False) -> Array:
        return back(attend(*map(laid, (q, k, v)), scale=scale, causal=causal), q)

    return attention


def gradient_of(attend: Callable[..., Tensor]) -> Kernel:
    """The op `attention_vjp`, as autograd gives it."""

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
    ) -> tuple[Array, Array, Array]:
        found = gradient(partial(attend, scale=scale, causal=causal), (q, k, v), dout, laid)
        dq, dk, dv = map(back, found, (q, k, v))
        return dq, dk, dv

    return attention_vjp
