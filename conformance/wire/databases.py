"""SQLite files of softcert: whose they are, of which form, and how they are opened and written.

What is written is one transaction, so that a process that dies leaves whole ones alone; the write-ahead log
lets readers and a writer work at once, and a writer that finds another waits for it. Where a file system
cannot have such a log, SQLite's rollback journal gives the same, without reading meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from softcert.conformance.model import RequestError

#: Seconds that a writer waits for another.
PATIENCE = 60.0


@dataclass(frozen=True)
class Kind:
    """One kind of database.

    Attributes
    ----------
    noun : what sentences call it.
    application : says in the file's head that it is one.
    version : of its form.
    tables : the statements that make it, each ended by a semicolon.
    maker, filler : the commands that make one and that put something into it, as sentences' ends.
    """

    noun: str
    application: int
    version: int
    tables: str
    maker: str
    filler: str


def connected(path: Path, kind: Kind, *, write: bool) -> sqlite3.Connection:
    """Connect to a file for reading, or for writing, which makes it if it is not there.

    Raises
    ------
    RequestError : it is not there, and is to be read.
    """
    if not path.exists() and not write:
        raise RequestError(f"there is no {kind.noun} {path}; {kind.maker}")
    mode = "mode=rwc" if write else "mode=rw"
    if not write and not os.access(path, os.W_OK):
        # Without leave to write there is no log either, unless a writer left one.
        mode = "mode=ro" if Path(f"{path}-wal").exists() else "mode=ro&immutable=1"
    return at(path, mode)


def at(path: Path, mode: str) -> sqlite3.Connection:
    """Connect to a file in a mode of SQLite's URIs; every transaction is begun by a statement."""
    uri = f"{path.resolve().as_uri()}?{mode}"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def require_kind(connection: sqlite3.Connection, path: str | os.PathLike[str], kind: Kind) -> bool:
    """Make sure that a file is of a kind, or empty; return whether it holds anything.

    Raises
    ------
    RequestError : it is of another program, or of a newer form.
    """
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if tables and application != kind.application:
        raise RequestError(f"{path} is a database of another program, and no {kind.noun} of softcert")
    if version > kind.version:
        raise RequestError(
            f"the {kind.noun} {path} is of form {version}, and this softcert reads form {kind.version}"
        )
    return bool(tables)


def require_filled(connection: sqlite3.Connection, path: str | os.PathLike[str], kind: Kind) -> None:
    """Make sure that a file is of a kind, and holds something.

    Raises
    ------
    RequestError : as `require_kind`, or it is empty.
    """
    if not require_kind(connection, path, kind):
        raise RequestError(f"the {kind.noun} {path} is empty; {kind.filler}")


def make(
    connection: sqlite3.Connection,
    kind: Kind,
    fill: Callable[[sqlite3.Connection], None] = lambda _connection: None,
) -> bool:
    """Make the tables of a kind and what they begin with, unless there are any; return whether it did."""
    # Another writer may be making it: then it stays as that one leaves it.
    with suppress(sqlite3.OperationalError):
        connection.execute("PRAGMA journal_mode = WAL")
    with transaction(connection):
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables:
            return False
        for statement in kind.tables.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {kind.application}")
        connection.execute(f"PRAGMA user_version = {kind.version}")
        fill(connection)
    return True


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Write what the block writes, all of it or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
