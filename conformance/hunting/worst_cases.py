"""The inputs that came nearest to a bound, kept in files with which every later run begins.

They are the memory of `softcert search`: what was hard for one implementation is tried on the next one
too, and a bound that was once exceeded stays watched.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import as_file, files
from itertools import groupby
from pathlib import Path
from typing import Any

from softcert.backends import Contract
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.environment import softcert_version
from softcert.conformance.examination.admission import MISFITS, complaint_of
from softcert.conformance.inputs.growing import call_of
from softcert.conformance.model import SCHEMA, RequestError
from softcert.conformance.spec import Seedling
from softcert.conformance.wire.arrays import ArrayError
from softcert.conformance.wire.runs import (
    dumps,
    read_json,
    read_number,
    validate,
    write_number,
    write_text,
)
from softcert.conformance.wire.seedlings import seedling_from_json, seedling_to_json

#: Where `softcert search` keeps what it finds where nothing else is said, below the current folder.
DEFAULT_FOLDER = "softcert-worst"
#: Cases kept for each subject in the file of an op and dtype.
KEPT = 8
#: The family that the cases of the package are of, in what plots are drawn from.
FAMILY = "worst-cases"

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True)
class WorstCase:
    """An input, and what it came to when it was last judged.

    Attributes
    ----------
    subject : name of the implementation for which it is hard.
    margin : certified upper end of error / bound.
    error_ulp : certified (lower, upper) of the largest error.
    bound_ulp : the bound at the worst element.
    found_by : the mover, or other source, that made the input.
    """

    clause: str
    op: str
    dtype: str
    subject: str
    seedling: Seedling
    margin: float = 0.0
    error_ulp: tuple[float, float] = (0.0, 0.0)
    bound_ulp: float = 0.0
    found_by: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Whose input it is, bit for bit."""
        return (self.clause, self.op, self.dtype, self.subject, self.seedling.key())


def fitting(cases: Iterable[WorstCase], clause: str, context: Context) -> tuple[Seedling, ...]:
    """Seedlings of the cases that a clause can be given at a context, each once."""
    chosen = {
        case.seedling.key(): case.seedling
        for case in cases
        if (case.clause, case.op, case.dtype) == (clause, context.op, context.dtype)
        and (context.beta or case.seedling.beta == 1.0)
    }
    return tuple(chosen.values())


# --- files ---


def case_to_json(case: WorstCase) -> dict[str, Any]:
    """Return a case as the schema worst-1 has it."""
    return {
        "clause": case.clause,
        "op": case.op,
        "dtype": case.dtype,
        "subject": case.subject,
        "margin": write_number(case.margin),
        "error_ulp": [write_number(end) for end in case.error_ulp],
        "bound_ulp": write_number(case.bound_ulp),
        "found_by": case.found_by,
        "seedling": seedling_to_json(case.seedling),
    }


def case_from_json(document: Mapping[str, Any]) -> WorstCase:
    """Return the case that a validated document holds.

    Raises
    ------
    ArrayError : an array that contradicts itself, or an input that the clause can never have.
    """
    low, high = (read_number(end) for end in document["error_ulp"])
    case = WorstCase(
        clause=document["clause"],
        op=document["op"],
        dtype=document["dtype"],
        subject=document["subject"],
        seedling=seedling_from_json(document["seedling"]),
        margin=read_number(document["margin"]),
        error_ulp=(low, high),
        bound_ulp=read_number(document["bound_ulp"]),
        found_by=document["found_by"],
    )
    complaint = _complaint(case)
    if complaint:
        raise ArrayError(complaint)
    return case


def _complaint(case: WorstCase) -> str:
    clause = next((c for c in CLAUSES if c.id == case.clause), None)
    if clause is None:
        return f"there is no clause {case.clause!r} in this version"
    for spoken, named in ((clause.ops, case.op), (clause.dtypes, case.dtype)):
        if named not in spoken:
            return f"{clause.id} does not speak of {named}"
    try:
        # A beta that the seedling gives to an op without one shows in the call.
        call = call_of(case.seedling, Context(case.op, case.dtype, Contract()))
        complaint = complaint_of(call, case.dtype)
    except MISFITS as error:
        return f"an input that no call can be made of ({error})"
    return f"an input of {case.op} {complaint}" if complaint else ""


def read_cases(paths: Paths) -> tuple[WorstCase, ...]:
    """Cases in files, and in the files directly in folders.

    Raises
    ------
    RequestError : one cannot be read, or is no file of worst cases.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    found: list[WorstCase] = []
    for path in map(Path, given):
        for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
            found += _read_file(file)
    return tuple(found)


def _read_file(path: Path) -> list[WorstCase]:
    document = read_json(path)
    validate(document, "worst", str(path))
    try:
        return [case_from_json(case) for case in document["cases"]]
    except ArrayError as error:
        raise RequestError(f"{path} is not a valid worst-case file: {error}") from error


@cache
def shipped_cases() -> tuple[WorstCase, ...]:
    """Cases that come with the package: what searches found hard for registered backends; one family."""
    with as_file(files("softcert.conformance") / "worst") as folder:
        cases = read_cases(folder) if folder.is_dir() else ()
    return tuple(replace(case, seedling=replace(case.seedling, family=FAMILY)) for case in cases)


def keep(path: str | os.PathLike[str], fresh: Iterable[WorstCase], kept: int = KEPT) -> Path:
    """Add cases to a file, the worst `kept` of each clause, op, dtype and subject in it.

    A case that is there already gets its new figures. That of the largest error has a place among the worst,
    though its bound may be far.

    Raises
    ------
    RequestError : the file is there and no file of worst cases, or cannot be written.
    """
    target = Path(path)
    known = {case.key: case for case in (_read_file(target) if target.exists() else [])}
    known |= {case.key: case for case in fresh}

    def owner(case: WorstCase) -> tuple[str, ...]:
        return (case.op, case.dtype, case.clause, case.subject)

    ranked = sorted(known.values(), key=lambda case: (owner(case), -case.margin))
    cases = [case for _, group in groupby(ranked, owner) for case in _chosen(list(group), kept)]
    return write_cases(target, cases)


def _chosen(ranked: list[WorstCase], kept: int) -> list[WorstCase]:
    largest = max(ranked, key=lambda case: case.error_ulp[1])
    nearest = ranked[:kept]
    if largest.key in {case.key for case in nearest}:
        return nearest
    return [*nearest[: kept - 1], largest]


def write_cases(path: str | os.PathLike[str], cases: Iterable[WorstCase]) -> Path:
    """Write a file of worst cases, whole or not at all; raise RequestError if it cannot be written."""
    document = {
        "schema": SCHEMA,
        "kind": "worst",
        "softcert": softcert_version(),
        "cases": [case_to_json(case) for case in cases],
    }
    return write_text(path, dumps(document))
