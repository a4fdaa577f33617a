"""`softcert judge`: the verdicts on a subject that ran on another machine."""

from __future__ import annotations

from pathlib import Path

import click

from softcert.cli.check import exit_status
from softcert.cli.console import announce, console, print_run, progress_bar
from softcert.cli.options import PATH, contract_option, require_writable_file, result_options
from softcert.cli.targets import Targets

EXAMPLES = """
\b
Examples:
  softcert judge softmax.results --json out.json --html page
  softcert judge softmax.results --more second.cases
  softcert judge softmax.results second.results --more third.cases
"""


@click.command(epilog=EXAMPLES)
@click.argument("results", nargs=-1, required=True, metavar="FILE...")
@contract_option
@result_options
@click.option(
    "--more",
    "more_file",
    type=PATH,
    metavar="FILE",
    help="Write the cases of a further exchange: what has no answer, and smaller inputs for witnesses.",
)
def judge(
    results: tuple[str, ...],
    contract_file: str | None,
    expected_file: str | None,
    json_file: str | None,
    junit_file: str | None,
    html_folder: str | None,
    witness_folder: str | None,
    more_file: str | None,
) -> int:
    """Judge what `softcert run` wrote, as `softcert check` would have there.

    Several FILEs are the results of one exchange after the other, of one subject.
    """
    from softcert.conformance.exchange.remote import judge as judge_results
    from softcert.conformance.expected import read_expected
    from softcert.conformance.wire.toml_files import read_contract

    targets = Targets(json_file, junit_file, html_folder, witness_folder)
    inputs = [*results, *filter(None, (contract_file, expected_file))]
    targets.validate(*map(Path, inputs))
    if more_file is not None:
        _require_free(more_file, inputs)
    contract = read_contract(contract_file) if contract_file else None
    expected = read_expected(expected_file) if expected_file else ()
    with progress_bar("judge") as show:
        judged = judge_results(*results, contract=contract, expected_failures=expected, progress=show)
    targets.save(judged.run)
    if more_file is not None and judged.wanted:
        judged.write_more(more_file)
    print_run(judged.run, console(err=targets.takes_stdout))
    if judged.wanted:
        told = f"cases in {more_file}" if more_file else "--more FILE writes its cases"
        announce(f"a further exchange would answer {judged.wanted} more trials: {told}")
    return exit_status(judged.run)


def _require_free(path: str, inputs: list[str]) -> None:
    """Refuse to write the cases of a further exchange over what is read, or where nothing can be.

    Raises
    ------
    click.UsageError : one of these.
    """
    require_writable_file(path)
    if path == "-" or Path(path).resolve() in {Path(name).resolve() for name in inputs}:
        raise click.UsageError(f"the cases of a further exchange cannot go to {path}")
