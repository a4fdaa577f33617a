"""The store of a campaign: every result once, whoever computed it, however often, and whatever was killed.

What is to be done stands in `open`, what is done in `results`, and what failed too often is in neither. A
slice goes from one to the other in one transaction, and `totals` with it, so that a process that is killed
at any moment leaves counts that are exact.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from softcert.conformance.campaigns import following
from softcert.conformance.wire.databases import Kind, transaction

#: What makes a store; "socp" in the head of the file.
STORE = Kind(
    "store",
    application=0x736F6370,
    version=1,
    tables="""
CREATE TABLE campaign (digest TEXT NOT NULL, head TEXT NOT NULL);
CREATE TABLE slices (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, document TEXT NOT NULL);
CREATE TABLE open (slice INTEGER PRIMARY KEY REFERENCES slices, driver INTEGER REFERENCES drivers);
CREATE TABLE environments (id INTEGER PRIMARY KEY, document TEXT NOT NULL UNIQUE);
CREATE TABLE results (
  slice INTEGER PRIMARY KEY REFERENCES slices, cases INTEGER NOT NULL, seconds REAL NOT NULL,
  environment INTEGER NOT NULL REFERENCES environments, checksum INTEGER NOT NULL, document TEXT NOT NULL);
CREATE TABLE attempts (
  slice INTEGER PRIMARY KEY REFERENCES slices, count INTEGER NOT NULL, aside INTEGER NOT NULL,
  reason TEXT NOT NULL);
CREATE TABLE drivers (
  id INTEGER PRIMARY KEY, machine TEXT NOT NULL, process TEXT NOT NULL, beat INTEGER NOT NULL,
  ended INTEGER NOT NULL, workers INTEGER NOT NULL, done INTEGER NOT NULL, rate REAL NOT NULL,
  seconds REAL NOT NULL);
CREATE TABLE totals (
  slices INTEGER NOT NULL, done INTEGER NOT NULL, cases INTEGER NOT NULL, seconds REAL NOT NULL,
  aside INTEGER NOT NULL);
CREATE INDEX open_by_driver ON open (driver)
""",
    maker="`softcert campaign run` makes one",
    filler="`softcert campaign run` fills it",
)


@dataclass(frozen=True)
class Piece:
    """A slice that is to be computed.

    Attributes
    ----------
    number : its place in the campaign's file.
    text : its document, canonical JSON.
    earlier : the results of those that it is after, in that order.
    """

    number: int
    text: str
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a slice came to.

    Attributes
    ----------
    result : canonical JSON.
    cases : the inputs that it judged.
    seconds : how long it took.
    environment : where it was computed, canonical JSON.
    """

    number: int
    result: str
    cases: int
    seconds: float
    environment: str


@dataclass(frozen=True)
class Totals:
    """How far a campaign is: slices in all, done and set aside; cases judged, and the time that all took."""

    slices: int
    done: int
    cases: int
    seconds: float
    aside: int

    @property
    def remaining(self) -> int:
        """How many slices are still to be computed."""
        return self.slices - self.done - self.aside

    @property
    def complete(self) -> bool:
        """Whether every slice is done."""
        return self.done == self.slices


@dataclass(frozen=True)
class Trouble:
    """A slice that failed: how often, for what reason the last time, and whether it is set aside.

    One that is set aside without an attempt is after another that is.
    """

    key: str
    count: int
    aside: bool
    reason: str


def checksum(number: int, text: str) -> int:
    """CRC-32 of a result with the slice that it belongs to."""
    return zlib.crc32(f"{number}:{text}".encode("utf-8", errors="surrogatepass"))


