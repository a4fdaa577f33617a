"""FlashAttention backward for Hopper, of queries: dQ = scale dS K, in the notation of the keys' kernel.

A program takes a tile of queries and sums over the keys that they see, in a fixed order. As in the forward a
producer warp copies by TMA, and two consumer warpgroups of 64 rows each compute.
"""

# Parameters are typed by the compiler; those in capitals are compile-time constants.
# ruff: noqa: ANN001, ANN201, ANN202, N803, N806
# mypy: ignore-errors

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)

from softcert.backends.triton_.hopper_blocks import (
    LOG2_E,
    count_blocks,
    count_open_blocks,
    tma_load,
    tma_store,
)


@gluon.jit
def _first_row(ROWS: gl.constexpr, CAUSAL: gl.constexpr):
    """First query row of this program's tile; where causal, tiles that see many keys start first."""
    row_tile = gl.program_id(1)
    if CAUSAL:
        row_tile = gl.num_programs(1) - 1 - row_tile
    return row_tile * (2 * ROWS)


@gluon.jit
def _produce_keys(
    descriptors,
    tiles,
    barriers,
    lengths,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Copy a tile of queries and dout once, then each block of keys and of values."""
    q_desc, dout_desc, k_desc, v_desc, _dq_desc = descriptors
    q_tiles, dout_tiles, k_ring, v_ring = tiles
    q_full, k_full, k_empty, v_full, v_empty = barriers
    n_queries, _padded_queries, n_keys, causal_offset, group = lengths
    head = gl.program_id(0)
    tile_row = _first_row(ROWS, CAUSAL)
    for consumer in gl.static_range(2):
        mbarrier.expect(q_full.index(consumer), 2 * q_desc.block_type.nbytes)
        consumer_row = tile_row + consumer * ROWS
        tma_load(q_desc, [head, consumer_row, 0], q_full.index(consumer), q_tiles.index(consumer))
        tma_load(dout_desc, [head, consumer_row, 0], q_full.index(consumer), dout_tiles.index(consumer))
    kv_head = head // group
    n_blocks = count_blocks(tile_row, n_queries, n_keys, causal_offset, 2 * ROWS, BLOCK_KEYS, CAUSAL)
    for block in range(n_blocks):
        stage = block % STAGES
        free_parity = ((block // STAGES) & 1) ^ 1
        mbarrier.wait(k_empty.index(stage), free_parity)
        mbarrier.expect(k_full.index(stage), k_desc.block_type.nbytes)
        tma_load(k_desc, [kv_head, block * BLOCK_KEYS, 0], k_full.index(stage), k_ring.index(stage))
        mbarrier.wait(v_empty.index(stage), free_parity)
        mbarrier.expect(v_full.index(stage), v_desc.block_type.nbytes)
        tma_load(v_desc, [kv_head, block * BLOCK_KEYS, 0], v_full.index(stage), v_ring.index(stage))


@gluon.jit
def _add_key_block(
    q_tile,
    dout_tile,
    k_ring,
    v_ring,
    k_barriers,
    v_barriers,
    block,
    rows,
    lse,
    delta,
    n_keys,
    causal_offset,
    scale_log2,
    dq,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    MASKED: gl.constexpr,
):
    """Add what one block of keys gives to dq."""
    k_full, k_empty = k_barriers
    v_full, v_empty = v_barriers
    SCORES: gl.constexpr = rows.type.layout.parent
    OPERAND: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=dq.type.layout, k_width=2)
    stage = block % STAGES
    parity = (block // STAGES) & 1
    nothing = gl.zeros([ROWS, BLOCK_KEYS], gl.float32, SCORES)
    keys = k_ring.index(stage).reshape([BLOCK_KEYS, HEAD_DIM])
    values = v_ring.index(stage).reshape([BLOCK_KEYS, HEAD_DIM])
    mbarrier.wait(k_full.index(stage), parity)
    scores = warpgroup_mma(q_tile, keys.permute((1, 0)), nothing, use_acc=False, is_async=True)
    mbarrier.wait(v_full.index(stage), parity)
    dweights = warpgroup_mma(dout_tile, values.permute((1, 0)), nothing, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(1, deps=[scores])
    weights = gl.exp2(gl.fma(scores, scale_log2, -lse[:, None]))
    if MASKED:
        positions = block * BLOCK_KEYS + gl.arange(0, BLOCK_KEYS, gl.SliceLayout(0, SCORES))
        if CAUSAL:
            ends = gl.minimum(rows + 1 + causal_offset, n_keys)
            seen = positions[None, :] < ends[:, None]
        else:
            seen = (positions < n_keys)[None, :]
        weights = gl.where(seen, weights, 0.0)
    # Passed at once, as these values arrived above: without a branch here the assembler moves the wait for
    # the product before the exponentials, which are to run under it.
    mbarrier.wait(v_full.index(stage), parity)
    dweights = warpgroup_mma_wait(0, deps=[dweights])
    mbarrier.arrive(v_empty.index(stage), count=1)
    dscores = weights * (dweights - delta[:, None])
    dscores = gl.convert_layout(dscores.to(q_tile.dtype), OPERAND)
    dq = warpgroup_mma(dscores, keys, dq, is_async=True)
    dq, dscores = warpgroup_mma_wait(0, deps=[dq, dscores])
    mbarrier.arrive(k_empty.index(stage), count=1)
    return dq


@gluon.jit
def _consume_keys(
    descriptors,
    statistics_ptr,
    tiles,
    barriers,
    lengths,
    scale,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    CONSUMER: gl.constexpr,
):
    """Sum dq of one warpgroup's queries over the keys they see, and write it."""
    _q_desc, _dout_desc, _k_desc, _v_desc, dq_desc = descriptors
    q_tiles, dout_tiles, k_ring, v_ring = tiles
    q_full, k_full, k_empty, v_full, v_empty = barriers
    n_queries, padded_queries, n_keys, causal_offset, _group = lengths
    SCORES: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_KEYS, 16]
    )
    GRADIENT: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, HEAD_DIM, 16]
    )
    head = gl.program_id(0)
    tile_row = _first_row(ROWS, CAUSAL)
    first_row = tile_row + CONSUMER * ROWS
    n_blocks = count_blocks(tile_row, n_queries, n_keys, causal_offset, 2 * ROWS, BLOCK_KEYS, CAUSAL)
    n_open = gl.minimum(count_open_blocks(first_row, n_keys, causal_offset, BLOCK_KEYS, CAUSAL), n_blocks)
    rows = first_row + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
    statistics = statistics_ptr + head.to(gl.int64) * (2 * padded_queries)
    lse = gl.load(statistics + rows)
    delta = gl.load(statistics + padded_queries + rows)
    scale_log2 = scale * LOG2_E
    q_tile = q_tiles.index(CONSUMER).reshape([ROWS, HEAD_DIM])
    dout_tile = dout_tiles.index(CONSUMER).reshape([ROWS, HEAD_DIM])
    dq = gl.zeros([ROWS, HEAD_DIM], gl.float32, GRADIENT)
    mbarrier.wait(q_full.index(CONSUMER), 0)
    for block in range(n_open):
        dq = _add_key_block(
            q_tile, dout_tile, k_ring, v_ring, (k_full, k_empty), (v_full, v_empty), block, rows, lse,
            delta, n_keys, causal_offset, scale_log2, dq, ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL,
            MASKED=False,
        )  # fmt: skip
    for block in range(n_open, n_blocks):
        dq = _add_key_block(
            q_tile, dout_tile, k_ring, v_ring, (k_full, k_empty), (v_full, v_empty), block, rows, lse,
            delta, n_keys, causal_offset, scale_log2, dq, ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL,
            MASKED=True,
        )  # fmt: skip
    q_tile.store((dq * scale).to(q_tile.dtype))
    fence_async_shared()
    tma_store(dq_desc, [head, first_row, 0], q_tiles.index(CONSUMER))
    tma.store_wait(0)


