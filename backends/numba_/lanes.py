"""Vectors of 512 bits as values of compiled code, so that a kernel reads like its algorithm.

numba leaves it to LLVM to find vectors in loops, which it does not where a maximum or a sum goes through a
loop: to reorder that needs a licence that also lets it break the error-free steps. Here a kernel says itself
what is done to 16 float32 or 8 float64 numbers at once; where registers are shorter LLVM takes several.

`x + y`, `-`, `*` and `/` round once in each lane, as for single numbers.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any, cast

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

#: Lanes of a vector, by the dtype computed in.
WIDTH = {types.float32: 16, types.float64: 8}
_KINDS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_INT32 = ir.IntType(32)


class Lanes(types.Type):
    """The numba type of a vector of float32 or float64."""

    def __init__(self, element: Any) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


F32, F64 = Lanes(types.float32), Lanes(types.float64)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, vector_of(lanes.element))  # type: ignore[no-untyped-call]


def vector_of(element: Any) -> Any:
    """LLVM's vector of a numba dtype."""
    return ir.VectorType(_KINDS[element], WIDTH[element])


def call(builder: Any, name: str, result: Any, arguments: list[Any], **flags: Any) -> Any:
    """Call a function of LLVM's own."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(function, arguments, **flags)


_ELEMENTS = {"float": "f32", "double": "f64", "half": "f16", "i16": "i16", "i32": "i32"}


def suffix(kind: Any) -> str:
    """How LLVM's functions call a type: f64, of vectors v16f32."""
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_ELEMENTS[str(kind.element)]}"
    return _ELEMENTS[str(kind)]


def every(vector: Any, number: float) -> Any:
    """The vector that holds a number in every lane."""
    return ir.Constant(vector, [number] * vector.count)


def spread(builder: Any, vector: Any, number: Any) -> Any:
    """A vector that holds a computed number in every lane."""
    nothing = ir.Constant(vector, ir.Undefined)
    one = builder.insert_element(nothing, number, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, nothing, every(ir.VectorType(_INT32, vector.count), 0))


Emit = Callable[..., Any]


def _of_one(emit: Emit, result: Callable[[Any], Any] = lambda kind: kind) -> Any:
    def typed(_context: Any, a: Any) -> Any:
        return result(a)(a), lambda _target, builder, _signature, values: emit(builder, *values)

    return intrinsic(typed)


def _of_two(emit: Emit) -> Any:
    def typed(_context: Any, a: Any, b: Any) -> Any:
        return a(a, b), lambda _target, builder, _signature, values: emit(builder, *values)

    return intrinsic(typed)


def _of_three(emit: Emit) -> Any:
    def typed(_context: Any, a: Any, b: Any, c: Any) -> Any:
        return a(a, b, c), lambda _target, builder, _signature, values: emit(builder, *values)

    return intrinsic(typed)


def _of_four(emit: Emit) -> Any:
    def typed(_context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return a(a, b, c, d), lambda _target, builder, _signature, values: emit(builder, *values)

    return intrinsic(typed)


def _operator(instruction: str) -> Any:
    act = _of_two(lambda builder, a, b: getattr(builder, instruction)(a, b))

    def of_lanes(a: Any, b: Any) -> Any:
        if isinstance(a, Lanes) and a == b:
            return lambda a, b: act(a, b)  # noqa: PLW0108 - numba wants a function of Python
        return None

    return of_lanes


for _symbol, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    overload(_symbol, inline="always", strict=False)(_operator(_instruction))


def _emit_fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return call(builder, f"llvm.fma.{suffix(a.type)}", a.type, [a, b, c])


def _emit_larger(builder: Any, a: Any, x: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, a), x, a)


def _emit_at_least(builder: Any, x: Any, least: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, least), least, x)


