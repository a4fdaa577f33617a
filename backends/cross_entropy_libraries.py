"""Cross-entropy of other libraries as kernels by op name, each called as its users call it.

Each function here imports its library and returns kernels with the signatures of `numpy_cross_entropy`; those
of scikit-learn have fewer keywords. Losses are not reduced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.gpu import DEVICE
from softcert.backends.jax_ import JaxArray, called
from softcert.backends.types import Array, Kernel
from softcert.errors import SubjectError

#: Keywords of a loss, its rows and targets: what of two axes and one is computed by a library of tensors.
RowLoss = Callable[..., Tensor]


def torch_losses(device: str = "cpu") -> Mapping[str, Kernel]:
    """torch.nn.functional.cross_entropy and its gradient by autograd; the z-loss from torch.logsumexp."""
    functional: Any = _library("torch", "pip install torch").nn.functional
    import torch

    def loss(
        rows: Tensor, target: Tensor, label_smoothing: float, ignore_index: int, z_loss: float
    ) -> Tensor:
        plain = functional.cross_entropy(
            rows, target, reduction="none", label_smoothing=label_smoothing, ignore_index=ignore_index
        )
        if not z_loss:
            return plain
        # Products with 0 would spread the NaN of an ignored row.
        return plain + torch.where(target == ignore_index, 0.0, z_loss * torch.logsumexp(rows, 1) ** 2)

    return _of_tensors(loss, device)


def liger_losses() -> Mapping[str, Kernel]:
    """liger_kernel.transformers.functional.liger_cross_entropy, on a GPU; z_loss is its lse_square_scale."""
    functional = _library("liger_kernel.transformers.functional", "pip install liger-kernel")

    def loss(
        rows: Tensor, target: Tensor, label_smoothing: float, ignore_index: int, z_loss: float
    ) -> Tensor:
        # It writes the gradient over the logits.
        return functional.liger_cross_entropy(
            rows.clone(),
            target,
            reduction="none",
            label_smoothing=label_smoothing,
            ignore_index=ignore_index,
            lse_square_scale=z_loss,
        )

    return _of_tensors(loss, DEVICE)


def jax_losses() -> Mapping[str, Kernel]:
    """Compositions of jax.nn.log_softmax and logsumexp under XLA, as JAX has no function of its own."""
    _library("jax", "pip install jax")
    forward = called(_jax_loss, "axis", "label_smoothing", "ignore_index", "z_loss")
    backward = called(_jax_gradient, "axis", "label_smoothing", "ignore_index", "z_loss")

    def cross_entropy(x: Array, target: Array, **options: Any) -> Array:
        result: Array = forward(x, target, **options)
        return result

    def cross_entropy_vjp(x: Array, target: Array, dloss: Array, **options: Any) -> Array:
        result: Array = backward(x, target, dloss, **options)
        return result

    return {"cross_entropy": cross_entropy, "cross_entropy_vjp": cross_entropy_vjp}


def sklearn_losses() -> Mapping[str, Kernel]:
    """sklearn.metrics.log_loss of scikit-learn's own softmax, row by row, without any option.

    It takes probabilities and clips them to [eps, 1 - eps] of their dtype, so that no loss passes 36.05 in
    float64 nor 15.95 in float32.
    """
    metrics = _library("sklearn.metrics", "pip install scikit-learn")
    extmath = import_module("sklearn.utils.extmath")

    def cross_entropy(x: Array, target: Array, *, axis: int = -1, ignore_index: int = -100) -> Array:
        rows = np.moveaxis(x, axis, -1)
        labels = np.arange(rows.shape[-1])
        shares = extmath.softmax(rows.reshape(-1, rows.shape[-1]))
        losses = [
            0.0 if t == ignore_index else metrics.log_loss([t], p[None], labels=labels, normalize=False)
            for t, p in zip(target.ravel().tolist(), shares, strict=True)
        ]
        return np.array(losses).reshape(target.shape).astype(x.dtype)

    return {"cross_entropy": cross_entropy}


def _library(module: str, install: str) -> Any:
    """A module.

    Raises
    ------
    SubjectError : it is not installed; the message says how to get it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise SubjectError(f"cross-entropy of {module} needs {error.name}: {install}") from error


def _of_tensors(loss: RowLoss, device: str) -> Mapping[str, Kernel]:
    """Kernels of a loss of rows in PyTorch, the gradient by autograd."""
    import torch

    def rows_of(x: Array, target: Array, axis: int) -> tuple[Tensor, Tensor]:
        logits = moved(to_torch(x), device).movedim(axis, -1)
        # -1 would not say how many rows there are, where they are empty.
        flat = logits.reshape(target.size, logits.shape[-1]).contiguous()
        return flat, moved(torch.from_numpy(np.ascontiguousarray(target, np.int64)).reshape(-1), device)

    def cross_entropy(
        x: Array,
        target: Array,
        *,
        axis: int = -1,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        z_loss: float = 0.0,
    ) -> Array:
        losses = loss(*rows_of(x, target, axis), label_smoothing, ignore_index, z_loss)
        return from_torch(losses).reshape(target.shape)

    def cross_entropy_vjp(
        x: Array,
        target: Array,
        dloss: Array,
        *,
        axis: int = -1,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        z_loss: float = 0.0,
    ) -> Array:
        flat, classes = rows_of(x, target, axis)
        leaf = flat.detach().requires_grad_()
        losses = loss(leaf, classes, label_smoothing, ignore_index, z_loss)
        cotangents = moved(to_torch(np.ascontiguousarray(dloss)), device).reshape(-1)
        (slopes,) = torch.autograd.grad(losses, leaf, cotangents)
        shape = (*target.shape, flat.shape[-1])
        return np.moveaxis(from_torch(slopes).reshape(shape), -1, axis)

    return {"cross_entropy": cross_entropy, "cross_entropy_vjp": cross_entropy_vjp}


def _jax_loss(
    x: JaxArray,
    target: JaxArray,
    *,
    axis: int = -1,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    z_loss: float = 0.0,
) -> JaxArray:
    import jax
    import jax.numpy as jnp

    ignored = target == ignore_index
    rows = jnp.moveaxis(x, axis, -1)
    log_p = jax.nn.log_softmax(rows)
    classes = jnp.where(ignored, 0, target)[..., None]
    loss = -(1.0 - label_smoothing) * jnp.take_along_axis(log_p, classes, axis=-1)[..., 0]
    if label_smoothing:
        loss -= label_smoothing * log_p.mean(axis=-1)
    if z_loss:
        loss += z_loss * jax.nn.logsumexp(rows, axis=-1) ** 2
    return jnp.where(ignored, 0.0, loss).astype(x.dtype)


def _jax_gradient(x: JaxArray, target: JaxArray, dloss: JaxArray, **options: Any) -> JaxArray:
    import jax

    return jax.vjp(lambda logits: _jax_loss(logits, target, **options), x)[1](dloss)[0]
