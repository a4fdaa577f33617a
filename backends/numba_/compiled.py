"""Compilation of the kernels: kept between processes, and without any licence to change an operation.

`fastmath=False` has to be said of every function: one that leaves it open takes it from whoever calls it
first, and the rounding tricks of the exponential, compiled so, are optimized away.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.extending import overload

from softcert.kernel_cache import kept

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
_OPTIONS: dict[str, Any] = {"fastmath": False, "nogil": True, "error_model": "numpy"}
_SOURCES = Path(__file__).resolve().parent


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel that Python calls."""
    with kept(_SOURCES) as cache:
        made: Kernel = numba.njit(cache=cache, **_OPTIONS)(function)
    return made


def inlined(function: Kernel) -> Kernel:
    """Compile a function that becomes part of the kernel that calls it: vectors stay in registers."""
    made: Kernel = numba.njit(forceinline=True, **_OPTIONS)(function)
    return made


def chosen_by_type(stub: Callable[..., Any]) -> Callable[[Kernel], Kernel]:
    """What calls of `stub` in compiled code become: the decorated function picks it by the types given."""
    inline: Any = {"fastmath": False, "forceinline": True, "error_model": "numpy"}
    made: Callable[[Kernel], Kernel] = overload(stub, strict=False, jit_options=inline)
    return made
