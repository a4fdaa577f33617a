"""Whose the time of an examination is: the oracle's, or the subject's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter


@dataclass
class Clock:
    """What parts of an examination took, in seconds of wall time."""

    spent: dict[str, float] = field(default_factory=lambda: {"oracle": 0.0, "subject": 0.0})

    @contextmanager
    def running(self, part: str) -> Iterator[None]:
        """Count what happens within as this part."""
        started = perf_counter()
        try:
            yield
        finally:
            self.spent[part] += perf_counter() - started
