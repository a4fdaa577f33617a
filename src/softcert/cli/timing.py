"""What was timed until something stopped it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Rows = dict[int, list[Mapping[str, Any]]]


def until_stopped(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> tuple[Rows, KeyboardInterrupt | None]:
    """Rows by the subject's position, those that were reached where Ctrl-C stopped it, and what did."""
    found: Rows = {}
    try:
        for position, row in rows:
            found.setdefault(position, []).append(row)
    except KeyboardInterrupt as interrupt:
        return found, interrupt
    return found, None
