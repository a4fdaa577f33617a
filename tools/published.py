"""Write the dated report on every library that installs here, several versions of some.

    python tools/published.py [--out FOLDER] [--only WORD ...]

What is examined stands in tools/published.toml. Each entry is installed by pip into an environment of its own
under build/published, where its backends answer the cases of the suite; they are judged here, as is done for
a machine without an oracle. Answers are kept, so that a run that was stopped goes on where it was; when the
suite's cases change, they are asked for anew. Then come the proofs by exhaustion, campaigns of this tree's
environment, whose stores are kept too. Then all are timed in turns, each in its environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click

from softcert.cli.console import count_bar
from softcert.cli.subjects import TIMED
from softcert.conformance.model import RequestError, Run
from softcert.conformance.outcome import with_proofs
from softcert.conformance.wire.runs import read_run
from softcert.reports import write_report
from softcert.reports.speed import Stopwatch

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ROOT / "tools" / "published.toml"
WORK = ROOT / "build" / "published"
PUBLISHED = ROOT / "reports" / "published"
#: What `softcert run` needs beside the library itself.
_WORKER_NEEDS = ("numpy", "click", "ml_dtypes", "psutil")
#: What the outcome of a proof depends on, besides the versions that its campaign notes.
_PROOF_SOURCES = ("reference", "backends", "conformance/bounds", "conformance/judging", "conformance/proofs")
#: Exchanges of cases and answers; the further ones ask for what depends on the answers to the first.
_EXCHANGES = 3


class Entry(NamedTuple):
    """A backend and the library that it is about, at one version.

    Attributes
    ----------
    backend : a registered name.
    requires : requirements for pip, the library itself first.
    dtypes : in which it is examined; none for all that it declares.
    """

    backend: str
    requires: tuple[str, ...]
    dtypes: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        """Distribution that the backend is about."""
        return self.requires[0].partition("==")[0]

    @property
    def version(self) -> str:
        """Version of the library."""
        return self.requires[0].partition("==")[2]

    @property
    def name(self) -> str:
        """How the report calls it."""
        return f"{self.backend} {self.version}"

    @property
    def stem(self) -> str:
        """Part of the names of its files."""
        return re.sub(r"[^\w.-]", "-", self.name)


def listed(only: Sequence[str]) -> Iterator[Entry]:
    """The entries whose names hold one of the words, or all."""
    for library in tomllib.loads(LIBRARIES.read_text(encoding="utf-8"))["library"]:
        for backend in library["backends"]:
            entry = Entry(backend, tuple(library["requires"]), tuple(library.get("dtypes", ())))
            if not only or any(word in entry.name for word in only):
                yield entry


def softcert(python: Path, *arguments: str | Path, accepted: Sequence[int] = (0,)) -> None:
    """Run a command of softcert from this tree.

    Raises
    ------
    subprocess.CalledProcessError : its exit status is none of those accepted.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [str(python), "-m", "softcert", *map(str, arguments)]
    # What a verdict says stands in the report.
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)  # noqa: S603 - softcert itself
    if done.returncode not in accepted:
        raise subprocess.CalledProcessError(done.returncode, command)


def environment_of(entry: Entry) -> Path:
    """Python of the environment that holds an entry's library, made where it is not there."""
    folder = WORK / "environments" / re.sub(r"[^\w.=-]", "-", entry.requires[0])
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*install, *entry.requires, *_WORKER_NEEDS], check=True)  # noqa: S603 - what is listed
        complete.touch()
    return python


def cases_of(profile: str, dtypes: Sequence[str]) -> Path:
    """The cases of a profile in some dtypes, in a folder of their own for what is answered to them."""
    fresh = WORK / "fresh.cases"
    asked = [part for dtype in dtypes for part in ("--dtype", dtype)]
    softcert(Path(sys.executable), "cases", "--profile", profile, *asked, "--out", fresh)
    with fresh.open("rb") as file:
        folder = WORK / hashlib.file_digest(file, "sha256").hexdigest()[:12]
    folder.mkdir(exist_ok=True)
    return fresh.rename(folder / f"{profile}.cases")


def examined(entry: Entry, cases: Path) -> Run:
    """Have a backend answer the cases, and judge it.

    Raises
    ------
    subprocess.CalledProcessError : it cannot be installed, or does not run.
    RequestError : what the judge wrote cannot be read.
    """
    python, here, folder = environment_of(entry), Path(sys.executable), cases.parent
    results: list[Path] = []
    judged = folder / f"{entry.stem}.json"
    for exchange in range(_EXCHANGES):
        answered = folder / f"{entry.stem}-{exchange}.results"
        if not answered.exists():
            softcert(python, "run", entry.backend, "--cases", cases, "--out", answered)
        results.append(answered)
        cases = folder / f"{entry.stem}-{exchange + 1}.cases"
        cases.unlink(missing_ok=True)
        softcert(here, "judge", *results, "--json", judged, "--more", cases, accepted=(0, 1))
        if not cases.exists():
            break
    return replace(read_run(judged), name=entry.name)


