"""FlashAttention backward for Hopper, of keys and values: dV = P^T dO and dK = scale dS^T Q.

P are the weights, recomputed from the forward's lse, delta the row sums of out * dout, and
dS = P * (dO V^T - delta). A program takes a tile of keys and sums over the queries of all heads that share
them, in a fixed order, so that gradients are deterministic; the price, here and in the kernel of the queries,
is that scores and gradients of weights are computed twice, 7 products of matrices in place of 5.

As in the forward a producer warp copies by TMA, and two consumer warpgroups of 64 rows each compute.
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
    tma_load,
    tma_store,
)


@gluon.jit
def _first_query_block(
    first_key, n_query_blocks, causal_offset, BLOCK_QUERIES: gl.constexpr, CAUSAL: gl.constexpr
):
    """First block of queries one of which sees a key at or past `first_key`, or the number of blocks."""
    block = n_query_blocks * 0
    if CAUSAL:
        block = gl.minimum(gl.maximum(first_key - causal_offset, 0) // BLOCK_QUERIES, n_query_blocks)
    return block


@gluon.jit
def _produce_queries(
    descriptors,
    tiles,
    barriers,
    lengths,
    ROWS: gl.constexpr,
    BLOCK_QUERIES: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Copy a tile of keys and values once, then each block of queries and dout of the heads in its group."""
    q_desc, dout_desc, k_desc, v_desc, _dk_desc, _dv_desc = descriptors
    k_tiles, v_tiles, q_ring, dout_ring = tiles
    kv_full, q_full, q_empty, dout_full, dout_empty = barriers
    n_queries, _padded_queries, causal_offset, group = lengths
    kv_head = gl.program_id(0)
    first_key = gl.program_id(1) * (2 * ROWS)
    for consumer in gl.static_range(2):
        mbarrier.expect(kv_full.index(consumer), 2 * k_desc.block_type.nbytes)
        consumer_key = first_key + consumer * ROWS
        tma_load(k_desc, [kv_head, consumer_key, 0], kv_full.index(consumer), k_tiles.index(consumer))
        tma_load(v_desc, [kv_head, consumer_key, 0], kv_full.index(consumer), v_tiles.index(consumer))
    n_query_blocks = (n_queries + BLOCK_QUERIES - 1) // BLOCK_QUERIES
    begin = _first_query_block(first_key, n_query_blocks, causal_offset, BLOCK_QUERIES, CAUSAL)
    issued = 0
    for member in range(group):
        head = kv_head * group + member
        for block in range(begin, n_query_blocks):
            stage = issued % STAGES
            # A wait on the phase before the first returns at once: the rings start empty.
            free_parity = ((issued // STAGES) & 1) ^ 1
            mbarrier.wait(q_empty.index(stage), free_parity)
            mbarrier.expect(q_full.index(stage), q_desc.block_type.nbytes)
            tma_load(q_desc, [head, block * BLOCK_QUERIES, 0], q_full.index(stage), q_ring.index(stage))
            mbarrier.wait(dout_empty.index(stage), free_parity)
            mbarrier.expect(dout_full.index(stage), dout_desc.block_type.nbytes)
            tma_load(
                dout_desc, [head, block * BLOCK_QUERIES, 0], dout_full.index(stage), dout_ring.index(stage)
            )
            issued += 1


@gluon.jit
def _add_query_block(
    k_tile,
    v_tile,
    q_ring,
    dout_ring,
    q_barriers,
    dout_barriers,
    consumed,
    statistics,
    padded_queries,
    first_row,
    keys,
    causal_offset,
    scale_log2,
    dk,
    dv,
    ROWS: gl.constexpr,
    BLOCK_QUERIES: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Add what one block of queries of one head gives to dk and dv; scores are held as keys by queries.

    Queries past the last are zeros, as is their dout; an lse of +inf makes their weights 0.
    """
    q_full, q_empty = q_barriers
    dout_full, dout_empty = dout_barriers
    SCORES: gl.constexpr = keys.type.layout.parent
    OPERAND: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=dk.type.layout, k_width=2)
    stage = consumed % STAGES
    parity = (consumed // STAGES) & 1
    nothing = gl.zeros([ROWS, BLOCK_QUERIES], gl.float32, SCORES)
    queries = q_ring.index(stage).reshape([BLOCK_QUERIES, HEAD_DIM])
    douts = dout_ring.index(stage).reshape([BLOCK_QUERIES, HEAD_DIM])
    mbarrier.wait(q_full.index(stage), parity)
    scores = warpgroup_mma(k_tile, queries.permute((1, 0)), nothing, use_acc=False, is_async=True)
    rows = first_row + gl.arange(0, BLOCK_QUERIES, gl.SliceLayout(0, SCORES))
    lse = gl.load(statistics + rows)
    scores = warpgroup_mma_wait(0, deps=[scores])
    weights = gl.exp2(gl.fma(scores, scale_log2, -lse[None, :]))
    if CAUSAL:
        # In every block, seen whole or not: two kinds of block in one loop would spill registers.
        weights = gl.where(keys[:, None] <= (rows + causal_offset)[None, :], weights, 0.0)
    weights_operand = gl.convert_layout(weights.to(k_tile.dtype), OPERAND)
    mbarrier.wait(dout_full.index(stage), parity)
    # The product adds onto -delta, whose registers are then free when they are scarcest.
    dweights = nothing - gl.load(statistics + padded_queries + rows)[None, :]
    dweights = warpgroup_mma(v_tile, douts.permute((1, 0)), dweights, is_async=True)
    dv = warpgroup_mma(weights_operand, douts, dv, is_async=True)
    dweights = warpgroup_mma_wait(1, deps=[dweights])
    dscores = weights * dweights
    dv, weights_operand = warpgroup_mma_wait(0, deps=[dv, weights_operand])
    mbarrier.arrive(dout_empty.index(stage), count=1)
    dscores_operand = gl.convert_layout(dscores.to(k_tile.dtype), OPERAND)
    dk = warpgroup_mma(dscores_operand, queries, dk, is_async=True)
    dk, dscores_operand = warpgroup_mma_wait(0, deps=[dk, dscores_operand])
    mbarrier.arrive(q_empty.index(stage), count=1)
    return dk, dv


@gluon.jit
def _consume_queries(
    descriptors,
    statistics_ptr,
    tiles,
    barriers,
    lengths,
    scale,
    ROWS: gl.constexpr,
    BLOCK_QUERIES: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    CONSUMER: gl.constexpr,
):
    """Sum dk and dv of one warpgroup's keys over all queries of the heads in the group, and write them."""
    _q_desc, _dout_desc, _k_desc, _v_desc, dk_desc, dv_desc = descriptors
    k_tiles, v_tiles, q_ring, dout_ring = tiles
    kv_full, q_full, q_empty, dout_full, dout_empty = barriers
    n_queries, padded_queries, causal_offset, group = lengths
    SCORES: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_QUERIES, 16]
    )
    GRADIENT: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, HEAD_DIM, 16]
    )
    kv_head = gl.program_id(0)
    tile_key = gl.program_id(1) * (2 * ROWS)
    first_key = tile_key + CONSUMER * ROWS
    keys = first_key + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))
    scale_log2 = scale * LOG2_E
    k_tile = k_tiles.index(CONSUMER).reshape([ROWS, HEAD_DIM])
    v_tile = v_tiles.index(CONSUMER).reshape([ROWS, HEAD_DIM])
    n_query_blocks = (n_queries + BLOCK_QUERIES - 1) // BLOCK_QUERIES
    begin = _first_query_block(tile_key, n_query_blocks, causal_offset, BLOCK_QUERIES, CAUSAL)
    dk = gl.zeros([ROWS, HEAD_DIM], gl.float32, GRADIENT)
    dv = gl.zeros([ROWS, HEAD_DIM], gl.float32, GRADIENT)
    # Waited for even if no query follows: the gradients leave through the memory that is being filled.
    mbarrier.wait(kv_full.index(CONSUMER), 0)
    statistics = statistics_ptr + (kv_head * group).to(gl.int64) * (2 * padded_queries)
    block = begin
    # One loop over the blocks of all heads of the group: nested loops would spill registers.
    for consumed in range(group * (n_query_blocks - begin)):
        dk, dv = _add_query_block(
            k_tile, v_tile, q_ring, dout_ring, (q_full, q_empty), (dout_full, dout_empty), consumed,
            statistics, padded_queries, block * BLOCK_QUERIES, keys, causal_offset, scale_log2, dk, dv,
            ROWS, BLOCK_QUERIES, HEAD_DIM, STAGES, CAUSAL,
        )  # fmt: skip
        block += 1
        if block == n_query_blocks:
            block = begin
            statistics += 2 * padded_queries
    if CAUSAL:
        # A key that no query sees may be NaN, and so then are its products with the zeros past the last.
        seen = gl.convert_layout(keys < n_queries + causal_offset, gl.SliceLayout(1, GRADIENT))
        dk = gl.where(seen[:, None], dk, 0.0)
        dv = gl.where(seen[:, None], dv, 0.0)
    k_tile.store((dk * scale).to(k_tile.dtype))
    v_tile.store(dv.to(v_tile.dtype))
    fence_async_shared()
    tma_store(dk_desc, [kv_head, first_key, 0], k_tiles.index(CONSUMER))
    tma_store(dv_desc, [kv_head, first_key, 0], v_tiles.index(CONSUMER))
    tma.store_wait(0)