@gluon.jit(do_not_specialize=["n_queries", "n_keys", "causal_offset", "group"])
def attention_backward_queries(
    q_desc,
    dout_desc,
    k_desc,
    v_desc,
    dq_desc,
    statistics_ptr,
    scale,
    n_queries,
    padded_queries,
    n_keys,
    causal_offset,
    group,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    CONSUMER_REGISTERS: gl.constexpr,
    PRODUCER_REGISTERS: gl.constexpr,
):
    """Gradients of the queries; the program (h, t) takes a tile of 2 * ROWS query rows of head h of B*H.

    Parameters
    ----------
    q_desc, dout_desc, dq_desc : descriptors of (B*H, L, D), blocks of (1, ROWS, D).
    k_desc, v_desc : descriptors of (B*G, S, D), blocks of (1, BLOCK_KEYS, D).
    statistics_ptr, scale, causal_offset, group : those of `attention_backward_keys`.
    n_queries, padded_queries, n_keys : L, P and S, L and S >= 1, P a multiple of 2 * ROWS.
    """
    q_tiles = gl.allocate_shared_memory(q_desc.dtype, [2, 1, ROWS, HEAD_DIM], q_desc.layout)
    dout_tiles = gl.allocate_shared_memory(q_desc.dtype, [2, 1, ROWS, HEAD_DIM], q_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES, 1, BLOCK_KEYS, HEAD_DIM], k_desc.layout)
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES, 1, BLOCK_KEYS, HEAD_DIM], v_desc.layout)
    BARRIER: gl.constexpr = mbarrier.MBarrierLayout()
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    for consumer in gl.static_range(2):
        mbarrier.init(q_full.index(consumer), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_full.index(stage), count=1)
        mbarrier.init(v_full.index(stage), count=1)
        # Both consumers read every block.
        mbarrier.init(k_empty.index(stage), count=2)
        mbarrier.init(v_empty.index(stage), count=2)
    descriptors = (q_desc, dout_desc, k_desc, v_desc, dq_desc)
    tiles = (q_tiles, dout_tiles, k_ring, v_ring)
    barriers = (q_full, k_full, k_empty, v_full, v_empty)
    lengths = (n_queries, padded_queries, n_keys, causal_offset, group)
    gl.warp_specialize(
        [
            (_consume_keys, (
                descriptors, statistics_ptr, tiles, barriers, lengths, scale,
                ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL, 0,
            )),
            (_consume_keys, (
                descriptors, statistics_ptr, tiles, barriers, lengths, scale,
                ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL, 1,
            )),
            (_produce_keys, (
                descriptors, tiles, barriers, lengths, ROWS, BLOCK_KEYS, STAGES, CAUSAL,
            )),
        ],
        [4, 1],
        [CONSUMER_REGISTERS, PRODUCER_REGISTERS],
    )  # fmt: skip
