"""FlashAttention backward: gradients of q, and of k and v, with the weights made anew from the lse given.

As in Dao et al. 2022 (arXiv:2205.14135, algorithm 4), with P = exp(S - lse) and Delta = sum(out dout):

    dV = P^T dO,  dP = dO V^T,  dS = P (dP - Delta),  dQ = scale dS K,  dK = scale dS^T Q.

One kernel has a block of keys and goes over the queries of every head that shares them; another has a block
of queries and goes over keys. No two programs add to one number, so the same call gives the same bits.
"""

# Triton gives types to what a kernel takes, and its constants stand in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, FBT003, PLW2901
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from softcert.backends.triton_.forward_kernel import (
    LENGTHS,
    LOG2E,
    load_rows,
    masked,
    place_of,
    sequence,
    store_rows,
)


@triton.jit(do_not_specialize=LENGTHS)
def delta(
    out_ptr,
    dout_ptr,
    delta_ptr,
    out_batch,
    out_head,
    out_row,
    dout_batch,
    dout_head,
    dout_row,
    delta_batch,
    delta_head,
    heads,
    queries,
    values,
    BLOCK_M: tl.constexpr,
    BLOCK_V: tl.constexpr,
):
    """Delta = sum(out dout) over the features of each query: (B, H, L) of (B, H, L, Dv) twice."""
    block, batch, head = place_of(tl.cdiv(queries, BLOCK_M), heads)
    first = block * BLOCK_M
    row = first + tl.arange(0, BLOCK_M)
    out_ptr += batch * out_batch + head * out_head
    dout_ptr += batch * dout_batch + head * dout_head
    out = load_rows(out_ptr, first, out_row, queries, values, True, False, BLOCK_M, BLOCK_V)
    dout = load_rows(dout_ptr, first, dout_row, queries, values, True, False, BLOCK_M, BLOCK_V)
    products = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)
    tl.store(delta_ptr + batch * delta_batch + head * delta_head + row, products, mask=row < queries)


