"""`softcert search`: look for the inputs that come nearest to the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from softcert.cli.console import announce, console, count_bar, print_verdict
from softcert.cli.options import PATH, require_known, require_writable_folder, seed_option, unique

if TYPE_CHECKING:
    from softcert.conformance.hunting.search import Found, Step

EXAMPLES = """
\b
Examples:
  softcert search numpy --op softmax --dtype float32
  softcert search kernel.py:my_softmax --op softmax --evaluations 100000 --store worst
  softcert search kernel.py:my_softmax --op softmax --evaluations 200000 --store worst --resume
"""


@click.command(epilog=EXAMPLES)
@click.argument("subject")
@click.option("--op", "ops", multiple=True, metavar="OP", help="Search this op only; repeatable.")
@click.option("--dtype", "dtypes", multiple=True, metavar="D", help="Search this dtype only; repeatable.")
@seed_option
@click.option(
    "--evaluations",
    type=click.IntRange(1, 10**12),
    default=2000,
    show_default=True,
    metavar="N",
    help="Inputs to judge for each op and dtype, those before a resumption included.",
)
@click.option(
    "--store",
    type=PATH,
    metavar="DIR",
    help="Folder for worst cases, states and witnesses; its cases are judged first.",
)
@click.option("--resume", is_flag=True, help="Go on from the states in the store.")
def search(
    subject: str,
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    seed: int,
    evaluations: int,
    store: str | None,
    resume: bool,
) -> int:
    """Look for the inputs of SUBJECT that come nearest to the bound.

    SUBJECT is named as for `softcert check`. A later search in the same store begins with what was found.

    Exit status: 0 nothing beyond the bound, 1 a bound is broken; a witness is in the store, or in the
    folder softcert-worst where none is given.
    """
    from softcert.backends.ops import DTYPES, OPS
    from softcert.conformance.hunting.search import search as run_search
    from softcert.conformance.hunting.worst_cases import DEFAULT_FOLDER

    require_known("op", ops, OPS)
    require_known("dtype", dtypes, DTYPES)
    if resume and store is None:
        raise click.UsageError("--resume needs the --store of the search to go on with")
    folder = store or DEFAULT_FOLDER
    require_writable_folder(folder)
    with count_bar(f"search {subject}") as show:

        def watch(step: Step) -> None:
            margin = f"{step.worst.margin:.3f}" if step.worst else "-"
            show(step.evaluations, evaluations, f"{step.op} {step.dtype}  worst {margin}")

        result = run_search(
            subject,
            op=ops[0] if len(ops) == 1 else None,
            ops=unique(ops),
            dtypes=unique(dtypes),
            seed=seed,
            evaluations=evaluations,
            store=folder,
            resume=resume,
            progress=watch,
        )
    for found in result.found:
        _print_found(found)
    announce(f"worst cases kept in {folder}")
    return 0 if result.run.conforms else 1


def _print_found(found: Found) -> None:
    """Print what the search at one op and dtype came to."""
    out, verdict = console(), found.verdict
    if verdict.status == "skip":
        out.print(f"{verdict.op} {verdict.dtype}: {verdict.message}", markup=False, soft_wrap=True)
        return
    line = f"{verdict.op} {verdict.dtype}: {found.evaluations} inputs"
    if found.worst:
        worst = found.worst[0]
        line += (
            f", error / bound up to {worst.margin:.4f} ({worst.error_ulp[1]:.3f} of {worst.bound_ulp:.3f} ulp"
        )
        line += f", found by {worst.found_by})"
    out.print(line, markup=False, soft_wrap=True)
    if found.witness is not None:
        print_verdict(verdict, out)
        out.print(f"    witness  {found.witness}", markup=False, soft_wrap=True)
