"""What the specification says of each clause: one line, and whether it grades."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def statements() -> Mapping[str, str]:
    """Return the statement of every clause by its id; a run may hold others, of other versions."""
    from softcert.conformance.clauses import CLAUSES

    return {clause.id: clause.statement for clause in CLAUSES}


@cache
def grading_clauses() -> frozenset[str]:
    """Return the ids of the clauses whose largest error grades an op."""
    from softcert.conformance.clauses import CLAUSES

    return frozenset(clause.id for clause in CLAUSES if clause.accuracy)
