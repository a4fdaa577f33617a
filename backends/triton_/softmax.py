"""Launches of the softmax kernels, on tensors of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from softcert.backends.convert import Tensor
from softcert.backends.triton_ import softmax_kernels as kernels
from softcert.backends.triton_.axes import require_format
from softcert.backends.triton_.tilings import OPTIONS

Op = Literal["softmax", "log_softmax", "logsumexp", "backward"]
#: Bytes of rows that are read a second time, in all, while the second-level cache still holds them.
_CACHED_BYTES = 32 << 20
#: Kernels of rows as a whole and in chunks, and the longest row held as a whole; then those of the gradient.
_KERNELS = (
    (kernels.forward_in_one, kernels.forward_in_chunks, kernels.ONE_BLOCK),
    (kernels.backward_in_one, kernels.backward_in_chunks, kernels.ONE_BLOCK_OF_TWO),
)
#: Numbers that one program holds where rows are short, and of a chunk where they are long.
_TILE, CHUNK = 1024, 8192


class Launch(NamedTuple):
    """How rows of one length are dealt out.

    Attributes
    ----------
    kernel : of rows held as a whole, or chunk by chunk.
    rows : of a program, or None where each takes every so many.
    constants : what the kernel is compiled for.
    warps : of a program.
    """

    kernel: Any
    rows: int | None
    constants: Mapping[str, Any]
    warps: int


def launch_for(op: Op, length: int) -> Launch:
    """Launch for rows of a length; no other row has a say in it."""
    in_one, in_chunks, longest = _KERNELS[op == "backward"]
    named = {} if op == "backward" else {"OP": op}
    if length > longest:
        return Launch(in_chunks, None, {**named, "CHUNK": CHUNK}, 16)
    block = max(2, 1 << (length - 1).bit_length())
    rows = max(1, min(32, _TILE // block))
    # Long rows need all the registers that a processor has, short ones a few threads.
    warps = min(32, max(1, rows * block // 512))
    return Launch(in_one, rows, {**named, "ROWS": rows, "BLOCK": block}, warps)


def forward(op: Op, x: Tensor, axis: int = -1) -> Tensor:
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
    _launch(op, (moved, y), moved.numel() // length, length)
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
        _launch("backward", (*given, dx), rows, length)
    return dx.movedim(-1, axis)


def _launch(op: Op, tensors: tuple[Tensor, ...], rows: int, length: int) -> None:
    if rows == 0:
        return
    launch = launch_for(op, length)
    if launch.rows is None:
        row_bytes = length * tensors[0].element_size() * (len(tensors) - 1)
        programs = min(rows, max(32, _CACHED_BYTES // row_bytes))
    else:
        programs = -(-rows // launch.rows)
    launch.kernel[(programs,)](*tensors, rows, length, num_warps=launch.warps, **launch.constants, **OPTIONS)
