"""Launches of the softmax kernels, on tensors of PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

from softcert.backends.convert import Tensor
from softcert.backends.triton_ import softmax_kernels as kernels
from softcert.backends.triton_.axes import require_format

#: Bytes of rows that are read a second time, in all, while the second-level cache still holds them.
_CACHED_BYTES = 32 << 20
#: Numbers that one program holds where rows are short, and of a chunk where they are long.
_TILE, CHUNK = 1024, 8192


class Tiling(NamedTuple):
    """How rows of one length are dealt out.

    Attributes
    ----------
    whole : a program holds rows as a whole, not chunk by chunk.
    rows : of a program.
    block : numbers of a row that are held at a time, a power of two.
    warps : of a program.
    """

    whole: bool
    rows: int
    block: int
    warps: int


def tiling(length: int, tensors: int) -> Tiling:
    """Tiling for rows of a length, of one tensor or two; no other row has a say in it."""
    if length > (kernels.ONE_BLOCK if tensors == 1 else kernels.ONE_BLOCK_OF_TWO):
        return Tiling(whole=False, rows=1, block=CHUNK, warps=16)
    block = max(2, 1 << (length - 1).bit_length())
    rows = max(1, min(32, _TILE // block))
    # Long rows need all the registers that a processor has, short ones a few threads.
    warps = min(32, max(1, rows * block // 512))
    return Tiling(whole=True, rows=rows, block=block, warps=warps)


def forward(op: str, x: Tensor, axis: int = -1) -> Tensor:
    """Softmax, log_softmax or logsumexp along an axis.

    Parameters
    ----------
    op : "softmax", "log_softmax" or "logsumexp".
    x : (..., n, ...), float32, float16 or bfloat16; copied where the axis is not the last of dense memory.
    axis : the axis that is normalized.

    Returns
    -------
    The shape and dtype of `x`, without the axis for logsumexp.

    Raises
    ------
    ValueError : another format.
    """
    import torch

    require_format(x)
    moved = x.movedim(axis, -1).contiguous()
    length = moved.shape[-1]
    reduced = op == "logsumexp"
    if length == 0:
        return x.new_full(moved.shape[:-1], float("-inf")) if reduced else torch.empty_like(x)
    y = x.new_empty(moved.shape[:-1]) if reduced else torch.empty_like(moved)
    _launch(
        (moved, y), moved.numel() // length, length, kernels.forward_in_one, kernels.forward_in_chunks, OP=op
    )
    return y if reduced else y.movedim(-1, axis)


def backward(y: Tensor, dy: Tensor, axis: int = -1) -> Tensor:
    """Gradient of softmax, y (dy - sum y dy) along an axis, from its output y and a cotangent of it.

    Parameters
    ----------
    y, dy : (..., n, ...), float32, float16 or bfloat16.
    axis : the axis that was normalized.

    Returns
    -------
    The shape and dtype of `y`.

    Raises
    ------
    ValueError : another format.
    """
    import torch

    require_format(y, dy)
    given = [tensor.movedim(axis, -1).contiguous() for tensor in (y, dy)]
    dx = torch.empty_like(given[0])
    length = dx.shape[-1]
    if length:
        rows = dx.numel() // length
        _launch((*given, dx), rows, length, kernels.backward_in_one, kernels.backward_in_chunks)
    return dx.movedim(-1, axis)


def _launch(
    tensors: tuple[Tensor, ...], rows: int, length: int, in_one: Any, in_chunks: Any, **constants: str
) -> None:
    if rows == 0:
        return
    tiles = tiling(length, len(tensors) - 1)
    if tiles.whole:
        programs = -(-rows // tiles.rows)
        in_one[(programs,)](
            *tensors, rows, length, ROWS=tiles.rows, BLOCK=tiles.block, num_warps=tiles.warps, **constants
        )
        return
    row_bytes = length * tensors[0].element_size() * (len(tensors) - 1)
    programs = min(rows, max(32, _CACHED_BYTES // row_bytes))
    in_chunks[(programs,)](*tensors, rows, length, CHUNK=tiles.block, num_warps=tiles.warps, **constants)
