"""The runs that a report's folder holds: taken where they answer what is asked now, set aside where not."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softcert.cli.console import announce
from softcert.cli.errors import explain
from softcert.cli.options import write_result
from softcert.cli.targets import subject_files
from softcert.errors import RequestError

if TYPE_CHECKING:
    from softcert.cli.judging import Request
    from softcert.conformance.model import Run

#: The folder of a report that holds a file for each run, and the one that holds those set aside.
RUNS, EARLIER = "runs", "earlier"
#: What a verdict may depend on besides the request, in the order in which a difference is told. The number of
#: cores is not among it: verdicts do not depend on how many processes reach them.
_STATE = ("versions", "sources", "python", "platform", "processor", "simd")
#: What was asked of a subject, with the words for it.
_ASKED = {
    "profile": "--profile",
    "seed": "--seed",
    "ops": "--op",
    "dtypes": "--dtype",
    "clauses": "--clause",
}
#: Files of softcert that verdicts depend on: its code, schemas and known hard cases.
_SUFFIXES = (".py", ".json", ".h")
#: A file that was being written so long ago, in seconds, belongs to a report that was killed.
_ABANDONED = 60.0


@dataclass(frozen=True)
class Asked:
    """What a run would have to hold, in order to stand for one that is made now.

    Attributes
    ----------
    request : profile, seed, ops, dtypes and clauses, as a run tells them.
    contract : what the subject promises.
    state : machine, versions, and a digest of the sources of softcert and of the subject.
    """

    request: Mapping[str, Any]
    contract: Mapping[str, Any]
    state: Mapping[str, Any]


@dataclass
class KeptRuns:
    """The runs in a report's folder, each in a file of its own.

    Attributes
    ----------
    folder : that of the report.
    files : the file of each subject, as the command line names it.
    runs : what these files held when they were read.
    """

    folder: Path
    files: dict[str, Path] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, *, fresh: bool = False) -> KeptRuns:
        """Read every run in the folder of a report; say which cannot be read, and set it aside.

        Parameters
        ----------
        fresh : set every run aside.

        Raises
        ------
        RequestError : a file cannot be set aside.
        """
        from softcert.conformance.wire.runs import read_run

        kept = cls(folder)
        _remove_abandoned(folder / RUNS)
        for path in sorted((folder / RUNS).glob("*.json")):
            if fresh:
                kept._set_aside(path, "judged anew")
                continue
            try:
                run = read_run(path)
            except RequestError as error:
                kept._set_aside(path, explain(error)[0].rstrip("."))
                continue
            kept.files[run.subject], kept.runs[run.subject] = path, run
        return kept

    def take(self, subject: str, request: Request) -> Run | None:
        """Return the finished run that answers the request, if there is one.

        One that answers another request, or was made by other software or on another machine, is set aside;
        one that was stopped is left, to be replaced by the whole one. Either is told.

        Raises
        ------
        RequestError, SubjectError : the subject cannot be asked what it is.
        """
        from softcert.conformance.outcome import describe_stop, is_stopped

        run = self.runs.get(subject)
        if run is None:
            return None
        difference = _difference(run, asked_of(subject, request))
        if difference is not None:
            self._set_aside(self.files.pop(subject), f"{run.name} is judged again: {difference}")
            return None
        if is_stopped(run):
            announce(f"{run.name} is judged again: it was {describe_stop(run)}.")
            return None
        announce(f"{run.name}: kept from {run.environment.get('date')} ({self.files[subject]}).")
        return run

    def keep(self, run: Run, sources: str) -> Run:
        """Write a run at once, so that nothing that comes later can lose it.

        Parameters
        ----------
        sources : digest, taken before the run began.

        Returns
        -------
        The run as it was written.
        """
        from softcert.conformance.wire.runs import dumps, run_to_json
        from softcert.reports.filenames import unused_stem

        run = replace(run, environment={**run.environment, "sources": sources})
        others = [path.stem for subject, path in self.files.items() if subject != run.subject]
        path = self.folder / RUNS / f"{unused_stem(run.name, others)}.json"
        write_result(str(path), dumps(run_to_json(run)))
        self.files[run.subject] = path
        return run

    def _set_aside(self, path: Path, reason: str) -> None:
        from softcert.reports.filenames import unused_stem

        earlier = self.folder / EARLIER
        try:
            earlier.mkdir(exist_ok=True)
            stem = unused_stem(path.stem, [other.stem for other in earlier.iterdir()])
            path.rename(earlier / f"{stem}.json")
        except OSError as error:
            raise RequestError(
                f"cannot set {path} aside: {(error.strerror or str(error)).lower()}"
            ) from error
        announce(f"{reason}; what {path} held is now {earlier / stem}.json.")


def asked_of(subject: str, request: Request) -> Asked:
    """What a run of a subject would tell of itself if it were made now.

    Raises
    ------
    RequestError, SubjectError : the subject cannot be loaded, or lacks what is asked for.
    """
    from softcert.backends import Worker
    from softcert.conformance.environment import describe
    from softcert.conformance.request import Request as CheckedRequest
    from softcert.conformance.runner import asked_for

    checked = CheckedRequest.of(**request.restrictions())
    with Worker(subject, op=checked.op) as worker:
        described = worker.description
    return Asked(
        request=asked_for(checked, checked.ops_of(described.ops), checked.dtypes_of(described.dtypes)),
        contract=described.contract.to_mapping(),
        state={**describe(described.versions), "sources": sources_of(subject)},
    )


def _difference(run: Run, asked: Asked) -> str | None:
    """The first thing in which a run differs from what is asked now, in words; None where it does not."""
    for name, option in _ASKED.items():
        if run.request.get(name) != asked.request[name]:
            before, now = _named(run.request.get(name)), _named(asked.request[name])
            return f"{option} is now {now}, and was {before}"
    for name in _STATE:
        if run.environment.get(name) != asked.state[name]:
            return _changed(name, run.environment.get(name), asked.state[name])
    return None if run.contract == asked.contract else "it promises something else now"


def _changed(name: str, before: Any, now: Any) -> str:
    if name == "sources":
        return "its files, or those of softcert, have changed since"
    if name == "versions":
        before = before or {}
        library = next(key for key in (*now, *before) if now.get(key) != before.get(key))
        return f"{library} is now {now.get(library, 'gone')}, and was {before.get(library, 'not there')}"
    return f"the {name} is now {_named(now)}, and was {_named(before)}"


def _named(value: Any) -> str:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return str(value)
    return ", ".join(map(str, value)) if len(value) <= 4 else f"{len(value)} of them"


def sources_of(subject: str) -> str:
    """Digest of the sources of softcert and of a subject, as far as its name tells where they are.

    Of a file, those beside it count too, which it may import; of a module, those of its package.
    """
    total = hashlib.sha256(_digest_of_softcert())
    for path in sorted(_sources(subject)):
        total.update(os.fsencode(path.name) + b"\0" + _digest(path))
    return total.hexdigest()[:24]


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:  # a file beside the subject that is not for us to read
        return b""


@cache
def _digest_of_softcert() -> bytes:
    import softcert

    root = Path(softcert.__file__).parent
    return hashlib.sha256(b"".join(_digests(root))).digest()


def _digests(root: Path) -> Iterator[bytes]:
    for path in sorted(_files_below(root)):
        yield os.fsencode(path.relative_to(root)) + b"\0" + _digest(path)


def _files_below(root: Path) -> Iterator[Path]:
    # The rooms of softcert are links in a checkout, which rglob does not follow.
    for folder, _, names in os.walk(root, followlinks=True):
        yield from (Path(folder) / name for name in names if name.endswith(_SUFFIXES))


def _sources(subject: str) -> set[Path]:
    from softcert.backends import registry

    if subject in registry.names():
        return set()
    own = subject_files(subject)
    if own:
        beside = {path for file in own if file.suffix == ".py" for path in file.parent.glob("*.py")}
        return {path for path in (*own, *beside) if path.is_file()}
    top = subject.partition(":")[0].partition(".")[0]
    found = PathFinder.find_spec(top, [str(Path.cwd()), *sys.path]) if top.isidentifier() else None
    if found is None or found.origin is None:
        return set()
    if found.submodule_search_locations is None:
        return {Path(found.origin)}
    return {path for place in found.submodule_search_locations for path in _files_below(Path(place))}


def _remove_abandoned(folder: Path) -> None:
    """Remove files that a report was writing when it was killed."""
    for path in folder.glob(".*.json.*.tmp"):
        try:
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
        except OSError:
            continue
