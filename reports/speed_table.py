"""The figures of speed as a report shows them, in words, and which of them a plot may show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from softcert.reports.wording import number, printable, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from softcert.reports.summary import Subject

#: What the figures are, for both forms of the report.
INTRO = (
    "Median over interleaved rounds on inputs that are new for every call, and an interval that holds it, "
    "whatever the distribution. GB/s: operands read once and results written once; of a copy: the part of "
    "what copies of as many bytes reached in the same rounds. GFLOP/s: products of matrices, two operations "
    "a term; of a product: the part of what NumPy's product of matrices reached. MiB: memory that a call "
    "takes beyond its operands. Of attention the shape is heads × queries × keys × features. noisy: the "
    "rounds, or the copies beside them, differ much. invalid: the answer after timing is wrong, or no "
    "machine could be so fast."
)
#: Headings of the columns of numbers.
HEADINGS = ("median", "interval", "GB/s", "of a copy", "GFLOP/s", "of a product", "MiB")


class SpeedLine(NamedTuple):
    """One figure.

    Attributes
    ----------
    cells : texts under `HEADINGS`, empty where nothing is known.
    state : ok, noisy or invalid; empty in files that do not say.
    reason : where the state is not ok.
    """

    subject: Subject
    op: str
    dtype: str
    shape: str
    cells: tuple[str, ...]
    state: str
    reason: str


def speed_lines(members: Sequence[Subject]) -> tuple[SpeedLine, ...]:
    """Every figure of the subjects, in their order."""
    return tuple(_line(subject, row) for subject in members for row in subject.run.speed)


def _line(subject: Subject, row: Mapping[str, Any]) -> SpeedLine:
    ends = row.get("interval") or row.get("spread")
    cells = (
        seconds(row["seconds"]),
        f"{seconds(ends[0])} – {seconds(ends[1])}" if ends else "",
        _scaled(row.get("bytes_per_second"), 1e-9),
        _scaled(row.get("copy_share") or _share(row), 100, " %"),
        _scaled(row.get("flops_per_second"), 1e-9),
        _scaled(row.get("matrix_share"), 100, " %"),
        _scaled(row.get("peak_bytes"), 2.0**-20),
    )
    shape = " × ".join(map(str, row["shape"]))
    state, reason = str(row.get("status", "")), printable(row.get("reason", ""))
    return SpeedLine(subject, printable(row["op"]), printable(row["dtype"]), shape, cells, state, reason)


def _share(row: Mapping[str, Any]) -> float | None:
    """The share of a copy in files that hold the two rates alone."""
    moved, copied = row.get("bytes_per_second"), row.get("copy_bytes_per_second")
    return moved / copied if moved and copied and row.get("clock", "wall") == "wall" else None


def _scaled(value: float | None, factor: float, unit: str = "") -> str:
    return "" if value is None else f"{number(value * factor, 3)}{unit}"


def valid_rows(subject: Subject) -> list[Mapping[str, Any]]:
    """Rows of speed that a plot may show: an invalid figure has no place beside true ones."""
    return [
        row
        for row in subject.run.speed
        if row.get("status") != "invalid" and math.isfinite(row["seconds"]) and row["seconds"] > 0
    ]
