"""flash-attn 3, T. Dao's kernels for Hopper: forward, lse, and the gradient that autograd gives.

It is the folder hopper/ of flash-attention's repository: its module gives the output alone unless
`return_attn_probs` asks for the lse too (since 2025). Heads stand behind the queries. A causal mask is
aligned bottom-right, and there is no other; a query that sees no key has output 0 and lse -inf
(epilogue_fwd.hpp). The gradient is asked for in its deterministic form, which one report says is not
(flash-attention#2244).
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch
from softcert.backends.gpu import start
from softcert.backends.heads_behind import attention_of, back, gradient_of, laid
from softcert.backends.types import Array, Backend


def flash_attn_3_backend() -> Backend:
    """Backend `flash-attn-3`: flash_attn_func of hopper/."""
    import torch
    from flash_attn_interface import flash_attn_func

    start()

    def attend(*qkv: Tensor, scale: float | None, causal: bool) -> Tensor:
        return flash_attn_func(*qkv, softmax_scale=scale, causal=causal, deterministic=True)

    def attention_lse(
        q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False
    ) -> tuple[Array, Array]:
        out, lse = flash_attn_func(
            *map(laid, (q, k, v)), softmax_scale=scale, causal=causal, return_attn_probs=True
        )
        return back(out, q), from_torch(lse).reshape(q.shape[:-1])

    return Backend(
        name="flash-attn-3",
        ops={
            "attention": attention_of(attend),
            "attention_lse": attention_lse,
            "attention_vjp": gradient_of(attend),
        },
        dtypes=("float16", "bfloat16"),
        contract=Contract(rematerialized=False, memory="linear"),
        versions={"flash-attn-3": _version(), "torch": torch.__version__},
    )


def _version() -> str:
    """Version of the package, which the module does not tell."""
    try:
        return version("flash-attn-3")
    except PackageNotFoundError:
        return "unknown"
