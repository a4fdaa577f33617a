"""Rows of softmax, log_softmax and logsumexp, and softmax's gradient, one program a row or a few.

A row of up to `ONE_BLOCK` numbers stays in registers: it is read once and written once. A longer one is read
twice, in chunks: the first time each lane keeps a maximum and a sum of its own (the recurrence of Milakov &
Gimelshein 2018, arXiv:1805.02867, lane by lane), which are put together when the row has been seen. So the
order of every sum is that of the row's length alone, whatever rows are beside it.

Everything is binary32, whatever the dtype of the tensors, and rounded once when it is stored.
"""

# Triton gives types to what a kernel takes, and its constants stand in capitals.
# ruff: noqa: ANN001, ANN201, ANN202, N803, N806, PLR0124
# mypy: ignore-errors

from __future__ import annotations

import triton
import triton.language as tl

from softcert.backends.triton_.exponential import exp_difference

#: Numbers of a row that one program holds in registers without spilling them, of one tensor and of two.
ONE_BLOCK, ONE_BLOCK_OF_TWO = 32768, 16384
#: Where maxima start, that rows of -inf alone subtract no infinity from another.
_LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def forward_in_one(x_ptr, y_ptr, rows, length, OP: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Results of `ROWS` rows of at most `BLOCK` logits each; a row's logits lie side by side.

    x_ptr : (rows, length). y_ptr : the same, or (rows,) where OP is "logsumexp".
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    there = (row < rows)[:, None] & (column < length)[None, :]
    place = row[:, None] * length + column[None, :]
    x = tl.load(x_ptr + place, mask=there, other=float("-inf")).to(tl.float32)
    pivot = tl.maximum(tl.max(x, 1), _LOWEST)
    terms = exp_difference(x, pivot[:, None], x_ptr.dtype.element_ty == tl.float32)
    total = tl.sum(terms, 1)
    if OP == "logsumexp":
        tl.store(y_ptr + row, _logsumexp(pivot, total, _any_nan(x)), mask=row < rows)
    elif OP == "log_softmax":
        tl.store(y_ptr + place, (x - pivot[:, None]) - tl.log(total)[:, None], mask=there)
    else:
        tl.store(y_ptr + place, tl.div_rn(terms, total[:, None] + tl.zeros_like(terms)), mask=there)


@triton.jit
def forward_in_chunks(x_ptr, y_ptr, rows, length, OP: tl.constexpr, CHUNK: tl.constexpr):
    """Results of rows of any length, read twice; each program takes every so many rows.

    x_ptr : (rows, length). y_ptr : the same, or (rows,) where OP is "logsumexp".
    """
    EXACT: tl.constexpr = x_ptr.dtype.element_ty == tl.float32
    lane = tl.arange(0, CHUNK)
    programs = tl.num_programs(0)
    for turn in range(tl.cdiv(rows - tl.program_id(0), programs)):
        row = tl.program_id(0).to(tl.int64) + turn * programs
        x_row = x_ptr + row * length
        pivot, total, nan = _first_read(x_row, length, EXACT, CHUNK)
        if OP == "logsumexp":
            tl.store(y_ptr + row, _logsumexp(pivot, total, nan))
        else:
            y_row = y_ptr + row * length
            for start in range(0, length, CHUNK):
                there = start + lane < length
                x = tl.load(x_row + start + lane, mask=there, other=float("-inf")).to(tl.float32)
                if OP == "log_softmax":
                    y = (x - pivot) - tl.log(total)
                else:
                    y = tl.div_rn(exp_difference(x, pivot, EXACT), total + tl.zeros_like(x))
                tl.store(y_row + start + lane, y, mask=there)


@triton.jit
def backward_in_one(y_ptr, dy_ptr, dx_ptr, rows, length, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """dx = y (dy - sum(y dy)) of `ROWS` rows of at most `BLOCK` numbers each; all are (rows, length)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    there = (row < rows)[:, None] & (column < length)[None, :]
    place = row[:, None] * length + column[None, :]
    y = tl.load(y_ptr + place, mask=there, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + place, mask=there, other=0.0).to(tl.float32)
    mean = tl.sum(y * dy, 1)
    tl.store(dx_ptr + place, y * (dy - mean[:, None]), mask=there)


@triton.jit
def backward_in_chunks(y_ptr, dy_ptr, dx_ptr, rows, length, CHUNK: tl.constexpr):
    """dx = y (dy - sum(y dy)) of rows of any length, read twice; all are (rows, length)."""
    lane = tl.arange(0, CHUNK)
    programs = tl.num_programs(0)
    for turn in range(tl.cdiv(rows - tl.program_id(0), programs)):
        first = (tl.program_id(0).to(tl.int64) + turn * programs) * length
        means = tl.zeros([CHUNK], tl.float32)
        for start in range(0, length, CHUNK):
            there = start + lane < length
            y = tl.load(y_ptr + first + start + lane, mask=there, other=0.0).to(tl.float32)
            means += y * tl.load(dy_ptr + first + start + lane, mask=there, other=0.0).to(tl.float32)
        mean = tl.sum(means, 0)
        for start in range(0, length, CHUNK):
            there = start + lane < length
            y = tl.load(y_ptr + first + start + lane, mask=there, other=0.0).to(tl.float32)
            dy = tl.load(dy_ptr + first + start + lane, mask=there, other=0.0).to(tl.float32)
            tl.store(dx_ptr + first + start + lane, y * (dy - mean), mask=there)


@triton.jit
def _first_read(x_row, length, EXACT: tl.constexpr, CHUNK: tl.constexpr):
    """Largest logit of a row, sum of exp(x - largest), and whether one is NaN."""
    lane = tl.arange(0, CHUNK)
    pivots = tl.full([CHUNK], _LOWEST, tl.float32)
    totals = tl.zeros([CHUNK], tl.float32)
    nans = tl.zeros([CHUNK], tl.int32)
    for start in range(0, length, CHUNK):
        there = start + lane < length
        x = tl.load(x_row + start + lane, mask=there, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(pivots, x)
        totals = totals * exp_difference(pivots, higher, EXACT) + exp_difference(x, higher, EXACT)
        pivots = higher
        nans |= (x != x).to(tl.int32)
    pivot = tl.max(pivots, 0)
    return pivot, tl.sum(totals * exp_difference(pivots, pivot, EXACT), 0), tl.max(nans, 0)


@triton.jit
def _logsumexp(pivot, total, nan):
    """pivot + log(total), +inf where the pivot is, unless a logit is NaN."""
    infinite = tl.where(nan > 0, float("nan"), float("inf"))
    return tl.where(pivot == float("inf"), infinite, pivot + tl.log(total))


@triton.jit
def _any_nan(x):
    return tl.max((x != x).to(tl.int32), 1)
