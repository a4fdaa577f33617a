"""Opening stores: made whole or not at all, examined before anything is written, of one campaign alone."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from softcert.conformance.campaigns.campaign import Campaign, canonical, digest_of
from softcert.conformance.campaigns.store import STORE, Store, checksum, fill
from softcert.conformance.model import RequestError
from softcert.conformance.wire.databases import at, connected, make, require_filled, require_kind
from softcert.errors import UnfinishedError

#: What SQLite says of a disk that takes no more, and of one that takes nothing.
_UNWRITABLE = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: Queries that find nothing in a whole store, and what a row of theirs says.
_LAWS = {
    "SELECT key FROM results AS r JOIN slices ON slice = number "
    "WHERE checksum != checksum(slice, r.document)": ("the result of this slice is not what was written:"),
    "SELECT number FROM slices LEFT JOIN results AS r ON r.slice = number LEFT JOIN open AS o ON o.slice = "
    "number LEFT JOIN attempts AS a ON a.slice = number AND a.aside WHERE (r.slice IS NOT NULL) + "
    "(o.slice IS NOT NULL) + (a.slice IS NOT NULL) != 1": (
        "this slice is not in one place, to be done, done or set aside, but in none or several:"
    ),
    "SELECT '' WHERE (SELECT slices FROM totals) IS NOT (SELECT count(*) FROM slices) "
    "OR (SELECT done FROM totals) IS NOT (SELECT count(*) FROM results) "
    "OR (SELECT cases FROM totals) IS NOT (SELECT coalesce(sum(cases), 0) FROM results) "
    "OR (SELECT aside FROM totals) IS NOT (SELECT count(*) FROM attempts WHERE aside)": (
        "its totals are not those of its results"
    ),
}


@contextmanager
def open_store(path: str | os.PathLike[str], *, verified: bool = True) -> Iterator[Store]:
    """Open a store for reading; see `store_for` for writing.

    Parameters
    ----------
    verified : examine the whole file before; without, a page that is shown again and again costs nothing.

    Raises
    ------
    RequestError : it is not there, is no store, is of a newer form, or is damaged; nothing is changed.
    """
    with _telling(path), closing(_reading(path)) as connection:
        require_filled(connection, path, STORE)
        if verified:
            _verify(connection, path)
        yield Store(connection, Path(path))


@contextmanager
def store_for(path: str | os.PathLike[str], campaign: Campaign | None = None) -> Iterator[Store]:
    """Open a store to go on with, or make it of a campaign.

    Parameters
    ----------
    campaign : what the store has to be of; None is what it is of.

    Raises
    ------
    RequestError : it is no store, of another campaign, or damaged; nothing in it is changed.
    UnfinishedError : while the block runs, the disk is full or fails; what was written before is kept.
    """
    place = Path(path)
    if campaign is None or _is_filled(place):
        with open_store(path) as store:
            if campaign is not None:
                _require_same(store, campaign)
    with _telling(path), closing(connected(place, STORE, write=True)) as connection:
        # A commit is on the disk when the driver goes on: what it found survives a power cut too.
        connection.execute("PRAGMA synchronous = FULL")
        store = Store(connection, place)
        if campaign is not None:
            require_kind(connection, path, STORE)
            if not make(connection, STORE, lambda made: _fill(made, campaign)):
                # Another driver made it meanwhile.
                _require_same(store, campaign)
        yield store


def _is_filled(path: Path) -> bool:
    """Whether a file holds anything; one of a driver that was killed while it made a store does not."""
    if not path.exists():
        return False
    if not path.stat().st_size:
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size:
            # SQLite would take the log of a store that lost its content for an old one, and delete it.
            raise _damaged(path, "it is empty, and its log is not")
        return False
    with _telling(path), closing(_reading(path)) as connection:
        return require_kind(connection, path, STORE)


def _fill(connection: sqlite3.Connection, campaign: Campaign) -> None:
    slices = ((piece["key"], canonical(piece)) for piece in campaign.slices)
    fill(connection, campaign.digest, canonical(campaign.head), slices)


def _require_same(store: Store, campaign: Campaign) -> None:
    digest, _ = store.head()
    if digest != campaign.digest:
        raise RequestError(
            f"the store {store.path} is of another campaign ({digest[:12]}, and the file is "
            f"{campaign.digest[:12]}); --store names another"
        )


def _reading(path: str | os.PathLike[str]) -> sqlite3.Connection:
    """A connection that writes nothing, not even the pages of a log that a killed driver left."""
    place = Path(path)
    if not place.exists():
        raise RequestError(f"there is no store {path}; {STORE.maker}")
    log = Path(f"{path}-wal").exists()
    # Without a log, and without leave to make one, SQLite reads a file only as one that nobody changes.
    alone = not log and not os.access(place.resolve().parent, os.W_OK)
    return at(place, f"mode=ro{'&immutable=1' if alone else ''}")


@contextmanager
def _telling(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say in a sentence what SQLite says of a store."""
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind, the rest its detail.
        kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if kind in _UNWRITABLE:
            raise UnfinishedError(
                f"the disk of the store {path} takes no more ({error}); everything before this is kept, and "
                f"`softcert campaign resume {path}` goes on from there"
            ) from error
        if kind in _DAMAGED:
            raise _damaged(path, str(error)) from error
        raise RequestError(f"the store {path} cannot be used: {error}") from error


def _damaged(path: str | os.PathLike[str], how: str) -> RequestError:
    return RequestError(
        f"the store {path} is damaged, and nothing in it was changed: {' '.join(how.split())}"
    )


@contextmanager
def _snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let the block see one state of the file, whatever drivers do meanwhile."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _verify(connection: sqlite3.Connection, path: str | os.PathLike[str]) -> None:
    """Make sure that a store holds what was written to it.

    SQLite's own examination sees pages that do not fit together, and not a byte that changed within a
    text: for those are the campaign's digest and a checksum of each result. The counts are counted again.

    Raises
    ------
    RequestError : it does not.
    """
    with _snapshot(connection):
        how = _contradiction(connection)
    if how:
        raise _damaged(path, how)


def _contradiction(connection: sqlite3.Connection) -> str:
    """What a store shows that a whole one does not, or nothing."""
    (report,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if report != "ok":
        return str(report)
    connection.create_function("checksum", 2, checksum, deterministic=True)
    try:
        heads = connection.execute("SELECT digest, head FROM campaign").fetchall()
        slices = connection.execute("SELECT document FROM slices ORDER BY number")
        if len(heads) != 1 or heads[0][0] != digest_of(heads[0][1], (text for (text,) in slices)):
            return "its campaign is not the one that it was made of"
        for query, what in _LAWS.items():
            row = connection.execute(query).fetchone()
            if row is not None:
                return f"{what} {row[0]}".strip()
    except (AttributeError, TypeError) as error:
        # A number or nothing where a text was.
        return str(error)
    except sqlite3.OperationalError as error:
        # A table that is gone, or a text that is none; not that the file is held or cannot be read.
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_ERROR:
            raise
        return str(error)
    return ""
