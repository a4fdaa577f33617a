"""The table of grades, in as many columns as the terminal has room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

if TYPE_CHECKING:
    from softcert.conformance.model import Run, Verdict


class Column(NamedTuple):
    """A column and what becomes of it where there is no room.

    Attributes
    ----------
    short : its heading in a narrow table.
    rank : columns of the highest rank are left out first, those of rank 0 never.
    """

    heading: str
    short: str
    rank: int
    justify: str = "right"


_COLUMNS = (
    Column("op", "op", 0, "left"),
    Column("dtype", "dtype", 0, "left"),
    Column("grade", "grade", 0, "left"),
    Column("error / bound", "/ bound", 1),
    Column("worst error", "error", 3),
    Column("cases", "cases", 4),
    Column("clauses", "clauses", 5),
    Column("broken", "broken", 0),
    Column("vacuous", "vacuous", 2),
    # Told in words below the table.
    Column("skipped", "skipped", 6),
)
_GAP = 2


def grade_lines(run: Run, width: int) -> list[Text]:
    """Return a line per op and dtype, under a heading: grade, worst certified error, how its clauses ended.

    Parameters
    ----------
    width : columns of the terminal.
    """
    rows = [_cells(op, dtype, verdicts, run) for (op, dtype), verdicts in by_format(run.verdicts).items()]
    if not rows:
        return []
    for short, columns in _layouts():
        table = [[Text(column.short if short else column.heading) for column in _COLUMNS], *rows]
        if _width(table, columns) <= width:
            break
    return [_line(cells, table, columns) for cells in table]


def _layouts() -> Iterator[tuple[bool, list[int]]]:
    """Whether headings are short, and the columns shown; the widest table first."""
    places = list(range(len(_COLUMNS)))
    yield False, places
    yield True, places
    for rank in sorted({column.rank for column in _COLUMNS} - {0}, reverse=True):
        yield True, [place for place in places if _COLUMNS[place].rank < rank]


def by_format(verdicts: Sequence[Verdict]) -> dict[tuple[str, str], list[Verdict]]:
    """Return the verdicts by op and dtype."""
    grouped: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        grouped.setdefault((verdict.op, verdict.dtype), []).append(verdict)
    return grouped


def _cells(op: str, dtype: str, verdicts: Sequence[Verdict], run: Run) -> list[Text]:
    status = Counter(v.status for v in verdicts)
    broken = status["fail"] + status["error"]
    return [
        Text(op),
        Text(dtype),
        *map(Text, _accuracy(op, dtype, run)),
        Text(str(sum(v.cases for v in verdicts))),
        Text(str(len(verdicts))),
        Text(str(broken), style="bold red" if broken else ""),
        Text(str(status["vacuous"])),
        Text(str(status["skip"])),
    ]


def _accuracy(op: str, dtype: str, run: Run) -> tuple[str, str, str]:
    """Grade, largest error / bound, and worst error: the two worsts need not be of the same element."""
    from softcert.reports.summary import grade_rows, subjects

    rows = [row for row in grade_rows(subjects([run])) if (row.op, row.dtype) == (op, dtype)]
    if not rows:
        return ("-", "-", "-")
    (row,) = rows
    if not row.elements:
        return (row.grade, "-", "-")
    seen = row.error_max[1] if row.largest else -1.0
    if row.proved is not None and row.proved[1] >= seen:
        return (row.grade, f"{row.margin:.3g}", f"{row.proved[1]:.4g} ulp, proved")
    return (row.grade, f"{row.margin:.3g}", f"{seen:.4g} ulp")


def _widths(table: Sequence[Sequence[Text]], columns: Sequence[int]) -> list[int]:
    return [max(cells[place].cell_len for cells in table) for place in columns]


def _width(table: Sequence[Sequence[Text]], columns: Sequence[int]) -> int:
    return sum(_widths(table, columns)) + _GAP * (len(columns) - 1)


def _line(cells: Sequence[Text], table: Sequence[Sequence[Text]], columns: Sequence[int]) -> Text:
    line = Text()
    for place, width in zip(columns, _widths(table, columns), strict=True):
        cell, room = cells[place], " " * (width - cells[place].cell_len)
        gap = " " * _GAP if line else ""
        line.append(gap)
        line = line + cell + room if _COLUMNS[place].justify == "left" else line + room + cell
    line.rstrip()
    return line