def _emit_unless_below(builder: Any, x: Any, least: Any, other: Any, value: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", x, least), other, value)


def _emit_splat(builder: Any, number: Any) -> Any:
    width = 16 if str(number.type) == "float" else 8
    return spread(builder, ir.VectorType(number.type, width), number)


def _emit_largest(builder: Any, a: Any) -> Any:
    # No lane of a maximum made by `larger` is NaN, so that the order does not matter.
    return call(
        builder, f"llvm.vector.reduce.fmax.{suffix(a.type)}", a.type.element, [a], fastmath=("nnan", "nsz")
    )


def _emit_sum(builder: Any, a: Any) -> Any:
    zero = ir.Constant(a.type.element, 0.0)
    name = f"llvm.vector.reduce.fadd.{suffix(a.type)}"
    # The order is the compiler's, by halves, and one for all rows.
    return call(builder, name, a.type.element, [zero, a], fastmath=("reassoc",))


def _emit_half(first: int) -> Emit:
    def emit(builder: Any, a: Any) -> Any:
        nothing = ir.Constant(a.type, ir.Undefined)
        places = ir.Constant(ir.VectorType(_INT32, 8), list(range(first, first + 8)))
        return builder.fpext(builder.shuffle_vector(a, nothing, places), vector_of(types.float64))

    return emit


@cache
def _scales_in_one_instruction() -> bool:
    """Whether the processor multiplies by powers of two."""
    return bool(binding.get_host_cpu_features().get("avx512f"))


def _emit_times_power(builder: Any, a: Any, n: Any, shifted: Any) -> Any:
    single = str(a.type.element) == "float"
    if _scales_in_one_instruction():
        lanes = ir.Constant(ir.IntType(a.type.count), -1)
        rounding = ir.Constant(_INT32, 4)  # as it is set
        name = f"llvm.x86.avx512.mask.scalef.{'ps' if single else 'pd'}.512"
        return call(builder, name, a.type, [a, n, a, lanes, rounding])
    bits, fraction, bias, rounder = (
        (32, 23, 127, 0x4B400000) if single else (64, 52, 1023, 0x4338000000000000)
    )
    whole = ir.VectorType(ir.IntType(bits), a.type.count)
    power = builder.sub(builder.bitcast(shifted, whole), every(whole, rounder))
    largest = every(whole, 2 * bias)
    power = builder.select(builder.icmp_signed("<", power, largest), power, largest)
    half = builder.ashr(power, every(whole, 1))
    # Two factors, since 2**n may be no normal number: the first product is exact, the second rounds once.
    for part in (half, builder.sub(power, half)):
        exponent = builder.shl(builder.add(part, every(whole, bias)), every(whole, fraction))
        a = builder.fmul(a, builder.bitcast(exponent, a.type))
    return a


def _to_f64(_kind: Any) -> Any:
    return F64


def _element(kind: Any) -> Any:
    return kind.element


_Binary = Callable[[Any, Any], Any]
_Ternary = Callable[[Any, Any, Any], Any]

#: a * b + c in each lane, rounded once; of numbers as well.
fma = cast("_Ternary", _of_three(_emit_fma))
#: x where it is larger than a, else a: a NaN in x is passed over.
larger = cast("_Binary", _of_two(_emit_larger))
#: x, and `least` where it is smaller; NaN stays NaN.
at_least = cast("_Binary", _of_two(_emit_at_least))
#: value, and `other` in the lanes where x < least.
unless_below = cast("Callable[[Any, Any, Any, Any], Any]", _of_four(_emit_unless_below))
#: A number in every lane.
splat = cast("Callable[[Any], Any]", _of_one(_emit_splat, Lanes))
#: The largest lane, none of which is NaN.
largest_of = cast("Callable[[Any], float]", _of_one(_emit_largest, _element))
#: The sum of all lanes.
sum_of = cast("Callable[[Any], float]", _of_one(_emit_sum, _element))
#: The first, and the last, eight of sixteen float32 lanes as float64.
first_half = cast("Callable[[Any], Any]", _of_one(_emit_half(0), _to_f64))
last_half = cast("Callable[[Any], Any]", _of_one(_emit_half(8), _to_f64))
#: a * 2**n, rounded once; `shifted` is n + 1.5 * 2**23 (float32) or n + 1.5 * 2**52 (float64).
times_power = cast("_Ternary", _of_three(_emit_times_power))
