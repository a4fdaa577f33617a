"""A page of tables as plain data: said once, and shown on a terminal, as Markdown and as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

#: How a row or a sentence is meant; every rendering tells it by its symbol too, never by colour alone.
Tone = Literal["worse", "better", "unsure", ""]
SYMBOLS: Mapping[Tone, str] = MappingProxyType({"worse": "▼", "better": "▲", "unsure": "?", "": ""})
#: What a column holds, which decides how it is set.
Kind = Literal["text", "code", "number", "grade"]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    brief : whether a terminal, which has less room, shows it too.
    """

    name: str
    kind: Kind = "text"
    brief: bool = True


@dataclass(frozen=True)
class Row:
    """One row: a text for each column."""

    cells: tuple[str, ...]
    tone: Tone = ""


@dataclass(frozen=True)
class Table:
    """A table with what it holds in words."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def without_empty_columns(self) -> Table:
        """Return the table without the columns in which no row says anything."""
        kept = [i for i in range(len(self.columns)) if any(row.cells[i] for row in self.rows)]
        return Table(
            self.caption,
            tuple(self.columns[i] for i in kept),
            tuple(Row(tuple(row.cells[i] for i in kept), row.tone) for row in self.rows),
        )


@dataclass(frozen=True)
class Sentence:
    """One sentence, as an entry of a list."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Section:
    """A part of a page; what is empty is not shown.

    Attributes
    ----------
    anchor : its place on the page, unique.
    notes : sentences on how to read it, below it.
    drawings : SVG elements, for HTML alone.
    legend : colour, mark and name of each series of theirs.
    folded : whether a page shows it closed, and a terminal leaves it to the page.
    """

    anchor: str
    title: str
    sentences: tuple[Sentence, ...] = ()
    table: Table | None = None
    notes: tuple[str, ...] = ()
    drawings: tuple[str, ...] = ()
    legend: tuple[tuple[int, str, str], ...] = ()
    folded: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show but notes."""
        return not (self.sentences or self.drawings or (self.table and self.table.rows))


@dataclass(frozen=True)
class Document:
    """A page: a title, the sentence that one reads if one reads only one, and sections."""

    title: str
    headline: Sentence
    sections: tuple[Section, ...]

    @property
    def shown(self) -> Sequence[Section]:
        """The sections that hold anything."""
        return [section for section in self.sections if not section.is_empty]
