"""JAX's softmax, log_softmax, logsumexp and dot_product_attention, compiled by XLA for the CPU.

64-bit formats are switched on around each call, not for the process. JAX differentiates programs and has no
function of a softmax's output, so softmax_vjp is absent; its attention_vjp makes the forward pass anew.
dot_product_attention takes the axes (B, L, H, D), truth values as `mask` and numbers as `bias`, and gives the
values as many columns as the keys have.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES
from softcert.backends.types import Array, Backend, Kernel

#: jax.Array, whose type is not known where JAX is not installed.
JaxArray: TypeAlias = Any


def jax_backend() -> Backend:
    """Backend `jax`: the functions of jax.nn, each compiled as a whole.

    A hidden score becomes -0.7 times the largest float32, so that a query from which a truth value hides
    every key gets the mean of all values and an lse of that size; one that a bias of -inf empties gets NaN.
    XLA lets the processor flush subnormals while its programs run.
    """
    import jax

    return Backend(
        name="jax",
        ops={
            "softmax": _along_axis(jax.nn.softmax),
            "log_softmax": _along_axis(jax.nn.log_softmax),
            "logsumexp": _along_axis(jax.nn.logsumexp),
            "attention": _attention(residual=False),
            "attention_lse": _attention(residual=True),
            "attention_vjp": _attention_vjp(),
        },
        dtypes=DTYPES,
        contract=Contract(
            flush_subnormals=True,
            causal="top-left",
            masked_row="any",
            masked_lse="any",
            rematerialized=False,
        ),
        versions={"jax": jax.__version__},
    )


def called(function: Callable[..., Any], *static: str, half: bool = True) -> Callable[..., Any]:
    """The function of NumPy arrays that gives arrays, in 64 bits where they are.

    Parameters
    ----------
    static : names of arguments for whose values it is compiled anew.
    half : whether XLA compiles it for 16-bit formats.
    """
    import jax

    compiled = jax.jit(function, static_argnames=static)

    def call(first: Array, *operands: Array | None, **options: Any) -> Any:
        chosen = compiled if half or first.dtype.itemsize > 2 else function
        with jax.enable_x64(True):  # noqa: FBT003 - its one parameter
            return jax.tree.map(np.asarray, chosen(first, *operands, **options))

    return call


def _along_axis(function: Callable[..., JaxArray]) -> Kernel:
    call = called(function, "axis")

    def kernel(x: Array, axis: int = -1) -> Array:
        result: Array = call(x, axis=axis)
        return result

    return kernel


def _attention(*, residual: bool) -> Kernel:
    # 16-bit products summed in float32 are not compiled for the CPU, those of float16 at all and of bfloat16
    # for one query and one key: outside jit JAX finds another way
    call = called(_dot_product_attention, "scale", "causal", "residual", half=False)

    def attention(
        q: Array,
        k: Array,
        v: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Any:
        return call(q, k, v, mask, scale=scale, causal=causal, residual=residual)

    return attention


def _attention_vjp() -> Kernel:
    call = called(_gradient, "scale", "causal", half=False)

    def attention_vjp(
        q: Array,
        k: Array,
        v: Array,
        out: Array,  # noqa: ARG001 - JAX takes neither
        lse: Array,  # noqa: ARG001 - see above
        dout: Array,
        *,
        scale: float | None = None,
        causal: bool = False,
        mask: Array | None = None,
    ) -> Any:
        return call(q, k, v, dout, mask, scale=scale, causal=causal)

    return attention_vjp


def _gradient(
    q: JaxArray,
    k: JaxArray,
    v: JaxArray,
    dout: JaxArray,
    mask: JaxArray | None,
    *,
    scale: float | None,
    causal: bool,
) -> Any:
    import jax

    def forward(q: JaxArray, k: JaxArray, v: JaxArray) -> JaxArray:
        return _dot_product_attention(q, k, v, mask, scale=scale, causal=causal, residual=False)

    return jax.vjp(forward, q, k, v)[1](dout)


def _dot_product_attention(
    q: JaxArray,
    k: JaxArray,
    v: JaxArray,
    mask: JaxArray | None,
    *,
    scale: float | None,
    causal: bool,
    residual: bool,
) -> Any:
    """jax.nn.dot_product_attention on (..., H, L, D), with the lse as (..., H, L) where it is asked for."""
    import jax

    if q.ndim > 4:
        raise ValueError(f"dot_product_attention takes one axis of batches, not {q.ndim - 3}")
    given = None if mask is None else mask[(None,) * (4 - mask.ndim)]
    boolean = given is not None and given.dtype == bool
    found = jax.nn.dot_product_attention(
        *(a[(None,) * (4 - a.ndim)].swapaxes(1, 2) for a in (q, k, v)),
        bias=None if boolean else given,
        mask=given if boolean else None,
        scale=scale,
        is_causal=causal,
        implementation="xla",
        return_residual=residual,
    )
    out, *rest = found if residual else (found,)
    out = out.swapaxes(1, 2).reshape(*q.shape[:-1], v.shape[-1])
    return (out, *(lse.swapaxes(1, 2).reshape(q.shape[:-1]) for lse in rest)) if residual else out
