"""The table of speeds, the fastest first, and how the times grow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table
from rich.text import Text

from softcert.reports.speed import growths
from softcert.reports.wording import described_growth, number, seconds

if TYPE_CHECKING:
    from rich.console import Console

    from softcert.conformance.model import Run

_STYLES = {"invalid": "bold red", "noisy": "yellow"}
Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of the table.

    Attributes
    ----------
    show : a row's cell.
    wide : it is left out where a terminal is narrow.
    """

    heading: str
    show: Callable[[Row], str]
    wide: bool = False


def _of(name: str, factor: float = 1.0, unit: str = "") -> Callable[[Row], str]:
    return lambda row: f"{number(row[name] * factor, 3)}{unit}" if name in row else "-"


_TIMES = (
    Column("median", lambda row: seconds(row["seconds"])),
    Column("interval", lambda row: " - ".join(map(seconds, row["interval"])), wide=True),
)
#: What most ops are limited by, and what those of many products are.
_TRAFFIC = (
    Column("GB/s", _of("bytes_per_second", 1e-9)),
    Column("of a copy", _of("copy_share", 100, " %"), wide=True),
)
_PRODUCTS = (
    Column("GFLOP/s", _of("flops_per_second", 1e-9)),
    Column("of a product", _of("matrix_share", 100, " %"), wide=True),
)
_BESIDE = (
    Column("MiB", _of("peak_bytes", 2.0**-20), wide=True),
    Column("error / bound", _of("margin"), wide=True),
)
#: Columns of a terminal from which everything has room.
_ROOM = 110


def print_speeds(runs: Sequence[Run], out: Console) -> None:
    """Print a table for each op and dtype, what is doubtful in it, and how the times grow."""
    rows = [(run.name, row) for run in runs for row in run.speed]
    for op, dtype in dict.fromkeys((row["op"], row["dtype"]) for _, row in rows):
        those = [(name, row) for name, row in rows if (row["op"], row["dtype"]) == (op, dtype)]
        out.print(Text(f"{op} {dtype}", style="bold"))
        out.print(_table(those, wide=out.width >= _ROOM))
        for line in _doubts(those):
            out.print(line, soft_wrap=True)
        out.print()
    for run in runs:
        for growth in growths(run.speed):
            out.print(Text(f"{run.name}: {described_growth(growth)}"), soft_wrap=True)


def _table(rows: Sequence[tuple[str, Row]], *, wide: bool) -> Table:
    limited_by = _PRODUCTS if any("flops_per_second" in row for _, row in rows) else _TRAFFIC
    columns = [column for column in (*_TIMES, *limited_by, *_BESIDE) if wide or not column.wide]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("shape", no_wrap=True)
    table.add_column("backend", no_wrap=True)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for shape in dict.fromkeys(tuple(row["shape"]) for _, row in rows):
        those = sorted((r for r in rows if tuple(r[1]["shape"]) == shape), key=_order)
        for place, (name, row) in enumerate(those):
            state = "" if row["status"] == "ok" else row["status"]
            cells = [Text("" if place else " x ".join(map(str, shape))), Text(name)]
            cells += [Text(column.show(row)) for column in columns]
            table.add_row(*cells, Text(state, style=_STYLES.get(state, "")))
    return table


def _order(entry: tuple[str, Row]) -> tuple[bool, float]:
    """The fastest first; what is invalid has no rank."""
    _, row = entry
    return row["status"] == "invalid", row["seconds"]


def _doubts(rows: Sequence[tuple[str, Row]]) -> Iterator[Text]:
    """Reasons of invalid figures one by one, noisy ones counted."""
    for name, row in rows:
        if row["status"] == "invalid":
            shape = " x ".join(map(str, row["shape"]))
            yield Text(f"INVALID  {name}, {shape}: {row['reason']}", style="bold red")
    noisy = [row for _, row in rows if row["status"] == "noisy"]
    if noisy:
        yield Text(f"{len(noisy)} of {len(rows)} noisy; of the first {noisy[0]['reason']}", style="yellow")
