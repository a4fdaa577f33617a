"""`softcert infer`: the tightest contract that a subject meets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.console import announce, console, count_bar, print_verdict
from softcert.cli.judging import Request
from softcert.cli.options import PATH, require_writable_file, seed_option, unique, write_result
from softcert.cli.targets import subject_files
from softcert.wording import counted, listed

if TYPE_CHECKING:
    from softcert.conformance.examination.job import Item
    from softcert.conformance.inference import Inferred

EXAMPLES = """
\b
Examples:
  softcert infer kernel.py:my_softmax --op softmax --dtype float32
  softcert infer kernel.py:my_softmax --op softmax --out contract.toml
  softcert check kernel.py:my_softmax --op softmax --contract contract.toml --profile smoke
"""


@click.command(epilog=EXAMPLES)
@click.argument("subject")
@click.option("--op", "ops", multiple=True, metavar="OP", help="Examine this op only; repeatable.")
@click.option("--dtype", "dtypes", multiple=True, metavar="D", help="Examine this dtype only; repeatable.")
@click.option(
    "--profile",
    metavar="NAME",
    default="smoke",
    show_default=True,
    help="How much to try; a contract is met on what was tried.",
)
@seed_option
@click.option(
    "--out",
    "out_file",
    type=PATH,
    metavar="FILE",
    default="-",
    help="Write the contract into this TOML file; by default to stdout.",
)
def infer(
    subject: str, ops: tuple[str, ...], dtypes: tuple[str, ...], profile: str, seed: int, out_file: str
) -> int:
    """Find the tightest contract that SUBJECT meets, for `check --contract` and `gate`.

    SUBJECT is named as for `softcert check`. Whatever it declares of itself is left aside.

    Exit status: 0 the contract is written; 1 a clause is broken whatever is promised, and none is.
    """
    from softcert.conformance.inference import contract_toml
    from softcert.conformance.inference import infer as run_inference

    Request(ops, dtypes, (), profile, seed).validate()
    require_writable_file(out_file)
    if Path(out_file).resolve() in {path.resolve() for path in subject_files(subject)}:
        raise click.UsageError(f"{out_file} is read by this run, so that no result can go there")
    with count_bar(f"infer {subject}") as show:

        def watch(proposal: int, done: int, total: int, item: Item) -> None:
            show(done, total, f"contract {proposal}  {item.clause} {item.op} {item.dtype}")

        inferred = run_inference(
            subject,
            op=ops[0] if len(ops) == 1 else None,
            ops=unique(ops),
            dtypes=unique(dtypes),
            profile=profile,
            seed=seed,
            progress=watch,
        )
    if inferred.broken:
        _print_broken(inferred)
        return 1
    write_result(out_file, contract_toml(inferred, f"profile {profile}, seed {seed}"))
    tried = counted(inferred.rounds, "contract")
    where = "" if out_file == "-" else f"; the tightest that is met is in {out_file}"
    announce(f"{inferred.name}: {tried} tried{where}")
    return 0


def _print_broken(inferred: Inferred) -> None:
    out = console(err=True)
    for verdict in inferred.broken:
        print_verdict(verdict, out)
    clauses = listed(dict.fromkeys(v.clause for v in inferred.broken))
    out.print(
        f"{inferred.name} meets no contract: {clauses} broken whatever is promised; none is written.",
        markup=False,
        soft_wrap=True,
    )