# A length of 1 is no kernel apart: the configurations are to be all that there are.
@gluon.jit(do_not_specialize=["n_queries", "causal_offset", "group"])
def attention_backward_keys(
    q_desc,
    dout_desc,
    k_desc,
    v_desc,
    dk_desc,
    dv_desc,
    statistics_ptr,
    scale,
    n_queries,
    padded_queries,
    causal_offset,
    group,
    ROWS: gl.constexpr,
    BLOCK_QUERIES: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    CONSUMER_REGISTERS: gl.constexpr,
    PRODUCER_REGISTERS: gl.constexpr,
):
    """Gradients of the keys and values; the program (g, t) takes tile t of 2 * ROWS keys of head g of B*G.

    Parameters
    ----------
    q_desc, dout_desc : descriptors of (B*H, L, D), blocks of (1, BLOCK_QUERIES, D).
    k_desc, v_desc, dk_desc, dv_desc : descriptors of (B*G, S, D), blocks of (1, ROWS, D).
    statistics_ptr : (B*H, 2, P) float32: the forward's lse in units of log 2, +inf past L, which makes the
        weights there 0; and delta, 0 past L.
    scale : float32, any.
    n_queries, padded_queries : L >= 1, and P, a multiple of BLOCK_QUERIES and of 16.
    causal_offset : query i sees key j iff j <= i + causal_offset. Ignored unless CAUSAL.
    group : query heads per head of keys and values, H / G.
    """
    k_tiles = gl.allocate_shared_memory(k_desc.dtype, [2, 1, ROWS, HEAD_DIM], k_desc.layout)
    v_tiles = gl.allocate_shared_memory(v_desc.dtype, [2, 1, ROWS, HEAD_DIM], v_desc.layout)
    q_ring = gl.allocate_shared_memory(q_desc.dtype, [STAGES, 1, BLOCK_QUERIES, HEAD_DIM], q_desc.layout)
    dout_ring = gl.allocate_shared_memory(q_desc.dtype, [STAGES, 1, BLOCK_QUERIES, HEAD_DIM], q_desc.layout)
    BARRIER: gl.constexpr = mbarrier.MBarrierLayout()
    kv_full = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    q_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    q_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    dout_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    dout_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    for consumer in gl.static_range(2):
        mbarrier.init(kv_full.index(consumer), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(q_full.index(stage), count=1)
        mbarrier.init(dout_full.index(stage), count=1)
        # Both consumers read every block.
        mbarrier.init(q_empty.index(stage), count=2)
        mbarrier.init(dout_empty.index(stage), count=2)
    descriptors = (q_desc, dout_desc, k_desc, v_desc, dk_desc, dv_desc)
    tiles = (k_tiles, v_tiles, q_ring, dout_ring)
    barriers = (kv_full, q_full, q_empty, dout_full, dout_empty)
    lengths = (n_queries, padded_queries, causal_offset, group)
    gl.warp_specialize(
        [
            (_consume_queries, (
                descriptors, statistics_ptr, tiles, barriers, lengths, scale,
                ROWS, BLOCK_QUERIES, HEAD_DIM, STAGES, CAUSAL, 0,
            )),
            (_consume_queries, (
                descriptors, statistics_ptr, tiles, barriers, lengths, scale,
                ROWS, BLOCK_QUERIES, HEAD_DIM, STAGES, CAUSAL, 1,
            )),
            (_produce_queries, (
                descriptors, tiles, barriers, lengths, ROWS, BLOCK_QUERIES, STAGES, CAUSAL,
            )),
        ],
        [4, 1],
        [CONSUMER_REGISTERS, PRODUCER_REGISTERS],
    )  # fmt: skip
