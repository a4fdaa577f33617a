"""One interleaved run: every round times each candidate once, in an order that changes from round to round.

A ratio is taken within a round, so that a change of clock speed or a busy neighbour hits both sides.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: What is timed, and of how many elements one call is.
Candidates = Mapping[str, tuple[Callable[[], object], int]]
#: Candidate, what it is compared with, what the comparison is meant to show, and what is wanted of it.
Ratios = Sequence[tuple[str, str, str, float | None]]


def with_one_blas_thread() -> None:
    """Start the program again with one thread of BLAS, which reads that before NumPy is imported."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606  # itself, with its own arguments


def wall_time(task: Callable[[], object]) -> float:
    """Seconds that a task takes."""
    start = time.perf_counter()
    task()
    return time.perf_counter() - start


def measure(
    timed: Candidates, rounds: int, timer: Callable[[Callable[[], object]], float] = wall_time
) -> dict[str, list[float]]:
    """Seconds an element of each candidate, one figure a round."""
    for task, _ in timed.values():
        task()  # compiles, and warms caches up
    times: dict[str, list[float]] = {name: [] for name in timed}
    order = list(timed)
    for round_number in range(max(rounds, 2)):
        random.Random(round_number).shuffle(order)  # noqa: S311  # an order, not a secret
        for name in order:
            task, elements = timed[name]
            times[name].append(timer(task) / elements)
    return times


def compared(times: Mapping[str, list[float]], ratios: Ratios) -> list[dict[str, Any]]:
    """Quartiles of each ratio whose two sides were timed."""
    return [
        {
            "of": first,
            "to": second,
            "shows": text,
            "quartiles": quartiles([a / b for a, b in zip(times[first], times[second], strict=True)]),
            "wanted": wanted,
        }
        for first, second, text, wanted in ratios
        if first in times and second in times
    ]


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median, upper quartile."""
    return statistics.quantiles(values, n=4)


def show(times: Mapping[str, list[float]], ratios: Sequence[Mapping[str, Any]], unit: str) -> None:
    """Print medians with quartiles, in ns a `unit`, and the ratios."""
    for name, values in times.items():
        low, middle, high = (1e9 * t for t in quartiles(values))
        print(f"{name:44} {middle:10.3f} ns {unit}  [{low:.3f}, {high:.3f}]")
    for ratio in ratios:
        low, middle, high = ratio["quartiles"]
        goal = "" if ratio["wanted"] is None else f"   (wanted: {ratio['wanted']:g})"
        of = f"{ratio['of']} / {ratio['to']}"
        print(f"{of}: {middle:.3g} [{low:.3g}, {high:.3g}] {ratio['shows']}{goal}")


def write(file: Path | None, record: Mapping[str, Any]) -> None:
    """Write what was measured as JSON, where asked."""
    if file is not None:
        file.write_text(json.dumps(record, indent=1), encoding="utf-8")
