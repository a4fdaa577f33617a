"""Arrays with any number of batch axes as tensors with one."""

from __future__ import annotations

import math

from softcert.backends.convert import Tensor, to_torch
from softcert.backends.types import Array


def four_axes(array: Array, device: str) -> Tensor:
    """(..., H, n, m) as a tensor (B, H, n, m) on a device."""
    array = array[(None,) * max(0, 4 - array.ndim)]
    return to_torch(array.reshape(math.prod(array.shape[:-3]), *array.shape[-3:])).to(device)
