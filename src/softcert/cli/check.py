"""`softcert check`: judge one subject."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.console import console, print_run
from softcert.cli.errors import explain
from softcert.cli.judging import Request, judge, read_contract
from softcert.cli.options import (
    request_options,
    require_writable_file,
    require_writable_folder,
    write_result,
)

if TYPE_CHECKING:
    from softcert.conformance.model import Run

EXAMPLES = """
\b
Examples:
  softcert check numpy
  softcert check scipy.special:softmax --op softmax --dtype float32
  softcert check kernel.py:my_softmax --op softmax --json out.json --html page
  softcert check torch --clause translation --clause accuracy --profile full
"""


@click.command(epilog=EXAMPLES)
@click.argument("subject")
@request_options("quick")
@click.option(
    "--contract", "contract_file", metavar="FILE", help="JSON or TOML file with what the subject promises."
)
@click.option("--json", "json_file", metavar="FILE", help="Write the run as JSON; - writes it to stdout.")
@click.option("--junit", "junit_file", metavar="FILE", help="Write the verdicts as JUnit XML.")
@click.option("--html", "html_folder", metavar="DIR", help="Write the report page into this folder.")
@click.option(
    "--save-witnesses", "witness_folder", metavar="DIR", help="Write a file per broken clause, for replay."
)
def check(
    subject: str,
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    clauses: tuple[str, ...],
    profile: str,
    seed: int,
    contract_file: str | None,
    json_file: str | None,
    junit_file: str | None,
    html_folder: str | None,
    witness_folder: str | None,
) -> int:
    """Judge SUBJECT against the specification.

    SUBJECT is a registered name (see `softcert backends`), package.module:function or
    path/to/file.py:function with --op, or a module or file whose functions carry the op names.
    """
    for path in filter(None, (json_file, junit_file)):
        require_writable_file(path)
    for path in filter(None, (html_folder, witness_folder)):
        require_writable_folder(path)
    if html_folder:
        require_report_extra()
    contract = read_contract(contract_file) if contract_file else None
    request = Request(ops, dtypes, clauses, profile, seed, contract)
    request.validate()
    run, stopped = judge(subject, request)
    save(run, json_file, junit_file, html_folder, witness_folder)
    # `--json -` writes to stdout and nothing else does.
    print_run(run, console(err=json_file == "-"))
    if stopped:
        raise KeyboardInterrupt
    return 0 if run.conforms else 1


def require_report_extra() -> None:
    """Make sure, before a long run, that the libraries of the report page are there.

    Raises
    ------
    click.UsageError : one is missing, with the command that installs it.
    """
    for library in ("jinja2", "matplotlib"):
        if find_spec(library) is None:
            raise click.UsageError(f"a report page needs {library}: pip install 'softcert[report]'")


def save(
    run: Run,
    json_file: str | None,
    junit_file: str | None,
    html_folder: str | None,
    witness_folder: str | None,
) -> None:
    """Write every file that was asked for.

    Raises
    ------
    click.ClickException : one could not be written; the others were tried first.
    """
    from softcert.conformance.model import RequestError

    problems = []
    tasks = (
        (json_file, _write_json),
        (junit_file, _write_junit),
        (html_folder, _write_page),
        (witness_folder, _write_witnesses),
    )
    for path, write in tasks:
        if path:
            try:
                write(run, path)
            except (click.ClickException, RequestError, OSError) as problem:
                problems.append(explain(problem)[0].rstrip("."))
    if problems:
        raise click.ClickException("; ".join(problems))


def _write_json(run: Run, path: str) -> None:
    from softcert.conformance.wire import dumps, run_to_json

    write_result(path, dumps(run_to_json(run)))


def _write_junit(run: Run, path: str) -> None:
    from softcert.conformance.junit import run_to_junit

    write_result(path, run_to_junit(run))


def _write_page(run: Run, folder: str) -> None:
    from softcert.reports import write_report

    write_report([run], Path(folder))


def _write_witnesses(run: Run, folder: str) -> None:
    from softcert.conformance.wire import dumps, witness_to_json

    for verdict in run.verdicts:
        if verdict.witness is not None:
            name = re.sub(r"[^A-Za-z0-9.-]+", "_", f"{verdict.clause}-{verdict.op}-{verdict.dtype}")
            write_result(
                str(Path(folder) / f"{name}.json"), dumps(witness_to_json(verdict.witness, run.name))
            )
