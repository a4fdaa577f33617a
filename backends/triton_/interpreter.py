"""Triton's interpreter, which runs kernels on the CPU in NumPy, with two repairs of its bfloat16.

Triton 3.9 multiplies the bit patterns of bfloat16 operands of `tl.dot`, and cuts digits off where a GPU
rounds to bfloat16, to nearest with ties to even (triton-lang/triton issues 11584 and 11585, closed as out of
scope). Both are repaired from outside, so that a kernel computes here what it computes on a GPU, up to the
order of sums and the GPU's own exponential.

Functions become the interpreter's or the compiler's when the module that holds them is imported, Triton's own
too, so a process runs either.
"""

from __future__ import annotations

import math
import os
import sys
from importlib import import_module
from typing import Any

import ml_dtypes
import numpy as np

from softcert.errors import SubjectError

#: What Triton asks when it is imported, for the functions of its own library are kernels too.
_SWITCH = "TRITON_INTERPRET"
#: Programs of one launch: at some 15 ms each, as many take minutes.
_PROGRAMS = 1 << 14


def interpret_kernels() -> None:
    """Make Triton's functions, and the kernels of this package, the interpreter's.

    Raises
    ------
    SubjectError : Triton has been imported for the compiler.
    """
    if "triton" in sys.modules and not interpreted():
        raise SubjectError("Triton compiles in this process, and cannot interpret in it too")
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        import triton
    finally:
        del os.environ[_SWITCH]
        if before is not None:
            os.environ[_SWITCH] = before
    triton.knobs.runtime.interpret = True
    _repair()


def interpreted() -> bool:
    """Whether kernels are interpreted in this process."""
    import triton

    return bool(triton.knobs.runtime.interpret)


def _repair() -> None:
    """Put bfloat16 right; once is enough."""
    import triton.language as tl

    interpreter: Any = import_module("triton.runtime.interpreter")
    convert = interpreter._convert_float  # noqa: SLF001 - there is no other place to mend it
    if getattr(convert, "rounds_bfloat16", False):
        return

    def formats(dtype: Any) -> Any:
        known = interpreter._get_np_dtype  # noqa: SLF001 - see above
        return np.dtype(ml_dtypes.bfloat16) if dtype == tl.bfloat16 else known(dtype)

    def convert_float(array: Any, source: Any, target: Any, rounding_mode: Any) -> Any:
        if tl.bfloat16 not in {source, target} or not (source.is_floating() and target.is_floating()):
            return convert(array, source, target, rounding_mode)
        values = np.ascontiguousarray(array).view(formats(source)).astype(np.float32)
        rounded = values.astype(formats(target))
        return rounded.view(f"u{rounded.dtype.itemsize}").reshape(np.shape(array))

    def numbers(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle.data
        return convert_float(handle.data, tl.bfloat16, tl.float32, None).view(np.float32)

    def create_dot(self: Any, a: Any, b: Any, sums: Any, *_: Any) -> Any:  # noqa: ARG001 - a method's
        product = np.matmul(numbers(a), numbers(b), dtype=sums.data.dtype) + sums.data
        return interpreter.TensorHandle(product, sums.dtype.scalar)

    run = interpreter.GridExecutor.__call__

    def run_quietly(self: Any, *operands: Any, **options: Any) -> Any:
        programs = math.prod(self.grid)
        if programs > _PROGRAMS:
            raise NotImplementedError(
                f"the interpreter runs at most {_PROGRAMS} programs, and the call has {programs}"
            )
        # A GPU warns of no infinity either.
        with np.errstate(all="ignore"):
            return run(self, *operands, **options)

    interpreter.GridExecutor.__call__ = run_quietly
    convert_float.rounds_bfloat16 = True  # type: ignore[attr-defined]
    interpreter._convert_float = convert_float  # noqa: SLF001 - see above
    interpreter.InterpreterBuilder.create_dot = create_dot
