"""FlashAttention forward for Hopper: one producer warp feeds two consumer warpgroups of 64 query rows each.

A program is persistent: it takes tiles of 128 query rows of one head, in turn. For each tile the producer
copies keys and values block by block into two rings, by TMA, and each consumer keeps its rows' running
maximum, sum and output in registers. The product of a consumer's queries with block n + 1 is issued before
that of its weights with the values of block n, so that the softmax of block n + 1 runs under the latter.

Blocks of keys are visited from the last to the first: those that hide a key from some row come first, and
the long loop that follows needs no mask. A query sees key j iff j < S and, where causal, j <= i + offset.

Every barrier's phase follows from how often it has been passed, and each partition derives the number of
blocks of a tile from the same function of the same numbers. That count is at least one, even for a tile
none of whose rows sees a key: its one block is masked like any other, and no partition needs a path apart.
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
    LN_2,
    LOG2_E,
    count_blocks,
    count_open_blocks,
    locate,
    tma_store,
)
from softcert.backends.triton_.hopper_forward_producer import produce


@gluon.jit
def _hide(scores, first_key, rows, n_keys, causal_offset, SCORES: gl.constexpr, CAUSAL: gl.constexpr):
    """-inf in place of the scores of keys that do not exist or that their row does not see."""
    keys = first_key + gl.arange(0, scores.shape[1], gl.SliceLayout(0, SCORES))
    if CAUSAL:
        ends = gl.minimum(rows + 1 + causal_offset, n_keys)
        seen = keys[None, :] < ends[:, None]
    else:
        seen = (keys < n_keys)[None, :]
    return gl.where(seen, scores, float("-inf"))


@gluon.jit
def _weigh(scores, row_max, scale_log2):
    """Unnormalized weights of a block, relative to the new running maximum, and the factor for the old sums.

    A row that has seen no finite score keeps a maximum of -inf; relative to it every weight would be NaN, so
    it is weighed relative to 0, where its weights are 0. A NaN score is dropped from the maximum and makes
    its own weight NaN, hence the row's sum and output.
    """
    new_max = gl.maximum(row_max, gl.max(scores, 1))
    shift = gl.where(new_max == float("-inf"), 0.0, new_max * scale_log2)
    weights = gl.exp2(gl.fma(scores, scale_log2, -shift[:, None]))
    return weights, new_max, gl.exp2(gl.fma(row_max, scale_log2, -shift))


@gluon.jit
def _advance(
    q_tile,
    k_ring,
    v_ring,
    k_barriers,
    v_barriers,
    turns,
    consumed,
    turn,
    first_key,
    rows,
    n_keys,
    causal_offset,
    scale_log2,
    weights,
    row_max,
    row_sum,
    output,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CONSUMER: gl.constexpr,
    PING_PONG: gl.constexpr,
    MASKED: gl.constexpr,
):
    """Score block number `consumed`, add the block before it to the output, and weigh the new scores."""
    k_full, k_empty = k_barriers
    v_full, v_empty = v_barriers
    SCORES: gl.constexpr = row_max.type.layout.parent
    OUTPUT: gl.constexpr = output.type.layout
    stage = consumed % STAGES
    last_stage = (consumed - 1) % STAGES
    mbarrier.wait(k_full.index(stage), (consumed // STAGES) & 1)
    if PING_PONG:
        # Consumer 0 finds its first turn free; then each waits until the other has issued its products.
        mbarrier.wait(turns.index(CONSUMER), turn ^ 1 if CONSUMER == 0 else turn)
    nothing = gl.zeros([ROWS, BLOCK_KEYS], gl.float32, SCORES)
    keys = k_ring.index(stage).reshape([BLOCK_KEYS, HEAD_DIM])
    scores = warpgroup_mma(q_tile, keys.permute((1, 0)), nothing, use_acc=False, is_async=True)
    mbarrier.wait(v_full.index(last_stage), ((consumed - 1) // STAGES) & 1)
    values = v_ring.index(last_stage).reshape([BLOCK_KEYS, HEAD_DIM])
    output = warpgroup_mma(weights, values, output, is_async=True)
    if PING_PONG:
        mbarrier.arrive(turns.index(1 - CONSUMER), count=1)
    scores = warpgroup_mma_wait(1, deps=[scores])
    mbarrier.arrive(k_empty.index(stage), count=1)
    if MASKED:
        scores = _hide(scores, first_key, rows, n_keys, causal_offset, SCORES, CAUSAL=True)
    new_weights, row_max, shrink = _weigh(scores, row_max, scale_log2)
    row_sum = row_sum * shrink + gl.sum(new_weights, 1)
    new_weights = gl.convert_layout(new_weights.to(q_tile.dtype), weights.type.layout)
    # Passed at once, as these values arrived above: without a branch here the assembler moves the wait for
    # the product before the softmax, which is to run under it.
    mbarrier.wait(v_full.index(last_stage), ((consumed - 1) // STAGES) & 1)
    # The weights are an operand of the product still running: naming them keeps their registers untouched.
    output, weights = warpgroup_mma_wait(0, deps=[output, weights])
    mbarrier.arrive(v_empty.index(last_stage), count=1)
    output = output * gl.convert_layout(shrink, gl.SliceLayout(1, OUTPUT))[:, None]
    return new_weights, row_max, row_sum, output


@gluon.jit
def _begin(
    q_tile,
    k_ring,
    k_barriers,
    consumed,
    first_key,
    rows,
    n_keys,
    causal_offset,
    scale_log2,
    ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Weigh the first block that a tile visits, its last, which alone may reach past the last key."""
    k_full, k_empty = k_barriers
    SCORES: gl.constexpr = rows.type.layout.parent
    stage = consumed % STAGES
    mbarrier.wait(k_full.index(stage), (consumed // STAGES) & 1)
    nothing = gl.zeros([ROWS, BLOCK_KEYS], gl.float32, SCORES)
    keys = k_ring.index(stage).reshape([BLOCK_KEYS, HEAD_DIM])
    scores = warpgroup_mma(q_tile, keys.permute((1, 0)), nothing, use_acc=False, is_async=True)
    scores = warpgroup_mma_wait(0, deps=[scores])
    mbarrier.arrive(k_empty.index(stage), count=1)
    scores = _hide(scores, first_key, rows, n_keys, causal_offset, SCORES, CAUSAL)
    row_max = gl.full([ROWS], float("-inf"), gl.float32, rows.type.layout)
    weights, row_max, _ = _weigh(scores, row_max, scale_log2)
    return weights, row_max, gl.sum(weights, 1)


@gluon.jit
def _write(
    out_desc,
    lse_ptr,
    out_tile,
    head,
    first_row,
    rows,
    n_queries,
    causal_offset,
    scale_log2,
    row_max,
    row_sum,
    output,
    ROWS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Normalize the output, and write it and lse; the copy of the output may still be running at the end."""
    OUTPUT_ROWS: gl.constexpr = gl.SliceLayout(1, output.type.layout)
    # 0/0 = NaN is the softmax of a row all of whose scores are -inf; a row that sees no key gives 0.
    output = output * gl.convert_layout(1.0 / row_sum, OUTPUT_ROWS)[:, None]
    if CAUSAL:
        blind = gl.convert_layout(rows + causal_offset < 0, OUTPUT_ROWS)
        output = gl.where(blind[:, None], 0.0, output)
    shift = gl.where(row_max == float("-inf"), 0.0, row_max * scale_log2)
    lse = (shift + gl.log2(row_sum)) * LN_2
    gl.store(lse_ptr + head.to(gl.int64) * n_queries + rows, lse, mask=rows < n_queries)
    # The copy of the tile before must have been read before its memory is written again.
    tma.store_wait(0)
    out_tile.reshape([ROWS, HEAD_DIM]).store(output.to(out_tile.dtype))
    fence_async_shared()
    tma_store(out_desc, [head, first_row, 0], out_tile)


@gluon.jit
def _consume(
    descriptors,
    lse_ptr,
    tiles,
    q_barriers,
    k_barriers,
    v_barriers,
    turns,
    lengths,
    scale,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    PING_PONG: gl.constexpr,
    SHARED_OUTPUT: gl.constexpr,
    TILE_ROWS: gl.constexpr,
    CONSUMER: gl.constexpr,
):
    """Attend with one warpgroup's rows of each tile, and write their output and lse."""
    q_tiles, k_ring, v_ring, out_tiles = tiles
    q_full, q_empty = q_barriers
    v_full, v_empty = v_barriers
    n_queries, n_keys, causal_offset, _group, row_tiles, n_tiles = lengths
    ROWS: gl.constexpr = TILE_ROWS // 2
    SCORES: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_KEYS, 16]
    )
    OUTPUT: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, HEAD_DIM, 16]
    )
    WEIGHTS: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=OUTPUT, k_width=2)
    scale_log2 = scale * LOG2_E
    q_tile = q_tiles.index(CONSUMER).reshape([ROWS, HEAD_DIM])
    consumed = 0
    turn = 0
    tile_parity = 0
    for tile in range(gl.program_id(0), n_tiles, gl.num_programs(0)):
        head, tile_row = locate(tile, row_tiles, TILE_ROWS, CAUSAL)
        n_blocks = count_blocks(tile_row, n_queries, n_keys, causal_offset, TILE_ROWS, BLOCK_KEYS, CAUSAL)
        first_row = tile_row + CONSUMER * ROWS
        n_open = count_open_blocks(first_row, n_keys, causal_offset, BLOCK_KEYS, CAUSAL)
        rows = first_row + gl.arange(0, ROWS, gl.SliceLayout(1, SCORES))

        mbarrier.wait(q_full.index(CONSUMER), tile_parity)
        weights, row_max, row_sum = _begin(
            q_tile, k_ring, k_barriers, consumed, (n_blocks - 1) * BLOCK_KEYS, rows, n_keys, causal_offset,
            scale_log2, ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL,
        )  # fmt: skip
        weights = gl.convert_layout(weights.to(q_tile.dtype), WEIGHTS)
        output = gl.zeros([ROWS, HEAD_DIM], gl.float32, OUTPUT)
        consumed += 1

        # Together n_blocks - 1 steps, for either consumer: those that hide a key from a row of its own first.
        if CAUSAL:
            for block in range(n_blocks - 2, n_open - 1, -1):
                weights, row_max, row_sum, output = _advance(
                    q_tile, k_ring, v_ring, k_barriers, v_barriers, turns, consumed, turn,
                    block * BLOCK_KEYS, rows, n_keys, causal_offset, scale_log2, weights, row_max, row_sum,
                    output, ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CONSUMER, PING_PONG, MASKED=True,
                )  # fmt: skip
                consumed += 1
                turn ^= 1
        for _step in range(gl.minimum(n_blocks - 1, n_open)):
            weights, row_max, row_sum, output = _advance(
                q_tile, k_ring, v_ring, k_barriers, v_barriers, turns, consumed, turn,
                0, rows, n_keys, causal_offset, scale_log2, weights, row_max, row_sum, output,
                ROWS, BLOCK_KEYS, HEAD_DIM, STAGES, CONSUMER, PING_PONG, MASKED=False,
            )  # fmt: skip
            consumed += 1
            turn ^= 1
        if not SHARED_OUTPUT:
            mbarrier.arrive(q_empty.index(CONSUMER), count=1)

        last_stage = (consumed - 1) % STAGES
        mbarrier.wait(v_full.index(last_stage), ((consumed - 1) // STAGES) & 1)
        values = v_ring.index(last_stage).reshape([BLOCK_KEYS, HEAD_DIM])
        output = warpgroup_mma(weights, values, output, is_async=True)
        output, weights = warpgroup_mma_wait(0, deps=[output, weights])
        mbarrier.arrive(v_empty.index(last_stage), count=1)
        _write(
            descriptors[3], lse_ptr, out_tiles.index(CONSUMER), head, first_row, rows, n_queries,
            causal_offset, scale_log2, row_max, row_sum, output, ROWS, HEAD_DIM, CAUSAL,
        )  # fmt: skip
        if SHARED_OUTPUT:
            tma.store_wait(0)
            mbarrier.arrive(q_empty.index(CONSUMER), count=1)
        tile_parity ^= 1
    tma.store_wait(0)


# A length of 1 is no kernel apart: the configurations are to be all that there are.
@gluon.jit(do_not_specialize=["n_queries", "n_keys", "causal_offset", "group", "row_tiles", "n_tiles"])
def attention_forward(
    q_desc,
    k_desc,
    v_desc,
    out_desc,
    lse_ptr,
    scale,
    n_queries,
    n_keys,
    causal_offset,
    group,
    row_tiles,
    n_tiles,
    BLOCK_KEYS: gl.constexpr,
    HEAD_DIM: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    PING_PONG: gl.constexpr,
    SHARED_OUTPUT: gl.constexpr,
    TILE_ROWS: gl.constexpr,
    CONSUMER_REGISTERS: gl.constexpr,
    PRODUCER_REGISTERS: gl.constexpr,
):
    """Attention's output and lse, for any lengths L and S >= 1.

    Parameters
    ----------
    q_desc, out_desc : descriptors of (B*H, L, D), blocks of (1, 64, D).
    k_desc, v_desc : descriptors of (B*G, S, D), blocks of (1, BLOCK_KEYS, D).
    lse_ptr : (B*H, L) float32, natural logarithm; -inf for a query that sees no key.
    scale : float32, > 0: hidden scores are -inf before they are scaled, and the maximum is taken then too.
    n_queries, n_keys : L and S.
    causal_offset : query i sees key j iff j <= i + causal_offset; S - L aligns bottom right. Ignored unless
        CAUSAL.
    group : query heads per head of keys and values, H / G.
    row_tiles, n_tiles : tiles of TILE_ROWS query rows per head, and in all.
    SHARED_OUTPUT : whether the output leaves through the shared memory of the queries.
    """
    q_tiles = gl.allocate_shared_memory(q_desc.dtype, [2, 1, TILE_ROWS // 2, HEAD_DIM], q_desc.layout)
    k_ring = gl.allocate_shared_memory(k_desc.dtype, [STAGES, 1, BLOCK_KEYS, HEAD_DIM], k_desc.layout)
    v_ring = gl.allocate_shared_memory(v_desc.dtype, [STAGES, 1, BLOCK_KEYS, HEAD_DIM], v_desc.layout)
    if SHARED_OUTPUT:
        out_tiles = q_tiles
    else:
        out_tiles = gl.allocate_shared_memory(
            out_desc.dtype, [2, 1, TILE_ROWS // 2, HEAD_DIM], out_desc.layout
        )
    BARRIER: gl.constexpr = mbarrier.MBarrierLayout()
    q_full = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    q_empty = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    turns = gl.allocate_shared_memory(gl.int64, [2, 1], BARRIER)
    k_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    k_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    v_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    v_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], BARRIER)
    for consumer in gl.static_range(2):
        mbarrier.init(q_full.index(consumer), count=1)
        mbarrier.init(q_empty.index(consumer), count=1)
        mbarrier.init(turns.index(consumer), count=1)
    for stage in gl.static_range(STAGES):
        mbarrier.init(k_full.index(stage), count=1)
        mbarrier.init(v_full.index(stage), count=1)
        # Both consumers read every block.
        mbarrier.init(k_empty.index(stage), count=2)
        mbarrier.init(v_empty.index(stage), count=2)
    descriptors = (q_desc, k_desc, v_desc, out_desc)
    tiles = (q_tiles, k_ring, v_ring, out_tiles)
    q_barriers = (q_full, q_empty)
    k_barriers = (k_full, k_empty)
    v_barriers = (v_full, v_empty)
    lengths = (n_queries, n_keys, causal_offset, group, row_tiles, n_tiles)
    # Written out in full: a constexpr that passes through a variable tuple becomes a run-time value.
    gl.warp_specialize(
        [
            (_consume, (
                descriptors, lse_ptr, tiles, q_barriers, k_barriers, v_barriers, turns, lengths, scale,
                BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL, PING_PONG, SHARED_OUTPUT, TILE_ROWS, 0,
            )),
            (_consume, (
                descriptors, lse_ptr, tiles, q_barriers, k_barriers, v_barriers, turns, lengths, scale,
                BLOCK_KEYS, HEAD_DIM, STAGES, CAUSAL, PING_PONG, SHARED_OUTPUT, TILE_ROWS, 1,
            )),
            (produce, (
                descriptors, tiles, q_barriers, k_barriers, v_barriers, lengths,
                BLOCK_KEYS, STAGES, CAUSAL, TILE_ROWS,
            )),
        ],
        [4, 1],
        [CONSUMER_REGISTERS, PRODUCER_REGISTERS],
    )  # fmt: skip
