"""`softcert report`: accuracy and speed of several subjects, side by side."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.console import announce, count_bar
from softcert.cli.errors import explain, stop_status
from softcert.cli.judging import Request, judge
from softcert.cli.kept_runs import RUNS, KeptRuns, sources_of
from softcert.cli.options import PATH, request_options
from softcert.cli.proved import read_proofs
from softcert.cli.subjects import TIMED, all_that_run, ops_of
from softcert.cli.targets import require_report_extra, require_report_folder
from softcert.cli.timing import until_stopped
from softcert.wording import conclusion

if TYPE_CHECKING:
    from softcert.conformance.model import Run

#: What is judged of every backend that runs here, where no subject and no dtype is named: all of theirs
#: would take most of an hour.
_DTYPE_OF_ALL = "float32"
#: In which every subject is timed: the fewest that hold the median with a probability of 95 % are six.
_ROUNDS = 7

EXAMPLES = """
\b
Examples:
  softcert report
  softcert report torch-sdpa-math torch-sdpa-flash numpy --op attention --out comparison
  softcert report scipy --profile full --open
  softcert report --fresh
  softcert report numpy --proof float16.json
"""


@click.command(epilog=EXAMPLES)
@click.argument("subjects", nargs=-1, metavar="[SUBJECT]...")
@click.option(
    "--out",
    "folder",
    type=PATH,
    metavar="DIR",
    default="./report",
    show_default=True,
    help="Folder of the report.",
)
@request_options("smoke")
@click.option(
    "--fresh", is_flag=True, help="Judge every subject again, also those that the folder holds a run of."
)
@click.option(
    "--proof",
    "proofs",
    multiple=True,
    type=PATH,
    metavar="RUN.json",
    help="Show this result of a campaign, in which every input was tried, beside its subject; repeatable.",
)
@click.option(
    "--open/--no-open", "show", default=None, help="Open the page in a browser; the default on a terminal."
)
def report(
    subjects: tuple[str, ...],
    folder: str,
    ops: tuple[str, ...],
    dtypes: tuple[str, ...],
    clauses: tuple[str, ...],
    profile: str,
    seed: int,
    fresh: bool,
    proofs: tuple[str, ...],
    show: bool | None,
) -> int:
    """Judge and time each SUBJECT, and write one report.

    By default, every backend that runs here, in float32. The exit status is 0 when the report was written,
    whatever it says of the subjects.

    However it ended, the same command goes on where it was: finished runs in DIR/runs are kept where request,
    machine, versions and sources are the same, and set aside in DIR/earlier where not. Times are always
    measured anew.
    """
    from softcert.conformance.outcome import with_proofs

    require_report_extra()
    require_report_folder(folder, RUNS)
    if not subjects and not dtypes:
        dtypes = (_DTYPE_OF_ALL,)
        announce(f"every backend, in {_DTYPE_OF_ALL}; --dtype asks for others.")
    request = Request(ops, dtypes, clauses, profile, seed)
    request.validate()
    names = tuple(dict.fromkeys(subjects)) or all_that_run(ops)
    proved = read_proofs(proofs, names)
    campaign = Campaign(names, request, KeptRuns.read(Path(folder), fresh=fresh))
    interrupt = campaign.proceed()
    runs, status = campaign.runs, max(campaign.refused.values(), default=0)
    if runs and interrupt is None:
        runs, interrupt = _timed(runs)
    if runs:
        runs = [with_proofs(run, proved.get(run.subject, ())) for run in runs]
        page = _write(runs, Path(folder))
        if interrupt is None and (show or (show is None and sys.stdout.isatty())):
            webbrowser.open(page.resolve().as_uri())
    elif status == 0 and interrupt is None:
        raise click.ClickException("no registered backend runs here; see softcert backends")
    return status if interrupt is None else stop_status(interrupt)


def _asked_of(name: str, request: Request) -> Request:
    """The request without ops that a registered backend lacks, as long as it has one of them."""
    from softcert.backends import available

    if len(request.ops) < 2 or name not in available():
        return request
    has = ops_of(name)
    return replace(request, ops=tuple(op for op in request.ops if op in has) or request.ops)


@dataclass
class Campaign:
    """The subjects of one report, and how far it came.

    Attributes
    ----------
    kept : finished runs, which are not made again.
    reached : the run of each subject that has one by now.
    refused : the exit status of each subject that cannot be judged; it costs no other.
    seconds : how long each subject took that was judged here.
    """

    names: tuple[str, ...]
    request: Request
    kept: KeptRuns
    reached: dict[str, Run] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    @property
    def runs(self) -> list[Run]:
        """The runs that were reached, in the order of the subjects."""
        return [self.reached[name] for name in self.names if name in self.reached]

    @property
    def missing(self) -> list[str]:
        """The subjects that are neither reached nor refused."""
        return [name for name in self.names if name not in self.reached and name not in self.refused]

    def proceed(self) -> KeyboardInterrupt | None:
        """Take all that is kept, then judge the others; return what stopped this, if something did."""
        for step in (self._take, self._judge):
            for name in self.missing:
                interrupt = self._attempt(step, name)
                if interrupt is not None:
                    announce(
                        "softcert: stopped; the report holds what was reached, and the same command goes on."
                    )
                    return interrupt
        return None

    def _attempt(
        self, step: Callable[[str], KeyboardInterrupt | None], name: str
    ) -> KeyboardInterrupt | None:
        try:
            interrupt = step(name)
        except KeyboardInterrupt as error:
            return error
        except Exception as error:  # noqa: BLE001 -- what befalls one subject must not cost the others
            sentence, self.refused[name] = explain(error)
            announce(f"softcert: {name}: {sentence}")
            return None
        if name in self.reached:
            announce(conclusion(self.reached[name]))
        return interrupt

    def _take(self, name: str) -> None:
        run = self.kept.take(name, _asked_of(name, self.request))
        if run is not None:
            self.reached[name] = run

    def _judge(self, name: str) -> KeyboardInterrupt | None:
        sources, started = sources_of(name), perf_counter()
        run, interrupt = judge(name, _asked_of(name, self.request), label=self._title(name))
        self.seconds.append(perf_counter() - started)
        self.reached[name] = self.kept.keep(run, sources)
        return interrupt

    def _title(self, name: str) -> str:
        """What the bar says: the subject's number, and how long those behind it will take at this pace."""
        place = f"{self.names.index(name) + 1}/{len(self.names)}"
        later = len(self.missing) - 1
        if self.seconds and later:
            minutes, seconds = divmod(round(mean(self.seconds) * later), 60)
            place += f", then about {minutes}:{seconds:02d}"
        return f"[{place}] {name}"


