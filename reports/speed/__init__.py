"""Speed of several subjects, interleaved in one measurement, beside the measured limits of the machine.

A time is the median over the rounds, with an interval that needs no distribution; a round is the fastest of
two calls, timed inside the worker around the kernel alone. Every call has inputs of its own. What a subject
answered is judged after timing, and a figure that no machine could reach is called invalid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softcert.backends.types import Backend
from softcert.reports.speed.measurement import ROUNDS, Stopwatch, Unmeasured
from softcert.reports.speed.problems import Problem, Shape
from softcert.reports.speed.statistics import Growth, Interval, growths, ladders, median_interval

__all__ = [
    "ROUNDS",
    "Growth",
    "Interval",
    "Problem",
    "Shape",
    "Stopwatch",
    "Unmeasured",
    "growths",
    "ladders",
    "measure",
    "median_interval",
]


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
    shapes : (rows, length), of which the last is reduced; of attention (heads, queries, keys, features).
        Three of softmax and two of attention by default.
    rounds : at least 2.
    op : the op of a subject that is a function of another name, as for `softcert.load`.

    Returns
    -------
    Rows of a run's `speed` by the subject's position; docs/reference.md says what each field holds. A subject
    that cannot be loaded, lacks an op or dtype, or fails on a call has no row there.
    """
    found: dict[int, list[Mapping[str, Any]]] = {position: [] for position in range(len(subjects))}
    with Stopwatch(subjects, op) as stopwatch:
        for position, row in stopwatch.rows(ops, dtypes, shapes, rounds):
            found[position].append(row)
    return {position: tuple(rows) for position, rows in found.items()}
