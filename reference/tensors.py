"""PyTorch's tensors as arrays, where the caller has imported PyTorch; it is never imported from here."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from softcert.reference.errors import DomainError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Formats that NumPy lacks, and the integers of their width, by which their bits are taken over.
_BY_BITS = {"bfloat16": "int16", "float8_e4m3fn": "int8", "float8_e5m2": "int8"}


def is_tensor(x: object) -> bool:
    """Whether something is a tensor of a PyTorch that is already imported."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(x, tensor)


def tensor_as_array(tensor: Any, name: str) -> NDArray[Any]:
    """Array with the numbers of a tensor, wherever it lives and whether or not it wants a gradient.

    Raises
    ------
    DomainError : a tensor without dense numbers: sparse, quantised, or of no data at all.
    """
    dtype = str(tensor.dtype).removeprefix("torch.")
    try:
        dense = tensor.detach().cpu().resolve_conj().resolve_neg()
        if dtype not in _BY_BITS:
            return np.asarray(dense.numpy())
        import ml_dtypes

        bits = dense.contiguous().view(getattr(sys.modules["torch"], _BY_BITS[dtype]))
        return np.asarray(bits.numpy().view(getattr(ml_dtypes, dtype)))
    except (TypeError, RuntimeError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DomainError(f"{name} is a tensor whose numbers cannot be read: {reason}") from None
