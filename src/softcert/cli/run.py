"""`softcert run`: answer the cases of a file, with NumPy, click and the subject's own library alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from softcert.cli.options import PATH, require_writable_file

EXAMPLES = """
\b
Examples:
  softcert run kernel.py:my_softmax --cases softmax.cases --out softmax.results
  softcert run my_library --cases softmax.cases --out softmax.results
"""


@click.command(epilog=EXAMPLES)
@click.argument("subject")
@click.option(
    "--cases",
    "cases_file",
    type=PATH,
    metavar="FILE",
    required=True,
    help="What `softcert cases` or `softcert judge --more` wrote.",
)
@click.option("--out", "out_file", type=PATH, metavar="FILE", required=True, help="The file to write.")
@click.option(
    "--op", metavar="OP", help="What a single function computes, where the cases are of several ops."
)
def run(subject: str, cases_file: str, out_file: str, op: str | None) -> None:
    """Make the calls of a file of cases on SUBJECT, and write its answers to a file.

    SUBJECT is named as for `softcert check`, and as well isolated. Nothing is judged here: bring the file
    home, to `softcert judge`. A run that was stopped goes on where it was.
    """
    from softcert.backends.ops import OPS
    from softcert.backends.running import run_cases

    if op is not None and op not in OPS:
        raise click.UsageError(f"there is no op {op!r}; the ops are {', '.join(OPS)}")
    require_writable_file(out_file)
    if Path(out_file).resolve() in {
        Path(name).resolve() for name in (cases_file, subject.rpartition(":")[0])
    }:
        raise click.UsageError(f"{out_file} is read by this run, so that no result can go there")
    with _progress() as show:
        done = run_cases(subject, cases_file, out_file, op=op, progress=show)
    click.echo(f"{done.trials} trials answered in {out_file}, {done.failures} of them by a failure", err=True)
    if done.left_out:
        click.echo(f"{done.left_out} items left out, of ops and dtypes that it does not have", err=True)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None] | None]:
    """Show how far a run is, on a terminal alone."""
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1, file=sys.stderr, item_show_func=lambda what: what) as bar:

        def show(done: int, total: int, what: str) -> None:
            bar.length = total
            bar.update(done - bar.pos, what)

        yield show
