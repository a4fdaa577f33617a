"""The configuration of a gate: softcert.toml, or [tool.softcert] in pyproject.toml.

Everything in it is checked before anything runs; what is wrong is told in one sentence that names the file
and the key. Its paths are relative to the file, wherever the gate is called from.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from softcert.backends.contract import Contract
from softcert.backends.ops import DTYPES, OPS
from softcert.conformance.expected import ExpectedFailure, as_expected, beside, read_expected
from softcert.conformance.gate.schema import require_valid
from softcert.conformance.model import RequestError
from softcert.conformance.profiles import PROFILES
from softcert.conformance.request import choose_clauses, known_names
from softcert.conformance.wire.toml_files import read_contract, read_toml
from softcert.errors import SoftcertError

T = TypeVar("T")

#: A file of its own, or a table in a file that most projects have.
OWN_FILE, SHARED_FILE, SHARED_TABLE = "softcert.toml", "pyproject.toml", "tool.softcert"
#: How far errors and times may grow where the configuration does not say.
ACCURACY_FACTOR, SPEED_TOLERANCE = 1.1, 0.5


@dataclass(frozen=True)
class SpeedLimit:
    """How slow a subject may be beside another.

    Attributes
    ----------
    reference : the subject that it is timed against, in the same rounds.
    tolerance : part by which the ratio of the times may grow over the baseline's.
    at_most : limit of the ratio whatever the baseline says, or None.
    """

    reference: str
    tolerance: float = SPEED_TOLERANCE
    at_most: float | None = None


@dataclass(frozen=True)
class GatedSubject:
    """One subject of a gate, and what it is held to.

    Attributes
    ----------
    key : its place in the file, for sentences about it.
    name : what outputs call it, or None for what it calls itself.
    ops, dtypes, clauses : None is all.
    contract : None is what the subject declares.
    witnesses : folder of witnesses that are replayed, or None.
    worst : file or folder of worst cases that its examinations begin with, or None.
    baseline : run that it is compared with, or None.
    accuracy_factor : how much larger than the baseline's an error may be.
    """

    key: str
    subject: str
    name: str | None = None
    ops: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    clauses: tuple[str, ...] | None = None
    profile: str = "quick"
    seed: int = 0
    contract: Contract | None = None
    expected: tuple[ExpectedFailure, ...] = ()
    witnesses: Path | None = None
    worst: Path | None = None
    baseline: Path | None = None
    accuracy_factor: float = ACCURACY_FACTOR
    speed: SpeedLimit | None = None

    @property
    def op(self) -> str | None:
        """The op that a single function computes, where only one is judged."""
        return self.ops[0] if self.ops and len(self.ops) == 1 else None


@dataclass(frozen=True)
class GateConfig:
    """A gate: the file that configures it, and its subjects."""

    path: Path
    subjects: tuple[GatedSubject, ...]

    @property
    def folder(self) -> Path:
        """The folder that the configuration's paths are relative to."""
        return self.path.parent


def find_config(start: Path | None = None) -> Path:
    """Return the configuration of a folder: the nearest one, in it or above it.

    Raises
    ------
    RequestError : there is none up to the root.
    """
    folder = (start or Path.cwd()).resolve()
    for place in (folder, *folder.parents):
        if (place / OWN_FILE).is_file():
            return place / OWN_FILE
        shared = place / SHARED_FILE
        if shared.is_file() and "softcert" in read_toml(shared).get("tool", {}):
            return shared
    raise RequestError(
        f"there is no {OWN_FILE} and no [{SHARED_TABLE}] in a {SHARED_FILE} here or in a folder above; "
        "--config names another file"
    )


def read_config(path: str | os.PathLike[str]) -> GateConfig:
    """Read and check a configuration.

    Raises
    ------
    RequestError : it cannot be read, or something in it is wrong; the sentence names the file and the key.
    """
    document, prefix = read_toml(path), ""
    if Path(path).name == SHARED_FILE:
        prefix = SHARED_TABLE
        try:
            document = document["tool"]["softcert"]
        except (KeyError, TypeError):
            raise RequestError(f"{path}: the table [{SHARED_TABLE}] is missing") from None
    require_valid(document, str(path), prefix)
    reader = _Reader(Path(path).resolve(), str(path), document, prefix)
    return GateConfig(reader.path, tuple(map(reader.subject, range(len(document["subjects"])))))


@dataclass(frozen=True)
class _Reader:
    """Reads the subjects of a document that is valid by its schema."""

    path: Path
    shown_path: str
    document: Mapping[str, Any]
    prefix: str

    def subject(self, number: int) -> GatedSubject:
        """The subject at a place of the list, with what holds for all of them where it says nothing."""
        key = f"{self.prefix}{'.' if self.prefix else ''}subjects[{number}]"
        table = dict(self.document["subjects"][number])
        common = {name: value for name, value in self.document.items() if name not in ("schema", "subjects")}
        given = common | table

        def read(name: str, how: Callable[[Any], T]) -> T | None:
            with self.telling(key if name in table else key.rpartition("subjects")[0].rstrip("."), name):
                return how(given[name]) if name in given else None

        return GatedSubject(
            key=key,
            subject=given["subject"],
            name=given.get("name"),
            ops=read("ops", lambda names: known_names("op", names, OPS)),
            dtypes=read("dtypes", lambda names: known_names("dtype", names, DTYPES)),
            clauses=read("clauses", lambda names: tuple(c.id for c in choose_clauses(names))),
            profile=read("profile", _profile) or "quick",
            seed=given.get("seed", 0),
            contract=read("contract", self._contract),
            expected=read("expected_failures", self._expected) or (),
            witnesses=read("witnesses", self._folder),
            worst=read("worst", self._present),
            baseline=read("baseline", Path),
            accuracy_factor=float(given.get("accuracy_factor", ACCURACY_FACTOR)),
            speed=read("speed", lambda limit: SpeedLimit(**limit)),
        )

    @contextmanager
    def telling(self, key: str, name: str = "") -> Iterator[None]:
        """Name the file and the key in whatever refuses a value."""
        try:
            yield
        except SoftcertError as error:
            place = f"{key}.{name}".strip(".") if name else key
            raise RequestError(f"{self.shown_path}: {place}: {error}") from error

    def _folder(self, name: str) -> Path:
        if not (self.path.parent / name).is_dir():
            raise RequestError(f"there is no folder {name!r} beside the file")
        return Path(name)

    def _present(self, name: str) -> Path:
        if not (self.path.parent / name).exists():
            raise RequestError(f"there is no file or folder {name!r} beside the file")
        return Path(name)

    def _contract(self, given: str | Mapping[str, Any]) -> Contract:
        return (
            read_contract(self.path.parent / given)
            if isinstance(given, str)
            else Contract.from_mapping(given)
        )

    def _expected(self, given: Any) -> tuple[ExpectedFailure, ...]:
        folder = self.path.parent
        entries = (
            read_expected(folder / given) if isinstance(given, str) else beside(as_expected(given), folder)
        )
        for entry in entries:
            if entry.witness is not None and not Path(entry.witness).is_file():
                raise RequestError(f"the witness of {entry.key!r}, {entry.witness}, is not there")
        return entries


def _profile(name: str) -> str:
    if name not in PROFILES:
        raise RequestError(f"profile {name!r} is unknown; the profiles are {', '.join(PROFILES)}")
    return name
