"""Compilation without any licence to change a floating-point operation.

`fastmath=False` has to be said of every function: one that leaves it open takes it from whoever calls it
first, and an error-free transformation compiled so returns 0. Kernels are kept between processes
(`softcert.kernel_cache`), since compiling them takes longer than many a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from softcert.kernel_cache import kept

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
_REFERENCE = Path(__file__).resolve().parent.parent
_OPTIONS: dict[str, Any] = {"fastmath": False, "nogil": True, "error_model": "numpy"}


def compiled(function: Kernel) -> Kernel:
    """Compile a kernel that Python calls."""
    with kept(_REFERENCE) as cache:
        made: Kernel = numba.njit(cache=cache, **_OPTIONS)(function)
    return made


def inlined(function: Kernel) -> Kernel:
    """Compile a function that becomes part of the loop that calls it, so that the loop can be vectorized."""
    made: Kernel = numba.njit(forceinline=True, **_OPTIONS)(function)
    return made


def _function(builder: Any, name: str, kind: Any) -> Any:
    return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]


def _fma(_context: Any, _a: Any, _b: Any, _c: Any) -> Any:
    double = ir.DoubleType()

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        function = _function(builder, "llvm.fma.f64", ir.FunctionType(double, [double] * 3))
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), emit


def _larger(_context: Any, a: Any, _b: Any) -> Any:

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        kind = arguments[0].type
        name = f"llvm.maxnum.{'f64' if str(kind) == 'double' else 'f32'}"
        function = _function(builder, name, ir.FunctionType(kind, [kind] * 2))
        return builder.call(function, arguments, fastmath=("nnan", "nsz"))

    return a(a, a), emit


def _bits_of(_context: Any, _a: Any) -> Any:

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), emit


def _from_bits(_context: Any, _a: Any) -> Any:

    def emit(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), emit


#: a * b + c, rounded once: an instruction where the processor has it, the C library's function elsewhere.
fma: Callable[[float, float, float], float] = cast("Any", intrinsic(_fma))
#: The larger of two numbers of one dtype, neither of which is NaN; unlike max() it vectorizes.
larger: Callable[[float, float], float] = cast("Any", intrinsic(_larger))
#: The bits of a binary64 number as an integer, and back.
bits_of: Callable[[float], int] = cast("Any", intrinsic(_bits_of))
from_bits: Callable[[int], float] = cast("Any", intrinsic(_from_bits))
