"""xFormers' memory_efficient_attention, forward and the gradient that autograd gives.

It chooses among kernels by what it is given. Heads stand behind the queries, and none are shared: a call of
grouped heads is refused. A causal mask is asked for bottom-right, and no other mask.
"""

from __future__ import annotations

from softcert.backends.contract import Contract
from softcert.backends.convert import Tensor
from softcert.backends.gpu import start
from softcert.backends.heads_behind import attention_of, gradient_of
from softcert.backends.types import Backend


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

    return Backend(
        name="xformers",
        ops={"attention": attention_of(attend), "attention_vjp": gradient_of(attend)},
        dtypes=("float32", "float16", "bfloat16"),
        contract=Contract(rematerialized=False, deterministic=False, memory="linear"),
        versions={"xformers": xformers.__version__, "torch": torch.__version__},
    )
