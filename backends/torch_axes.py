"""Operands of attention as PyTorch's tensors with the four axes that kernels want; results and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.types import Array

#: Batches, heads, queries or keys, features.
_AXES = 4


def four_axes(array: Array, device: str = "cpu") -> Tensor:
    """(..., n, m) as a tensor (B, H, n, m) on a device, whose rows have no gaps, which kernels rely on.

    Raises
    ------
    ValueError : the array has more than one axis of batches.
    """
    if array.ndim > _AXES:
        raise ValueError(f"the kernel takes one axis of batches, not {array.ndim - 3}")
    tensor = to_torch(array)[(None,) * (_AXES - array.ndim)]
    return moved(tensor if tensor.stride(-1) == 1 else tensor.contiguous(), device)


def like(tensor: Tensor, array: Array) -> Array:
    """(B, H, n, m) as an array with the leading axes of another."""
    return from_torch(tensor).reshape(*array.shape[:-2], *tensor.shape[-2:])


def gradient(
    attend: Callable[..., Tensor], operands: Sequence[Array], dout: Array, lay: Callable[[Array], Tensor]
) -> tuple[Tensor, ...]:
    """Gradient of `attend` by autograd, the forward pass made anew; `lay` makes a tensor of an array."""
    import torch

    leaves = [lay(a).detach().requires_grad_() for a in operands]
    return tuple(torch.autograd.grad(attend(*leaves), leaves, lay(dout)))
