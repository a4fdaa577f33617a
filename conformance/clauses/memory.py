"""What a call takes of memory, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from softcert.backends.types import Output
from softcert.conformance.context import Context
from softcert.conformance.inputs.attention_directed import few
from softcert.conformance.inputs.attention_families import Shape
from softcert.conformance.inputs.attention_growing import attention_call, made
from softcert.conformance.inputs.families import make_row
from softcert.conformance.inputs.growing import by_family, call_of, operands_from
from softcert.conformance.judging.evidence import broken, relation_finding
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import EVERY_OP, Clause, Seedling

#: Queries and keys of the two calls that are compared.
_SHORT, _LONG = 1024, 4096
#: Growth over a fourfold length: 4 is linear and 16 quadratic; half-way between, on a logarithmic scale.
_LINEAR = 8.0
#: What a process takes of its own accord, so that less than that proves nothing.
_NOISE = 4 << 20
_REPEATS = 400
_BATCHES = 4
#: Growth of a batch of calls below which nothing is said: pages that the interpreter itself takes.
_LEAK = 400 << 10


def _grow_lengths(seedling: Seedling, context: Context) -> Trial:
    """Two lengths, each called once before it is measured."""
    calls = []
    for n in (_SHORT, _LONG):
        given = made(context, "normal", Shape(queries=n, keys=n, features=32, values=32), 1)
        call = attention_call(given, context)
        calls += [call, replace(call, measured=True)]
    return Trial(tuple(calls), {}, seedling.family)


def _inspect_growth(_trial: Trial, outputs: tuple[Output, ...], _context: Context) -> Judgement:
    short, long = outputs[1].peak_bytes, outputs[3].peak_bytes
    if short is None or long is None:
        return Judgement()
    growth = long / max(short, _NOISE / 16)
    if long < _NOISE or growth <= _LINEAR:
        return Judgement(elements=1, margin=growth / _LINEAR)
    message = (
        f"memory beyond the operands grows from {short >> 10} KiB at {_SHORT} queries and keys to "
        f"{long >> 10} KiB at {_LONG}, {growth:.1f} times for 4 times the length"
    )
    return broken(relation_finding(3, None, "memory", f"{growth:.3g} times", message), 1)


def _one(context: Context) -> Iterator[Seedling]:
    yield made(context, "normal", Shape(queries=2, keys=2, features=2, values=2), 1)


def _grow_batches(seedling: Seedling, context: Context) -> Trial:
    """The same small call many times over, in some batches."""
    call = replace(call_of(seedling, context, repeat=_REPEATS), measured=True)
    return Trial((call,) * _BATCHES, {}, seedling.family)


def _inspect_leak(_trial: Trial, outputs: tuple[Output, ...], _context: Context) -> Judgement:
    kept = [output.kept_bytes for output in outputs[1:]]
    if any(k is None for k in kept):
        return Judgement()
    least = min(k for k in kept if k is not None)
    if least < _LEAK:
        return Judgement(elements=1, margin=max(least, 0) / _LEAK)
    each = f"about {least // _REPEATS} bytes a call"
    message = f"every {_REPEATS} calls keep {least >> 10} KiB or more, {each}: memory leaks"
    return broken(relation_finding(len(outputs) - 1, None, "memory", f"{least} bytes", message), 1)


def _small(context: Context) -> Iterator[Seedling]:
    x = make_row("normal", 64, 64, 2.0, context.dtype)
    yield Seedling(operands_from(context, np.stack([x, x]), 1), family="normal")


def _few_kibibytes(context: Context) -> Iterator[Seedling]:
    """Results of some KiB, which add up beyond `_LEAK` if every call keeps its own."""
    if context.op == "attention_merge":
        yield from islice(few(context), 1)
    else:
        yield made(context, "normal", Shape(queries=16, keys=8, features=64, values=64), 1)


def _unseen(context: Context) -> str | None:
    return None if context.memory_seen else "another program computes, whose memory is not measured"


CLAUSES = (
    Clause(
        id="memory.growth",
        statement="memory beyond operands and results grows no faster than the length of the sequences",
        mathematics=f"peak({_LONG}) / peak({_SHORT}) <= {_LINEAR:g}, {_LONG // _SHORT} times the length",
        source="T. Dao et al., arXiv:2205.14135, theorem 1; the contract's memory field",
        in_practice="the whole matrix of scores held at once",
        ops=("attention", "attention_lse", "attention_vjp"),
        directed=_one,
        grow=_grow_lengths,
        inspect=_inspect_growth,
        dtypes=("float32",),
        shrinks=False,
        applies=lambda c: _unseen(c) if c.contract.memory == "linear" else "the contract does not promise it",
    ),
    Clause(
        id="memory.leak",
        statement="a call keeps no memory when it is over",
        mathematics=f"resident memory after {_REPEATS} equal calls is that before them",
        source="what any caller expects; measured from the process's resident set",
        in_practice="a list of workspaces that grows, a cache without an end, a buffer never freed",
        ops=EVERY_OP,
        directed=by_family(_small, _few_kibibytes),
        grow=_grow_batches,
        inspect=_inspect_leak,
        dtypes=("float32", "float64"),
        shrinks=False,
        applies=_unseen,
    ),
)
