"""Expected failures: clauses that are known to be broken, each with its reason, all of them strict.

An entry turns a broken verdict into xfail, and a clause that holds after all into a failure, so that the list
never outlives its reasons. A search may miss a rare defect by chance: an entry that names a stored witness
is settled by it alone, as long as that one case still breaks the clause.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple, cast

from softcert.backends.contract import Contract
from softcert.backends.rules import Rule, instance_of, require, shown
from softcert.backends.types import Backend
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.examination.replay import replay
from softcert.conformance.model import BROKEN, RequestError, Verdict, Witness
from softcert.conformance.wire.runs import read_witness
from softcert.conformance.wire.toml_files import read_toml

_TEXT = instance_of(str, "text")
_FIELDS: Mapping[str, Rule] = {
    "clause": _TEXT,
    "op": _TEXT,
    "dtype": _TEXT,
    "reason": Rule(lambda value: isinstance(value, str) and bool(value.strip()), "text that says why"),
    "witness": instance_of((str, os.PathLike, type(None)), "the path of a witness file"),
}
_SHAPE = Rule(
    lambda value: isinstance(value, Iterable) and not isinstance(value, (str, bytes)),
    "a mapping from clause/op/dtype to a reason, or a list of tables",
)


class Place(NamedTuple):
    """What a verdict is about."""

    clause: str
    op: str
    dtype: str


@dataclass(frozen=True)
class ExpectedFailure:
    """One clause that is known to be broken.

    Attributes
    ----------
    clause : id, group, or pattern with `*`.
    reason : why, for whoever reads the report.
    op, dtype : name or pattern; any by default.
    witness : file of a case that breaks it; it is replayed before anything is searched.
    """

    clause: str
    reason: str
    op: str = "*"
    dtype: str = "*"
    witness: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        require(_FIELDS, {name: getattr(self, name) for name in _FIELDS}, RequestError, "expected failure's")

    @property
    def key(self) -> str:
        """The entry as `clause/op/dtype`."""
        return f"{self.clause}/{self.op}/{self.dtype}"

    def matches(self, clause: str, op: str, dtype: str) -> bool:
        """Whether the entry speaks of a verdict."""
        its_clause = self.clause == clause.partition(".")[0] or fnmatchcase(clause, self.clause)
        return its_clause and fnmatchcase(op, self.op) and fnmatchcase(dtype, self.dtype)


#: How expected failures may be given: reasons by `clause/op/dtype`, entries, or tables of their fields.
Given = Mapping[str, str] | Sequence[ExpectedFailure | Mapping[str, Any]]


def as_expected(given: object) -> tuple[ExpectedFailure, ...]:
    """Entries from a mapping of reasons, or from a list of entries or of tables.

    Raises
    ------
    RequestError : something else, an unknown field, or an entry without a reason.
    """
    if given is None:
        return ()
    require({"expected_failures": _SHAPE}, {"expected_failures": given}, RequestError)
    if isinstance(given, Mapping):
        return tuple(_from_key(key, reason) for key, reason in given.items())
    return tuple(_from_table(entry) for entry in cast("Iterable[object]", given))


def _from_key(key: object, reason: object) -> ExpectedFailure:
    named = "a key of expected_failures"
    is_key = Rule(lambda value: isinstance(value, str) and value.count("/") == 2, "clause/op/dtype, as text")
    require({named: is_key}, {named: key}, RequestError)
    require({f"the reason of {key!r}": _TEXT}, {f"the reason of {key!r}": reason}, RequestError)
    clause, op, dtype = str(key).split("/")
    return ExpectedFailure(clause, str(reason), op, dtype)


def _from_table(entry: object) -> ExpectedFailure:
    if isinstance(entry, ExpectedFailure):
        return entry
    if not isinstance(entry, Mapping):
        raise RequestError(f"expected_failures has to be {_SHAPE.words}, not a list with {shown(entry)}")
    require(_FIELDS, entry, RequestError, "expected failure's")
    for name in ("clause", "reason"):
        if name not in entry:
            raise RequestError(f"an expected failure lacks its {name}: {shown(dict(entry))}")
    return ExpectedFailure(**entry)


def read_expected(path: str | os.PathLike[str]) -> tuple[ExpectedFailure, ...]:
    """Entries of a TOML file: tables `[[expected_failures]]`, witnesses named beside the file.

    Raises
    ------
    RequestError : it cannot be read, or holds something else; the sentence names the file.
    """
    document = read_toml(path)
    unknown = sorted(set(document) - {"expected_failures"})
    if unknown or not isinstance(document.get("expected_failures"), list):
        what = f"the key {unknown[0]!r}" if unknown else "no list"
        raise RequestError(f"{path}: it has to hold tables [[expected_failures]], and holds {what}")
    try:
        entries = as_expected(document["expected_failures"])
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    return beside(entries, Path(path).parent)


def beside(entries: Iterable[ExpectedFailure], folder: Path) -> tuple[ExpectedFailure, ...]:
    """Entries whose witnesses are found from a folder."""
    return tuple(e if e.witness is None else replace(e, witness=folder / e.witness) for e in entries)


@dataclass(frozen=True)
class Expectations:
    """The entries that hold for one run, with what their stored witnesses show today.

    Attributes
    ----------
    everywhere : an entry has to match a verdict of the run, not only one that the suite can reach.
    """

    entries: tuple[ExpectedFailure, ...] = ()
    everywhere: bool = False
    _replayed: dict[Place, Verdict] = field(default_factory=dict)

    def require_matching(self, planned: Iterable[Place]) -> None:
        """Refuse an entry that speaks of nothing: its clause was renamed, or its op misspelt.

        Raises
        ------
        RequestError : naming the entry.
        """
        places = list(planned)
        for entry in self.entries:
            if any(entry.matches(*place) for place in places):
                continue
            if self.everywhere or not any(entry.matches(*place) for place in _all_places()):
                raise RequestError(
                    f"the expected failure {entry.key!r} matches no clause/op/dtype of "
                    f"{'this run' if self.everywhere else 'the specification'}"
                )

    def replay(self, spec: str | Backend, contract: Contract | None) -> None:
        """Repeat every stored witness, and keep what it shows.

        Raises
        ------
        RequestError : a file holds no witness of its entry.
        """
        for entry in self.entries:
            if entry.witness is None:
                continue
            witness = read_witness(entry.witness)
            place = Place(witness.clause, witness.op, witness.dtype)
            if not entry.matches(*place):
                raise RequestError(
                    f"{entry.witness} is a witness of {'/'.join(place)}, which the expected failure "
                    f"{entry.key!r} that names it does not match"
                )
            self._replayed[place] = replay_named(witness, entry.witness, spec, contract)

    def settle(self, verdict: Verdict) -> Verdict:
        """Return a verdict as it counts: xfail where it is broken as expected, broken where it is not."""
        place = Place(verdict.clause, verdict.op, verdict.dtype)
        entry = next((entry for entry in self.entries if entry.matches(*place)), None)
        if entry is None:
            return verdict
        stored = self._replayed.get(place)
        if stored is not None and stored.status in BROKEN and stored.witness is not None:
            shown_by = f"{entry.reason} (its stored witness still shows it: {stored.message})"
            grade = "F" if verdict.grade else ""
            return replace(verdict, status="xfail", message=shown_by, witness=stored.witness, grade=grade)
        if verdict.status in BROKEN:
            return replace(verdict, status="xfail", message=f"{entry.reason} ({verdict.message})")
        if verdict.status != "pass":
            return verdict  # neither broken nor shown to hold
        nor = ", nor does its stored witness" if stored is not None else ""
        message = (
            f"unexpected pass: nothing that was tried breaks the clause any more{nor}; remove the expected "
            f"failure {entry.key!r} ({entry.reason})"
        )
        return replace(verdict, status="fail", message=message)


def replay_named(
    witness: Witness, path: str | os.PathLike[str], spec: str | Backend, contract: Contract | None
) -> Verdict:
    """Replay a witness on a subject; a refusal names the file."""
    try:
        return replay(witness, spec, contract)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error


def _all_places() -> Iterable[Place]:
    return (Place(clause.id, op, dtype) for clause in CLAUSES for op in clause.ops for dtype in clause.dtypes)
