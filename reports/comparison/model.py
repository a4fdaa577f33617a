"""What comparing two runs gives, as plain data; every rendering is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["broken", "found", "unexpected", "silenced", "conceded", "mended", "shown"]
#: What a change of a clause's status is called, in the order in which it is told.
KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        "broken": "newly broken",
        "found": "broken, not shown before",
        "unexpected": "broken, and no longer as expected",
        "silenced": "no longer shown",
        "conceded": "broken as expected",
        "mended": "newly passing",
        "shown": "passing, not shown before",
    }
)
Direction = Literal["larger", "smaller", ""]
Speed = Literal["slower", "faster", "undecided", "untested"]


@dataclass(frozen=True)
class StatusChange:
    """A clause x op x dtype whose status changed.

    Attributes
    ----------
    old, new : the statuses; "" where a run has no such verdict.
    message : what the verdict says now.
    """

    kind: Kind
    clause: str
    op: str
    dtype: str
    old: str
    new: str
    message: str

    @property
    def worse(self) -> bool:
        """Whether it is certain that the subject got worse: the clause passed, and its witness breaks it."""
        return self.kind == "broken"


@dataclass(frozen=True)
class Figures:
    """The figures of one op x dtype in one run, or of one of its verdicts.

    Attributes
    ----------
    grade : "" where the clause does not grade.
    error : certified interval of the largest error seen, ulps.
    margin : largest error / bound.
    """

    grade: str
    error: tuple[float, float]
    margin: float
    cases: int
    elements: int


@dataclass(frozen=True)
class AccuracyChange:
    """The grade and the largest error of one op x dtype, or of one clause of it, then and now.

    Attributes
    ----------
    clause : "" where it stands for every graded clause of the op and dtype.
    same_inputs : both runs were asked for the same, and judged as many cases and elements.
    error : how the largest error moved; only intervals that do not overlap say so.
    grade : "larger" where the grade is better now, "smaller" where it is worse.
    """

    clause: str
    op: str
    dtype: str
    old: Figures
    new: Figures
    same_inputs: bool
    error: Direction
    grade: Direction

    @property
    def worse(self) -> bool:
        """Whether it is certain that the subject got less accurate."""
        return self.same_inputs and (self.error == "larger" or self.grade == "smaller")


@dataclass(frozen=True)
class SpeedChange:
    """The times of one op, dtype and shape, then and now.

    Attributes
    ----------
    seconds : medians of the old and the new run.
    ratio : new time / old time.
    interval : of the ratio: 95 % confidence where `rounds` are there, else from quartile to quartile.
    rounds : number of samples of each run, or None where a run kept none.
    drift : by what factor the copy beside them differs between the runs, at least 1, or None if unknown.
    allowed : the factor that a change has to exceed.
    p : probability of such a difference by chance if the change were within `allowed`, adjusted for the
        number of rows tested; None where nothing was tested.
    note : why nothing was tested.
    """

    op: str
    dtype: str
    shape: tuple[int, ...]
    seconds: tuple[float, float]
    ratio: float
    interval: tuple[float, float] | None
    rounds: tuple[int, int] | None
    drift: float | None
    allowed: float
    p: float | None
    verdict: Speed
    note: str = ""


@dataclass(frozen=True)
class Difference:
    """A fact of machine, versions, request or contract that differs."""

    part: str
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Pair:
    """One subject in both files.

    Attributes
    ----------
    asked_alike : whether profile, seed and the versions that draw the inputs are the same.
    same_machine : whether processor, its instruction sets, cores and platform are the same.
    accuracy : each op x dtype that both runs graded.
    errors : the clauses whose largest error certainly moved.
    only_old, only_new : verdicts that the other run has not.
    cautions : what keeps the pair from saying more, in sentences.
    """

    old: str
    new: str
    dates: tuple[str, str]
    asked_alike: bool
    same_machine: bool
    statuses: tuple[StatusChange, ...]
    accuracy: tuple[AccuracyChange, ...]
    errors: tuple[AccuracyChange, ...]
    speeds: tuple[SpeedChange, ...]
    differences: tuple[Difference, ...]
    only_old: int
    only_new: int
    cautions: tuple[str, ...]

    @property
    def label(self) -> str:
        """What outputs call the pair."""
        return self.old if self.old == self.new else f"{self.old} → {self.new}"


@dataclass(frozen=True)
class Comparison:
    """Everything that two files say of each other.

    Attributes
    ----------
    old, new : what the files are called.
    only_old, only_new : subjects that the other file has not.
    speed_threshold : part by which a time may grow, or None where times break nothing.
    """

    old: str
    new: str
    pairs: tuple[Pair, ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    speed_threshold: float | None = None

    @property
    def broken(self) -> tuple[tuple[Pair, StatusChange], ...]:
        """The clauses that are newly broken."""
        return tuple((pair, change) for pair in self.pairs for change in pair.statuses if change.worse)

    @property
    def fallen(self) -> tuple[tuple[Pair, AccuracyChange], ...]:
        """Each op x dtype whose grade or error is certainly worse, and each such clause of the others."""
        found = [(pair, change) for pair in self.pairs for change in pair.accuracy if change.worse]
        known = {(id(pair), change.op, change.dtype) for pair, change in found}
        found += [
            (pair, change)
            for pair in self.pairs
            for change in pair.errors
            if change.worse and (id(pair), change.op, change.dtype) not in known
        ]
        return tuple(found)

    @property
    def slower(self) -> tuple[tuple[Pair, SpeedChange], ...]:
        """The times that certainly grew beyond the threshold, where there is one, on the same machine."""
        if self.speed_threshold is None:
            return ()
        return tuple(
            (pair, change)
            for pair in self.pairs
            for change in pair.speeds
            if pair.same_machine and change.verdict == "slower"
        )

    @property
    def worse(self) -> bool:
        """Whether something certainly got worse."""
        return bool(self.broken or self.fallen or self.slower)
