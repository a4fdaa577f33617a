"""xFormers' memory_efficient_attention, forward and the gradient that autograd gives.

It chooses among kernels by what it is given. Heads stand behind the queries, and none are shared: a call of
grouped heads is refused. A causal mask is asked for bottom-right, and no other mask.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor
from softcert.backends.gpu import DEVICE, start
from softcert.backends.torch_axes import heads_behind, like
from softcert.backends.types import Array, Backend


def xformers_backend() -> Backend:
    """Backend `xformers`: xformers.ops.memory_efficient_attention."""
    import torch
    import xformers
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import LowerTriangularFromBottomRightMask

    start()

    def attend(*qkv: Tensor, scale: float | None, causal: bool) -> Tensor:
        bias = LowerTriangularFromBottomRightMask() if causal else None
        return memory_efficient_attention(*qkv, attn_bias=bias, scale=scale)

    def attention(q: Array, k: Array, v: Array, *, scale: float | None = None, causal: bool = False) -> Array:
        out = attend(*(heads_behind(a, DEVICE) for a in (q, k, v)), scale=scale, causal=causal)
        return like(out.transpose(1, 2), q)

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
        found = torch.autograd.grad(
            attend(*leaves, scale=scale, causal=causal), leaves, heads_behind(dout, DEVICE)
        )
        dq, dk, dv = (like(g.transpose(1, 2), a) for g, a in zip(found, (q, k, v), strict=True))
        return dq, dk, dv

    return Backend(
        name="xformers",
        ops={"attention": attention, "attention_vjp": attention_vjp},
        dtypes=("float32", "float16", "bfloat16"),
        contract=Contract(rematerialized=False, deterministic=False, memory="linear"),
        versions={"xformers": xformers.__version__, "torch": torch.__version__},
    )
