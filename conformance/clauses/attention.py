"""Attention equals its definition, whatever the tiles, the masks and the order of the keys."""

from __future__ import annotations

import numpy as np

from softcert.conformance.context import Context
from softcert.conformance.inputs import attention_directed as directed
from softcert.conformance.inputs import attention_masked as masked
from softcert.conformance.inputs.attention_growing import attend_once, attention_call, with_operands
from softcert.conformance.inputs.attention_parts import merges
from softcert.conformance.inputs.attention_strategies import (
    drawn_masks,
    drawn_merges,
    drawn_operands,
    drawn_shifts,
)
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial
from softcert.conformance.spec import ATTENTION_FORWARD_OPS, Clause, Seedling

_DEFINITION = "out_i = sum_j exp(s_ij - lse_i) v_j, lse_i = log sum_j exp(s_ij), s = scale q k^T + mask"
_VASWANI = "A. Vaswani et al., arXiv:1706.03762, eq. 1"


def grow_permuted(seedling: Seedling, context: Context) -> Trial:
    """The operands, with keys and values in another order, and with features of q and k in another order."""
    q, k, v = seedling.operands[:3]
    rng = np.random.default_rng([int(seedling.extra.get("permutation", 0)), k.shape[-2], k.shape[-1]])
    keys, features = rng.permutation(k.shape[-2]), rng.permutation(k.shape[-1])
    others = (
        with_operands(
            seedling, k=np.ascontiguousarray(k[..., ::-1, :]), v=np.ascontiguousarray(v[..., ::-1, :])
        ),
        with_operands(seedling, k=k[..., keys, :], v=v[..., keys, :]),
        with_operands(seedling, q=q[..., features], k=k[..., features]),
    )
    calls = [attention_call(s, context) for s in (seedling, *others)]
    return Trial(tuple(calls), {}, seedling.family)


def grow_merged_both_ways(seedling: Seedling, context: Context) -> Trial:
    """The two parts in one order and in the other."""
    out_a, lse_a, out_b, lse_b = seedling.operands
    swapped = attention_call(seedling, context, (out_b, lse_b, out_a, lse_a))
    return Trial((attention_call(seedling, context), swapped), {}, seedling.family)


