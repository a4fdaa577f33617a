"""Rows of softmax, log_softmax and logsumexp, and softmax's gradient, one program a row or a few.

A row of up to `ONE_BLOCK` numbers stays in registers: it is read once and written once. A longer one is read
twice, in chunks: the first time each lane keeps a maximum and a sum of its own (the recurrence of Milakov &
Gimelshein 2018, arXiv:1805.02867, lane by lane), which are put together when the row has been seen. So the
order of every sum is that of the row's length alone, whatever rows are beside it.

Where a logarithm follows, the largest term, 1, is kept out of the sum: next to it the others would lose the
digits that are all that is left of a logarithm near 0.

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
    if OP == "softmax":
        total = tl.sum(terms, 1)
        tl.store(y_ptr + place, tl.div_rn(terms, total[:, None] + tl.zeros_like(terms)), mask=there)
    else:
        largest = x == pivot[:, None]
        rest = tl.sum(tl.where(largest, terms - 1.0, terms), 1) + (tl.sum(largest.to(tl.float32), 1) - 1.0)
        if OP == "logsumexp":
            nan = tl.max((x != x).to(tl.int32), 1)
            tl.store(y_ptr + row, _logsumexp(pivot, rest, nan), mask=row < rows)
        else:
            tl.store(y_ptr + place, (x - pivot[:, None]) - _log1p(rest)[:, None], mask=there)


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
        pivot, rest, nan = _first_read(x_row, length, EXACT, CHUNK)
        if OP == "logsumexp":
            tl.store(y_ptr + row, _logsumexp(pivot, rest, nan))
        else:
            y_row = y_ptr + row * length
            for start in range(0, length, CHUNK):
                there = start + lane < length
                x = tl.load(x_row + start + lane, mask=there, other=float("-inf")).to(tl.float32)
                if OP == "log_softmax":
                    y = (x - pivot) - _log1p(rest)
                else:
                    y = tl.div_rn(exp_difference(x, pivot, EXACT), (rest + 1.0) + tl.zeros_like(x))
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
    """Largest logit of a row, sum of exp(x - largest) less 1, and whether one is NaN.

    A lane that has seen nothing has the sum -1: its first logit adds exp(0), and the sum is 0.
    """
    lane = tl.arange(0, CHUNK)
    pivots = tl.full([CHUNK], _LOWEST, tl.float32)
    rests = tl.full([CHUNK], -1.0, tl.float32)
    nans = tl.zeros([CHUNK], tl.int32)
    for start in range(0, length, CHUNK):
        there = start + lane < length
        x = tl.load(x_row + start + lane, mask=there, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(pivots, x)
        terms = exp_difference(x, higher, EXACT)
        # exp(0) less 1, or NaN where both are +inf.
        shrunk = (rests + 1.0) * exp_difference(pivots, higher, EXACT) + (terms - 1.0)
        rests = tl.where(x > pivots, shrunk, rests + terms)
        pivots = higher
        nans |= (x != x).to(tl.int32)
    pivot = tl.max(pivots, 0)
    largest = pivots == pivot
    others = tl.where(largest, rests, (rests + 1.0) * exp_difference(pivots, pivot, EXACT))
    return pivot, tl.sum(others, 0) + (tl.sum(largest.to(tl.float32), 0) - 1.0), tl.max(nans, 0)


@triton.jit
def _logsumexp(pivot, rest, nan):
    """pivot + log(1 + rest), +inf where the pivot is, unless a logit is NaN."""
    infinite = tl.where(nan > 0, float("nan"), float("inf"))
    return tl.where(pivot == float("inf"), infinite, pivot + _log1p(rest))


@triton.jit
def _log1p(x):
    """log(1 + x), x >= -1, by W. Kahan's correction of what 1 + x rounds off.

    Source: HP-15C Advanced Functions Handbook, 1982, appendix; Goldberg 1991 (doi:10.1145/103162.103163),
    theorem 4.
    """
    one = 1.0 + x
    gained = one - 1.0
    return tl.where(gained == 0.0, x, tl.log(one) * (x / tl.where(gained == 0.0, 1.0, gained)))
