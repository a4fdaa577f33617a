"""`softcert report`: accuracy and speed of several subjects, side by side."""

from __future__ import annotations

import re
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.check import require_report_extra
from softcert.cli.errors import INTERRUPTED, explain
from softcert.cli.judging import Request, judge
from softcert.cli.options import request_options, require_writable_folder, write_result
from softcert.wording import conclusion

if TYPE_CHECKING:
    from softcert.conformance.model import Run

EXAMPLES = """
\b
Examples:
  softcert report
  softcert report numpy torch --dtype float32 --out comparison
  softcert report scipy --profile full --open
"""


@click.command(epilog=EXAMPLES)
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--out", "folder", metavar="DIR", default="./report", show_default=True, help="Folder of the report."
)
@request_options("quick")
@click.option(
    "--open/--no-open", "show", default=None, help="Open the page in a browser; the default on a terminal."
)
def report(
    subjects: tuple[str, ...],
    folder: str,
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    clauses: tuple[str, ...],
    profile: str,
    seed: int,
    show: bool | None,
) -> int:
    """Judge and time each SUBJECT, and write one report; by default every backend that runs here.

    The exit status is 0 when the report was written, whatever it says of the subjects.
    """
    require_report_extra()
    require_writable_folder(folder)
    request = Request(ops, dtypes, clauses, profile, seed)
    request.validate()
    names = tuple(dict.fromkeys(subjects)) or _all_that_run()
    runs, status = _judge_each(names, request, Path(folder))
    if runs:
        if status != INTERRUPTED:
            runs = _timed(runs)
        page = _write(runs, Path(folder))
        if show or (show is None and sys.stdout.isatty()):
            webbrowser.open(page.resolve().as_uri())
    elif status == 0:
        raise click.ClickException("no registered backend runs here; see softcert backends")
    return status


def _all_that_run() -> tuple[str, ...]:
    from softcert.backends import available

    return tuple(name for name, state in available().items() if state.runs)


def _judge_each(names: tuple[str, ...], request: Request, folder: Path) -> tuple[list[Run], int]:
    """Judge the subjects in turn; one that cannot be judged does not cost the others.

    Returns
    -------
    The runs reached, and the exit status: 0, or that of the gravest error.
    """
    runs: list[Run] = []
    status = 0
    for number, name in enumerate(names, 1):
        try:
            run, stopped = judge(name, request, label=f"[{number}/{len(names)}] {name}")
            runs.append(run)
            _keep(run, folder)
            click.echo(conclusion(run), err=True)
        except KeyboardInterrupt:
            stopped = True
        except Exception as error:  # noqa: BLE001 -- what befalls one subject must not cost the others
            sentence, gravity = explain(error)
            click.echo(f"softcert: {name}: {sentence}", err=True)
            status = max(status, gravity)
            continue
        if stopped:
            click.echo("softcert: stopped; the report holds what was reached.", err=True)
            return runs, INTERRUPTED
    return runs, status


def _timed(runs: list[Run]) -> list[Run]:
    """Time the subjects against each other, in one interleaved measurement."""
    from dataclasses import replace

    from softcert.reports.speed import measure

    click.echo("timing ...", err=True)
    try:
        speeds = measure([run.subject for run in runs])
    except KeyboardInterrupt:
        click.echo("softcert: stopped; the report goes without speeds.", err=True)
        return runs
    return [replace(run, speed=speeds[position]) for position, run in enumerate(runs)]


def _keep(run: Run, folder: Path) -> None:
    """Write one finished run at once, so that nothing that comes later can lose it."""
    from softcert.conformance.wire import dumps, run_to_json

    runs = folder / "runs"
    runs.mkdir(exist_ok=True)
    write_result(str(runs / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', run.name)}.json"), dumps(run_to_json(run)))


def _write(runs: list[Run], folder: Path) -> Path:
    """Write the report and say where it is; return the page."""
    from softcert.reports import write_report

    written = write_report(runs, folder)
    for path in (written.html, written.markdown, written.json, written.junit):
        click.echo(str(path))
    return written.html