def all_examined(
    entries: Sequence[Entry], cases: Mapping[tuple[str, ...], Path]
) -> tuple[dict[Entry, Run], list[str]]:
    """Runs of the entries, as many at a time as there are processors; and what failed, in words."""
    found: dict[Entry, Run] = {}
    failed = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        at_work: dict[Future[Run], Entry] = {}
        for entry in entries:
            click.echo(f"== {entry.name}", err=True)
            try:
                # One at a time: entries share environments.
                environment_of(entry)
                at_work[pool.submit(examined, entry, cases[entry.dtypes])] = entry
            except subprocess.CalledProcessError as error:
                failed.append(f"{entry.name}: {error}")
        for future in as_completed(at_work):
            entry = at_work[future]
            try:
                found[entry] = future.result()
                click.echo(f"== {entry.name}: examined", err=True)
            except (subprocess.CalledProcessError, RequestError) as error:
                failed.append(f"{entry.name}: {error}")
    return {entry: found[entry] for entry in entries if entry in found}, failed


class Proof(NamedTuple):
    """A domain of which a backend is asked for every input."""

    backend: str
    domain: str
    op: str
    dtype: str


def listed_proofs() -> Iterator[Proof]:
    """The proofs that are listed."""
    for asked in tomllib.loads(LIBRARIES.read_text(encoding="utf-8"))["proof"]:
        columns = (asked["backends"], [asked["domain"]], asked["ops"], asked["dtypes"])
        yield from map(Proof._make, product(*columns))


def proved(proof: Proof) -> Run:
    """Run the campaign of a proof, or go on with it.

    Raises
    ------
    subprocess.CalledProcessError : it did not come to an end.
    """
    here, folder = Path(sys.executable), WORK / "proofs"
    folder.mkdir(exist_ok=True)
    fresh, options = folder / "fresh.json", ("--op", proof.op, "--dtype", proof.dtype)
    planned = ("plan", fresh, proof.backend, "--task", "proof", "--domain", proof.domain, *options)
    softcert(here, "campaign", *planned)
    digest = hashlib.sha256(fresh.read_bytes())
    for path in sorted(path for folder in _PROOF_SOURCES for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    plan = fresh.rename(folder / f"{'-'.join(proof)}-{digest.hexdigest()[:12]}.json")
    result = plan.with_suffix(".result.json")
    softcert(here, "campaign", "run", plan, "--json", result, accepted=(0, 1))
    return read_run(result)


def _installed(library: str) -> str:
    """Version of a library in this environment, without what its build calls itself behind a +."""
    return version(library).partition("+")[0]


def all_proved(runs: Mapping[Entry, Run]) -> tuple[dict[Entry, Run], list[str]]:
    """The runs, with proofs where this environment has the version of an entry; and what failed."""
    found, failed = dict(runs), []
    for proof in listed_proofs():
        entries = [entry for entry in runs if entry.backend == proof.backend]
        here = [entry for entry in entries if entry.version == _installed(entry.library)]
        if entries and not here:
            failed.append(f"{' '.join(proof)}: no entry is of the version that is installed here")
        for entry in here:
            click.echo(f"== {entry.name}: {proof.domain}, {proof.op}, {proof.dtype}", err=True)
            try:
                found[entry] = with_proofs(found[entry], [proved(proof)])
            except (subprocess.CalledProcessError, RequestError) as error:
                failed.append(f"{entry.name}, {' '.join(proof)}: {error}")
    return found, failed


def timed(runs: Mapping[Entry, Run]) -> list[Run]:
    """The runs with speeds, of one measurement of all of them."""
    rows: dict[int, list[Mapping[str, Any]]] = {position: [] for position in range(len(runs))}
    pythons = [str(environment_of(entry)) for entry in runs]
    with (
        Stopwatch([entry.backend for entry in runs], pythons=pythons) as stopwatch,
        count_bar("timing") as show,
    ):
        for position, row in stopwatch.rows(TIMED, ("float32",), ladder=True, progress=show):
            rows[position].append(row)
    return [replace(run, speed=tuple(rows[position])) for position, run in enumerate(runs.values())]


@click.command(help=__doc__)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the report; the date's by default.")
@click.option("--only", multiple=True, metavar="WORD", help="Entries whose names hold it; repeatable.")
def main(out: Path | None, only: tuple[str, ...]) -> None:
    """Examine every entry and write the report."""
    WORK.mkdir(parents=True, exist_ok=True)
    profile = tomllib.loads(LIBRARIES.read_text(encoding="utf-8"))["profile"]
    entries = list(listed(only))
    cases = {dtypes: cases_of(profile, dtypes) for dtypes in sorted({entry.dtypes for entry in entries})}
    runs, failed = all_examined(entries, cases)
    runs, unproved = all_proved(runs)
    failed += unproved
    today = datetime.now(UTC).date().isoformat()
    if runs:
        written = write_report(timed(runs), out or PUBLISHED / today, title=f"softcert report of {today}")
        # It is kept for good, and two fifths of it are indentation.
        figures = json.loads(written.json.read_text(encoding="utf-8"))
        written.json.write_text(json.dumps(figures, separators=(",", ":"), allow_nan=False), encoding="utf-8")
        click.echo(str(written.html))
    if failed:
        raise click.ClickException("; ".join(failed))


if __name__ == "__main__":
    main()
