"""What is known of a part of a domain, and how parts are joined: in any order, with the same outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import reduce
from typing import Any, Self

from softcert.conformance.wire.runs import plain, read_number, unplain, write_number

Range = tuple[int, int]


@dataclass(frozen=True)
class Peak:
    """The place where a figure is largest; of equal ones the first.

    Attributes
    ----------
    value : the figure.
    row, column : where in the domain, and in the result.
    error : certified (lower, upper) error there, in ulps.
    answer : what the subject gave for the row.
    bound : the bound there, in ulps; 0 where it was not asked for.
    """

    value: float
    row: int
    column: int
    error: tuple[float, float]
    answer: tuple[float, ...]
    bound: float = 0.0


@dataclass(frozen=True)
class Breach:
    """A row whose answer breaks the contract, or a call that gives none.

    Attributes
    ----------
    value : error / bound, infinite where there is no error to speak of.
    row : the first row of the call, or the one row that is wrong.
    rows : how many rows the witness's call has.
    message : one sentence.
    witness : the case as a document of schema witness-1; empty until it was made.
    """

    value: float
    row: int
    rows: int = 1
    message: str = ""
    witness: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """All that is known of some rows of a domain. The sum of parts is associative and commutative.

    Attributes
    ----------
    ranges : the rows that were asked for, as [first, last) in order, apart from each other.
    cases : rows that were judged.
    elements : results that were judged; `compared`, those that have an exact value.
    within : how many of these err by no more than each limit of `WITHIN`, and how many by more.
    error_sum, signed_sum : sums of their errors, in units of 2**-32 ulp (`tally`).
    settled : rows that an exact oracle had to settle. audited : rows on which the two were compared.
    largest : the largest error. closest : the largest error / bound.
    breach : the worst row that breaks the contract. failure : the first call that gave no answer.
    controls : whether each wrong answer on purpose was caught.
    telling : in how many samples the bound could tell a wrong answer, of how many.
    oracle_seconds, subject_seconds : what judging, and the subject's calls, took.
    """

    ranges: tuple[Range, ...] = ()
    cases: int = 0
    elements: int = 0
    compared: int = 0
    within: tuple[int, ...] = ()
    error_sum: int = 0
    signed_sum: int = 0
    settled: int = 0
    audited: int = 0
    largest: Peak | None = None
    closest: Peak | None = None
    breach: Breach | None = None
    failure: Breach | None = None
    controls: Mapping[str, bool] = field(default_factory=dict)
    telling: tuple[int, int] = (0, 0)
    oracle_seconds: float = 0.0
    subject_seconds: float = 0.0

    def __add__(self, other: Part) -> Part:
        """Join two parts; ValueError where they share a row, which would count twice."""
        return Part(
            ranges=_joined(self.ranges, other.ranges),
            cases=self.cases + other.cases,
            elements=self.elements + other.elements,
            compared=self.compared + other.compared,
            within=_summed(self.within, other.within),
            error_sum=self.error_sum + other.error_sum,
            signed_sum=self.signed_sum + other.signed_sum,
            settled=self.settled + other.settled,
            audited=self.audited + other.audited,
            largest=further(self.largest, other.largest),
            closest=further(self.closest, other.closest),
            breach=worse(self.breach, other.breach),
            failure=_earlier(self.failure, other.failure),
            controls={
                name: self.controls.get(name, False) or other.controls.get(name, False)
                for name in sorted({*self.controls, *other.controls})
            },
            telling=(self.telling[0] + other.telling[0], self.telling[1] + other.telling[1]),
            oracle_seconds=self.oracle_seconds + other.oracle_seconds,
            subject_seconds=self.subject_seconds + other.subject_seconds,
        )

    @property
    def covered(self) -> int:
        """How many rows were asked for."""
        return sum(last - first for first, last in self.ranges)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready mapping; `cases` in it are all rows that were asked for."""
        document = {name: plain(value) for name, value in asdict(self).items()}
        for name in ("breach", "failure"):
            breach: Breach | None = getattr(self, name)
            # A witness is a document already, in which strings are strings.
            document[name] = breach and {
                **asdict(breach),
                "value": write_number(breach.value),
                "witness": dict(breach.witness),
            }
        return {**document, "judged": self.cases, "cases": self.covered}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Part from what `to_json` gave."""
        facts = {**document, "cases": document["judged"]}
        del facts["judged"]
        for name in ("breach", "failure"):
            found = facts[name]
            facts[name] = found and Breach(**{**found, "value": read_number(found["value"])})
        for name in ("largest", "closest"):
            facts[name] = facts[name] and _peak(facts[name])
        facts["ranges"] = tuple((first, last) for first, last in facts["ranges"])
        facts["within"], facts["telling"] = tuple(facts["within"]), tuple(facts["telling"])
        return cls(**facts)


def total(parts: Iterable[Part]) -> Part:
    """The sum of parts."""
    return reduce(Part.__add__, parts, Part())


def _peak(document: Mapping[str, Any]) -> Peak:
    facts = unplain(dict(document))
    return Peak(**{**facts, "error": tuple(facts["error"]), "answer": tuple(facts["answer"])})


def _summed(some: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(some, others, strict=True)) if some and others else some or others


def further(some: Peak | None, other: Peak | None) -> Peak | None:
    """The larger of two peaks; of equal ones the first."""
    if some is None or other is None:
        return some or other
    return max(some, other, key=lambda peak: (peak.value, -peak.row, -peak.column))


def worse(some: Breach | None, other: Breach | None) -> Breach | None:
    """The worse of two breaches; of equal ones the first."""
    if some is None or other is None:
        return some or other
    return max(some, other, key=lambda breach: (breach.value, -breach.row))


def _earlier(some: Breach | None, other: Breach | None) -> Breach | None:
    if some is None or other is None:
        return some or other
    return min(some, other, key=lambda breach: breach.row)


def _joined(some: tuple[Range, ...], others: tuple[Range, ...]) -> tuple[Range, ...]:
    joined: list[Range] = []
    for first, last in sorted((*some, *others)):
        if joined and first < joined[-1][1]:
            raise ValueError(f"rows {first} to {min(last, joined[-1][1])} are in two parts")
        if joined and first == joined[-1][1]:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return tuple(joined)


__all__ = ["Breach", "Part", "Peak", "further", "total", "worse"]
