"""`softcert history`: runs kept in one file, and what they show over time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from softcert.cli.console import console
from softcert.cli.documents import print_document, require_libraries, require_outputs
from softcert.cli.options import PATH, write_result
from softcert.wording import counted

#: The file where none is named.
DEFAULT = "softcert-history.sqlite"

EXAMPLES = """
\b
Examples:
  softcert history add run.json report/report.json
  softcert history list
  softcert history show numpy --op softmax --dtype float32
  softcert history page trends.html --by numpy
  softcert history export 3f2a91 --json old.json
"""

history_option = click.option(
    "--history",
    "store",
    type=PATH,
    metavar="FILE",
    envvar="SOFTCERT_HISTORY",
    default=DEFAULT,
    show_default=True,
    show_envvar=True,
    help="The history's file.",
)


@click.group(epilog=EXAMPLES)
def history() -> None:
    """Keep runs in one file, and show how they changed.

    The file is an SQLite database. Several processes may add to it at once; a run is there whole or not at
    all, and once however often it is added.
    """


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option, name in (("--dtype", "D"), ("--op", "OP")):
        command = click.option(option, metavar=name, default="", help=f"Show this {option[2:]} only.")(
            command
        )
    return command


@history.command()
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@history_option
def add(files: tuple[str, ...], store: str) -> None:
    """Add the runs in each FILE: of softcert check or bench --json, or the report.json of a report."""
    from softcert.conformance.wire.runs import read_runs
    from softcert.reports.history import open_history

    # Files that are wrong are told before anything is added.
    runs = [run for path in files for run in read_runs(path)]
    with open_history(store, write=True) as opened:
        added = sum([opened.add(run) for run in runs])
    known = f", {len(runs) - added} there already" if added < len(runs) else ""
    click.echo(f"{store}: {counted(added, 'run')} added{known}.")


@history.command(name="list")
@history_option
def list_(store: str) -> None:
    """List the runs by date."""
    from softcert.reports.history import describe_history, open_history

    with open_history(store) as opened:
        entries = opened.entries()
    print_document(describe_history(entries, title=store), console())


@history.command()
@click.argument("subject")
@_place_options
@history_option
def show(subject: str, op: str, dtype: str, store: str) -> None:
    """Show the errors and times of SUBJECT, run by run."""
    from softcert.reports.history import describe_history, open_history
    from softcert.reports.history.trends import unfolded

    with open_history(store) as opened:
        entries = opened.entries((subject,))
    document = describe_history(entries, title=subject, place=(op, dtype))
    print_document(unfolded(document), console())


@history.command()
@click.argument("page", type=PATH, metavar="PAGE")
@click.option("--subject", "subjects", multiple=True, metavar="NAME", help="Show this one only; repeatable.")
@_place_options
@click.option(
    "--by",
    default="date",
    show_default=True,
    metavar="date|LIBRARY",
    help="What stands below the plots: dates, or the versions of a library.",
)
@history_option
def page(page: str, subjects: tuple[str, ...], op: str, dtype: str, by: str, store: str) -> None:
    """Write trend plots and the runs behind them to PAGE, one HTML page that opens offline."""
    from softcert.reports.document_html import document_html
    from softcert.reports.history import describe_history, open_history

    require_outputs({"PAGE": page}, (store,))
    require_libraries("jinja2", "matplotlib")
    with open_history(store) as opened:
        entries = opened.entries(subjects)
    document = describe_history(entries, title="softcert history", by=by, place=(op, dtype), plots=True)
    write_result(page, document_html(document))
    if page != "-":
        click.echo(page)


@history.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--json",
    "json_file",
    type=PATH,
    metavar="FILE",
    default="-",
    show_default=True,
    help="Where the run goes; - is stdout.",
)
@history_option
def export(run: str, json_file: str, store: str) -> None:
    """Write RUN, named as in the list, as it was added; a few of its characters suffice."""
    from softcert.conformance.wire.runs import dumps, run_to_json
    from softcert.reports.history import open_history

    require_outputs({"--json": json_file}, (store,))
    with open_history(store) as opened:
        found = opened.run(run)
    write_result(json_file, dumps(run_to_json(found)))