class Store:
    """An open store; `store_files` opens one. Not to be used from several threads."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.connection = connection
        self._inside = False
        self.path = path

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Make everything that the block writes one transaction, blocks within it included."""
        if self._inside:
            yield self.connection
            return
        with transaction(self.connection):
            self._inside = True
            try:
                yield self.connection
            finally:
                self._inside = False

    # --- what is there ---

    def head(self) -> tuple[str, str]:
        """Return the campaign's digest and the head of its file, canonical JSON."""
        digest, head = self.connection.execute("SELECT digest, head FROM campaign").fetchone()
        return str(digest), str(head)

    def totals(self) -> Totals:
        """Return how far the campaign is; of constant cost."""
        row = self.connection.execute("SELECT slices, done, cases, seconds, aside FROM totals").fetchone()
        return Totals(*row)

    def results(self) -> Iterator[str]:
        """Return the results, in the order of their slices."""
        for (text,) in self.connection.execute("SELECT document FROM results ORDER BY slice"):
            yield text

    def slices(self) -> Iterator[str]:
        """Return the slices, in the order of the file."""
        for (text,) in self.connection.execute("SELECT document FROM slices ORDER BY number"):
            yield text

    def troubles(self) -> list[Trouble]:
        """Return the slices that failed and are not done, those set aside first."""
        rows = self.connection.execute(
            "SELECT key, count, aside, reason FROM attempts JOIN slices ON slice = number "
            "WHERE slice NOT IN (SELECT slice FROM results) ORDER BY aside DESC, slice"
        )
        return [Trouble(key, count, bool(aside), reason) for key, count, aside, reason in rows]

    def environments(self) -> list[str]:
        """Return where results were computed, canonical JSON each."""
        rows = self.connection.execute("SELECT document FROM environments ORDER BY id")
        return [document for (document,) in rows]

    # --- what is done ---

    def claim(self, driver: int, count: int) -> list[Piece]:
        """Return up to `count` slices that nobody has, which are the driver's from now on.

        Notes
        -----
        None of them is after one that is not done.
        """
        with self.writing() as connection:
            following.prepare(connection)
            rows = connection.execute(following.READY, (count,)).fetchall()
            connection.executemany(
                "UPDATE open SET driver = ? WHERE slice = ?", [(driver, number) for number, _ in rows]
            )
            return [
                Piece(number, text, following.earlier_results(connection, number)) for number, text in rows
            ]

    def release(self, driver: int) -> int:
        """Give back what a driver has; return how many slices that were."""
        with self.writing() as connection:
            return connection.execute("UPDATE open SET driver = NULL WHERE driver = ?", (driver,)).rowcount

    def add(self, answers: Iterable[Answer]) -> int:
        """Keep the answers to slices that have none yet; return how many that were.

        Notes
        -----
        The first answer counts. One to a slice that was set aside makes that done, and frees what is after
        it.
        """
        added = freed = 0
        with self.writing() as connection:
            for answer in answers:
                row = (answer.number, answer.cases, answer.seconds, self._environment(answer.environment),
                       checksum(answer.number, answer.result), answer.result)  # fmt: skip
                done = connection.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?, ?, ?, ?)", row)
                if not done.rowcount:
                    continue
                added += 1
                connection.execute("DELETE FROM open WHERE slice = ?", (answer.number,))
                back = connection.execute(
                    "UPDATE attempts SET aside = 0 WHERE slice = ? AND aside", (answer.number,)
                )
                connection.execute(
                    "UPDATE totals SET done = done + 1, cases = cases + ?, seconds = seconds + ?, "
                    "aside = aside - ?",
                    (answer.cases, answer.seconds, back.rowcount),
                )
                freed += back.rowcount
            if freed:
                following.regroup(connection)
        return added

    def _environment(self, document: str) -> int:
        self.connection.execute("INSERT OR IGNORE INTO environments (document) VALUES (?)", (document,))
        query = "SELECT id FROM environments WHERE document = ?"
        return int(self.connection.execute(query, (document,)).fetchone()[0])

    def charge(self, number: int, reason: str, limit: int) -> bool:
        """Count a failed attempt at a slice; return whether it is set aside, after `limit` of them.

        A slice that is done meanwhile is charged nothing. What is after one that is set aside is so too,
        until that is done or tried again.
        """
        with self.writing() as connection:
            is_open = connection.execute("SELECT 1 FROM open WHERE slice = ?", (number,)).fetchone()
            if not is_open:
                return True
            ((count,),) = connection.execute(
                "INSERT INTO attempts VALUES (?, 1, 0, ?) ON CONFLICT (slice) DO "
                "UPDATE SET count = count + 1, reason = excluded.reason RETURNING count",
                (number, reason),
            ).fetchall()
            if count < limit:
                return False
            connection.execute("UPDATE attempts SET aside = 1 WHERE slice = ?", (number,))
            connection.execute("DELETE FROM open WHERE slice = ?", (number,))
            connection.execute("UPDATE totals SET aside = aside + 1")
            following.regroup(connection)
        return True

    def retry(self) -> int:
        """Let slices that were set aside be tried again from the start; return how many those are."""
        with self.writing() as connection:
            connection.execute("INSERT INTO open SELECT slice, NULL FROM attempts WHERE aside")
            count = connection.execute("DELETE FROM attempts WHERE aside").rowcount
            connection.execute("UPDATE totals SET aside = 0")
        return count


def fill(connection: sqlite3.Connection, digest: str, head: str, slices: Iterable[tuple[str, str]]) -> None:
    """Write what a new store begins with.

    Parameters
    ----------
    slices : key and document of each, in the order of the file.
    """
    connection.execute("INSERT INTO campaign VALUES (?, ?)", (digest, head))
    connection.executemany(
        "INSERT INTO slices VALUES (?, ?, ?)",
        ((number, key, document) for number, (key, document) in enumerate(slices)),
    )
    connection.execute("INSERT INTO open SELECT number, NULL FROM slices")
    connection.execute("INSERT INTO totals SELECT count(*), 0, 0, 0.0, 0 FROM slices")
