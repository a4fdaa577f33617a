"""Launches of the attention kernels, on tensors of PyTorch."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from softcert.backends.convert import Tensor
from softcert.backends.triton_ import backward_kernels, forward_kernel
from softcert.backends.triton_.axes import require_format, scale_of
from softcert.backends.triton_.tilings import OPTIONS, Tiling, block_width, constants, tiling

Causal = Literal["none", "bottom-right", "top-left"]
Precision = Literal["ieee", "tf32", "tf32x3"]


class Packing(NamedTuple):
    """Sequences that lie end to end.

    Attributes
    ----------
    q_starts, k_starts : (B + 1,) int32, the first row of each sequence, and behind them the number of rows.
    queries, keys : lengths of the longest.
    """

    q_starts: Tensor
    k_starts: Tensor
    queries: int
    keys: int


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    causal: Causal = "none",
    mask: Tensor | None = None,
    precision: Precision = "ieee",
    packing: Packing | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention and the log-sum-exp of its scores.

    Parameters
    ----------
    q : (B, H, L, D), float32, float16 or bfloat16, D at most 256.
    k, v : (B, G, S, D) and (B, G, S, Dv), G a divisor of H: head h of q sees head h // (H / G).
    scale : 1 / sqrt(D) by default.
    causal : query i sees key j iff j <= i + S - L ("bottom-right"), iff j <= i ("top-left"), or always.
    mask : broadcasts to (B, H, L, S); booleans, True where seen, or numbers that are added to scores.
    precision : of products of float32; tf32 keeps 10 bits of each factor, tf32x3 about 21.
    packing : where given, q, k and v are those of all sequences, (1, H, rows, D), and no mask is taken.

    Returns
    -------
    out (B, H, L, Dv) of the dtype of `q`, and lse (B, H, L), float32: 0 and -inf where no key is seen.

    Raises
    ------
    ValueError : the shapes do not go together, or the formats.
    """
    operands = _Operands.of(q, k, v, scale, causal, mask, precision, packing)
    out = q.new_empty((*q.shape[:-1], v.shape[-1]))
    lse = q.new_empty(q.shape[:-1], dtype=_float32())
    if operands.queries and operands.batches * operands.heads:
        tiles = operands.tiling("forward")
        forward_kernel.forward[(operands.programs(operands.queries, tiles.m),)](
            operands.q,
            operands.k,
            operands.v,
            operands.mask,
            out,
            lse,
            *operands.starts,
            *operands.strides(operands.q),
            *operands.strides(operands.k),
            *operands.strides(operands.v),
            *operands.strides(out),
            *operands.strides(lse)[:2],
            *operands.mask_strides,
            *operands.lengths,
            operands.scale,
            **operands.constants(tiles),
        )
    return out, lse


def backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    dout: Tensor,
    *,
    scale: float | None = None,
    causal: Causal = "none",
    mask: Tensor | None = None,
    precision: Precision = "ieee",
    packing: Packing | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of attention: functions of the out and lse that are given, the same bits at every call.

    Parameters
    ----------
    q, k, v, scale, causal, mask, precision, packing : those of `forward`.
    out : (B, H, L, Dv). lse : (B, H, L). dout : cotangent of `out`.

    Returns
    -------
    dq, dk, dv, of the shapes and dtypes of q, k and v.

    Raises
    ------
    ValueError : the shapes do not go together, or the formats.
    """
    operands = _Operands.of(q, k, v, scale, causal, mask, precision, packing)
    dq, dk, dv = (tensor.new_zeros(tensor.shape) for tensor in (q, k, v))
    if not (operands.queries and operands.keys and operands.batches * operands.heads):
        return dq, dk, dv
    out, dout, lse = (_rows_without_gaps(t) for t in (out, dout, lse.to(_float32()).contiguous()))
    slopes = _delta(out, dout, q.shape[1])
    given = (operands.q, operands.k, operands.v, operands.mask, dout, lse, slopes)
    strides = (
        *operands.strides(operands.q),
        *operands.strides(operands.k),
        *operands.strides(operands.v),
        *operands.strides(dout),
        *operands.strides(lse)[:2],
        *operands.mask_strides,
    )
    tiles = operands.tiling("backward_keys")
    backward_kernels.backward_keys[(operands.programs(operands.keys, tiles.n, operands.groups),)](
        *given,
        dk,
        dv,
        *operands.starts,
        *strides,
        *operands.strides(dk),
        *operands.strides(dv),
        *operands.lengths,
        operands.scale,
        **operands.constants(tiles),
    )
    tiles = operands.tiling("backward_queries")
    backward_kernels.backward_queries[(operands.programs(operands.queries, tiles.m),)](
        *given,
        dq,
        *operands.starts,
        *strides,
        *operands.strides(dq),
        *operands.lengths,
        operands.scale,
        **operands.constants(tiles),
    )
    return dq, dk, dv


def _delta(out: Tensor, dout: Tensor, heads: int) -> Tensor:
    """sum(out dout) over features: (B, H, L), float32."""
    slopes = out.new_empty(out.shape[:-1], dtype=_float32())
    batches, _, queries, values = out.shape
    block = block_width(values)
    rows = max(16, 8192 // block)
    backward_kernels.delta[(-(-queries // rows) * batches * heads,)](
        out,
        dout,
        slopes,
        *out.stride()[:3],
        *dout.stride()[:3],
        *slopes.stride()[:2],
        heads,
        queries,
        values,
        BLOCK_M=rows,
        BLOCK_V=block,
        **OPTIONS,
    )
    return slopes


class _Operands(NamedTuple):
    """What all kernels are given.

    Attributes
    ----------
    q, k, v : features side by side.
    mask : (B, H, L, S), or q where there is none, which no kernel then reads.
    kind : "none", "boolean" or "additive".
    scale, causal, precision, packing : those of `forward`.
    batches, queries, keys : lengths, of the longest sequence where they are packed.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor
    kind: str
    scale: float
    causal: Causal
    precision: Precision
    packing: Packing | None
    batches: int
    queries: int
    keys: int

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float | None,
        causal: Causal,
        mask: Tensor | None,
        precision: Precision,
        packing: Packing | None,
    ) -> _Operands:
        """Operands of one call.

        Raises
        ------
        ValueError : the shapes do not go together, or the formats.
        """
        require_format(q, k, v)
        _require_shapes(q, k, v, mask, packing)
        kind, given = _mask(mask, (*q.shape[:-1], k.shape[-2]))
        q, k, v = map(_rows_without_gaps, (q, k, v))
        lengths = (
            (q.shape[0], q.shape[2], k.shape[2])
            if packing is None
            else (len(packing.q_starts) - 1, packing.queries, packing.keys)
        )
        factor = scale_of(scale, q.shape[-1])
        return cls(q, k, v, q if given is None else given, kind, factor, causal, precision, packing, *lengths)

    @property
    def heads(self) -> int:
        """Heads of q."""
        return int(self.q.shape[1])

    @property
    def groups(self) -> int:
        """Heads of k and v."""
        return int(self.k.shape[1])

    @property
    def starts(self) -> tuple[Tensor, Tensor]:
        """First rows of sequences, or tensors that no kernel reads."""
        return (self.q, self.q) if self.packing is None else (self.packing.q_starts, self.packing.k_starts)

    @property
    def mask_strides(self) -> tuple[int, ...]:
        """Strides of the mask."""
        return (0, 0, 0, 0) if self.kind == "none" else tuple(self.mask.stride())

    @property
    def lengths(self) -> tuple[int, ...]:
        """Heads, how many of q share one of k, queries, keys, features and values."""
        share = self.heads // self.groups
        return self.heads, share, self.queries, self.keys, int(self.q.shape[-1]), int(self.v.shape[-1])

    def strides(self, tensor: Tensor) -> tuple[int, ...]:
        """Strides of batch, head and row."""
        batch, *others = tensor.stride()[:3]
        return (batch if self.packing is None else 0, *others)

    def programs(self, rows: int, block: int, heads: int | None = None) -> int:
        """How many programs a kernel has that takes a block of rows of one head."""
        return -(-rows // block) * self.batches * (self.heads if heads is None else heads)

    def tiling(self, kernel: str) -> Tiling:
        """Blocks of a kernel."""
        return tiling(
            kernel,
            _capability(self.q),
            self.q.element_size(),
            self.precision,
            masked=self.kind != "none",
            features=self.q.shape[-1],
            values=self.v.shape[-1],
        )

    def constants(self, tiles: Tiling) -> dict[str, Any]:
        """What a kernel is compiled for."""
        compiled = constants(
            tiles,
            causal=self.causal,
            mask=self.kind,
            packed=self.packing is not None,
            precision=self.precision,
            features=int(self.q.shape[-1]),
            values=int(self.v.shape[-1]),
        )
        return {**compiled, **OPTIONS, "num_warps": tiles.warps, "num_stages": tiles.stages}


def _require_shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, packing: Packing | None) -> None:
    heads, groups = q.shape[1], k.shape[1]
    if k.shape[:3] != v.shape[:3] or q.shape[0] != k.shape[0] or q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not go together")
    if heads and (groups == 0 or heads % groups):
        raise ValueError(f"{heads} heads of q cannot share {groups} of k and v alike")
    if packing is not None and mask is not None:
        raise ValueError("packed sequences take no mask")


def _mask(mask: Tensor | None, shape: tuple[int, ...]) -> tuple[str, Tensor | None]:
    """Kind of a mask, and the mask broadcast; booleans as bytes, which Triton can load."""
    import torch

    if mask is None:
        return "none", None
    kind = "boolean" if mask.dtype == torch.bool else "additive"
    return kind, (mask.view(torch.uint8) if kind == "boolean" else mask).expand(shape)


def _rows_without_gaps(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _capability(tensor: Tensor) -> int:
    """Compute capability of the GPU that holds a tensor, times ten; Hopper's for the interpreter."""
    import torch

    if not tensor.is_cuda:
        return 90
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * int(major) + int(minor)


def _float32() -> Any:
    import torch

    return torch.float32
