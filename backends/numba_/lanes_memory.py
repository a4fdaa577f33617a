"""Vectors from and to arrays, and between the formats stored and computed in.

Arrays of float64 are computed in float64; of float32 and of 16 bits in float32: widening is exact, narrowing
rounds to nearest, ties to even. numba has no arrays of 16-bit floats, which therefore come as their bits:
float16 as int16, bfloat16 as uint16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from softcert.backends.numba_.lanes import F32, F64, WIDTH, call, every, spread, suffix

_STORED = {
    types.float64: ir.DoubleType(),
    types.float32: ir.FloatType(),
    types.int16: ir.HalfType(),
    types.uint16: ir.IntType(16),
}
_INT32 = ir.IntType(32)


def computed_in(array: Any) -> Any:
    """The type of the vectors that an array is loaded into."""
    return F64 if array.dtype == types.float64 else F32


def _widened(builder: Any, raw: Any) -> Any:
    wide = ir.VectorType(ir.FloatType(), raw.type.count)
    if str(raw.type.element) == "half":
        return builder.fpext(raw, wide)
    if str(raw.type.element) == "i16":
        whole = ir.VectorType(_INT32, raw.type.count)
        return builder.bitcast(builder.shl(builder.zext(raw, whole), every(whole, 16)), wide)
    return raw


def _narrowed(builder: Any, value: Any, stored: Any) -> Any:
    if str(stored.element) == "half":
        return builder.fptrunc(value, stored)
    if str(stored.element) == "i16":
        whole = ir.VectorType(_INT32, stored.count)
        bits = builder.bitcast(value, whole)
        high = builder.lshr(bits, every(whole, 16))
        # Half of the last place kept, less one unit unless that place is odd: ties go to even.
        nudge = builder.add(every(whole, 0x7FFF), builder.and_(high, every(whole, 1)))
        rounded = builder.lshr(builder.add(bits, nudge), every(whole, 16))
        # A NaN could be carried into an infinity.
        quiet = builder.or_(high, every(whole, 0x40))
        is_nan = builder.fcmp_unordered("uno", value, value)
        return builder.trunc(builder.select(is_nan, quiet, rounded), stored)
    return value


def _place(target: Any, builder: Any, kind: Any, values: Any, count: int) -> Any:
    array, i = values[:2]
    stored = _STORED[kind.dtype]
    data = make_array(kind)(target, builder, array).data  # type: ignore[no-untyped-call]
    first = builder.gep(builder.bitcast(data, stored.as_pointer()), [i])
    return builder.bitcast(first, ir.VectorType(stored, count).as_pointer())


def is_there(builder: Any, count: int, left: Any) -> Any:
    """A mask of the first `left` lanes."""
    whole = ir.VectorType(_INT32, count)
    lanes = ir.Constant(whole, list(range(count)))
    return builder.icmp_signed("<", lanes, spread(builder, whole, builder.trunc(left, _INT32)))


def masked(action: str, vector: Any) -> str:
    """Name of LLVM's function that loads or stores some lanes."""
    # Where pointers still have types, so have their names.
    pointer = "p0" if binding.llvm_version_info >= (17,) else f"p0{suffix(vector)}"
    return f"llvm.masked.{action}.{suffix(vector)}.{pointer}"


def _first_lanes(_context: Any, value: Any, _left: Any, _fill: Any) -> Any:
    def emit(_target: Any, builder: Any, _signature: Any, values: Any) -> Any:
        vector, left, fill = values
        there = is_there(builder, vector.type.count, left)
        return builder.select(there, vector, spread(builder, vector.type, fill))

    return value(value, types.int64, value.element), emit


def _bytes(kind: Any) -> int:
    return int(kind.dtype.bitwidth) // 8


def _load(_context: Any, array: Any, _i: Any) -> Any:
    result = computed_in(array)

    def emit(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(target, builder, signature.args[0], values, WIDTH[result.element])
        return _widened(builder, builder.load(place, align=_bytes(array)))

    return result(array, types.int64), emit


def _load_part(_context: Any, array: Any, _i: Any, _left: Any, _fill: Any) -> Any:
    result = computed_in(array)
    count = WIDTH[result.element]
    stored = ir.VectorType(_STORED[array.dtype], count)

    def emit(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(target, builder, signature.args[0], values, count)
        there = is_there(builder, count, values[2])
        zero = every(stored, 0 if str(stored.element) == "i16" else 0.0)
        aligned = ir.Constant(_INT32, _bytes(array))
        raw = call(builder, masked("load", stored), stored, [place, aligned, there, zero])
        wide = _widened(builder, raw)
        return builder.select(there, wide, spread(builder, wide.type, values[3]))

    return result(array, types.int64, types.int64, result.element), emit


def _store(_context: Any, array: Any, _i: Any, value: Any) -> Any:
    count = WIDTH[value.element]
    stored = ir.VectorType(_STORED[array.dtype], count)

    def emit(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(target, builder, signature.args[0], values, count)
        builder.store(_narrowed(builder, values[2], stored), place, align=_bytes(array))
        return target.get_dummy_value()

    return types.void(array, types.int64, value), emit


def _store_part(_context: Any, array: Any, _i: Any, _left: Any, value: Any) -> Any:
    count = WIDTH[value.element]
    stored = ir.VectorType(_STORED[array.dtype], count)

    def emit(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _place(target, builder, signature.args[0], values, count)
        there = is_there(builder, count, values[2])
        aligned = ir.Constant(_INT32, _bytes(array))
        narrow = _narrowed(builder, values[3], stored)
        call(builder, masked("store", stored), ir.VoidType(), [narrow, place, aligned, there])
        return target.get_dummy_value()

    return types.void(array, types.int64, types.int64, value), emit


def _prefetch(_context: Any, array: Any, _i: Any) -> Any:
    byte = ir.IntType(8).as_pointer()

    def emit(target: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.bitcast(_place(target, builder, signature.args[0], values, 1), byte)
        # For reading, into the second cache, of data.
        hints = [ir.Constant(_INT32, hint) for hint in (0, 2, 1)]
        kind = ir.FunctionType(ir.VoidType(), [byte, _INT32, _INT32, _INT32])
        name = "llvm.prefetch.p0" if binding.llvm_version_info >= (17,) else "llvm.prefetch.p0i8"
        function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
        builder.call(function, [place, *hints])
        return target.get_dummy_value()

    return types.void(array, types.int64), emit


#: The vector at place i of an array of one axis.
load = cast("Callable[[Any, int], Any]", intrinsic(_load))
#: Of it the first `left` lanes; the others are `fill`, and their memory is not touched.
load_part = cast("Callable[[Any, int, int, float], Any]", intrinsic(_load_part))
#: The vector itself in its first `left` lanes, which may be none or all, and `fill` in the others.
first_lanes = cast("Callable[[Any, int, float], Any]", intrinsic(_first_lanes))
#: Store a vector at place i of an array of one axis.
store = cast("Callable[[Any, int, Any], None]", intrinsic(_store))
#: Store the first `left` lanes.
store_part = cast("Callable[[Any, int, int, Any], None]", intrinsic(_store_part))
#: Ask for what lies at place i, which may be outside the array.
prefetch = cast("Callable[[Any, int], None]", intrinsic(_prefetch))
