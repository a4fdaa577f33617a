"""Slices that are after others: which may be handed out, with which results, what one set aside holds up.

Who follows whom stands in the slices' documents, which never change. Each connection derives a table of it
for itself, so that the file holds nothing that could contradict them, and one of an older softcert is read
as any.
"""

from __future__ import annotations

import sqlite3

#: By slice and by the one that it is after; `place` is that in its list.
_TABLE = (
    "CREATE TEMP TABLE IF NOT EXISTS follows AS "
    "SELECT later.number AS slice, named.key AS place, earlier.number AS earlier FROM slices AS later "
    "CROSS JOIN json_each(later.document, '$.after') AS named "
    "CROSS JOIN slices AS earlier ON earlier.key = named.value "
    # Most campaigns have none: a million documents are searched for the word faster than they are parsed.
    "WHERE instr(later.document, '\"after\":')",
    "CREATE INDEX IF NOT EXISTS temp.follows_slice ON follows (slice, place)",
    "CREATE INDEX IF NOT EXISTS temp.follows_earlier ON follows (earlier)",
)
#: The first slices that nobody has and that are after none that is not done: number and document.
READY = (
    "SELECT number, document FROM slices WHERE number IN (SELECT slice FROM open WHERE driver IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM follows WHERE follows.slice = open.slice "
    "AND NOT EXISTS (SELECT 1 FROM results WHERE results.slice = follows.earlier)) "
    "ORDER BY slice LIMIT ?) ORDER BY number"
)
#: Every slice that is held up, with each that was set aside for failures of its own.
_HELD_UP = (
    "WITH RECURSIVE lost (slice, root) AS (SELECT slice, slice FROM attempts WHERE aside UNION "
    "SELECT follows.slice, root FROM lost JOIN follows ON earlier = lost.slice) "
    "INSERT INTO attempts SELECT held.slice, 0, 1, 'it is after ' || key || ', which is set aside' "
    "FROM (SELECT slice, min(root) AS first FROM lost GROUP BY slice) AS held "
    "JOIN slices ON number = first JOIN open ON open.slice = held.slice"
)


def prepare(connection: sqlite3.Connection) -> None:
    """Derive the table, unless this connection has it."""
    for statement in _TABLE:
        connection.execute(statement)


def earlier_results(connection: sqlite3.Connection, number: int) -> tuple[str, ...]:
    """Return the results of those that a slice is after, in the order of its list."""
    rows = connection.execute(
        "SELECT document FROM follows JOIN results ON results.slice = earlier "
        "WHERE follows.slice = ? ORDER BY place",
        (number,),
    )
    return tuple(document for (document,) in rows)


def regroup(connection: sqlite3.Connection) -> None:
    """Set aside what is after a slice that is set aside, however far; give back what no longer is.

    Notes
    -----
    Such a slice has no attempts. Which they are is found anew from those that failed, and not from what
    changed, since a late answer to one of several may or may not free it.
    """
    prepare(connection)
    if connection.execute("SELECT 1 FROM follows LIMIT 1").fetchone() is None:
        return
    connection.execute("INSERT INTO open SELECT slice, NULL FROM attempts WHERE aside AND NOT count")
    connection.execute("DELETE FROM attempts WHERE aside AND NOT count")
    connection.execute(_HELD_UP)
    connection.execute("DELETE FROM open WHERE slice IN (SELECT slice FROM attempts WHERE aside)")
    connection.execute("UPDATE totals SET aside = (SELECT count(*) FROM attempts WHERE aside)")
