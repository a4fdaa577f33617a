"""Speed of several subjects, interleaved in one measurement, beside a plain copy of the same bytes.

Times of one machine are compared within one run only: each round asks every subject once, so that what
slows the machine down for a while slows all of them. A time is the median over the rounds of the
fastest of a few repetitions, taken inside the worker around the kernel alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

from softcert.backends import Limits, Worker
from softcert.backends.numpy_attention import attention_lse
from softcert.backends.ops import ATTENTION_OPS, AXES, OPERANDS, operand_dtype
from softcert.backends.types import Array, Backend, Call, Failure, as_dtype
from softcert.conformance.judging.shapes import expected_results
from softcert.errors import SubjectError

Shape = tuple[int, ...]

#: Rows and lengths: short rows, rows of a small vocabulary, one long row; 2 MiB in float32.
SHAPES: tuple[Shape, ...] = ((4096, 128), (512, 1024), (4, 131072))
#: Heads, queries, keys, features: a prompt, and one step of decoding.
ATTENTION_SHAPES: tuple[Shape, ...] = ((8, 512, 512, 64), (8, 1, 8192, 64))
#: Products of matrices in units of L S D: T. Dao et al., arXiv:2205.14135 (2022), algorithms 1 and 4.
_PRODUCTS = {"attention": 2, "attention_lse": 2, "attention_vjp": 5}
ROUNDS = 7
_REPEATS = 3


def measure(
    subjects: Sequence[str | Backend],
    ops: Sequence[str] = ("softmax",),
    dtypes: Sequence[str] = ("float32",),
    shapes: Sequence[Shape] | None = None,
    rounds: int = ROUNDS,
    op: str | None = None,
) -> dict[int, tuple[Mapping[str, Any], ...]]:
    """Time each subject on each op, dtype and shape.

    Parameters
    ----------
    shapes : (rows, length), of which the last is reduced, `SHAPES` by default; of attention (heads, queries,
        keys, features), `ATTENTION_SHAPES`.
    rounds : at least 2.
    op : the op of a subject that is a function of another name, as for `softcert.load`.

    Returns
    -------
    Rows of a run's `speed` by the subject's position: op, dtype, shape, seconds (median), spread (first and
    third quartile, seconds), bytes_per_second (operands read once and results written once),
    copy_bytes_per_second (the operands by numpy.copyto in the same rounds); of attention also
    flops_per_second, where a multiplication and an addition count as two. A subject that cannot be loaded,
    lacks an op or dtype, or fails on a call has no row there.
    """
    found: dict[int, list[Mapping[str, Any]]] = {position: [] for position in range(len(subjects))}
    with ExitStack() as stack:
        workers = {
            position: worker
            for position, subject in enumerate(subjects)
            if (worker := _loaded(stack.enter_context(Worker(subject, op=op, limits=Limits(), timed=True))))
            is not None
        }
        for name in ops:
            for dtype in dtypes:
                for shape in shapes or (ATTENTION_SHAPES if name in ATTENTION_OPS else SHAPES):
                    call = _call(name, dtype, shape)
                    for position, times, copied in _measure_one(workers, call, dtype, rounds):
                        found[position].append(_row(call, dtype, shape, times, copied))
    return {position: tuple(rows) for position, rows in found.items()}


def _loaded(worker: Worker) -> Worker | None:
    try:
        worker.description  # noqa: B018 - asking loads the subject
    except SubjectError:
        return None
    return worker


def _call(op: str, dtype: str, shape: Shape) -> Call:
    rng = np.random.default_rng(0)
    if op not in ATTENTION_OPS:
        rows = tuple(rng.standard_normal(shape).astype(as_dtype(dtype)) for _ in OPERANDS[op])
        return Call(op, rows, {"axis": -1}, repeat=_REPEATS)
    sizes = dict(zip("HLSD", shape, strict=True)) | {"G": shape[0], "E": shape[-1]}

    def drawn(name: str) -> Array:
        wanted = as_dtype(operand_dtype(name, dtype))
        return rng.standard_normal([sizes[axis] for axis in AXES[name]]).astype(wanted)

    operands = {name: drawn(name) for name in OPERANDS[op]}
    if "dout" in operands:
        # A gradient is asked for at what the forward pass gives.
        operands["out"], operands["lse"] = attention_lse(*(operands[name] for name in "qkv"))
    return Call(op, tuple(operands.values()), {}, repeat=_REPEATS)


def _measure_one(
    workers: Mapping[int, Worker], call: Call, dtype: str, rounds: int
) -> list[tuple[int, list[float], float]]:
    """(position, its times, that of a copy) of every subject that answers."""
    able = {
        position: worker
        for position, worker in workers.items()
        if call.op in worker.description.ops and dtype in worker.description.dtypes
    }
    times: dict[int, list[float]] = {position: [] for position in able}
    copies: list[float] = []
    # The first round warms up: it compiles, fills caches, and is thrown away.
    for number in range(rounds + 1):
        copied = _copy_seconds(call.operands)
        if number:
            copies.append(copied)
        for position, worker in list(able.items()):
            reply = worker.call(call)
            if isinstance(reply, Failure):
                del able[position]
            elif number:
                times[position].append(reply.seconds)
    return [(position, times[position], median(copies)) for position in able]


def _copy_seconds(operands: Sequence[Array]) -> float:
    target = [np.empty_like(a) for a in operands]
    best = np.inf
    for _ in range(_REPEATS):
        start = perf_counter()
        for to, source in zip(target, operands, strict=True):
            np.copyto(to, source)
        best = min(best, perf_counter() - start)
    return float(best)


def _row(
    call: Call, dtype: str, shape: Shape, times: Sequence[float], copy_seconds: float
) -> Mapping[str, Any]:
    read = sum(a.nbytes for a in call.operands)
    written = sum(math.prod(of) * as_dtype(kind).itemsize for of, kind in expected_results(call))
    low, middle, high = quantiles(times, n=4, method="inclusive")
    row = {
        "op": call.op,
        "dtype": dtype,
        "shape": list(shape),
        "seconds": middle,
        "spread": [low, high],
        "bytes_per_second": (read + written) / middle,
        "copy_bytes_per_second": 2 * read / copy_seconds,
    }
    products = _PRODUCTS.get(call.op)
    return row | ({"flops_per_second": 2 * products * math.prod(shape) / middle} if products else {})
