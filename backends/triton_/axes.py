"""What the kernels take: formats of numbers, a scale, and tensors with one axis of batches."""

from __future__ import annotations

import math

from softcert.backends.convert import Tensor, to_torch
from softcert.backends.device_clock import moved
from softcert.backends.types import Array

#: Formats of the operands, by PyTorch's names.
FORMATS = ("float32", "float16", "bfloat16")


def require_format(*tensors: Tensor) -> None:
    """Refuse what the kernels would compute in float32 and give back as something else.

    Raises
    ------
    ValueError : tensors of several formats, or of one that the kernels do not know.
    """
    names = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors}
    if len(names) > 1 or not names <= set(FORMATS):
        known = f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise ValueError(f"the kernels take tensors of {known}, not {' and '.join(sorted(names))}")


def scale_of(scale: float | None, features: int) -> float:
    """The scale of scores: 1 / sqrt(D) where none is given."""
    return 1.0 / math.sqrt(max(features, 1)) if scale is None else float(scale)


def four_axes(array: Array, device: str) -> Tensor:
    """(..., H, n, m) as a tensor (B, H, n, m) on a device."""
    array = array[(None,) * max(0, 4 - array.ndim)]
    return moved(to_torch(array.reshape(math.prod(array.shape[:-3]), *array.shape[-3:])), device)
