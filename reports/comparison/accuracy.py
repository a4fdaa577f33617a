"""Which clauses changed their status, and which grades and certified errors moved."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from softcert.conformance.gate.baseline import error_grew, grade_fell
from softcert.conformance.model import BROKEN, STATUSES, Run, Verdict
from softcert.reports.comparison.model import KINDS, AccuracyChange, Direction, Figures, Kind, StatusChange
from softcert.reports.summary import grade_rows, subjects

Key = tuple[str, str, str]

#: What a status says of the subject, coarsely.
_CLASSES: Mapping[str, str] = {
    "pass": "holds",
    "xfail": "expected",
    "skip": "silent",
    "vacuous": "silent",
} | dict.fromkeys(BROKEN, "broken")
#: Kinds of change by the classes of the statuses, then and now.
_CHANGES: Mapping[tuple[str, str], Kind] = {
    ("holds", "broken"): "broken",
    ("silent", "broken"): "found",
    ("absent", "broken"): "found",
    ("expected", "broken"): "unexpected",
    ("holds", "silent"): "silenced",
    ("broken", "silent"): "silenced",
    ("expected", "silent"): "silenced",
    ("holds", "expected"): "conceded",
    ("broken", "expected"): "conceded",
    ("silent", "expected"): "conceded",
    ("broken", "holds"): "mended",
    ("expected", "holds"): "mended",
    ("silent", "holds"): "shown",
}


def keyed(run: Run) -> dict[Key, Verdict]:
    """Return the verdicts by clause, op and dtype; of several the gravest, as a gate's witnesses may be."""
    order = list(STATUSES)
    found: dict[Key, Verdict] = {}
    for verdict in run.verdicts:
        key = (verdict.clause, verdict.op, verdict.dtype)
        if key not in found or order.index(verdict.status) < order.index(found[key].status):
            found[key] = verdict
    return found


def status_changes(old: Run, new: Run) -> tuple[StatusChange, ...]:
    """Return the clauses whose status changed, the gravest kind first, else in the new run's order."""
    before = keyed(old)
    changes = [change for key, now in keyed(new).items() if (change := _change(key, before.get(key), now))]
    return tuple(sorted(changes, key=lambda change: list(KINDS).index(change.kind)))


def _change(key: Key, then: Verdict | None, now: Verdict) -> StatusChange | None:
    kind = _CHANGES.get((_CLASSES[then.status] if then else "absent", _CLASSES[now.status]))
    if kind is None:
        return None
    return StatusChange(kind, *key, then.status if then else "", now.status, now.message)


def grade_changes(old: Run, new: Run, factor: float, *, alike: bool) -> tuple[AccuracyChange, ...]:
    """Return each op x dtype that both runs graded, changed or not.

    Parameters
    ----------
    factor : an error may be so much larger before it counts as moved.
    alike : whether both runs were asked for the same.
    """
    before, after = _by_format(old), _by_format(new)
    return tuple(
        _moved("", *key, before[key], now, factor, alike=alike) for key, now in after.items() if key in before
    )


def _by_format(run: Run) -> dict[tuple[str, str], Figures]:
    return {
        (row.op, row.dtype): Figures(row.grade, row.error_max, row.margin, row.cases, row.elements)
        for row in grade_rows(subjects([run]))
    }


def error_changes(old: Run, new: Run, factor: float, *, alike: bool) -> Iterator[AccuracyChange]:
    """Yield the clauses whose largest error certainly moved; see `grade_changes`."""
    before = keyed(old)
    for key, now in keyed(new).items():
        then = before.get(key)
        if then is not None and then.elements and now.elements:
            change = _moved(*key, _figures(then), _figures(now), factor, alike=alike)
            if change.error:
                yield change


def _figures(verdict: Verdict) -> Figures:
    return Figures(verdict.grade, verdict.error_max, verdict.margin, verdict.cases, verdict.elements)


def _moved(
    clause: str, op: str, dtype: str, old: Figures, new: Figures, factor: float, *, alike: bool
) -> AccuracyChange:
    same = alike and (old.cases, old.elements) == (new.cases, new.elements)
    return AccuracyChange(clause, op, dtype, old, new, same, _error(old, new, factor), _grade(old, new))


def _error(old: Figures, new: Figures, factor: float) -> Direction:
    if not (old.elements and new.elements) or any(map(math.isnan, (*old.error, *new.error))):
        return ""
    if error_grew(new.error, old.error, factor):
        return "larger"
    return "smaller" if error_grew(old.error, new.error, factor) else ""


def _grade(old: Figures, new: Figures) -> Direction:
    if grade_fell(new.grade, old.grade):
        return "smaller"
    return "larger" if grade_fell(old.grade, new.grade) else ""
