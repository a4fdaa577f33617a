"""`softcert check`: judge one subject."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.console import console, print_run
from softcert.cli.judging import Request, judge
from softcert.cli.options import PATH, contract_option, request_options, result_options
from softcert.cli.targets import Targets, subject_files

if TYPE_CHECKING:
    from softcert.conformance.model import Run

EXAMPLES = """
\b
Examples:
  softcert check numpy
  softcert check scipy.special:softmax --op softmax --dtype float32
  softcert check kernel.py:my_softmax --op softmax --json out.json --html page
  softcert check ./libfast.so --op attention --dtype float32
  softcert check "command:node kernel.js"
  softcert check numpy --op attention --dtype float32 --worst softcert-worst
  softcert check emulated.py --time-limit 120
  softcert check torch --clause translation --clause accuracy --profile full
"""


@click.command(epilog=EXAMPLES)
@click.argument("subject")
@request_options("quick")
@contract_option
@click.option(
    "--worst",
    "worst",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Begin with the worst cases in this file, or folder, of softcert search; repeatable.",
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0.0, min_open=True),
    metavar="SECONDS",
    help="How long a call may take before it counts as hung, a millisecond an element aside.  [default: 10]",
)
@result_options
def check(
    subject: str,
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    clauses: tuple[str, ...],
    profile: str,
    seed: int,
    contract_file: str | None,
    worst: tuple[str, ...],
    time_limit: float | None,
    expected_file: str | None,
    json_file: str | None,
    junit_file: str | None,
    html_folder: str | None,
    witness_folder: str | None,
) -> int:
    """Judge SUBJECT against the specification.

    SUBJECT is a registered name (see `softcert backends`), package.module:function or
    path/to/file.py:function with --op, a module or file whose functions carry the op names, a shared library
    with the symbols of softcert_backend.h, or "command:PROGRAM ARGUMENTS", which answers on stdin and stdout.
    """
    from softcert.conformance.expected import read_expected
    from softcert.conformance.wire.toml_files import read_contract

    targets = Targets(json_file, junit_file, html_folder, witness_folder)
    targets.validate(
        *subject_files(subject), *map(Path, filter(None, (contract_file, expected_file, *worst)))
    )
    contract = read_contract(contract_file) if contract_file else None
    expected = read_expected(expected_file) if expected_file else ()
    request = Request(ops, dtypes, clauses, profile, seed, contract, expected, worst, time_limit)
    request.validate()
    run, interrupt = judge(subject, request)
    targets.save(run)
    # What goes to stdout is alone there.
    print_run(run, console(err=targets.takes_stdout))
    if interrupt is not None:
        raise interrupt
    return exit_status(run)


def exit_status(run: Run) -> int:
    """Exit status of a finished run.

    Raises
    ------
    click.ClickException : it shows nothing, which is no answer to the request.
    """
    from softcert.conformance.outcome import describe_nothing, outcome

    state = outcome(run)
    if state == "nothing":
        raise click.ClickException(describe_nothing(run))
    return 1 if state == "broken" else 0
