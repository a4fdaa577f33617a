"""`softcert compare`: two files of runs, and what got worse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from softcert.cli.console import console
from softcert.cli.documents import print_document, require_libraries, require_outputs
from softcert.cli.options import PATH, write_result

if TYPE_CHECKING:
    from softcert.reports.comparison import Comparison

EXAMPLES = """
\b
Examples:
  softcert compare old.json new.json
  softcert compare main/report.json branch/report.json --html comparison.html
  softcert compare old.json new.json --speed-threshold 0.1 --markdown -
"""


@click.command(epilog=EXAMPLES)
@click.argument("old", type=PATH, metavar="OLD")
@click.argument("new", type=PATH, metavar="NEW")
@click.option(
    "--accuracy-factor",
    type=click.FloatRange(min=1.0),
    default=1.0,
    show_default=True,
    help="An error may be so much larger before it counts.",
)
@click.option(
    "--speed-threshold",
    type=click.FloatRange(min=0.0),
    metavar="PART",
    help="A time that certainly grew by more than this part (0.1: a tenth) counts; by default none does.",
)
@click.option("--markdown", "markdown_file", type=PATH, metavar="FILE", help="Write Markdown; - is stdout.")
@click.option("--html", "html_file", type=PATH, metavar="FILE", help="Write one page that opens offline.")
@click.option(
    "--json", "json_file", type=PATH, metavar="FILE", help="Write the comparison as JSON; - is stdout."
)
def compare(
    old: str,
    new: str,
    accuracy_factor: float,
    speed_threshold: float | None,
    markdown_file: str | None,
    html_file: str | None,
    json_file: str | None,
) -> int:
    """Say what got worse, and what better, from OLD to NEW.

    Each is a file of softcert check --json, of softcert bench --json, or the report.json of a report.
    Subjects are matched by name; two files of one subject each are compared whatever these are called.

    Exit status: 0 nothing certainly got worse; 1 something did: a clause is newly broken, or, on the same
    inputs, a grade is lower or a certified error larger, or a time grew beyond --speed-threshold; 2 the
    request is wrong.
    """
    outputs = {"--markdown": markdown_file, "--html": html_file, "--json": json_file}
    require_outputs(outputs, (old, new))
    if html_file:
        require_libraries("jinja2")
    from softcert.conformance.wire.runs import read_runs
    from softcert.reports import comparison as comparing

    found = comparing.compare(
        read_runs(old),
        read_runs(new),
        names=(old, new),
        accuracy_factor=accuracy_factor,
        speed_threshold=speed_threshold,
    )
    document = comparing.describe(found)
    _write(found, markdown_file, html_file, json_file)
    print_document(document, console(err="-" in outputs.values()))
    return 1 if found.worse else 0


def _write(
    found: Comparison, markdown_file: str | None, html_file: str | None, json_file: str | None
) -> None:
    from softcert.conformance.wire.runs import dumps
    from softcert.reports.comparison import comparison_to_json, describe
    from softcert.reports.document_html import document_html
    from softcert.reports.document_markdown import document_markdown

    if json_file:
        write_result(json_file, dumps(comparison_to_json(found)))
    if markdown_file:
        write_result(markdown_file, document_markdown(describe(found)))
    if html_file:
        write_result(html_file, document_html(describe(found)))
