"""The same call gives the same bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from softcert.backends.ops import ATTENTION_OPS, own_changed
from softcert.backends.types import Array, Call, Output
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_directed import few
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import made
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import by_family, call_of, operands_from, stack, trial_of
from softcert.conformance.judging.evidence import broken, relation_finding
from softcert.conformance.judging.judge import result_quantity
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import EVERY_OP, Clause, Seedling

_REPEATS = 120
_VARIANT = "row {} of the batch differs in its bits from the same row alone, although promised equal"
#: Bits compared as unsigned integers, so that NaN equals NaN and 0 differs from -0.
_BITS = {2: np.uint16, 4: np.uint32, 8: np.uint64}


def differing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where two arrays of one shape and dtype differ in any bit."""
    if a.shape != b.shape or a.dtype != b.dtype or a.dtype.itemsize not in _BITS:
        return np.ones(a.shape, dtype=np.bool_)
    bits = _BITS[a.dtype.itemsize]
    different: np.ndarray = np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits)
    return different


def _grow(seedling: Seedling, context: Context) -> Trial:
    return trial_of(seedling, call_of(seedling, context, repeat=_REPEATS))


def _inspect(trial: Trial, outputs: tuple[Output, ...], context: Context) -> Judgement:
    if not context.contract.deterministic:
        return Judgement()
    (output,), (call,) = outputs, trial.calls
    elements = sum(int(value.size) for value in output.values)
    for k, (value, other) in enumerate(zip(output.values, output.distinct or (), strict=False)):
        finding = _difference(call, k, value, other)
        if finding is not None:
            return broken(finding, elements)
    return Judgement(elements=elements)


def _difference(call: Call, result: int, value: Array, other: Array) -> Finding | None:
    """Finding of one result that two repetitions gave differently."""
    if value.shape != other.shape or value.dtype != other.dtype:
        kinds = [f"{a.dtype} {a.shape}" for a in (other, value)]
        message = f"the same call gave {kinds[0]} once and {kinds[1]} another time, in {call.repeat} calls"
        return relation_finding(0, None, "shape and dtype", " | ".join(kinds), message, result=result)
    where = differing(value, other)
    if not where.any():
        return None
    at = tuple(int(i) for i in np.argwhere(where)[0]) if value.ndim else ()
    first, second = (float(a[at]).hex() for a in (other, value))
    message = f"the same call gave {first} once and {second} another time, in {call.repeat} calls"
    return relation_finding(
        0, at, result_quantity(call, result, at), f"{first} | {second}", message, result=result
    )


def _rows(context: Context) -> Iterator[Seedling]:
    for family, n in (("normal", 3), ("normal", 64), ("ties", 33), ("increasing", 130)):
        x = make_row(family, n, n, 2.0, context.dtype)
        yield Seedling(operands_from(context, x, n), family=family)
    yield stack(context, (9, 40), -1, "normal")
    # beyond the threads of one block, whose sums several blocks add up in any order
    yield Seedling(
        operands_from(context, make_row("normal", 2050, 1, 2.0, context.dtype), 1), family="normal"
    )


def _few_and_long(context: Context) -> Iterator[Seedling]:
    yield from few(context)
    if context.op != "attention_merge":
        for queries, keys in ((3, 300), (300, 3)):
            yield made(context, "normal", Shape(queries=queries, keys=keys, features=4, values=4), keys)


def _grow_batch(seedling: Seedling, context: Context) -> Trial | None:
    """The whole batch, and each of its first rows alone; None where the first axis is the one reduced."""
    dimensions = seedling.operands[0].ndim
    if dimensions < 2 or seedling.axis % dimensions == 0:
        return None
    whole = call_of(seedling, context)
    alone = [replace(whole, operands=_from_row(whole, i)) for i in range(min(3, len(seedling.operands[0])))]
    return trial_of(seedling, whole, *alone)


def _from_row(call: Call, i: int) -> tuple[Array, ...]:
    """Operands of one entry along the first axis, which it keeps."""

    def cut(a: Array) -> Array:
        return np.ascontiguousarray(a[i : i + 1])

    return (
        tuple(map(cut, call.operands))
        if call.op in ATTENTION_OPS
        else own_changed(call.op, call.operands, cut)
    )


def _inspect_batch(trial: Trial, outputs: tuple[Output, ...], context: Context) -> Judgement:
    elements = sum(int(value.size) for value in outputs[0].values)
    for i, output in enumerate(outputs[1:]):
        for k, (whole, alone) in enumerate(zip(outputs[0].values, output.values, strict=True)):
            if whole[i : i + 1].shape != alone.shape:
                return Judgement(elements=elements)
            where = differing(whole[i : i + 1], alone)
            if where.any() and context.contract.batch_invariant:
                at = tuple(int(n) for n in np.argwhere(where)[0])
                name = result_quantity(trial.calls[i + 1], k, at)
                finding = relation_finding(i + 1, at, name, alone[at], _VARIANT.format(i), result=k)
                return broken(finding, elements)
    return Judgement(elements=elements)


def _batches(context: Context) -> Iterator[Seedling]:
    for shape in ((4, 7), (9, 33), (33, 130)):
        yield stack(context, shape, -1, "normal")


def _few_unmasked(context: Context) -> Iterator[Seedling]:
    yield from (seedling for seedling in few(context) if seedling.mask is None)


CLAUSES = (
    Clause(
        id="determinism.repeat",
        statement=f"the same call gives the same bits, {_REPEATS} times in a row",
        mathematics="f(x) = f(x), bit for bit",
        source="the contract's deterministic field",
        in_practice="uninitialised memory, races, stochastic rounding, a deterministic flag that is ignored "
        "(flash-attention#2244)",
        ops=EVERY_OP,
        directed=by_family(_rows, _few_and_long),
        grow=_grow,
        inspect=_inspect,
    ),
    Clause(
        id="determinism.batch-invariance",
        statement="a row's result does not depend on its batch, bit for bit",
        mathematics="f(X)[r] = f(X[r])",
        source="the contract's batch_invariant field",
        in_practice="another summation order for another batch size",
        ops=EVERY_OP,
        directed=by_family(_batches, _few_unmasked),
        grow=_grow_batch,
        inspect=_inspect_batch,
        applies=lambda c: (
            None if c.contract.batch_invariant else "the contract does not promise batch invariance"
        ),
    ),
)
