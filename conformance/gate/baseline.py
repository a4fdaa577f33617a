"""A run beside a stored one: what got less accurate, what is no longer shown, what got slower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from softcert.conformance.model import RequestError, Run, Verdict

#: Best first; a later grade than the baseline's is a fall.
GRADES = "ABCF"
#: Half an ulp is correctly rounded: below it no error is worse than another.
_FLOOR_ULP = 0.5
#: Statuses that show nothing of what the baseline showed to hold.
_SILENT = frozenset({"skip", "vacuous"})


def require_comparable(run: Run, baseline: Run, source: str) -> None:
    """Refuse a baseline of other inputs: their errors say nothing of these.

    Raises
    ------
    RequestError : another profile or seed.
    """
    for name in ("profile", "seed"):
        now, then = run.request.get(name), baseline.request.get(name)
        if now != then:
            raise RequestError(
                f"the baseline {source} is of {name} {then!r}, and the gate asks for {now!r}; "
                "`softcert gate --update-baseline` measures it again"
            )


def compared(run: Run, baseline: Run, factor: float) -> Run:
    """Return a run in which each verdict that fell behind the baseline's is broken, and says how.

    Parameters
    ----------
    factor : a certified error may be so much larger; its lower end is compared with the other's upper end.
    """
    before = {(v.clause, v.op, v.dtype): v for v in baseline.verdicts}
    verdicts = []
    for verdict in run.verdicts:
        then = before.get((verdict.clause, verdict.op, verdict.dtype))
        fall = _fall(verdict, then, factor) if then is not None else ""
        verdicts.append(replace(verdict, status="fail", message=fall) if fall else verdict)
    return replace(run, verdicts=tuple(verdicts))


def unknown_to(run: Run, baseline: Run) -> tuple[Verdict, ...]:
    """The verdicts of a run that its baseline has not: they are judged, and compared with nothing."""
    before = {(v.clause, v.op, v.dtype) for v in baseline.verdicts}
    return tuple(v for v in run.verdicts if (v.clause, v.op, v.dtype) not in before)


def grade_fell(now: str, then: str) -> bool:
    """Whether a grade is lower than an earlier one; where one is missing, nothing fell."""
    return bool(now and then) and GRADES.index(now) > GRADES.index(then)


def error_grew(now: tuple[float, float], then: tuple[float, float], factor: float = 1.0) -> bool:
    """Whether a certified error, an interval in ulps, certainly exceeds `factor` times an earlier one."""
    return now[0] > factor * max(then[1], _FLOOR_ULP)


def _fall(now: Verdict, then: Verdict, factor: float) -> str:
    """How a verdict fell behind an earlier one; empty where it did not, or is broken already."""
    if now.status in _SILENT and then.status == "pass":
        return f"the baseline shows that the clause holds, and now it is {now.status}: {now.message}"
    if now.status != "pass" or then.status != "pass":
        return ""
    if grade_fell(now.grade, then.grade):
        return f"the grade fell from {then.grade} to {now.grade}: {_errors(now, then)}"
    if now.elements and then.elements and error_grew(now.error_max, then.error_max, factor):
        return f"the error grew beyond {factor:g} times the baseline's: {_errors(now, then)}"
    return ""


def _errors(now: Verdict, then: Verdict) -> str:
    return f"at least {now.error_max[0]:.4g} ulp now, at most {then.error_max[1]:.4g} ulp in the baseline"


@dataclass(frozen=True)
class Ratio:
    """Time of a subject by that of its reference, from the same rounds of one measurement.

    Attributes
    ----------
    limit : what the ratio may be, or None where nothing says.
    """

    op: str
    dtype: str
    shape: tuple[int, ...]
    ratio: float
    limit: float | None = None

    @property
    def exceeds(self) -> bool:
        """Whether the subject is too slow."""
        return self.limit is not None and self.ratio > self.limit

    @property
    def where(self) -> str:
        """What was timed: "softmax float32 4096 x 128"."""
        return f"{self.op} {self.dtype} {' x '.join(map(str, self.shape))}"


Rows = tuple[Mapping[str, Any], ...]


def ratios(
    rows: Rows,
    reference_rows: Rows,
    baseline: Rows,
    tolerance: float,
    at_most: float | None,
) -> Iterator[Ratio]:
    """Ratios of what both could be timed on, with their limits.

    Parameters
    ----------
    rows, reference_rows : as a run's `speed`, of one interleaved measurement.
    baseline : stored rows that hold a `ratio`.
    tolerance : part by which a ratio may grow over the baseline's.
    """
    beside = {_key(row): row["seconds"] for row in reference_rows}
    before = {_key(row): row["ratio"] for row in baseline if "ratio" in row}
    for row in rows:
        key = _key(row)
        if key not in beside:
            continue
        limits = [at_most] if at_most is not None else []
        limits += [before[key] * (1.0 + tolerance)] if key in before else []
        ratio = row["seconds"] / beside[key]
        yield Ratio(row["op"], row["dtype"], tuple(row["shape"]), ratio, min(limits, default=None))


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["op"], row["dtype"], tuple(row["shape"])
