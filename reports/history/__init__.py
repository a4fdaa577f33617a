"""The history of runs: a store that several writers may use at once, and what it shows over time."""

from __future__ import annotations

from softcert.reports.history.store import Entry, History, open_history
from softcert.reports.history.trends import describe_history

__all__ = ["Entry", "History", "describe_history", "open_history"]
