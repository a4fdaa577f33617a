"""Operands of attention as PyTorch's tensors with the four axes that kernels want, and results back."""

from __future__ import annotations

from softcert.backends.convert import Tensor, from_torch, to_torch
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
    return (tensor if tensor.stride(-1) == 1 else tensor.contiguous()).to(device)


def heads_behind(array: Array, device: str) -> Tensor:
    """(..., n, m) as a tensor (B, n, H, m) on a device."""
    return four_axes(array, device).transpose(1, 2)


def like(tensor: Tensor, array: Array) -> Array:
    """(B, H, n, m) as an array with the leading axes of another."""
    return from_torch(tensor).reshape(*array.shape[:-2], *tensor.shape[-2:])
