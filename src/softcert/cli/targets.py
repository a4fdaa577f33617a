"""The files that `check` and `gate` are asked to write: refused before the run, or written after it."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from softcert.cli.errors import explain
from softcert.cli.options import require_writable_file, require_writable_folder, write_result

if TYPE_CHECKING:
    from softcert.conformance.gate.gate import GateResult
    from softcert.conformance.model import Run


@dataclass(frozen=True)
class Targets:
    """Where the results of one run go; None is nowhere, and - is stdout.

    Attributes
    ----------
    json, junit, markdown : files.
    html, witnesses : folders.
    """

    json: str | None = None
    junit: str | None = None
    html: str | None = None
    witnesses: str | None = None
    markdown: str | None = None

    @property
    def takes_stdout(self) -> bool:
        """Whether a file goes to stdout, where nothing else may be then."""
        return "-" in (self.json, self.junit, self.markdown)

    def validate(self, *inputs: Path) -> None:
        """Make sure, before a long run, that every file can be written and none destroys another.

        Parameters
        ----------
        inputs : files that are read, and that no result may replace.

        Raises
        ------
        click.UsageError : one cannot, or two are the same.
        """
        for name in filter(None, (self.json, self.junit, self.markdown)):
            require_writable_file(name)
        if self.html:
            require_report_extra()
            require_report_folder(self.html)
        if self.witnesses:
            require_writable_folder(self.witnesses)
        if (self.json, self.junit, self.markdown).count("-") > 1:
            first, second, *_ = (n for n in ("json", "junit", "markdown") if getattr(self, n) == "-")
            raise click.UsageError(f"--{first} and --{second} cannot both go to stdout")
        written = Counter(path.resolve() for path in self._files() if not _is_device(path))
        for path, number in written.items():
            if number > 1:
                raise click.UsageError(f"{path} would be written twice; give each result a file of its own")
        for path in inputs:
            if path.resolve() in written:
                raise click.UsageError(f"{path} is read by this run, so that no result can go there")

    def save(self, run: Run) -> None:
        """Write every file that was asked for of a run.

        Raises
        ------
        click.ClickException : one could not be written; the others were tried first.
        BrokenPipeError : nobody reads stdout any more; the others were tried first.
        """
        _write_all(
            (self.json, lambda path: _write_json(run, path)),
            (self.junit, lambda path: _write_junit([run], path)),
            (self.html, lambda path: _write_page(run, path)),
            (self.witnesses, lambda path: _write_witnesses([run], path)),
        )

    def save_gate(self, result: GateResult) -> None:
        """Write every file that was asked for of a gate; it raises what `save` does."""
        from softcert.conformance.gate.runs import gate_runs

        runs = gate_runs(result)
        _write_all(
            (self.json, lambda path: _write_runs(runs, path)),
            (self.junit, lambda path: _write_junit(runs, path)),
            (self.markdown, lambda path: _write_summary(result, path)),
            (self.witnesses, lambda path: _write_witnesses([s.run for s in result.subjects], path)),
        )

    def _files(self) -> Iterator[Path]:
        named = (self.json, self.junit, self.markdown)
        yield from (Path(path) for path in named if path and path != "-")
        if self.html:
            yield from _page_files(self.html)


def _write_all(*tasks: tuple[str | None, Callable[[str], None]]) -> None:
    """Write each file that is asked for, and tell what went wrong only after the last."""
    from softcert.conformance.model import RequestError

    problems: list[str] = []
    broken_pipe: BrokenPipeError | None = None
    for path, write in tasks:
        try:
            if path:
                write(path)
        except BrokenPipeError as error:
            broken_pipe = error
        except (click.ClickException, RequestError, OSError) as problem:
            problems.append(explain(problem)[0].rstrip("."))
    if problems:
        raise click.ClickException("; ".join(problems))
    if broken_pipe:
        raise broken_pipe


def require_report_extra() -> None:
    """Make sure, before a long run, that the libraries of the report page are there.

    Raises
    ------
    click.UsageError : one is missing, with the command that installs it.
    """
    for library in ("jinja2", "matplotlib"):
        if find_spec(library) is None:
            raise click.UsageError(f"a report page needs {library}: pip install 'softcert[report]'")


def require_report_folder(folder: str, *inside: str) -> None:
    """Make sure, before a long run, that a report can be written into a folder.

    Parameters
    ----------
    inside : folders in it, besides those of every report, that will be written to.

    Raises
    ------
    click.UsageError : it cannot, with the system's reason.
    """
    require_writable_folder(folder)
    for path in _page_files(folder):
        require_writable_file(str(path))
    # Made only when there is a witness; in the way it may be already.
    if (Path(folder) / "witnesses").exists():
        require_writable_folder(str(Path(folder) / "witnesses"))
    for name in inside:
        require_writable_folder(str(Path(folder) / name))


def subject_files(subject: str) -> tuple[Path, ...]:
    """Return the files on which a subject, as the command line names it, may rest."""
    from softcert.backends.command import PREFIX

    if subject.startswith(PREFIX):
        words = subject.removeprefix(PREFIX).split()
        return tuple(path for path in map(Path, words) if path.is_file())
    head = subject.rpartition(":")[0]
    names = [name for name in (subject, head) if name]
    paths = [*map(Path, names), *(Path(f"{name.replace('.', '/')}.py") for name in names)]
    return tuple(path for path in paths if path.is_file())


def _page_files(folder: str) -> Iterator[Path]:
    from softcert.reports.write import FILES

    return (Path(folder) / name for name in FILES)


def _is_device(path: Path) -> bool:
    """Whether a path is there and no file, so that several results may go to it."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _write_json(run: Run, path: str) -> None:
    from softcert.conformance.wire.runs import dumps, run_to_json

    write_result(path, dumps(run_to_json(run)))


def _write_runs(runs: Sequence[Run], path: str) -> None:
    from softcert.conformance.wire.runs import dumps, report_to_json

    write_result(path, dumps(report_to_json(runs)))


def _write_junit(runs: Sequence[Run], path: str) -> None:
    from softcert.conformance.wire.junit import runs_to_junit

    write_result(path, runs_to_junit(runs))


def _write_summary(result: GateResult, path: str) -> None:
    from softcert.reports.gate_markdown import render_gate

    write_result(path, render_gate(result))


def _write_page(run: Run, folder: str) -> None:
    from softcert.reports import write_report

    write_report([run], Path(folder))


def _write_witnesses(runs: Sequence[Run], folder: str) -> None:
    from softcert.conformance.wire.runs import dumps, witness_to_json
    from softcert.reports.filenames import file_stem, unused_stem

    used: list[str] = []
    for run in runs:
        # One run's files are called by its clauses alone, several runs' by the subject too.
        head = f"{file_stem(run.name)}-" if len(runs) > 1 else ""
        for verdict in run.verdicts:
            if verdict.witness is not None:
                used.append(unused_stem(f"{head}{verdict.clause}-{verdict.op}-{verdict.dtype}", used))
                document = dumps(witness_to_json(verdict.witness, run.name))
                write_result(str(Path(folder) / f"{used[-1]}.json"), document)
