"""What the commands show: progress on a terminal, tables, broken clauses with their witnesses."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from softcert.conformance.model import Run, Verdict, Witness
    from softcert.conformance.runner import Progress as Step

#: Width of tables that are not written to a terminal: enough that no row of ours wraps.
PIPE_WIDTH = 120
#: How many numbers of an array are shown before the rest is only counted.
SHOWN = 8

_STYLES = {"fail": "bold red", "error": "bold red", "vacuous": "yellow", "xfail": "yellow"}


def console(*, err: bool = False) -> Console:
    """Return a console on stdout, or on stderr, that never wraps tables in a pipe."""
    stream = sys.stderr if err else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, emoji=False)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[Step], None]]:
    """Show a bar with the remaining time on stderr while the block runs, if stderr is a terminal.

    Yields
    ------
    The function to call with each step.
    """
    if not sys.stderr.isatty():
        yield lambda _step: None
        return
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task(escape(title), total=None)

        def show(step: Step) -> None:
            what = escape(f"{title}  {step.clause} {step.op} {step.dtype}")
            bar.update(task, completed=step.done, total=step.total, description=what)

        yield show


def print_run(run: Run, out: Console) -> None:
    """Print grades by op and dtype, each broken clause with its witness, and the conclusion."""
    out.print(_grades(run))
    for verdict in run.verdicts:
        if verdict.status in ("fail", "error", "vacuous"):
            print_verdict(verdict, out)
    out.print(Text(conclusion(run), style="bold red" if run.broken else "bold green"), soft_wrap=True)


def _grades(run: Run) -> Table:
    """One row per op and dtype: grade, worst certified error, and how its clauses ended."""
    table = Table(title=f"{escape(run.name)}", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("op", "dtype", "grade"):
        table.add_column(heading)
    for heading in ("worst error", "bound", "margin", "cases", "clauses", "broken", "vacuous", "skipped"):
        table.add_column(heading, justify="right")
    for (op, dtype), verdicts in _by_format(run.verdicts).items():
        status = Counter(v.status for v in verdicts)
        graded = next((v for v in verdicts if v.grade), None)
        accuracy = ("-", "-", "-", "-")
        if graded is not None:
            accuracy = (
                graded.grade,
                f"{graded.error_max[1]:.4g} ulp",
                f"{graded.bound_ulp:.4g} ulp",
                f"{graded.margin:.3g}",
            )
        broken = status["fail"] + status["error"]
        table.add_row(
            op,
            dtype,
            *accuracy,
            str(sum(v.cases for v in verdicts)),
            str(len(verdicts)),
            Text(str(broken), style="bold red" if broken else ""),
            str(status["vacuous"]),
            str(status["skip"]),
        )
    return table


def _by_format(verdicts: tuple[Verdict, ...]) -> dict[tuple[str, str], list[Verdict]]:
    grouped: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        grouped.setdefault((verdict.op, verdict.dtype), []).append(verdict)
    return grouped


def print_verdict(verdict: Verdict, out: Console) -> None:
    """Print one verdict: what it says, and the smallest input that shows it."""
    head = Text()
    head.append(verdict.status.upper(), style=_STYLES.get(verdict.status, ""))
    head.append(f"  {verdict.clause}  {verdict.op} {verdict.dtype}")
    out.print(head, soft_wrap=True)
    lines = [verdict.message] if verdict.message else []
    if verdict.witness is not None:
        lines += describe_witness(verdict.witness)
    for line in lines:
        out.print(Text(f"    {line}"), soft_wrap=True)


def describe_witness(witness: Witness) -> list[str]:
    """Return the lines that show a witness: inputs in hexadecimal, what came back, what is exact."""
    lines = []
    for number, call in enumerate(witness.trial.calls):
        keywords = "".join(f" {name}={value}" for name, value in call.params.items())
        layout = "" if call.layout == "contiguous" else f" layout={call.layout}"
        label = f"call {number}: " if len(witness.trial.calls) > 1 else ""
        lines.append(f"{label}{call.op}{keywords}{layout}")
        for name, operand in zip(_operand_names(call.op), call.operands, strict=False):
            lines.append(f"    {name} = {hexadecimal(operand)}  shape {tuple(operand.shape)}")
    finding = witness.finding
    place = "" if finding.index is None else f" at index {list(finding.index)}"
    lines.append(f"got    {finding.observed}{place}")
    if finding.exact is not None:
        lines.append(f"exact  {finding.quantity} in [{finding.exact[0]}, {finding.exact[1]}]")
    return lines


def _operand_names(op: str) -> tuple[str, ...]:
    from softcert.backends.types import OPERANDS

    return OPERANDS[op]


def hexadecimal(array: object) -> str:
    """Return the first numbers of an array as hexadecimal floats, the others counted."""
    import numpy as np

    numbers = np.asarray(array).reshape(-1)
    shown = [float(number).hex() for number in numbers[:SHOWN]]
    more = f", ... {numbers.size - SHOWN} more" if numbers.size > SHOWN else ""
    return f"[{', '.join(shown)}{more}]"


def conclusion(run: Run) -> str:
    """Return the line that a reader needs if they read only one."""
    count = Counter(v.status for v in run.verdicts)
    cases = sum(v.cases for v in run.verdicts)
    tried = f"{len(run.verdicts)} verdicts on {cases} cases in {run.seconds:.1f} s"
    others = [f"{count[status]} {word}" for status, word in _OTHER_STATUSES.items() if count[status]]
    rest = f" ({', '.join(others)})" if others else ""
    if not run.broken:
        return f"{run.name} conforms: no clause broken, {tried}{rest}."
    clauses = sorted({v.clause for v in run.broken})
    return f"{run.name} does not conform: {len(clauses)} clauses broken ({', '.join(clauses)}), {tried}{rest}."


_OTHER_STATUSES = {"vacuous": "vacuous", "xfail": "expected failures", "skip": "skipped"}
