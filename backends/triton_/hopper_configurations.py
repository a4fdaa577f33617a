"""Every specialization of the Hopper kernels that the launcher can choose, for ahead-of-time compilation."""

from typing import Any, NamedTuple

from triton.experimental.gluon import language as gl

from softcert.backends.triton_ import hopper_backward_keys, hopper_backward_queries, hopper_forward

_ELEMENTS = {"bf16": gl.bfloat16, "fp16": gl.float16}

#: Rows of one consumer warpgroup, which one wgmma instruction takes; a program has two consumers.
CONSUMER_ROWS = 64
TILE_ROWS = 2 * CONSUMER_ROWS

#: 64 rows of 256 columns in float32 take 128 registers a thread: the output fits, two gradients do not.
FORWARD_HEAD_DIMS = (64, 128, 256)
BACKWARD_HEAD_DIMS = (64, 128)

#: Registers per thread of the consumers and of the producer: with three warpgroups, all that there are.
_REGISTERS = {"CONSUMER_REGISTERS": 240, "PRODUCER_REGISTERS": 24}

#: Warps of the partition that every program starts with: one warpgroup.
NUM_WARPS = 4

#: Products and sums are fused where the kernels say so, and nowhere else: Triton's default changes.
ENABLE_FP_FUSION = False


class HopperConfiguration(NamedTuple):
    """One specialization of a kernel.

    Attributes
    ----------
    kernel : the Gluon function.
    name : unique among the configurations.
    signature : type of each parameter by name, in order.
    constexprs : value of each compile-time parameter by name.
    attrs : what is promised of run-time parameters, by position.
    num_warps, enable_fp_fusion : options of the compilation.
    """

    kernel: Any
    name: str
    signature: dict[str, str]
    constexprs: dict[str, Any]
    attrs: dict[tuple[int], list[list[Any]]]
    num_warps: int = NUM_WARPS
    enable_fp_fusion: bool = ENABLE_FP_FUSION


def forward_constexprs(head_dim: int, *, causal: bool) -> dict[str, Any]:
    """Compile-time parameters of `attention_forward`.

    Of head dimension 256 there is the causal kind alone, which with an offset of S hides no key: the other
    kind spills two registers in Triton 3.9.
    """
    wide = head_dim == 256
    return {
        "BLOCK_KEYS": 64 if wide else 128,
        "HEAD_DIM": head_dim,
        "STAGES": 2,
        "CAUSAL": causal or wide,
        "PING_PONG": not wide,
        "SHARED_OUTPUT": wide,
        "TILE_ROWS": TILE_ROWS,
        **_REGISTERS,
    }


def backward_keys_constexprs(head_dim: int, *, causal: bool) -> dict[str, Any]:
    """Compile-time parameters of `attention_backward_keys`."""
    sizes = {"ROWS": CONSUMER_ROWS, "BLOCK_QUERIES": 64, "HEAD_DIM": head_dim, "STAGES": 2}
    return {**sizes, "CAUSAL": causal, **_REGISTERS}


def backward_queries_constexprs(head_dim: int, *, causal: bool) -> dict[str, Any]:
    """Compile-time parameters of `attention_backward_queries`."""
    sizes = {"ROWS": CONSUMER_ROWS, "BLOCK_KEYS": 64, "HEAD_DIM": head_dim, "STAGES": 2}
    return {**sizes, "CAUSAL": causal, **_REGISTERS}


def block_layout(element: str, rows: int, head_dim: int) -> gl.NVMMASharedLayout:
    """Shared-memory layout of a block of `rows` rows of one head; `element` is bf16 or fp16."""
    return gl.NVMMASharedLayout.get_default_for([1, rows, head_dim], _ELEMENTS[element])


def _descriptor_type(element: str, rows: int, head_dim: int) -> str:
    return f"tensordesc<{element}[1, {rows}, {head_dim}],{block_layout(element, rows, head_dim)!r}>"


def _configuration(
    kernel: Any,
    name: str,
    descriptors: dict[str, str],
    pointers: tuple[str, ...],
    integers: tuple[str, ...],
    constexprs: dict[str, Any],
) -> HopperConfiguration:
    """Signature and promises for parameters in the order that all kernels share."""
    signature = {
        **descriptors,
        **dict.fromkeys(pointers, "*fp32"),
        "scale": "fp32",
        **dict.fromkeys(integers, "i32"),
        **dict.fromkeys(constexprs, "constexpr"),
    }
    divisible = (*pointers, "padded_queries")
    attrs = {(index,): [["tt.divisibility", 16]] for index, name in enumerate(signature) if name in divisible}
    return HopperConfiguration(kernel, name, signature, constexprs, attrs)


def _forward(element: str, head_dim: int, *, causal: bool) -> HopperConfiguration:
    constexprs = forward_constexprs(head_dim, causal=causal)
    queries = _descriptor_type(element, CONSUMER_ROWS, head_dim)
    keys = _descriptor_type(element, constexprs["BLOCK_KEYS"], head_dim)
    return _configuration(
        hopper_forward.attention_forward,
        f"forward-{element}-{head_dim}-{'causal' if constexprs['CAUSAL'] else 'full'}",
        {"q_desc": queries, "k_desc": keys, "v_desc": keys, "out_desc": queries},
        ("lse_ptr",),
        ("n_queries", "n_keys", "causal_offset", "group", "row_tiles", "n_tiles"),
        constexprs,
    )


def _backward_keys(element: str, head_dim: int, *, causal: bool) -> HopperConfiguration:
    constexprs = backward_keys_constexprs(head_dim, causal=causal)
    queries = _descriptor_type(element, constexprs["BLOCK_QUERIES"], head_dim)
    keys = _descriptor_type(element, CONSUMER_ROWS, head_dim)
    return _configuration(
        hopper_backward_keys.attention_backward_keys,
        f"backward-keys-{element}-{head_dim}-{'causal' if causal else 'full'}",
        dict.fromkeys(("q_desc", "dout_desc"), queries)
        | dict.fromkeys(("k_desc", "v_desc", "dk_desc", "dv_desc"), keys),
        ("statistics_ptr",),
        ("n_queries", "padded_queries", "causal_offset", "group"),
        constexprs,
    )


def _backward_queries(element: str, head_dim: int, *, causal: bool) -> HopperConfiguration:
    constexprs = backward_queries_constexprs(head_dim, causal=causal)
    queries = _descriptor_type(element, CONSUMER_ROWS, head_dim)
    keys = _descriptor_type(element, constexprs["BLOCK_KEYS"], head_dim)
    return _configuration(
        hopper_backward_queries.attention_backward_queries,
        f"backward-queries-{element}-{head_dim}-{'causal' if causal else 'full'}",
        dict.fromkeys(("q_desc", "dout_desc"), queries)
        | dict.fromkeys(("k_desc", "v_desc"), keys)
        | {"dq_desc": queries},
        ("statistics_ptr",),
        ("n_queries", "padded_queries", "n_keys", "causal_offset", "group"),
        constexprs,
    )


HOPPER_CONFIGURATIONS: tuple[HopperConfiguration, ...] = (
    *(
        _forward(element, head_dim, causal=causal)
        for element in _ELEMENTS
        for head_dim in FORWARD_HEAD_DIMS
        for causal in (False, True)
        if causal or head_dim != 256
    ),
    *(
        backward(element, head_dim, causal=causal)
        for backward in (_backward_keys, _backward_queries)
        for element in _ELEMENTS
        for head_dim in BACKWARD_HEAD_DIMS
        for causal in (False, True)
    ),
)
