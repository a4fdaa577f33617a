"""What the Hopper kernels share: a tile's rows and blocks of keys, and the names of the copies."""

# Parameters are typed by the compiler; those in capitals are compile-time constants.
# ruff: noqa: ANN001, ANN201, N803
# mypy: ignore-errors

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import tma

# Triton renamed its copies after 3.6.
tma_load = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
tma_store = tma.async_store if hasattr(tma, "async_store") else tma.async_copy_shared_to_global


LOG2_E = gl.constexpr(1.4426950408889634)
LN_2 = gl.constexpr(0.6931471805599453)


@gluon.jit
def locate(tile, row_tiles, TILE_ROWS: gl.constexpr, CAUSAL: gl.constexpr):
    """Head and first query row of a tile; where causal, long tiles are first and last in alternate heads."""
    head = tile // row_tiles
    row_tile = tile % row_tiles
    if CAUSAL:
        # A program meets row tiles at a fixed stride: opposite orders even out what it gets of them.
        row_tile = gl.where(head % 2 == 0, row_tiles - 1 - row_tile, row_tile)
    return head, row_tile * TILE_ROWS


@gluon.jit
def count_blocks(
    first_row,
    n_queries,
    n_keys,
    causal_offset,
    TILE_ROWS: gl.constexpr,
    BLOCK_KEYS: gl.constexpr,
    CAUSAL: gl.constexpr,
):
    """Blocks of keys that a tile visits: up to the last key that its last query sees, and at least one."""
    end = n_keys
    if CAUSAL:
        end = gl.minimum(end, gl.minimum(first_row + TILE_ROWS, n_queries) + causal_offset)
    return (gl.maximum(end, 1) + BLOCK_KEYS - 1) // BLOCK_KEYS


@gluon.jit
def count_open_blocks(first_row, n_keys, causal_offset, BLOCK_KEYS: gl.constexpr, CAUSAL: gl.constexpr):
    """Leading blocks of keys that every row from `first_row` on sees whole."""
    end = n_keys
    if CAUSAL:
        end = gl.minimum(end, first_row + 1 + causal_offset)
    return gl.maximum(end, 0) // BLOCK_KEYS
