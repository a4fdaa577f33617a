"""PyTorch's cross-entropy and its gradient by autograd, called as users call them; losses are not reduced."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.ops import ROW_OPTIONS
from softcert.backends.types import Array, Kernel

#: Loss of rows of logits and their targets; all options of `cross_entropy` are given by name.
RowLoss = Callable[..., Tensor]


def cross_entropy_ops(device: str) -> dict[str, Kernel]:
    """torch.nn.functional.cross_entropy and its gradient on a device; the z-loss from torch.logsumexp."""
    import torch

    def loss(
        rows: Tensor, target: Tensor, *, label_smoothing: float, ignore_index: int, z_loss: float
    ) -> Tensor:
        plain = torch.nn.functional.cross_entropy(
            rows, target, reduction="none", label_smoothing=label_smoothing, ignore_index=ignore_index
        )
        if not z_loss:
            return plain
        # Products with 0 would spread the NaN of an ignored row.
        return plain + torch.where(target == ignore_index, 0.0, z_loss * torch.logsumexp(rows, 1) ** 2)

    return row_losses(loss, device)


def row_losses(loss: RowLoss, device: str) -> dict[str, Kernel]:
    """Kernels of a loss of rows in PyTorch, on a device, the gradient by autograd."""
    import torch

    usual = ROW_OPTIONS["cross_entropy"]

    def rows_of(x: Array, target: Array, axis: int) -> tuple[Tensor, Tensor]:
        logits = moved(to_torch(x), device).movedim(axis, -1)
        # -1 would not say how many rows there are, where they are empty.
        flat = logits.reshape(target.size, logits.shape[-1]).contiguous()
        return flat, moved(torch.from_numpy(np.ascontiguousarray(target, np.int64)).reshape(-1), device)

    def cross_entropy(x: Array, target: Array, *, axis: int = -1, **options: float) -> Array:
        losses = loss(*rows_of(x, target, axis), **{**usual, **options})
        return from_torch(losses).reshape(target.shape)

    def cross_entropy_vjp(
        x: Array, target: Array, dloss: Array, *, axis: int = -1, **options: float
    ) -> Array:
        flat, classes = rows_of(x, target, axis)
        leaf = flat.detach().requires_grad_()
        cotangents = moved(to_torch(np.ascontiguousarray(dloss)), device).reshape(-1)
        (slopes,) = torch.autograd.grad(loss(leaf, classes, **{**usual, **options}), leaf, cotangents)
        shape = (*target.shape, flat.shape[-1])
        return np.moveaxis(from_torch(slopes).reshape(shape), -1, axis)

    return {"cross_entropy": cross_entropy, "cross_entropy_vjp": cross_entropy_vjp}
