"""Writing a report: the page, Markdown, JSON, JUnit XML, and a file for each witness shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softcert.conformance.wire.junit import runs_to_junit
from softcert.conformance.wire.runs import dumps, report_to_json, write_text
from softcert.reports.html import TITLE, render_html
from softcert.reports.markdown import render_markdown
from softcert.reports.summary import subjects
from softcert.reports.witnesses import witness_files, worst_witnesses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softcert.conformance.model import Run

#: The files of every report; witnesses lie in a folder beside them.
FILES = ("report.json", "junit.xml", "report.md", "report.html")


@dataclass(frozen=True)
class Report:
    """Where the files of a report lie.

    Attributes
    ----------
    witnesses : one file for each witness that the page shows, for `softcert replay`.
    """

    html: Path
    markdown: Path
    json: Path
    junit: Path
    witnesses: tuple[Path, ...] = ()


def write_report(runs: Sequence[Run], folder: Path, *, title: str = TITLE) -> Report:
    """Write the report on these runs into a folder, which is made if it is not there.

    JSON is written first, so that nothing measured is lost if a later file cannot be made.

    Raises
    ------
    RequestError : the folder cannot be written, or a library that the page needs is not installed.
    """
    folder = Path(folder)
    json, junit, markdown, html = (folder / name for name in FILES)
    write_text(json, dumps(report_to_json(runs)))
    write_text(junit, runs_to_junit(runs))
    write_text(markdown, render_markdown(runs, title=title))
    witnesses = witness_files(worst_witnesses(subjects(runs)))
    files = tuple(write_text(folder / name, text) for name, text in witnesses.items())
    write_text(html, render_html(runs, title=title))
    return Report(html, markdown, json, junit, files)
