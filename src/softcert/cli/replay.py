"""`softcert replay`: repeat one case from its witness file."""

from __future__ import annotations

import click

from softcert.cli.console import console, print_verdict
from softcert.cli.options import SUBJECT, contract_option

EXAMPLES = """
\b
Examples:
  softcert check kernel.py:my_softmax --op softmax --save-witnesses witnesses
  softcert replay witnesses/accuracy.certified-softmax-float32.json
  softcert replay witnesses/accuracy.certified-softmax-float32.json --subject torch
"""


@click.command(epilog=EXAMPLES)
@click.argument("witness_file", metavar="WITNESS.json")
@click.option(
    "--subject",
    type=SUBJECT,
    metavar="SUBJECT",
    help="Ask this subject instead of the one that the witness names.",
)
@contract_option
def replay(witness_file: str, subject: str | None, contract_file: str | None) -> int:
    """Repeat the case of WITNESS.json and judge it again.

    Exit status: 0 the clause holds there now, 1 it is still broken.
    """
    from softcert.conformance import replay as replay_witness
    from softcert.conformance.model import BROKEN
    from softcert.conformance.wire.runs import read_witness
    from softcert.conformance.wire.toml_files import read_contract

    witness = read_witness(witness_file)
    contract = read_contract(contract_file) if contract_file else None
    verdict = replay_witness(witness, subject, contract)
    out = console()
    print_verdict(verdict, out)
    broken = verdict.status in BROKEN
    name = subject or witness.subject
    out.print(
        f"{name}: {verdict.clause} is {'still broken' if broken else 'not broken'} on this case.",
        markup=False,
    )
    return 1 if broken else 0
