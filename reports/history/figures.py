"""The figures of a run that a history shows over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from softcert.conformance.model import Run
from softcert.reports.summary import grade_rows, subjects


class Accuracy(NamedTuple):
    """Grade, certified largest error in ulps, and largest error / bound of one op x dtype."""

    op: str
    dtype: str
    grade: str
    error: tuple[float, float]
    margin: float
    elements: int


class Speed(NamedTuple):
    """Median time in seconds, and the traffic of memory as a part of that of the copy beside it, or None."""

    op: str
    dtype: str
    shape: str
    seconds: float
    of_copy: float | None


def accuracy_figures(run: Run) -> tuple[Accuracy, ...]:
    """Return the figures of each op x dtype that a run graded."""
    return tuple(
        Accuracy(row.op, row.dtype, row.grade, row.error_max, row.margin, row.elements)
        for row in grade_rows(subjects([run]))
    )


def speed_figures(run: Run) -> tuple[Speed, ...]:
    """Return the times of a run that can be times."""
    return tuple(
        Speed(row["op"], row["dtype"], " × ".join(map(str, row["shape"])), row["seconds"], _of_copy(row))
        for row in run.speed
        if _is_positive(row["seconds"]) and row.get("status") != "invalid"
    )


def _of_copy(row: Mapping[str, Any]) -> float | None:
    mine, copied = row.get("bytes_per_second"), row.get("copy_bytes_per_second")
    return mine / copied if mine and copied and _is_positive(mine) and _is_positive(copied) else None


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < math.inf
