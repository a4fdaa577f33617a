"""Speed of several subjects, interleaved in one measurement, beside a plain copy of the same bytes.

Times of one machine are compared within one run only: each round asks every subject once, so that what
slows the machine down for a while slows all of them. A time is the median over the rounds of the
fastest of a few repetitions, taken inside the worker around the kernel alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import numpy as np

from softcert.backends import Limits, Worker
from softcert.backends.ops import OPERANDS
from softcert.backends.types import Array, Backend, Call, Failure, as_dtype
from softcert.errors import SubjectError

#: Rows and lengths: short rows, rows of a small vocabulary, one long row; 2 MiB in float32.
SHAPES: tuple[tuple[int, int], ...] = ((4096, 128), (512, 1024), (4, 131072))
ROUNDS = 7
_REPEATS = 3


def measure(
    subjects: Sequence[str | Backend],
    ops: Sequence[str] = ("softmax",),
    dtypes: Sequence[str] = ("float32",),
    shapes: Sequence[tuple[int, int]] = SHAPES,
    rounds: int = ROUNDS,
    op: str | None = None,
) -> dict[int, tuple[Mapping[str, Any], ...]]:
    """Time each subject on each op, dtype and shape.

    Parameters
    ----------
    shapes : (rows, length); the last axis is reduced.
    rounds : at least 2.
    op : the op of a subject that is a function of another name, as for `softcert.load`.

    Returns
    -------
    Rows of a run's `speed` by the subject's position: op, dtype, shape, seconds (median), spread (first and
    third quartile, seconds), bytes_per_second (operands read once and result written once),
    copy_bytes_per_second (the same bytes by numpy.copyto in the same rounds). A subject that cannot be
    loaded, lacks an op or dtype, or fails on a call has no row there.
    """
    found: dict[int, list[Mapping[str, Any]]] = {position: [] for position in range(len(subjects))}
    with ExitStack() as stack:
        workers = {
            position: worker
            for position, subject in enumerate(subjects)
            if (worker := _loaded(stack.enter_context(Worker(subject, op=op, limits=Limits())))) is not None
        }
        for name in ops:
            for dtype in dtypes:
                for shape in shapes:
                    call = Call(name, _operands(name, dtype, shape), {"axis": -1}, repeat=_REPEATS)
                    for position, row in _measure_one(workers, call, dtype, rounds):
                        found[position].append(row)
    return {position: tuple(rows) for position, rows in found.items()}


def _loaded(worker: Worker) -> Worker | None:
    try:
        worker.description  # noqa: B018 - asking loads the subject
    except SubjectError:
        return None
    return worker


def _operands(op: str, dtype: str, shape: tuple[int, int]) -> tuple[Array, ...]:
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape).astype(as_dtype(dtype)) for _ in OPERANDS[op])


def _measure_one(
    workers: Mapping[int, Worker], call: Call, dtype: str, rounds: int
) -> list[tuple[int, Mapping[str, Any]]]:
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
    return [(position, _row(call, dtype, times[position], median(copies))) for position in able]


def _copy_seconds(operands: Sequence[Array]) -> float:
    target = [np.empty_like(a) for a in operands]
    best = np.inf
    for _ in range(_REPEATS):
        start = perf_counter()
        for to, source in zip(target, operands, strict=True):
            np.copyto(to, source)
        best = min(best, perf_counter() - start)
    return float(best)


def _row(call: Call, dtype: str, times: Sequence[float], copy_seconds: float) -> Mapping[str, Any]:
    size = call.operands[0].nbytes
    result = size if call.op != "logsumexp" else size // call.operands[0].shape[-1]
    low, middle, high = quantiles(times, n=4, method="inclusive")
    return {
        "op": call.op,
        "dtype": dtype,
        "shape": list(call.operands[0].shape),
        "seconds": middle,
        "spread": [low, high],
        "bytes_per_second": (size * len(call.operands) + result) / middle,
        "copy_bytes_per_second": 2 * size * len(call.operands) / copy_seconds,
    }
