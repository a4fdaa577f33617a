"""File names from the names of subjects and clauses, which may hold any character."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: File systems allow 255 bytes; the rest is for numbers and a suffix.
_LONGEST = 120


def file_stem(name: str) -> str:
    """Return a name without suffix that every file system takes and no listing hides."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.-")[:_LONGEST] or "unnamed"


def unused_stem(name: str, used: Iterable[str]) -> str:
    """Return the stem of a name, numbered if it is among those `used`; in any case of letters."""
    taken = {stem.casefold() for stem in used}
    stem = first = file_stem(name)
    number = 1
    while stem.casefold() in taken:
        number += 1
        stem = f"{first}-{number}"
    return stem
