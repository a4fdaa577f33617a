"""flash-attn 2, T. Dao's kernels: forward, lse, and the gradient that autograd gives.

Heads stand behind the queries there. A causal mask is aligned bottom-right; masks and values of another width
than the keys are not taken; a query that sees no key has lse +inf (flash_attn_interface.py of 2.5 to 2.8).
The gradient is asked for in its deterministic form.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor, from_torch
from softcert.backends.gpu import DEVICE, start
from softcert.backends.torch_axes import heads_behind, like
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

    def attention_lse(
        q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False
    ) -> tuple[Array, Array]:
        out, lse = called(*(heads_behind(a, DEVICE) for a in (q, k, v)), scale=scale, causal=causal)
        return like(out.transpose(1, 2), q), from_torch(lse).reshape(q.shape[:-1])

    def attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False) -> Array:
        return attention_lse(q, k, v, scale=scale, causal=causal)[0]

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
        leaves = [heads_behind(a, DEVICE).detach().requires_grad_() for a in (q, k, v)]
        result, _ = called(*leaves, scale=scale, causal=causal)
        found = torch.autograd.grad(result, leaves, heads_behind(dout, DEVICE))
        dq, dk, dv = (like(g.transpose(1, 2), a) for g, a in zip(found, (q, k, v), strict=True))
        return dq, dk, dv

    return Backend(
        name="flash-attn",
        ops={"attention": attention, "attention_lse": attention_lse, "attention_vjp": attention_vjp},
        dtypes=("float16", "bfloat16"),
        contract=Contract(masked_lse="+inf", rematerialized=False, memory="linear"),
        versions={"flash-attn": flash_attn.__version__, "torch": torch.__version__},
    )
