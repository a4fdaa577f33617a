"""FlashAttention forward: out and lse of a block of queries, keys passing by block after block.

The recurrence is that of Dao et al. 2022 (arXiv:2205.14135, algorithm 1) in the form of Dao 2023
(arXiv:2307.08691, algorithm 1), one division in the end: with scores s in units of log2(e),

    m' = max(m, max s),  p = 2^(s - m'),  l' = l 2^(m - m') + sum p,  o' = o 2^(m - m') + p V.

Blocks of keys that every query of the block sees come first and are not masked; those that only some see,
and the last, which may be ragged, come after.
"""

# Triton gives types to what a kernel takes, and its constants stand in capitals.
# ruff: noqa: ANN001, ANN201, N803, E741, FBT003, PLW2901
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
_LN2 = tl.constexpr(0.6931471805599453)

#: Numbers that change with every call, for each of which nothing is to be compiled anew.
LENGTHS = ("heads", "share", "queries", "keys", "features", "values")


@triton.jit(do_not_specialize=LENGTHS)
def forward(
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    out_ptr,
    lse_ptr,
    q_starts,
    k_starts,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    v_batch,
    v_head,
    v_row,
    out_batch,
    out_head,
    out_row,
    lse_batch,
    lse_head,
    mask_batch,
    mask_head,
    mask_row,
    mask_column,
    heads,
    share,
    queries,
    keys,
    features,
    values,
    scale,
    CAUSAL: tl.constexpr,
    MASK: tl.constexpr,
    PACKED: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Attend from one block of queries of one head; program i is block i mod n of head i // n.

    q_ptr (B, H, L, D), k_ptr (B, G, S, D), v_ptr (B, G, S, Dv), out_ptr (B, H, L, Dv), lse_ptr (B, H, L), by
    the strides that follow, features side by side; `share` heads of q see one of k. PACKED: sequences lie end
    to end, that of batch b from row q_starts[b], k_starts[b] on, strides along batches are 0, `queries` and
    `keys` are those of the longest. CAUSAL: "none", "bottom-right" or "top-left". MASK: "none", "boolean" or
    "additive", (B, H, L, S). WHOLE: D and Dv are those of the blocks.
    """
    block, batch, head = place_of(tl.cdiv(queries, BLOCK_M), heads)
    q_first, queries = sequence(q_starts, batch, queries, PACKED)
    k_first, keys = sequence(k_starts, batch, keys, PACKED)
    first = block * BLOCK_M
    offset = keys - queries if CAUSAL == "bottom-right" else 0
    q_ptr += batch * q_batch + head * q_head + q_first * q_row
    k_ptr += batch * k_batch + head // share * k_head + k_first * k_row
    v_ptr += batch * v_batch + head // share * v_head + k_first * v_row
    if MASK != "none":
        mask_ptr += batch * mask_batch + head * mask_head
    row = first + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, first, q_row, queries, features, True, WHOLE, BLOCK_M, BLOCK_D)
    m = tl.full([BLOCK_M], float("-inf"), tl.float32)
    l = tl.zeros([BLOCK_M], tl.float32)
    o = tl.zeros([BLOCK_M, BLOCK_V], tl.float32)
    seen_by_all, seen = keys, keys
    if CAUSAL != "none":
        seen_by_all = tl.minimum(keys, tl.maximum(0, first + offset + 1))
        seen = tl.minimum(keys, tl.maximum(0, first + BLOCK_M + offset))
    unmasked = seen_by_all // BLOCK_N * BLOCK_N
    if MASK != "none":
        unmasked = 0
    o, m, l = over_keys(
        o, m, l, q, k_ptr, v_ptr, mask_ptr, k_row, v_row, mask_row, mask_column, row, 0, unmasked, queries,
        keys, features, values, offset, scale * LOG2E, "none", MASK, False, WHOLE, PRECISION, BLOCK_N,
        BLOCK_D, BLOCK_V,
    )  # fmt: skip
    o, m, l = over_keys(
        o, m, l, q, k_ptr, v_ptr, mask_ptr, k_row, v_row, mask_row, mask_column, row, unmasked, seen, queries,
        keys, features, values, offset, scale * LOG2E, CAUSAL, MASK, True, WHOLE, PRECISION, BLOCK_N, BLOCK_D,
        BLOCK_V,
    )  # fmt: skip
    # Where no key is seen l is 0: the output is 0 and lse -inf.
    lse = tl.where(l == 0.0, float("-inf"), (m + tl.math.log2(l)) * _LN2)
    o = o / tl.where(l == 0.0, 1.0, l)[:, None]
    lse_ptr += batch * lse_batch + head * lse_head + q_first
    tl.store(lse_ptr + row, lse, mask=row < queries)
    out_ptr += batch * out_batch + head * out_head + q_first * out_row
    store_rows(out_ptr, o, first, out_row, queries, values, BLOCK_M, BLOCK_V)


@triton.jit
def place_of(blocks, heads):
    """Block, batch and head of this program: the last block first, which is longest under a causal mask."""
    block = blocks - 1 - tl.program_id(0) % blocks
    other = (tl.program_id(0) // blocks).to(tl.int64)
    return block, other // heads, other % heads


@triton.jit
def sequence(starts, batch, longest, PACKED: tl.constexpr):
    """First row of a sequence, and how many it has: 0 and `longest`, unless sequences lie end to end."""
    first = tl.zeros([], tl.int64)
    count = longest
    if PACKED:
        first = tl.load(starts + batch).to(tl.int64)
        count = (tl.load(starts + batch + 1) - first).to(tl.int32)
    return first, count


@triton.jit
def over_keys(
    o,
    m,
    l,
    q,
    k_ptr,
    v_ptr,
    mask_ptr,
    k_row,
    v_row,
    mask_row,
    mask_column,
    row,
    first,
    last,
    queries,
    keys,
    features,
    values,
    offset,
    scale,
    CAUSAL: tl.constexpr,
    MASK: tl.constexpr,
    RAGGED: tl.constexpr,
    WHOLE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Go on with o, m and l over the keys from `first` to `last`; the scale is in units of log2(e)."""
    for start in tl.range(first, last, BLOCK_N, num_stages=1 if RAGGED else None):
        start = tl.multiple_of(start, BLOCK_N)
        column = start + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, start, k_row, keys, features, RAGGED, WHOLE, BLOCK_N, BLOCK_D)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        if RAGGED:
            s = masked(
                s, mask_ptr, mask_row, mask_column, row[:, None], column[None, :], queries, keys, offset,
                CAUSAL, MASK,
            )  # fmt: skip
        higher = tl.maximum(m, tl.max(s, 1))
        # Where nothing has been seen yet, -inf is not subtracted from itself.
        pivot = tl.where(higher == float("-inf"), 0.0, higher)
        p = tl.math.exp2(s - pivot[:, None])
        shrink = tl.math.exp2(m - pivot)
        l = l * shrink + tl.sum(p, 1)
        v = load_rows(v_ptr, start, v_row, keys, values, RAGGED, WHOLE, BLOCK_N, BLOCK_V)
        o = tl.dot(p.to(v.dtype), v, o * shrink[:, None], input_precision=PRECISION)
        m = higher
    return o, m, l


