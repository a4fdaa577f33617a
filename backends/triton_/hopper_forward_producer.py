"""The producer of the forward for Hopper: it copies blocks into shared memory as the consumers free it."""

# Parameters are typed by the compiler; those in capitals are compile-time constants.
# ruff: noqa: ANN001, ANN201, N803, N806
# mypy: ignore-errors

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    mbarrier,
)

from softcert.backends.triton_.hopper_blocks import (
    count_blocks,
    locate,
    tma_load,
)


@gluon.jit
def produce(
    descriptors,
    tiles,
    q_barriers,
    k_barriers,
    v_barriers,
    lengths,
    BLOCK_KEYS: gl.constexpr,
    STAGES: gl.constexpr,
    CAUSAL: gl.constexpr,
    TILE_ROWS: gl.constexpr,
):
    """Copy each tile's queries, keys and values into shared memory as the consumers free it."""
    q_desc, k_desc, v_desc, _out_desc = descriptors
    q_tiles, k_ring, v_ring, _out_tiles = tiles
    q_full, q_empty = q_barriers
    k_full, k_empty = k_barriers
    v_full, v_empty = v_barriers
    n_queries, n_keys, causal_offset, group, row_tiles, n_tiles = lengths
    CONSUMER_ROWS: gl.constexpr = TILE_ROWS // 2
    issued = 0
    tile_parity = 0
    for tile in range(gl.program_id(0), n_tiles, gl.num_programs(0)):
        head, first_row = locate(tile, row_tiles, TILE_ROWS, CAUSAL)
        kv_head = head // group
        n_blocks = count_blocks(first_row, n_queries, n_keys, causal_offset, TILE_ROWS, BLOCK_KEYS, CAUSAL)
        for visited in range(n_blocks):
            first_key = (n_blocks - 1 - visited) * BLOCK_KEYS
            stage = issued % STAGES
            # A wait on the phase before the first returns at once: the ring starts empty.
            free_parity = ((issued // STAGES) & 1) ^ 1
            mbarrier.wait(k_empty.index(stage), free_parity)
            mbarrier.expect(k_full.index(stage), k_desc.block_type.nbytes)
            tma_load(k_desc, [kv_head, first_key, 0], k_full.index(stage), k_ring.index(stage))
            if visited == 0:
                # After the first keys, which need not wait until the tile before has let go of its queries.
                for consumer in gl.static_range(2):
                    mbarrier.wait(q_empty.index(consumer), tile_parity ^ 1)
                    mbarrier.expect(q_full.index(consumer), q_desc.block_type.nbytes)
                    tma_load(
                        q_desc,
                        [head, first_row + consumer * CONSUMER_ROWS, 0],
                        q_full.index(consumer),
                        q_tiles.index(consumer),
                    )
            mbarrier.wait(v_empty.index(stage), free_parity)
            mbarrier.expect(v_full.index(stage), v_desc.block_type.nbytes)
            tma_load(v_desc, [kv_head, first_key, 0], v_full.index(stage), v_ring.index(stage))
            issued += 1
        tile_parity ^= 1
