"""What the commands show: progress on a terminal, tables, broken clauses with their witnesses."""

from __future__ import annotations

import errno
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from softcert.cli.grades import grade_lines
from softcert.wording import conclusion, describe_witness, listed, witness_size

if TYPE_CHECKING:
    from softcert.conformance import Progress as Step
    from softcert.conformance.model import Run, Verdict

#: Width of tables that are not written to a terminal: enough that no row of ours wraps.
PIPE_WIDTH = 120

_GIVES_WAY = Column(ratio=1, no_wrap=True, overflow="ellipsis")
_STYLES = {"fail": "bold red", "error": "bold red", "vacuous": "yellow", "xfail": "yellow"}
_ENDINGS = {
    "broken": "bold red",
    "stopped": "bold yellow",
    "nothing": "bold yellow",
    "conforms": "bold green",
}


class _Console(Console):
    """A console that leaves it to the command line what a reader who went away means."""

    def on_broken_pipe(self) -> NoReturn:
        """Raise what happened; by default the process would end with status 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def console(*, err: bool = False) -> Console:
    """Return a console on stdout, or on stderr, that never wraps tables in a pipe."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False, emoji=False)


@contextmanager
def count_bar(title: str, begun: int = 0) -> Iterator[Callable[[int, int, str], None]]:
    """Show a bar with the remaining time on stderr while the block runs, if stderr is a terminal.

    Parameters
    ----------
    begun : the steps that were done before, which say nothing of how fast it is now.

    Yields
    ------
    The function to call with the steps done, the steps in all, and what is being done now.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _total, _what: None
        return
    columns = (
        # What is being done now gives way first where the terminal is narrow: the remaining time stays.
        TextColumn("[progress.description]{task.description}", table_column=_GIVES_WAY),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, expand=True) as bar:
        task = bar.add_task(escape(title), total=None, completed=begun)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=escape(f"{title}  {what}"))

        yield show


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Step], None]]:
    """Show `count_bar` for the steps of a conformance run.

    Yields
    ------
    The function to call with each step.
    """
    with count_bar(title) as show:
        yield lambda step: show(step.done, step.total, f"{step.clause} {step.op} {step.dtype}")


def announce(text: str) -> None:
    """Say on stderr what is not the answer; a stream that takes nothing changes nothing."""
    with suppress(OSError):
        click.echo(text, err=True)


def print_run(run: Run, out: Console) -> None:
    """Print grades by op and dtype, each broken clause with its witness, and the conclusion."""
    from softcert.conformance.outcome import outcome

    out.print(Text(run.name, style="italic"), soft_wrap=True)
    for line in grade_lines(run, out.width):
        out.print(line, soft_wrap=True)
    for verdicts in _worth_telling(run.verdicts).values():
        # One witness a clause, the smallest, is what one can act on; files hold them all.
        smallest = min(verdicts, key=witness_size)
        print_verdict(smallest, out, listed(dict.fromkeys(v.clause for v in verdicts)))
        others = ", ".join(
            dict.fromkeys(
                f"{v.op} {v.dtype}" for v in verdicts if (v.op, v.dtype) != (smallest.op, smallest.dtype)
            )
        )
        if others:
            out.print(Text(f"    also  {others}"), soft_wrap=True)
    for reason, names in _expected(run.verdicts).items():
        out.print(Text(f"expected to be broken, {names}: {reason}", style="dim"), soft_wrap=True)
    for reason, count in Counter(v.message for v in run.verdicts if v.status == "skip").items():
        out.print(Text(f"skipped {count}: {reason}", style="dim"), soft_wrap=True)
    for untold, ops in _untold(run.verdicts).items():
        out.print(Text(f"{listed(ops)}: {untold}", style="dim"), soft_wrap=True)
    out.print(Text(conclusion(run), style=_ENDINGS[outcome(run)]), soft_wrap=True)


def _untold(verdicts: tuple[Verdict, ...]) -> dict[str, list[str]]:
    """What clauses that hold were not asked, and the ops of which they were not."""
    from softcert.conformance.examination.examine import NOT_ASKED

    parts: dict[str, dict[str, None]] = {}
    for verdict in verdicts:
        untold = verdict.message.partition(NOT_ASKED)[2] if verdict.status == "pass" else ""
        if untold:
            parts.setdefault(verdict.op, {}).update(dict.fromkeys(untold.split("; ")))
    grouped: dict[str, list[str]] = {}
    for op, features in parts.items():
        grouped.setdefault(f"{NOT_ASKED}{'; '.join(sorted(features))}", []).append(op)
    return grouped


def _expected(verdicts: tuple[Verdict, ...]) -> dict[str, str]:
    """Where the clauses are broken that were expected to be, by the reason and finding."""
    grouped: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.status == "xfail":
            place = f"{verdict.clause} {verdict.op} {verdict.dtype}"
            grouped.setdefault(verdict.message, []).append(place)
    return {reason: listed(places) for reason, places in grouped.items()}


def _worth_telling(verdicts: tuple[Verdict, ...]) -> dict[tuple[str, str], list[Verdict]]:
    grouped: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.status in ("fail", "vacuous"):
            grouped.setdefault((verdict.clause, verdict.status), []).append(verdict)
        elif verdict.status == "error":
            # "exception in softmax of float32 (3,): ValueError: ...": many clauses, one cause.
            grouped.setdefault((verdict.message.partition(": ")[2], verdict.status), []).append(verdict)
    return grouped


def print_verdict(verdict: Verdict, out: Console, clauses: str = "") -> None:
    """Print one verdict: what it says, and the smallest input that shows it.

    Parameters
    ----------
    clauses : the clauses that it speaks for, where it is more than its own.
    """
    head = Text()
    head.append(verdict.status.upper(), style=_STYLES.get(verdict.status, ""))
    head.append(f"  {clauses or verdict.clause}  {verdict.op} {verdict.dtype}")
    out.print(head, soft_wrap=True)
    lines = [verdict.message] if verdict.message else []
    if verdict.witness is not None:
        lines += describe_witness(verdict.witness)
    for line in lines:
        out.print(Text(f"    {line}"), soft_wrap=True)