@triton.jit
def load_rows(
    ptr,
    first,
    stride,
    rows,
    width,
    RAGGED: tl.constexpr,
    WHOLE: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """`ROWS` rows of a matrix from one on, zeros beyond its end."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    # Only the first place of a block may be beyond 32 bits.
    place = ptr + tl.cast(first, tl.int64) * stride + row[:, None] * stride + column[None, :]
    if WHOLE and not RAGGED:
        return tl.load(place)
    there = (first + row < rows)[:, None] & (column < width)[None, :]
    return tl.load(place, mask=there, other=0.0)


@triton.jit
def store_rows(ptr, matrix, first, stride, rows, width, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """Store `ROWS` rows of a matrix from one on, as far as it has them."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    place = ptr + tl.cast(first, tl.int64) * stride + row[:, None] * stride + column[None, :]
    there = (first + row < rows)[:, None] & (column < width)[None, :]
    tl.store(place, matrix.to(ptr.dtype.element_ty), mask=there)


@triton.jit
def masked(
    s,
    mask_ptr,
    mask_row,
    mask_column,
    row,
    column,
    queries,
    keys,
    offset,
    CAUSAL: tl.constexpr,
    MASK: tl.constexpr,
):
    """Scores in units of log2(e), -inf where a query does not see a key, what a mask adds added.

    row, column : number of the query and of the key of each score, one of them down and the other across.
    """
    seen = column < keys
    if CAUSAL != "none":
        seen = seen & (column <= row + offset)
    if MASK != "none":
        place = row.to(tl.int64) * mask_row + column.to(tl.int64) * mask_column
        given = tl.load(mask_ptr + place, mask=(row < queries) & (column < keys), other=0)
        if MASK == "boolean":
            seen = seen & (given != 0)
        else:
            s += given.to(tl.float32) * LOG2E
    return tl.where(seen, s, float("-inf"))