CLAUSES = (
    Clause(
        id="attention.definition",
        statement="attention equals its definition, within the bound of the contract",
        mathematics=_DEFINITION,
        source=f"{_VASWANI}; bounds: docs/explanation/attention-bounds.md",
        in_practice="another scale, a table for exp, weights rounded to a format that nobody declared; "
        "`allclose` at 1e-2 accepts all of them",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.plain,
        drawn=drawn_operands,
        grow=attend_once,
        judge=judge_values,
        accuracy=True,
    ),
    Clause(
        id="attention.lengths",
        statement="the number of queries and of keys does not matter, next to every block size too",
        mathematics=_DEFINITION + ", L and S from 1 to 131072",
        source="tiles of 16 to 256 in T. Dao, arXiv:2307.08691; onnxruntime#23850 (16 < L < 32)",
        in_practice="a padded key of the last tile scored 0, which only scores far below 0 show; a tail "
        "that is left out",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.lengths,
        grow=attend_once,
        judge=judge_values,
        accuracy=True,
    ),
    Clause(
        id="attention.features",
        statement="the number of features, and of columns of the values, does not matter",
        mathematics=_DEFINITION + ", D and Dv from 1 to 257, D != Dv",
        source="triton#621 (64 of 128 features used), flash-attention PR #2864",
        in_practice="features beyond a tile left out; the scale taken from Dv",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.widths,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.causal",
        statement="the causal mask shows key j to query i as the contract aligns it, L != S included",
        mathematics="j <= i + S - L (bottom-right), j <= i (top-left)",
        source="the predicate, evaluated for each pair; flashinfer#348, onnx#8068, flash-attention#2528",
        in_practice="off by one, in kernel and reference alike; the other alignment where L != S",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.causal,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.mask",
        statement="masks hide or are added, of any shape that broadcasts, with the causal one or without",
        mathematics="s_ij + mask_ij, or s_ij where mask_ij, else -inf",
        source=f"{_VASWANI}; pytorch#196678, vllm#56578",
        in_practice="padding that counts, a mask added before the scale, one head's mask for all; a leading "
        "tile without a visible key gives NaN",
        ops=ATTENTION_FORWARD_OPS,
        directed=masked.masks,
        drawn=drawn_masks,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.hidden-keys",
        statement="what keys and values that are hidden hold does not matter, as long as it is finite",
        mathematics="out does not depend on k_j, v_j where mask_ij = -inf",
        source="definition; pytorch#101967",
        in_practice="large stale numbers in padding decide the maximum or leak through a finite sentinel",
        ops=ATTENTION_FORWARD_OPS,
        directed=masked.hidden,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.hidden-nan",
        statement="NaN and infinities at hidden keys and values do not matter, where the contract says so",
        mathematics="the same, for numbers that are none",
        source="the contract's masked_nan field; pytorch#101967",
        in_practice="0 * NaN = NaN: an uninitialised page of a cache spoils the output",
        ops=ATTENTION_FORWARD_OPS,
        directed=masked.hidden_nan,
        grow=attend_once,
        judge=judge_values,
        applies=lambda c: None if c.contract.masked_nan == "ignored" else "the contract does not promise it",
    ),
    Clause(
        id="attention.empty-rows",
        statement="a query that sees no key gives what the contract says, and disturbs no other query",
        mathematics="out_i = 0, lse_i = -inf, by default",
        source="the contract's masked_row and masked_lse fields; pytorch#41508, flashinfer#4051",
        in_practice="NaN for the row, the mean of all values, or a row that carries over into the next tile",
        ops=ATTENTION_FORWARD_OPS,
        directed=masked.empty_rows,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.translation",
        statement="scores moved together, far down or far up, leave the output and move lse by as much",
        mathematics="softmax(s + c) v = softmax(s) v, lse(s + c) = lse(s) + c",
        source="definition; pytorch#196678, flashinfer#4401 (sentinel -5e4), cudnn-frontend#1072",
        in_practice="a padded key scored 0 outweighs all others at -120; a sentinel that real scores reach; "
        "no maximum taken, inf at +120",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.translation,
        drawn=drawn_shifts,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.values",
        statement="outputs lie in the convex hull of the values, constant values come back, large and small "
        "ones go through unharmed",
        mathematics="min_j v_j <= out <= max_j v_j; v = c gives out = c",
        source="weights are positive and sum to 1; flash-attention#2577 (weights saturate, not their sum)",
        in_practice="a row sum that is not that of the weights used; output off by one factor everywhere",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.values,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.order",
        statement="the order of the keys does not matter, nor that of the features of q and k together",
        mathematics="out(q, P k, P v) = out(q, k, v); out(q Q, k Q, v) = out(q, k, v)",
        source="sums do not depend on the order of their terms; triton#621",
        in_practice="a maximum that is not rescaled when it rises in a later tile",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.orders,
        grow=grow_permuted,
        judge=judge_values,
    ),
    Clause(
        id="attention.heads",
        statement="every head of every batch has its own result, heads that share keys too",
        mathematics="head h of q sees head h // (Hq / Hk) of k and v",
        source="J. Ainslie et al., GQA, arXiv:2305.13245; onnxruntime#23850, pytorch#193893",
        in_practice="heads shared in turn (h mod Hk), the first batch for all, heads beyond a count left out",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.shared,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.packed",
        statement="sequences packed behind each other do not see each other",
        mathematics="a block-diagonal mask gives each block's own attention",
        source="T. Dao, arXiv:2307.08691 (variable length); definition",
        in_practice="the last tile of one sequence sees the first keys of the next",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.packed,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.scale",
        statement="the scale given is used, once, also 0 and negative ones; by default it is 1/sqrt(D)",
        mathematics="s = scale q k^T, scale = 1/sqrt(D) where none is given",
        source=_VASWANI,
        in_practice="the scale ignored, applied twice, or taken from Dv",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.scales,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.limit",
        statement="scores far apart give the value of the largest one, equal ones their mean",
        mathematics="softmax(beta s) v tends to the mean of v over argmax s",
        source="the limit of softmax; pytorch#163932",
        in_practice="NaN from inf - inf, a clamped exponent that leaves weight on the others",
        ops=ATTENTION_FORWARD_OPS,
        directed=directed.limits,
        grow=attend_once,
        judge=judge_values,
    ),
    Clause(
        id="attention.merge",
        statement="the merge of two results is that on the union of their keys, in either order, and empty "
        "parts change nothing",
        mathematics="out = (e^la oa + e^lb ob) / (e^la + e^lb), lse = log(e^la + e^lb); (0, -inf) is neutral",
        source="T. Dao et al., arXiv:2205.14135, section 3.1; flashinfer#4051, vllm#39148 (two empty parts)",
        in_practice="NaN from -inf - -inf, overflow without a maximum, one lse ignored",
        ops=("attention_merge",),
        directed=merges,
        drawn=drawn_merges,
        grow=grow_merged_both_ways,
        judge=judge_values,
        accuracy=True,
    ),
)
