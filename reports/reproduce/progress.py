"""How a measurement tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Takes the steps done, the steps in all, and what is being done now.
Progress = Callable[[int, int, str], None]


def silent(_done: int, _total: int, _what: str) -> None:
    """Tell nobody."""
