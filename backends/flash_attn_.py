"""flash-attn 2, T. Dao's kernels: forward, lse, and the gradient that autograd gives.

Heads stand behind the queries there. A causal mask is aligned bottom-right; masks and values of another width
than the keys are not taken; a query that sees no key has lse +inf (flash_attn_interface.py of 2.5 to 2.8).
The gradient is asked for in its deterministic form.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch
from softcert.backends.gpu import start
from softcert.backends.heads_behind import attention_of, back, gradient_of, laid
from softcert.backends.types import Array, Backend


def flash_attn_backend() -> Backend:
    """Backend `flash-attn`: flash_attn_func."""
    import flash_attn
    import torch

    start()

    def called(*qkv: Tensor, scale: float | None, causal: bool) -> tuple[Tensor, Tensor]:
        out, lse, _ = flash_attn.flash_attn_func(
            *qkv, softmax_scale=scale, causal=causal, deterministic=True, return_attn_probs=True
        )
        return out, lse

    def attend(*qkv: Tensor, scale: float | None, causal: bool) -> Tensor:
        return called(*qkv, scale=scale, causal=causal)[0]

    def attention_lse(
        q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False
    ) -> tuple[Array, Array]:
        out, lse = called(*map(laid, (q, k, v)), scale=scale, causal=causal)
        return back(out, q), from_torch(lse).reshape(q.shape[:-1])

    return Backend(
        name="flash-attn",
        ops={
            "attention": attention_of(attend),
            "attention_lse": attention_lse,
            "attention_vjp": gradient_of(attend),
        },
        dtypes=("float16", "bfloat16"),
        contract=Contract(masked_lse="+inf", rematerialized=False, memory="linear"),
        versions={"flash-attn": flash_attn.__version__, "torch": torch.__version__},
    )
