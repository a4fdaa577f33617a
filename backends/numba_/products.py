"""Products of matrices small enough for the caches, from blocks that stay in registers.

A block of six rows and four vectors of the result is summed over the whole depth: per step four vectors of b
are loaded and six numbers of a are spread over lanes, for 24 products. b has contiguous rows; a may be read
along either axis, so that a transposed factor needs no copy. Each element of the result is one chain of
fused multiplications and additions in the order of the depth, whatever the sizes around it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from softcert.backends.numba_.compiled import compiled
from softcert.backends.numba_.lanes import WIDTH, call, every, spread, suffix, vector_of
from softcert.backends.numba_.lanes_memory import is_there, masked

#: Rows and vectors of a block: 24 sums, 4 vectors and one number take 29 of 32 registers.
ROWS, VECTORS = 6, 4
#: Whether a product is added to what is there, or takes its place.
ADD, REPLACE = True, False
_INT32, _INT64 = ir.IntType(32), ir.IntType(64)


class _Operand:
    """A matrix in memory: where row i and column j stand, counted in elements."""

    def __init__(self, target: Any, builder: Any, kind: Any, array: Any, first: Any) -> None:
        self.builder = builder
        data = make_array(kind)(target, builder, array).data  # type: ignore[no-untyped-call]
        self.first = builder.gep(data, [first])

    def at(self, *steps: tuple[Any, Any]) -> Any:
        """Address of the place so many strides on, of each axis."""
        offset = ir.Constant(_INT64, 0)
        for count, stride in steps:
            offset = self.builder.add(offset, self.builder.mul(count, stride))
        return self.builder.gep(self.first, [offset])

    def vector(self, place: Any, lanes: int, count: int) -> Any:
        """Address of the vector that begins so many lanes behind a place."""
        moved = self.builder.gep(place, [ir.Constant(_INT64, lanes)])
        return self.builder.bitcast(moved, ir.VectorType(place.type.pointee, count).as_pointer())


def _block(rows: int, vectors: int, partly: bool) -> Any:
    """Intrinsic of a block of the result; the last lanes are left out where it is but partly there."""

    def typed(
        _context: Any,
        a: Any,
        _a0: Any,
        _row: Any,
        _step: Any,
        b: Any,
        _b0: Any,
        _bs: Any,
        c: Any,
        _c0: Any,
        _cs: Any,
        _depth: Any,
        _left: Any,
        _add: Any,
    ) -> Any:
        i64 = types.int64
        signature = types.void(a, i64, i64, i64, b, i64, i64, c, i64, i64, i64, i64, types.boolean)
        lanes, count = vector_of(a.dtype), WIDTH[a.dtype]
        size = a.dtype.bitwidth // 8

        def emit(target: Any, builder: Any, _signature: Any, values: Any) -> Any:
            array_a, a0, row, step, array_b, b0, b_stride, array_c, c0, c_stride, depth, left, add = values
            left_factor = _Operand(target, builder, a, array_a, a0)
            right_factor = _Operand(target, builder, b, array_b, b0)
            result = _Operand(target, builder, c, array_c, c0)
            there = is_there(builder, count, left) if partly else None
            sums = [
                [cgutils.alloca_once_value(builder, every(lanes, 0.0)) for _ in range(vectors)]  # type: ignore[no-untyped-call]
                for _ in range(rows)
            ]
            numbers = [ir.Constant(_INT64, r) for r in range(rows)]
            with cgutils.for_range(builder, depth) as loop:
                place = right_factor.at((loop.index, b_stride))
                right = [
                    _read(builder, right_factor.vector(place, v * count, count), size, there)
                    for v in range(vectors)
                ]
                for r in range(rows):
                    number = builder.load(left_factor.at((numbers[r], row), (loop.index, step)))
                    factor = spread(builder, lanes, number)
                    for v in range(vectors):
                        total = builder.load(sums[r][v])
                        name = f"llvm.fma.{suffix(lanes)}"
                        builder.store(call(builder, name, lanes, [factor, right[v], total]), sums[r][v])
            for r in range(rows):
                place = result.at((numbers[r], c_stride))
                for v in range(vectors):
                    address = result.vector(place, v * count, count)
                    total = builder.load(sums[r][v])
                    more = builder.fadd(_read(builder, address, size, there), total)
                    _write(builder, builder.select(add, more, total), address, size, there)
            return target.get_dummy_value()

        return signature, emit

    return intrinsic(typed)


def _read(builder: Any, address: Any, size: int, there: Any) -> Any:
    if there is None:
        return builder.load(address, align=size)
    vector = address.type.pointee
    arguments = [address, ir.Constant(_INT32, size), there, every(vector, 0.0)]
    return call(builder, masked("load", vector), vector, arguments)


def _write(builder: Any, value: Any, address: Any, size: int, there: Any) -> None:
    if there is None:
        builder.store(value, address, align=size)
        return
    arguments = [value, address, ir.Constant(_INT32, size), there]
    call(builder, masked("store", value.type), ir.VoidType(), arguments)


_Block = Callable[..., None]
_full = cast("_Block", _block(ROWS, VECTORS, partly=False))
_one_row = cast("_Block", _block(1, VECTORS, partly=False))
_one_vector = cast("_Block", _block(ROWS, 1, partly=True))
_one_of_each = cast("_Block", _block(1, 1, partly=True))


@compiled
def multiply(
    a: Any,
    a0: int,
    row: int,
    step: int,
    b: Any,
    b0: int,
    b_stride: int,
    c: Any,
    c0: int,
    c_stride: int,
    m: int,
    n: int,
    depth: int,
    lanes: int,
    add: bool,
) -> None:
    """c = a b, or c + a b.

    Parameters
    ----------
    a, b, c : arrays of one axis and one dtype, that of the lanes.
    a0, b0, c0 : where in them the matrices begin.
    row, step : strides of a from row to row, and along the depth.
    b_stride, c_stride : from row to row; their columns are contiguous.
    m, n, depth : c is (m, n), a (m, depth), b (depth, n).
    lanes : of a vector of the dtype.
    """
    wide = VECTORS * lanes
    rows = m - m % ROWS
    for j in range(0, n - n % wide, wide):
        for i in range(0, rows, ROWS):
            here, there = a0 + i * row, c0 + i * c_stride + j
            _full(a, here, row, step, b, b0 + j, b_stride, c, there, c_stride, depth, 0, add)
        for i in range(rows, m):
            here, there = a0 + i * row, c0 + i * c_stride + j
            _one_row(a, here, row, step, b, b0 + j, b_stride, c, there, c_stride, depth, 0, add)
    for j in range(n - n % wide, n, lanes):
        for i in range(0, rows, ROWS):
            here, there = a0 + i * row, c0 + i * c_stride + j
            _one_vector(a, here, row, step, b, b0 + j, b_stride, c, there, c_stride, depth, n - j, add)
        for i in range(rows, m):
            here, there = a0 + i * row, c0 + i * c_stride + j
            _one_of_each(a, here, row, step, b, b0 + j, b_stride, c, there, c_stride, depth, n - j, add)