@triton.jit(do_not_specialize=LENGTHS)
def backward_keys(
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    dout_ptr,
    lse_ptr,
    delta_ptr,
    dk_ptr,
    dv_ptr,
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
    dout_batch,
    dout_head,
    dout_row,
    lse_batch,
    lse_head,
    mask_batch,
    mask_head,
    mask_row,
    mask_column,
    dk_batch,
    dk_head,
    dk_row,
    dv_batch,
    dv_head,
    dv_row,
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
    """dk and dv of one block of keys; operands as those of `forward`, delta laid out as lse is."""
    block, batch, group = place_of(tl.cdiv(keys, BLOCK_N), heads // share)
    q_first, queries = sequence(q_starts, batch, queries, PACKED)
    k_first, keys = sequence(k_starts, batch, keys, PACKED)
    first = block * BLOCK_N
    offset = keys - queries if CAUSAL == "bottom-right" else 0
    q_ptr += batch * q_batch + q_first * q_row
    dout_ptr += batch * dout_batch + q_first * dout_row
    lse_ptr += batch * lse_batch + q_first
    delta_ptr += batch * lse_batch + q_first
    k_ptr += batch * k_batch + group * k_head + k_first * k_row
    v_ptr += batch * v_batch + group * v_head + k_first * v_row
    if MASK != "none":
        mask_ptr += batch * mask_batch
    k = load_rows(k_ptr, first, k_row, keys, features, True, WHOLE, BLOCK_N, BLOCK_D)
    v = load_rows(v_ptr, first, v_row, keys, values, True, WHOLE, BLOCK_N, BLOCK_V)
    column = first + tl.arange(0, BLOCK_N)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
    # Queries before `some` see none of these keys.
    some = 0
    if CAUSAL != "none":
        some = tl.maximum(0, first - offset) // BLOCK_M
    blocks = tl.maximum(0, tl.cdiv(queries, BLOCK_M) - some)
    # One loop over blocks of all heads that share these keys: two, one in the other, spill registers. Keys
    # beyond the end are not masked: what they get is not stored.
    for number in tl.range(share * blocks):
        head = group * share + number // blocks
        start = tl.multiple_of((some + number % blocks) * BLOCK_M, BLOCK_M)
        row = start + tl.arange(0, BLOCK_M)
        q = load_rows(q_ptr + head * q_head, start, q_row, queries, features, True, WHOLE, BLOCK_M, BLOCK_D)
        dout = load_rows(
            dout_ptr + head * dout_head, start, dout_row, queries, values, True, WHOLE, BLOCK_M, BLOCK_V
        )
        lse = load_lse(lse_ptr + head * lse_head, row, queries)
        slopes = tl.load(delta_ptr + head * lse_head + row, mask=row < queries, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * (scale * LOG2E)
        if CAUSAL != "none" or MASK != "none":
            s = masked(
                s, mask_ptr + head * mask_head, mask_row, mask_column, row[None, :], column[:, None], queries,
                keys, offset, CAUSAL, MASK,
            )  # fmt: skip
        p = tl.math.exp2(s - lse[None, :])
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(dout), input_precision=PRECISION)
        ds = p * (dp - slopes[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    dk_ptr += batch * dk_batch + group * dk_head + k_first * dk_row
    dv_ptr += batch * dv_batch + group * dv_head + k_first * dv_row
    store_rows(dk_ptr, dk * scale, first, dk_row, keys, features, BLOCK_N, BLOCK_D)
    store_rows(dv_ptr, dv, first, dv_row, keys, values, BLOCK_N, BLOCK_V)


@triton.jit(do_not_specialize=LENGTHS)
def backward_queries(
    q_ptr,
    k_ptr,
    v_ptr,
    mask_ptr,
    dout_ptr,
    lse_ptr,
    delta_ptr,
    dq_ptr,
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
    dout_batch,
    dout_head,
    dout_row,
    lse_batch,
    lse_head,
    mask_batch,
    mask_head,
    mask_row,
    mask_column,
    dq_batch,
    dq_head,
    dq_row,
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
    """dq of one block of queries; operands as those of `forward`, delta laid out as lse is."""
    block, batch, head = place_of(tl.cdiv(queries, BLOCK_M), heads)
    q_first, queries = sequence(q_starts, batch, queries, PACKED)
    k_first, keys = sequence(k_starts, batch, keys, PACKED)
    first = block * BLOCK_M
    offset = keys - queries if CAUSAL == "bottom-right" else 0
    q_ptr += batch * q_batch + head * q_head + q_first * q_row
    dout_ptr += batch * dout_batch + head * dout_head + q_first * dout_row
    lse_ptr += batch * lse_batch + head * lse_head + q_first
    delta_ptr += batch * lse_batch + head * lse_head + q_first
    k_ptr += batch * k_batch + head // share * k_head + k_first * k_row
    v_ptr += batch * v_batch + head // share * v_head + k_first * v_row
    if MASK != "none":
        mask_ptr += batch * mask_batch + head * mask_head
    row = first + tl.arange(0, BLOCK_M)
    q = load_rows(q_ptr, first, q_row, queries, features, True, WHOLE, BLOCK_M, BLOCK_D)
    dout = load_rows(dout_ptr, first, dout_row, queries, values, True, WHOLE, BLOCK_M, BLOCK_V)
    lse = load_lse(lse_ptr, row, queries)
    slopes = tl.load(delta_ptr + row, mask=row < queries, other=0.0)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    seen_by_all, seen = keys, keys
    if CAUSAL != "none":
        seen_by_all = tl.minimum(keys, tl.maximum(0, first + offset + 1))
        seen = tl.minimum(keys, tl.maximum(0, first + BLOCK_M + offset))
    unmasked = seen_by_all // BLOCK_N * BLOCK_N
    if MASK != "none":
        unmasked = 0
    dq = _over_keys(
        dq, q, dout, lse, slopes, k_ptr, v_ptr, mask_ptr, k_row, v_row, mask_row, mask_column, row, 0,
        unmasked, queries, keys, features, values, offset, scale, "none", MASK, False, WHOLE, PRECISION,
        BLOCK_N, BLOCK_D, BLOCK_V,
    )  # fmt: skip
    dq = _over_keys(
        dq, q, dout, lse, slopes, k_ptr, v_ptr, mask_ptr, k_row, v_row, mask_row, mask_column, row, unmasked,
        seen, queries, keys, features, values, offset, scale, CAUSAL, MASK, True, WHOLE, PRECISION, BLOCK_N,
        BLOCK_D, BLOCK_V,
    )  # fmt: skip
    dq_ptr += batch * dq_batch + head * dq_head + q_first * dq_row
    store_rows(dq_ptr, dq * scale, first, dq_row, queries, features, BLOCK_M, BLOCK_D)


@triton.jit
def _over_keys(
    dq,
    q,
    dout,
    lse,
    slopes,
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
    """Go on with dq over the keys from `first` to `last`."""
    for start in tl.range(first, last, BLOCK_N, num_stages=1 if RAGGED else None):
        start = tl.multiple_of(start, BLOCK_N)
        column = start + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, start, k_row, keys, features, RAGGED, WHOLE, BLOCK_N, BLOCK_D)
        v = load_rows(v_ptr, start, v_row, keys, values, RAGGED, WHOLE, BLOCK_N, BLOCK_V)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * LOG2E)
        if RAGGED:
            s = masked(
                s, mask_ptr, mask_row, mask_column, row[:, None], column[None, :], queries, keys, offset,
                CAUSAL, MASK,
            )  # fmt: skip
        p = tl.math.exp2(s - lse[:, None])
        dp = tl.dot(dout, tl.trans(v), input_precision=PRECISION)
        ds = p * (dp - slopes[:, None])
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq


@triton.jit
def load_lse(lse_ptr, row, queries):
    """Logarithms in units of log2(e), +inf where a query sees no key or is none: its weights are then 0."""
    lse = tl.load(lse_ptr + row, mask=row < queries, other=float("inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse * LOG2E)
