"""Backends `triton`, on a GPU, and `triton-interpreter`, the same kernels run by Triton's interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.gpu import DEVICE, start
from softcert.backends.torch_axes import like
from softcert.backends.triton_.axes import FORMATS, four_axes
from softcert.backends.triton_.interpreter import interpret_kernels
from softcert.backends.types import Array, Backend, Kernel


def triton_backend() -> Backend:
    """Backend `triton`: the portable kernels of this package, products of float32 unrounded."""
    start()
    return _backend("triton", DEVICE)


def interpreter_backend() -> Backend:
    """Backend `triton-interpreter`: the same, in NumPy, on the CPU.

    Raises
    ------
    SubjectError : Triton has been imported for the compiler in this process.
    """
    interpret_kernels()
    return _backend("triton-interpreter", "cpu")


def _backend(name: str, device: str) -> Backend:
    import torch
    import triton

    return Backend(
        name=name,
        ops={**_softmax_ops(device), **_attention_ops(device)},
        dtypes=FORMATS,
        # A GPU's power of two flushes what the interpreter's does not.
        contract=Contract(flush_subnormals=device == DEVICE, batch_invariant=True, memory="linear"),
        versions={"triton": triton.__version__, "torch": torch.__version__},
    )


def _softmax_ops(device: str) -> Mapping[str, Kernel]:
    from softcert.backends.triton_ import softmax as kernels

    def there(array: Array) -> Tensor:
        return moved(to_torch(array), device)

    def softmax(x: Array, axis: int = -1) -> Array:
        return from_torch(kernels.forward("softmax", there(x), axis))

    def log_softmax(x: Array, axis: int = -1) -> Array:
        return from_torch(kernels.forward("log_softmax", there(x), axis))

    def logsumexp(x: Array, axis: int = -1) -> Array:
        return from_torch(kernels.forward("logsumexp", there(x), axis))

    def softmax_vjp(y: Array, dy: Array, axis: int = -1) -> Array:
        return from_torch(kernels.backward(there(y), there(dy), axis))

    return {
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": logsumexp,
        "softmax_vjp": softmax_vjp,
        # The Jacobian diag(y) - y y^T is symmetric, so the backward kernel is the forward tangent too.
        "softmax_jvp": softmax_vjp,
    }


def _attention_ops(device: str) -> Mapping[str, Kernel]:
    from softcert.backends.triton_ import attention as kernels

    def options(scale: float | None, causal: bool, mask: Array | None, q: Array, k: Array) -> dict[str, Any]:
        return {
            "scale": scale,
            "causal": "bottom-right" if causal else "none",
            "mask": None if mask is None else _mask(mask, q, k, device),
        }

    def attention_lse(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> tuple[Array, Array]:
        given = (four_axes(a, device) for a in (q, k, v))
        out, lse = kernels.forward(*given, **options(scale, causal, mask, q, k))
        return like(out, q), from_torch(lse).reshape(q.shape[:-1])

    def attention(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Array:
        return attention_lse(q, k, v, scale=scale, causal=causal, mask=mask)[0]

    def attention_vjp(
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
        queries, keys, values, result, slopes = (four_axes(a, device) for a in (q, k, v, out, dout))
        logs = four_axes(lse[..., None], device)[..., 0]
        given = (queries, keys, values, result, logs, slopes)
        dq, dk, dv = kernels.backward(*given, **options(scale, causal, mask, q, k))
        return like(dq, q), like(dk, k), like(dv, v)

    return {"attention": attention, "attention_lse": attention_lse, "attention_vjp": attention_vjp}


def _mask(mask: Array, q: Array, k: Array, device: str) -> Tensor:
    """A mask with four axes, broadcast only where batches have several axes, which become one."""
    if q.ndim <= 4:
        return to_torch(mask[(None,) * (4 - mask.ndim)]).to(device)
    return four_axes(np.broadcast_to(mask, (*q.shape[:-1], k.shape[-2])), device)
