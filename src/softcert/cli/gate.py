"""`softcert gate`: hold a project's kernels to their contracts, witnesses and baselines."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from softcert.cli.console import console, count_bar, print_run, print_verdict
from softcert.cli.options import PATH
from softcert.cli.targets import Targets
from softcert.wording import counted, listed

if TYPE_CHECKING:
    from rich.console import Console

    from softcert.conformance import Progress
    from softcert.conformance.gate.baseline import Rows
    from softcert.conformance.gate.config import GateConfig, GatedSubject
    from softcert.conformance.gate.gate import GateResult, SubjectResult

#: By these GitHub says that a job of its runs, and where that job's summary is.
_ON_GITHUB, _SUMMARY = "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"

EXAMPLES = """
\b
Examples:
  softcert gate
  softcert gate --config kernels/softcert.toml --junit gate.xml --save-witnesses witnesses
  softcert gate --update-baseline
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--config",
    "config_file",
    type=PATH,
    metavar="FILE",
    help="softcert.toml, or a pyproject.toml with [tool.softcert]; the nearest one by default.",
)
@click.option("--update-baseline", is_flag=True, help="Write the baselines instead of comparing with them.")
@click.option("--speed/--no-speed", default=True, help="Time the subjects whose configuration says so.")
@click.option("--json", "json_file", type=PATH, metavar="FILE", help="Write the runs as JSON; - is stdout.")
@click.option("--junit", "junit_file", type=PATH, metavar="FILE", help="Write JUnit XML; - is stdout.")
@click.option("--markdown", "markdown_file", type=PATH, metavar="FILE", help="Write a summary as Markdown.")
@click.option(
    "--step-summary/--no-step-summary",
    "step_summary",
    default=None,
    help="Append the summary to $GITHUB_STEP_SUMMARY; the default in a GitHub job alone.",
)
@click.option(
    "--save-witnesses",
    "witness_folder",
    type=PATH,
    metavar="DIR",
    help="Write a file per broken clause, for replay.",
)
def gate(
    config_file: str | None,
    update_baseline: bool,
    speed: bool,
    json_file: str | None,
    junit_file: str | None,
    markdown_file: str | None,
    step_summary: bool | None,
    witness_folder: str | None,
) -> int:
    """Judge what softcert.toml, or [tool.softcert] in pyproject.toml, says, and hold it to its baselines.

    Exit status: 0 the gate holds; 1 it is broken; 2 the configuration is wrong; 3 softcert itself failed.
    """
    from softcert.conformance.gate.config import find_config, read_config

    targets = Targets(json_file, junit_file, None, witness_folder, markdown_file)
    config_path = Path(config_file) if config_file else find_config()
    targets.validate(config_path)
    summary_file = _summary_file(step_summary)
    config = read_config(config_path)
    result = _judged(config, update=update_baseline, speed=speed)
    targets.save_gate(result)
    if summary_file is not None:
        _append(summary_file, result)
    _print(result, console(err=targets.takes_stdout))
    return 0 if result.holds else 1


def _summary_file(wanted: bool | None) -> Path | None:
    """Where the summary is appended, or None.

    Raises
    ------
    click.UsageError : it is wanted, and nothing says where.
    """
    name = os.environ.get(_SUMMARY)
    if wanted and not name:
        raise click.UsageError(
            f"--step-summary appends to the file that ${_SUMMARY} names, and it is not set"
        )
    on_github = os.environ.get(_ON_GITHUB) == "true"
    return Path(name) if name and (wanted or (wanted is None and on_github)) else None


def _judged(config: GateConfig, *, update: bool, speed: bool) -> GateResult:
    from softcert.conformance.environment import available_cores
    from softcert.conformance.gate.gate import run_gate

    with count_bar("gate") as show:

        def watch(gated: GatedSubject, step: Progress) -> None:
            show(
                step.done, step.total, f"{gated.name or gated.subject}  {step.clause} {step.op} {step.dtype}"
            )

        jobs = max(2, available_cores())
        timer = _times if speed else None
        return run_gate(config, timer=timer, update=update, progress=watch, jobs=jobs)


def _times(subjects: Sequence[str], op: str, dtypes: Sequence[str]) -> list[Rows]:
    from softcert.reports.speed import measure

    found = measure(subjects, ops=(op,), dtypes=dtypes, op=op)
    return [found[position] for position in range(len(subjects))]


def _append(path: Path, result: GateResult) -> None:
    from softcert.reports.gate_markdown import render_gate

    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(render_gate(result))
    except OSError as error:
        raise click.ClickException(
            f"cannot append to {path}: {(error.strerror or str(error)).lower()}"
        ) from error


def _print(result: GateResult, out: Console) -> None:
    for subject in result.subjects:
        print_run(subject.run, out)
        _print_more(subject, out)
    broken = [subject.name for subject in result.subjects if not subject.holds]
    text = (
        f"gate is broken: {listed(broken)}."
        if broken
        else f"gate holds: {counted(len(result.subjects), 'subject')}."
    )
    out.print(Text(text, style="bold red" if broken else "bold green"), soft_wrap=True)


def _print_more(subject: SubjectResult, out: Console) -> None:
    from softcert.conformance.gate.runs import describe_time
    from softcert.conformance.model import BROKEN

    broken = [replayed for replayed in subject.replayed if replayed.verdict.status in BROKEN]
    for replayed in broken:
        out.print(Text(f"stored witness {replayed.path}:"), soft_wrap=True)
        print_verdict(replayed.verdict, out)
    if subject.replayed:
        known = counted(len(subject.replayed), "stored witness").replace("witnesss", "witnesses")
        out.print(Text(f"{known} replayed, {len(broken)} broken"), soft_wrap=True)
    for time in subject.times:
        mark = "TOO SLOW  " if time.exceeds else ""
        out.print(Text(f"{mark}{time.where}: {describe_time(time)}"), soft_wrap=True)
    for note in subject.notes:
        out.print(Text(f"note: {note}"), soft_wrap=True)
    if subject.written is not None:
        out.print(Text(f"wrote {subject.written}"), soft_wrap=True)
