"""What other rules of acceptance notice of the faults that the suite is tested on, in counts.

`kill_matrix.json` is written by `benchmarks/kill_matrix.py`, which holds every implementation.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple


class RuleCount(NamedTuple):
    """How a rule fares.

    Attributes
    ----------
    rule, source : its name, and where it is stated.
    noticed, faults : planted faults that it notices, of those that it speaks of.
    rejected, correct : correct implementations that it rejects, likewise.
    """

    rule: str
    source: str
    noticed: int
    faults: int
    rejected: int
    correct: int


class KillMatrix(NamedTuple):
    """The counts.

    Attributes
    ----------
    date : of the run.
    noticed_by_no_other : faults that softcert notices, and no other rule.
    rules : the rules, softcert last.
    """

    date: str
    noticed_by_no_other: int
    rules: tuple[RuleCount, ...]


@cache
def kill_matrix() -> KillMatrix:
    """Read the counts that are shipped."""
    text = (files("softcert.reports") / "kill_matrix.json").read_text(encoding="utf-8")
    found = json.loads(text)
    rules = tuple(RuleCount(**row) for row in found["rules"])
    return KillMatrix(found["date"], found["noticed_by_no_other"], rules)
