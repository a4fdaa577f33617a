"""Runs in an SQLite database: each whole or not at all, once however often it is added."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softcert.conformance.model import RequestError, Run
from softcert.conformance.wire.databases import (
    Kind,
    connected,
    make,
    require_filled,
    require_kind,
    transaction,
)
from softcert.conformance.wire.runs import run_from_json, run_to_json
from softcert.reports.history.figures import Accuracy, Speed, accuracy_figures, speed_figures

#: Says in the file's head that it is a history ("sofc"), and of which form.
APPLICATION, VERSION = 0x736F6663, 1
_TABLES = """
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, date TEXT NOT NULL,
  profile TEXT NOT NULL, seed TEXT NOT NULL, versions TEXT NOT NULL,
  verdicts INTEGER NOT NULL, broken INTEGER NOT NULL, document BLOB NOT NULL);
CREATE TABLE accuracy (
  run INTEGER NOT NULL REFERENCES runs, op TEXT NOT NULL, dtype TEXT NOT NULL, grade TEXT NOT NULL,
  lower REAL, upper REAL, margin REAL, elements INTEGER NOT NULL, PRIMARY KEY (run, op, dtype));
CREATE TABLE speed (
  run INTEGER NOT NULL REFERENCES runs, op TEXT NOT NULL, dtype TEXT NOT NULL, shape TEXT NOT NULL,
  seconds REAL NOT NULL, of_copy REAL);
CREATE INDEX by_subject ON runs (subject, date);
"""
_HISTORY = Kind(
    "history",
    APPLICATION,
    VERSION,
    _TABLES,
    maker="`softcert history add` makes one",
    filler="`softcert history add` adds runs",
)


@dataclass(frozen=True)
class Entry:
    """One run of a history.

    Attributes
    ----------
    digest : SHA-256 of its document, hexadecimal.
    versions : by library.
    verdicts, broken : how many there are.
    """

    digest: str
    subject: str
    date: str
    profile: str
    seed: str
    versions: dict[str, str]
    verdicts: int
    broken: int
    accuracy: tuple[Accuracy, ...] = ()
    speed: tuple[Speed, ...] = ()

    @property
    def name(self) -> str:
        """The short name by which a command takes it."""
        return self.digest[:12]


@contextmanager
def open_history(path: str | os.PathLike[str], *, write: bool = False) -> Iterator[History]:
    """Open a history for reading, or for writing, which makes it if it is not there.

    Raises
    ------
    RequestError : it is not there, is no history, is of a newer form, or is damaged; nothing is changed.
    """
    with _telling(path), closing(connected(Path(path), _HISTORY, write=write)) as connection:
        if write:
            require_kind(connection, path, _HISTORY)
            make(connection, _HISTORY)
        else:
            require_filled(connection, path, _HISTORY)
        yield History(connection, Path(path))


@contextmanager
def _telling(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise RequestError(f"the history {path} cannot be used: {error}") from error


class History:
    """An open history; see `open_history`."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path

    def add(self, run: Run) -> bool:
        """Add a run, if it is not there yet; return whether it was added."""
        text = json.dumps(run_to_json(run), sort_keys=True, separators=(",", ":"), allow_nan=False)
        document = text.encode("utf-8", errors="backslashreplace")
        versions = json.dumps(run.environment.get("versions", {}))
        row = (
            hashlib.sha256(document).hexdigest(), run.name, str(run.environment.get("date", "")),
            str(run.request.get("profile", "")), str(run.request.get("seed", "")), versions,
            len(run.verdicts), len(run.broken), zlib.compress(document),
        )  # fmt: skip
        accuracy, speed = accuracy_figures(run), speed_figures(run)
        with transaction(self._connection):
            done = self._connection.execute(
                "INSERT OR IGNORE INTO runs (digest, subject, date, profile, seed, versions, verdicts, "
                "broken, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            if not done.rowcount:
                return False
            number = done.lastrowid
            self._connection.executemany(
                "INSERT INTO accuracy VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(number, a.op, a.dtype, a.grade, *a.error, a.margin, a.elements) for a in accuracy],
            )
            self._connection.executemany(
                "INSERT INTO speed VALUES (?, ?, ?, ?, ?, ?)",
                [(number, s.op, s.dtype, s.shape, s.seconds, s.of_copy) for s in speed],
            )
        return True

    def subjects(self) -> tuple[str, ...]:
        """Return the names of the subjects that have runs, in the order of their first."""
        rows = self._connection.execute("SELECT subject FROM runs GROUP BY subject ORDER BY min(id)")
        return tuple(subject for (subject,) in rows)

    def entries(self, subjects: tuple[str, ...] = ()) -> tuple[Entry, ...]:
        """Return the runs by date, of all subjects or of some.

        Raises
        ------
        RequestError : a subject that has no run.
        """
        known = self.subjects()
        for subject in subjects:
            if subject not in known:
                raise RequestError(
                    f"the history {self._path} has no run of {subject!r}; it has runs of {', '.join(known)}"
                )
        rows = self._connection.execute(
            "SELECT id, digest, subject, date, profile, seed, versions, verdicts, broken FROM runs "
            "ORDER BY date, id"
        ).fetchall()
        return tuple(self._entry(row) for row in rows if not subjects or row[2] in subjects)

    def _entry(self, row: tuple[Any, ...]) -> Entry:
        number, digest, subject, date, profile, seed, versions, verdicts, broken = row
        accuracy = self._connection.execute(
            "SELECT op, dtype, grade, lower, upper, margin, elements FROM accuracy "
            "WHERE run = ? ORDER BY rowid",
            (number,),
        )
        speed = self._connection.execute(
            "SELECT op, dtype, shape, seconds, of_copy FROM speed WHERE run = ? ORDER BY rowid", (number,)
        )
        return Entry(
            digest, subject, date, profile, seed, json.loads(versions), verdicts, broken,
            tuple(
                Accuracy(op, dtype, grade, (_known(lower), _known(upper)), _known(margin), elements)
                for op, dtype, grade, lower, upper, margin, elements in accuracy
            ),
            tuple(Speed(op, dtype, shape, seconds, of_copy) for op, dtype, shape, seconds, of_copy in speed),
        )  # fmt: skip

    def run(self, name: str) -> Run:
        """Return the run whose digest begins with `name`.

        Raises
        ------
        RequestError : none or several do.
        """
        found = self._connection.execute(
            "SELECT digest, document FROM runs WHERE substr(digest, 1, ?) = ?", (len(name), name.lower())
        ).fetchall()
        if len(found) != 1 or not name:
            amount = "no run" if not found else f"{len(found)} runs"
            raise RequestError(f"the history {self._path} has {amount} whose name begins with {name!r}")
        try:
            document = zlib.decompress(found[0][1])
        except (zlib.error, TypeError) as error:
            raise RequestError(f"the history {self._path} is damaged at the run {name}") from error
        if hashlib.sha256(document).hexdigest() != found[0][0]:
            raise RequestError(f"the history {self._path} is damaged at the run {name}")
        return run_from_json(json.loads(document), f"{self._path}, run {name}")


def _known(value: float | None) -> float:
    """SQLite keeps a NaN as nothing."""
    return math.nan if value is None else value
