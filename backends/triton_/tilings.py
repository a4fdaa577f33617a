"""Sizes of the blocks of attention, on which the order of every sum depends.

A tiling is chosen by the GPU, the kernel, the factors of its products, whether there is a mask, and the
features, never by lengths or by how many heads there are: a query's bits are those of any batch. Each is the
largest that was found to spill no register (`ahead_of_time`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

#: Widths of heads for which there are tilings.
WIDTHS = (64, 128, 256)
WIDEST = WIDTHS[-1]


#: Options of every launch and compilation. Triton's default of this one changes after 3.9, and bits with it.
OPTIONS: Mapping[str, Any] = MappingProxyType({"enable_fp_fusion": True})


class Tiling(NamedTuple):
    """Blocks of queries (m) and keys (n), warps of a program, stages of its pipeline of loads."""

    m: int
    n: int
    warps: int
    stages: int


#: Tilings for up to 64, 128 and 256 features.
_Widths: TypeAlias = tuple[Tiling, Tiling, Tiling]
#: By kernel, factors of its products, and whether there is a mask.
_Tilings: TypeAlias = Mapping[tuple[str, str, bool], _Widths]
_HOPPER: _Tilings = MappingProxyType(
    {
        ("forward", "half", False): (Tiling(128, 64, 4, 3), Tiling(128, 64, 8, 2), Tiling(128, 32, 8, 2)),
        ("forward", "half", True): (Tiling(128, 64, 8, 3), Tiling(64, 32, 8, 1), Tiling(64, 16, 8, 2)),
        ("forward", "single", False): (Tiling(64, 32, 8, 1), Tiling(32, 32, 8, 1), Tiling(32, 16, 16, 1)),
        ("forward", "single", True): (Tiling(32, 32, 4, 1), Tiling(32, 32, 8, 1), Tiling(32, 16, 8, 1)),
        ("backward_keys", "half", False): (
            Tiling(64, 128, 8, 2),
            Tiling(32, 128, 8, 2),
            Tiling(32, 32, 8, 1),
        ),
        ("backward_keys", "half", True): (Tiling(64, 128, 8, 2), Tiling(32, 64, 8, 2), Tiling(32, 32, 8, 1)),
        ("backward_keys", "single", False): (
            Tiling(16, 32, 4, 1),
            Tiling(32, 16, 8, 1),
            Tiling(16, 16, 16, 1),
        ),
        ("backward_keys", "single", True): (
            Tiling(32, 16, 8, 1),
            Tiling(16, 32, 8, 1),
            Tiling(16, 16, 16, 1),
        ),
        ("backward_queries", "half", False): (
            Tiling(128, 64, 8, 2),
            Tiling(128, 64, 8, 2),
            Tiling(32, 32, 8, 1),
        ),
        ("backward_queries", "half", True): (
            Tiling(128, 64, 8, 2),
            Tiling(128, 64, 8, 2),
            Tiling(32, 32, 8, 1),
        ),
        ("backward_queries", "single", False): (
            Tiling(32, 32, 4, 1),
            Tiling(16, 16, 8, 1),
            Tiling(16, 16, 8, 1),
        ),
        ("backward_queries", "single", True): (
            Tiling(32, 32, 4, 1),
            Tiling(32, 16, 8, 1),
            Tiling(16, 16, 8, 1),
        ),
    }
)
_AMPERE: _Tilings = MappingProxyType(
    {
        ("forward", "half", False): (Tiling(128, 64, 4, 2), Tiling(128, 64, 8, 2), Tiling(64, 64, 8, 2)),
        ("forward", "half", True): (Tiling(128, 64, 8, 3), Tiling(128, 32, 8, 2), Tiling(64, 32, 8, 2)),
        ("forward", "single", False): (Tiling(64, 32, 8, 1), Tiling(32, 32, 8, 1), Tiling(16, 16, 4, 1)),
        ("forward", "single", True): (Tiling(32, 32, 4, 1), Tiling(32, 32, 8, 1), Tiling(16, 16, 8, 1)),
        ("backward_keys", "half", False): (Tiling(32, 64, 4, 2), Tiling(64, 64, 8, 1), Tiling(32, 32, 8, 1)),
        ("backward_keys", "half", True): (Tiling(32, 64, 4, 2), Tiling(32, 64, 8, 2), Tiling(32, 32, 8, 1)),
        ("backward_keys", "single", False): (
            Tiling(32, 32, 8, 1),
            Tiling(32, 16, 8, 1),
            Tiling(16, 16, 4, 1),
        ),
        ("backward_keys", "single", True): (Tiling(32, 32, 8, 1), Tiling(32, 16, 8, 1), Tiling(16, 16, 4, 1)),
        ("backward_queries", "half", False): (
            Tiling(64, 64, 4, 2),
            Tiling(64, 64, 8, 2),
            Tiling(64, 64, 8, 1),
        ),
        ("backward_queries", "half", True): (
            Tiling(128, 64, 8, 2),
            Tiling(64, 64, 8, 2),
            Tiling(64, 16, 8, 1),
        ),
        ("backward_queries", "single", False): (
            Tiling(32, 32, 4, 1),
            Tiling(16, 32, 8, 1),
            Tiling(16, 16, 8, 1),
        ),
        ("backward_queries", "single", True): (
            Tiling(32, 32, 4, 1),
            Tiling(16, 32, 8, 1),
            Tiling(16, 16, 8, 1),
        ),
    }
)
#: Of the forward kernel, on every GPU, where float32 is rounded to tf32 for tensor cores.
_TF32: _Widths = (Tiling(64, 32, 8, 2), Tiling(64, 32, 8, 2), Tiling(32, 32, 8, 1))


def block_width(features: int) -> int:
    """Width of the block that holds so many features: a power of two that tensor cores can multiply.

    Raises
    ------
    ValueError : there are more than `WIDEST`.
    """
    if features > WIDEST:
        raise ValueError(f"the kernels take heads of at most {WIDEST} features, not {features}")
    return max(16, 1 << (features - 1).bit_length()) if features else 16


def tiling(
    kernel: str, capability: int, itemsize: int, precision: str, *, masked: bool, features: int, values: int
) -> Tiling:
    """Tiling of a kernel.

    Parameters
    ----------
    kernel : "forward", "backward_keys" or "backward_queries".
    capability : of the GPU, 90 for Hopper.
    itemsize : bytes of a number.
    precision : of products of float32, "ieee", "tf32" or "tf32x3".
    masked : there is a mask.
    features, values : widths of a row of q and k, and of v.
    """
    width = max(64, block_width(features), block_width(values)).bit_length() - 7
    if itemsize == 4 and precision != "ieee" and kernel == "forward":
        return _TF32[width]
    tilings = _HOPPER if capability >= 90 else _AMPERE
    return tilings[kernel, "half" if itemsize == 2 else "single", masked][width]


def constants(
    tiles: Tiling, *, causal: str, mask: str, packed: bool, precision: str, features: int, values: int
) -> dict[str, Any]:
    """What a kernel of attention is compiled for, in a launch and ahead of time.

    Parameters
    ----------
    tiles : its tiling.
    causal : "none", "bottom-right" or "top-left". mask : "none", "boolean" or "additive".
    packed : sequences lie end to end.
    precision, features, values : those of `tiling`.
    """
    widths = block_width(features), block_width(values)
    return {
        "CAUSAL": causal,
        "MASK": mask,
        "PACKED": packed,
        "WHOLE": widths == (features, values),
        "PRECISION": precision,
        "BLOCK_M": tiles.m,
        "BLOCK_N": tiles.n,
        "BLOCK_D": widths[0],
        "BLOCK_V": widths[1],
    }
