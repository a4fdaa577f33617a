"""The planted faults and correct twins of tests/defects, and what the suite says of each.

A fault is asked the groups of clauses that its entry names and is done with at the first that it breaks; a
correct twin is asked all.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from softcert.backends import Limits
from softcert.backends.contract import Contract
from softcert.conformance import Progress, Verdict, check

DEFECTS = Path(__file__).resolve().parents[1] / "tests" / "defects"
MANIFESTS = ("manifest.toml", "attention_manifest.toml")
#: What an entry that names no dtype is judged in; a fault is done with at the first that shows it.
DTYPES = ("float32", "float64")


@dataclass(frozen=True)
class Entry:
    """One implementation of the museum.

    Attributes
    ----------
    file, function : where it is, relative to tests/defects.
    op : what it computes, or should.
    broken : whether it is a planted fault; else a correct twin.
    groups : groups of clauses that have to notice the fault, "any" for all.
    dtypes : named by the entry, else `DTYPES`.
    contract : fields of a contract by which it is judged, empty for the strict default.
    note : what is wrong, or right, with it.
    """

    file: str
    function: str
    op: str
    broken: bool
    groups: tuple[str, ...]
    dtypes: tuple[str, ...]
    contract: dict[str, Any]
    note: str

    @property
    def name(self) -> str:
        """`file:function`, unique."""
        return f"{self.file}:{self.function}"

    @property
    def subject(self) -> str:
        """As `softcert check` takes it."""
        return f"{DEFECTS / self.file}:{self.function}"

    @property
    def limits(self) -> Limits | None:
        """Time that a call may take: little for those that hang."""
        return Limits(seconds=2.0) if Path(self.file).stem == "failures" else None


@dataclass(frozen=True)
class Judgement:
    """What the suite says of an entry.

    Attributes
    ----------
    clause, dtype : of the first broken verdict, empty where all hold.
    dtypes : that were examined.
    profile : of the check.
    """

    clause: str
    dtype: str
    dtypes: tuple[str, ...]
    profile: str


class _NoticedError(Exception):
    """Ends a check at its first broken verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


def entries() -> list[Entry]:
    """Every implementation that the manifests name, in their order."""
    tables = [tomllib.loads((DEFECTS / name).read_text(encoding="utf-8")) for name in MANIFESTS]
    return [
        Entry(
            file=row["file"],
            function=row["function"],
            op=row["op"],
            broken=row["expect"] == "breaks",
            groups=tuple(row.get("clause_groups", ())),
            dtypes=tuple(row.get("dtypes", DTYPES)),
            contract=row.get("contract", {}),
            note=row["note"],
        )
        for table in tables
        for row in table["implementation"]
    ]


def judge(entry: Entry, profile: str) -> Judgement:
    """Check an entry in each of its dtypes; a fault until its first broken verdict."""
    examined: list[str] = []
    for dtype in entry.dtypes:
        examined.append(dtype)
        verdict = _first_broken(entry, dtype, profile)
        if verdict is not None:
            return Judgement(verdict.clause, dtype, tuple(examined), profile)
    return Judgement("", "", tuple(examined), profile)


def _first_broken(entry: Entry, dtype: str, profile: str) -> Verdict | None:
    def stop(step: Progress) -> None:
        if entry.broken and step.verdict.status in {"fail", "error"}:
            raise _NoticedError(step.verdict)

    try:
        run = check(
            entry.subject,
            op=entry.op,
            dtypes=[dtype],
            clauses=None if not entry.broken or "any" in entry.groups else list(entry.groups),
            profile=profile,
            contract=Contract.from_mapping(entry.contract) if entry.contract else None,
            limits=entry.limits,
            progress=stop,
        )
    except _NoticedError as noticed:
        return noticed.verdict
    return next(iter(run.broken), None)
