"""One line on what each clause says, from the specification."""

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
