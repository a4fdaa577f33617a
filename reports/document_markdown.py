"""A document as GitHub-flavoured Markdown; it needs no library."""

from __future__ import annotations

from collections.abc import Iterator

from softcert.reports.document import SYMBOLS, Column, Document, Row, Section, Sentence, Table
from softcert.reports.markdown import code, escape


def document_markdown(document: Document) -> str:
    """Return a document as Markdown."""
    blocks = [f"# {escape(document.title)}", f"**{_sentence(document.headline)}**"]
    for section in document.shown:
        blocks += _section(section)
    return "\n\n".join(blocks) + "\n"


def _section(section: Section) -> Iterator[str]:
    yield f"## {escape(section.title)}"
    if section.sentences:
        yield "\n".join(f"- {_sentence(sentence)}" for sentence in section.sentences)
    if section.table and section.table.rows:
        yield _table(section.table)
    yield from map(escape, section.notes)


def _sentence(sentence: Sentence) -> str:
    return f"{SYMBOLS[sentence.tone]} {escape(sentence.text)}".strip()


def _table(table: Table) -> str:
    head = [escape(column.name) for column in table.columns]
    marks = ["---:" if column.kind == "number" else "---" for column in table.columns]
    rows = [_cells(row, table.columns) for row in table.rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *rows))


def _cells(row: Row, columns: tuple[Column, ...]) -> list[str]:
    cells = [
        code(text) if column.kind == "code" and text else escape(text)
        for text, column in zip(row.cells, columns, strict=True)
    ]
    if row.tone:
        cells[0] = f"{SYMBOLS[row.tone]} {cells[0]}"
    return cells
