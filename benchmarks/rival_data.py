"""Data on which kernels are commonly tested: N(0, 1) at typical shapes, and the values expected there.

Shapes and axes of softmax are those of PyTorch's sample inputs and of model heads; those of attention are of
FlashAttention's tests, with masks, grouped heads and scales as PyTorch's tests of attention have them. Only
the numbers are tame.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import Tensor

from softcert.backends.convert import to_torch
from softcert.backends.ops import lse_dtype
from softcert.backends.types import Array, Call, as_dtype

SOFTMAX_SHAPES: tuple[tuple[tuple[int, ...], int], ...] = (
    ((5,), 0),
    ((5, 5), 0),
    ((5, 10, 5), 1),
    ((32, 128), -1),
    ((64, 1000), -1),
    ((4, 12, 77, 77), -1),
    ((4, 4096), -1),
    ((2, 32000), -1),
)


@dataclass(frozen=True)
class Problem:
    """Shape and options of one attention.

    Attributes
    ----------
    heads, groups : query heads and key heads of each batch.
    queries, keys, features, values : L, S, D and Dv.
    mask : "", "bool" of the full shape, "padding" of keys, or "bias".
    """

    queries: int
    keys: int
    features: int = 64
    values: int = 64
    heads: int = 4
    groups: int = 4
    causal: bool = False
    mask: str = ""
    scale: float | None = None
    batch: int = 2


PROBLEMS: tuple[Problem, ...] = (
    Problem(128, 128, 32, 32),
    Problem(64, 128, 64, 64, groups=2, causal=True),
    Problem(113, 203, 64, 64, groups=1),
    Problem(113, 203, 64, 64, causal=True),
    Problem(256, 128, 40, 40, groups=2, causal=True),
    Problem(97, 97, 59, 32, groups=2),
    Problem(1, 339, 64, 64, groups=1, causal=True),
    Problem(64, 96, 32, 32, mask="bool"),
    Problem(64, 96, 32, 32, mask="padding"),
    Problem(64, 96, 32, 32, mask="bias"),
    Problem(96, 96, 128, 128, scale=0.3),
    Problem(1023, 1024, 64, 64, heads=1, groups=1, batch=1),
    Problem(2048, 2048, 64, 64, heads=1, groups=1, causal=True, batch=1),
)
#: Attention of more than a thousand queries is asked for in these alone, for the time that it takes.
LARGE_DTYPES = ("float32", "bfloat16")
#: Rows and width of the two parts of a merge.
MERGES: tuple[tuple[int, int], ...] = ((1, 64), (32, 96), (113, 128), (640, 64))


@dataclass(frozen=True)
class Sample:
    """One call and what is expected of it.

    Attributes
    ----------
    call : what the kernel is asked.
    wanted : each result in binary64, rounded to its dtype.
    single : each result in binary32 arithmetic; of attention in 16 bits and of merges alone.
    peer : each result as PyTorch gives it in the operands' own dtype, likewise.
    """

    call: Call
    wanted: tuple[Array, ...]
    single: tuple[Tensor, ...] = field(default=())
    peer: tuple[Tensor, ...] = field(default=())


def samples(op: str, dtype: str) -> Iterator[Sample]:
    """Every sample of an op at a dtype, each made when it is first asked for, and kept."""
    if op == "attention_merge":
        yield from (_merge(dtype, seed) for seed in range(len(MERGES)))
    elif op.startswith("attention"):
        for seed, problem in enumerate(PROBLEMS):
            if problem.queries < 1000 or dtype in LARGE_DTYPES:
                yield _attention(op, dtype, seed)
    else:
        yield from (_softmax(op, dtype, seed) for seed in range(len(SOFTMAX_SHAPES)))


def _normal(rng: np.random.Generator, dtype: str, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(as_dtype(dtype))


def _rounded(value: Tensor, dtype: str) -> Array:
    rounded: Array = value.detach().numpy().astype(as_dtype(dtype))
    return rounded


@cache
def _softmax(op: str, dtype: str, seed: int) -> Sample:
    shape, axis = SOFTMAX_SHAPES[seed]
    rng = np.random.default_rng(seed)
    x = _normal(rng, dtype, *shape)
    wide = torch.from_numpy(x.astype(np.float64))
    operands: tuple[Array, ...] = (x,)
    if op == "logsumexp":
        wanted = torch.logsumexp(wide, axis)
    elif op == "log_softmax":
        wanted = torch.log_softmax(wide, axis)
    elif op == "softmax":
        wanted = torch.softmax(wide, axis)
    else:
        y, d = _rounded(torch.softmax(wide, axis), dtype), _normal(rng, dtype, *shape)
        operands = (y, d)
        y64, d64 = (torch.from_numpy(a.astype(np.float64)) for a in operands)
        wanted = y64 * (d64 - (y64 * d64).sum(axis, keepdim=True))
    return Sample(Call(op, operands, {"axis": axis}), (_rounded(wanted, dtype),))


def _mask(problem: Problem, rng: np.random.Generator, dtype: str) -> Array | None:
    p = problem
    if p.mask == "bias":
        return _normal(rng, dtype, 2, p.heads, p.queries, p.keys)
    if p.mask == "padding":
        return np.arange(p.keys) < np.array([p.keys - 7, p.keys // 2])[:, None, None, None]
    if p.mask == "bool":
        shown = rng.random((2, p.heads, p.queries, p.keys)) < 0.5
        shown[..., 0] = True
        return shown
    return None


def attend(
    q: Tensor, k: Tensor, v: Tensor, problem: Problem, mask: Tensor | None, *, reorder: bool = False
) -> tuple[Tensor, Tensor]:
    """(out, lse) by PyTorch's operations in the operands' dtype; rows that see nothing give 0.

    `reorder` scales the keys in place of the queries, as FlashAttention's tests do for what they compare
    with.
    """
    ratio = q.shape[-3] // k.shape[-3]
    k, v = k.repeat_interleave(ratio, -3), v.repeat_interleave(ratio, -3)
    scale = problem.scale or 1 / math.sqrt(q.shape[-1])
    scores = q @ (k * scale).mT if reorder else (q * scale) @ k.mT
    rows, columns = scores.shape[-2:]
    shown = torch.ones((rows, columns), dtype=torch.bool)
    if problem.causal:
        shown = shown.tril(columns - rows)
    if mask is not None and mask.dtype == torch.bool:
        shown = shown & mask
    elif mask is not None:
        scores = scores + mask
    scores = scores.masked_fill(~shown, -math.inf)
    empty = ~shown.any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(empty, 0.0), -1).masked_fill(empty, 0.0)
    return weights @ v, torch.logsumexp(scores, -1)


@cache
def _attention(op: str, dtype: str, seed: int) -> Sample:
    rng = np.random.default_rng(seed)
    p = PROBLEMS[seed]
    q = _normal(rng, dtype, p.batch, p.heads, p.queries, p.features)
    k = _normal(rng, dtype, p.batch, p.groups, p.keys, p.features)
    v = _normal(rng, dtype, p.batch, p.groups, p.keys, p.values)
    mask = _mask(p, rng, dtype)
    params: dict[str, float] = ({"causal": True} if p.causal else {}) | (
        {} if p.scale is None else {"scale": p.scale}
    )
    dout = _normal(rng, dtype, p.batch, p.heads, p.queries, p.values)
    given = tuple(to_torch(a) for a in (q, k, v))
    bias = None if mask is None else to_torch(mask)
    in_double = _results(op, given, dout, p, bias, torch.float64)
    lse = lse_dtype(dtype)
    if op == "attention_vjp":
        out, row_lse, *gradients = in_double
        call = Call(op, (q, k, v, _rounded(out, dtype), _rounded(row_lse, lse), dout), params, mask=mask)
        wanted = tuple(_rounded(g, dtype) for g in gradients)
        first = 2
    else:
        call = Call(op, (q, k, v), params, mask=mask)
        wanted = (_rounded(in_double[0], dtype), _rounded(in_double[1], lse))[: len(call.result_names)]
        first = 0
    if dtype not in {"float16", "bfloat16"}:
        return Sample(call, wanted)
    single = _results(op, given, dout, p, bias, torch.float32)
    peer = _results(op, given, dout, p, bias, given[0].dtype, reorder=True)
    return Sample(call, wanted, tuple(single[first:]), tuple(peer[first:]))


def _results(
    op: str,
    given: tuple[Tensor, ...],
    dout: Array,
    problem: Problem,
    bias: Tensor | None,
    dtype: torch.dtype,
    *,
    reorder: bool = False,
) -> list[Tensor]:
    """out, lse and, of the backward op, gradients by autograd, computed in a dtype."""
    leaves = [a.to(dtype).requires_grad_(op == "attention_vjp") for a in given]
    added = bias if bias is None or bias.dtype == torch.bool else bias.to(dtype)
    out, lse = attend(leaves[0], leaves[1], leaves[2], problem, added, reorder=reorder)
    results = [out.detach(), lse.detach()]
    if op == "attention_vjp":
        results += torch.autograd.grad(out, leaves, to_torch(dout).to(dtype))
    return results


@cache
def _merge(dtype: str, seed: int) -> Sample:
    """Partial outputs and lse, N(0, 1) both as in FlashAttention's test of its combining kernel."""
    rows, width = MERGES[seed]
    lse = lse_dtype(dtype)
    rng = np.random.default_rng(seed)
    parts = [_normal(rng, name, 2, 8, rows, *tail) for name, tail in ((dtype, (width,)), (lse, ())) * 2]
    # A part without keys gives 0: two heads of the one, four of the other.
    for out, row_lse, heads in ((parts[0], parts[1], 2), (parts[2], parts[3], 4)):
        out[0, :heads], row_lse[0, :heads] = 0, -np.inf
    wide = [torch.from_numpy(a.astype(np.float64)) for a in parts]
    total = torch.logaddexp(wide[1], wide[3])
    weights = [torch.exp(part - total).nan_to_num(nan=0.0)[..., None] for part in wide[1::2]]
    merged = wide[0] * weights[0] + wide[2] * weights[1]
    single = (merged.float(), total.float())
    wanted = (_rounded(merged, dtype), _rounded(total, lse))
    return Sample(Call("attention_merge", tuple(parts), {}), wanted, single, (to_torch(wanted[0]), single[1]))
