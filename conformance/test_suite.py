"""The whole suite as pytest tests: `pytest --softcert SUBJECT --pyargs softcert.conformance`.

The plugin makes the one test here into one per clause, op, dtype and subject.
"""

from __future__ import annotations

from collections.abc import Callable


def test_clause(clause_check: Callable[[], object]) -> None:
    """One clause holds for one subject, op and dtype."""
    clause_check()
