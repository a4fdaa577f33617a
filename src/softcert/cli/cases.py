"""`softcert cases`: the inputs of a profile, for a machine without an oracle."""

from __future__ import annotations

import click

from softcert.cli.console import announce, count_bar
from softcert.cli.judging import Request
from softcert.cli.options import PATH, contract_option, request_options, require_writable_file, unique

EXAMPLES = """
\b
Examples:
  softcert cases --op softmax --out softmax.cases
  softcert cases --op attention --dtype float16 --profile smoke --out attention.cases
"""


@click.command(epilog=EXAMPLES)
@request_options("quick")
@contract_option
@click.option("--out", "out_file", type=PATH, metavar="FILE", required=True, help="The file to write.")
def cases(
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    clauses: tuple[str, ...],
    profile: str,
    seed: int,
    contract_file: str | None,
    out_file: str,
) -> None:
    """Write the inputs of a profile to a file, for `softcert run` on another machine.

    Without --op and --dtype the file holds those of every op and dtype.
    """
    from softcert.conformance.exchange.cases import write_cases
    from softcert.conformance.request import Request as Plan
    from softcert.conformance.wire.toml_files import read_contract

    Request(ops, dtypes, clauses, profile, seed).validate()
    require_writable_file(out_file)
    contract = read_contract(contract_file) if contract_file else None
    plan = Plan.of(
        ops=unique(ops),
        dtypes=unique(dtypes),
        clauses=unique(clauses),
        profile=profile,
        seed=seed,
        contract=contract,
    )
    with count_bar("cases") as show:
        count = write_cases(out_file, plan, show)
    announce(f"{count} trials in {out_file}")
