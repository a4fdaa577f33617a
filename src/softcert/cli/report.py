"""`softcert report`: accuracy and speed of several subjects, side by side."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.console import announce
from softcert.cli.errors import explain, stop_status
from softcert.cli.judging import Request, judge
from softcert.cli.options import PATH, request_options, write_result
from softcert.cli.targets import require_report_extra, require_report_folder
from softcert.wording import conclusion

if TYPE_CHECKING:
    from softcert.conformance.model import Run

#: The folder of a report that holds a file for each run.
RUNS = "runs"
#: What is judged of every backend that runs here, where no subject and no dtype is named: all of theirs
#: would take most of an hour.
_DTYPE_OF_ALL = "float32"
#: Ops that a report times, of those that it examines.
_TIMED = ("softmax", "attention", "attention_vjp")

EXAMPLES = """
\b
Examples:
  softcert report
  softcert report torch-sdpa-math torch-sdpa-flash numpy --op attention --out comparison
  softcert report scipy --profile full --open
"""


@click.command(epilog=EXAMPLES)
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--out",
    "folder",
    type=PATH,
    metavar="DIR",
    default="./report",
    show_default=True,
    help="Folder of the report.",
)
@request_options("smoke")
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
    """Judge and time each SUBJECT, and write one report.

    By default, every backend that runs here, in float32. The exit status is 0 when the report was written,
    whatever it says of the subjects.
    """
    require_report_extra()
    require_report_folder(folder, RUNS)
    if not subjects and not dtypes:
        dtypes = (_DTYPE_OF_ALL,)
        announce(f"every backend, in {_DTYPE_OF_ALL}; --dtype asks for others.")
    request = Request(ops, dtypes, clauses, profile, seed)
    request.validate()
    names = tuple(dict.fromkeys(subjects)) or _all_that_run(ops)
    runs: list[Run] = []
    status, interrupt = _judge_each(names, request, Path(folder), runs)
    if runs and interrupt is None:
        runs, interrupt = _timed(runs)
    if runs:
        page = _write(runs, Path(folder))
        if interrupt is None and (show or (show is None and sys.stdout.isatty())):
            webbrowser.open(page.resolve().as_uri())
    elif status == 0 and interrupt is None:
        raise click.ClickException("no registered backend runs here; see softcert backends")
    return status if interrupt is None else stop_status(interrupt)


def _all_that_run(ops: Sequence[str]) -> tuple[str, ...]:
    """Names of the backends that run here and, where ops are asked for, have one of them; no slow one."""
    from softcert.backends import available, is_slow

    names = tuple(name for name, state in available().items() if state.runs and not is_slow(name))
    return tuple(name for name in names if not ops or set(ops) & set(_ops_of(name)))


def _ops_of(name: str) -> tuple[str, ...]:
    """Ops of a registered backend; none of one that cannot be loaded."""
    from softcert.backends import SubjectError, Worker

    try:
        with Worker(name) as worker:
            return tuple(worker.description.ops)
    except SubjectError:
        return ()


def _asked_of(name: str, request: Request) -> Request:
    """The request without ops that a registered backend lacks, as long as it has one of them."""
    from softcert.backends import available

    if len(request.ops) < 2 or name not in available():
        return request
    has = _ops_of(name)
    return replace(request, ops=tuple(op for op in request.ops if op in has) or request.ops)


def _judge_each(
    names: tuple[str, ...], request: Request, folder: Path, runs: list[Run]
) -> tuple[int, KeyboardInterrupt | None]:
    """Judge the subjects in turn; one that cannot be judged does not cost the others.

    Parameters
    ----------
    runs : takes each run as it is reached.

    Returns
    -------
    The exit status, 0 or that of the gravest error, and what stopped the command if something did.
    """
    status = 0
    stems: list[str] = []
    for number, name in enumerate(names, 1):
        try:
            run, interrupt = judge(name, _asked_of(name, request), label=f"[{number}/{len(names)}] {name}")
            runs.append(run)
            stems.append(_keep(run, folder, stems))
            announce(conclusion(run))
        except KeyboardInterrupt as error:
            interrupt = error
        except Exception as error:  # noqa: BLE001 -- what befalls one subject must not cost the others
            sentence, gravity = explain(error)
            announce(f"softcert: {name}: {sentence}")
            status = max(status, gravity)
            continue
        if interrupt is not None:
            announce("softcert: stopped; the report holds what was reached.")
            return status, interrupt
    return status, None


def _timed(runs: list[Run]) -> tuple[list[Run], KeyboardInterrupt | None]:
    """Time the subjects against each other, in one interleaved measurement."""
    from softcert.reports.speed import measure

    announce("timing ...")
    try:
        asked = dict.fromkeys(v.op for run in runs for v in run.verdicts if v.op in _TIMED)
        speeds = measure([run.subject for run in runs], tuple(asked))
    except KeyboardInterrupt as interrupt:
        announce("softcert: stopped; the report goes without speeds.")
        return runs, interrupt
    return [replace(run, speed=speeds[position]) for position, run in enumerate(runs)], None


def _keep(run: Run, folder: Path, used: Sequence[str]) -> str:
    """Write one finished run at once, so that nothing that comes later can lose it.

    Returns
    -------
    The stem of its file's name, which is none of those used.
    """
    from softcert.conformance.wire.runs import dumps, run_to_json
    from softcert.reports.filenames import unused_stem

    stem = unused_stem(run.name, used)
    write_result(str(folder / RUNS / f"{stem}.json"), dumps(run_to_json(run)))
    return stem


def _write(runs: list[Run], folder: Path) -> Path:
    """Write the report and say where it is; return the page."""
    from softcert.reports import write_report

    written = write_report(runs, folder)
    for path in (written.html, written.markdown, written.json, written.junit):
        click.echo(str(path))
    return written.html
