"""Documents on a terminal and in files: what `compare` and `history` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table
from rich.text import Text

from softcert.cli.options import require_writable_file
from softcert.reports.document import SYMBOLS

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod

    from softcert.reports.document import Document, Section, Sentence
    from softcert.reports.document import Table as Grid

_STYLES = {"worse": "bold red", "better": "green", "unsure": "yellow", "": ""}


def require_outputs(outputs: Mapping[str, str | None], inputs: Sequence[str]) -> None:
    """Make sure that every file asked for can be written and that none destroys another.

    Parameters
    ----------
    outputs : files by option; None is not asked for, and - is stdout.
    inputs : files that are read.

    Raises
    ------
    click.UsageError : one cannot, or two are the same.
    """
    asked = {option: path for option, path in outputs.items() if path}
    read = {Path(path).resolve() for path in inputs}
    taken: dict[str, str] = {}
    for option, path in asked.items():
        require_writable_file(path)
        place = path if path == "-" else str(Path(path).resolve())
        if place in taken:
            raise click.UsageError(f"{taken[place]} and {option} cannot both go to {path}")
        if path != "-" and Path(path).resolve() in read:
            raise click.UsageError(f"{path} is read by this command, so that no result can go there")
        taken[place] = option


def require_libraries(*libraries: str) -> None:
    """Make sure, before anything is written, that the libraries of a page are there.

    Raises
    ------
    click.UsageError : one is missing, with the command that installs it.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise click.UsageError(f"a page needs {library}: pip install 'softcert[report]'")


def print_document(document: Document, out: Console) -> None:
    """Print the headline and the sections of a document, without what is folded or needs a page's room."""
    out.print(_sentence(document.headline), soft_wrap=True)
    for section in document.shown:
        if not section.folded:
            _print_section(section, out)


def _print_section(section: Section, out: Console) -> None:
    out.print()
    out.print(Text(section.title, style="bold"))
    for sentence in section.sentences:
        out.print(_sentence(sentence), soft_wrap=True)
    if section.table and section.table.rows:
        out.print(_table(section.table))
    for note in section.notes:
        out.print(Text(note, style="dim"))


def _sentence(sentence: Sentence) -> Text:
    return Text(f"{SYMBOLS[sentence.tone]} {sentence.text}".strip(), style=_STYLES[sentence.tone])


def _table(grid: Grid) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False)
    shown = [i for i, column in enumerate(grid.columns) if column.brief]
    toned = any(row.tone for row in grid.rows)
    if toned:
        table.add_column("")
    for i in shown:
        kind = grid.columns[i].kind
        justify: JustifyMethod = "right" if kind == "number" else "left"
        table.add_column(grid.columns[i].name, justify=justify, overflow="fold", no_wrap=kind == "code")
    for row in grid.rows:
        cells = [Text(row.cells[i]) for i in shown]
        mark = [Text(SYMBOLS[row.tone], style=_STYLES[row.tone])] if toned else []
        table.add_row(*mark, *cells)
    return table