def _timed(runs: list[Run]) -> tuple[list[Run], KeyboardInterrupt | None]:
    """Time the subjects against each other, in one interleaved measurement; what was reached is kept."""
    from softcert.reports.speed import Stopwatch

    announce("timing ...")
    ops = list(dict.fromkeys(v.op for run in runs for v in run.verdicts))
    dtypes = list(dict.fromkeys(v.dtype for run in runs for v in run.verdicts))
    timed = [op for op in ops if op in TIMED] or ops
    chosen = [_DTYPE_OF_ALL] if _DTYPE_OF_ALL in dtypes else dtypes[:1]

    def measured() -> Iterator[tuple[int, Mapping[str, Any]]]:
        subjects, only = [run.subject for run in runs], ops[0] if len(ops) == 1 else None
        with Stopwatch(subjects, only) as stopwatch, count_bar("timing") as show:
            yield from stopwatch.rows(timed, chosen, rounds=_ROUNDS, ladder=True, progress=show)

    rows, stop = until_stopped(measured())
    if stop is not None:
        kept = "with the speeds that were reached" if rows else "without speeds"
        announce(f"softcert: stopped; the report goes {kept}.")
    return [replace(run, speed=tuple(rows.get(position, ()))) for position, run in enumerate(runs)], stop


def _write(runs: list[Run], folder: Path) -> Path:
    """Write the report and say where it is; return the page."""
    from softcert.reports import write_report

    written = write_report(runs, folder)
    for path in (written.html, written.markdown, written.json, written.junit):
        click.echo(str(path))
    return written.html
