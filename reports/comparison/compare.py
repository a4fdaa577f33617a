"""The comparison of two files of runs: subjects by name, then verdicts, errors, times and facts."""

from __future__ import annotations

from collections.abc import Sequence

from softcert.conformance.model import RequestError, Run
from softcert.reports.comparison.accuracy import error_changes, grade_changes, keyed, status_changes
from softcert.reports.comparison.facts import asked_differently, cautions, differences, is_same_machine
from softcert.reports.comparison.model import Comparison, Pair, SpeedChange
from softcert.reports.comparison.speed import compare_speeds
from softcert.reports.summary import subjects


def compare(
    old: Sequence[Run],
    new: Sequence[Run],
    *,
    names: tuple[str, str] = ("old", "new"),
    accuracy_factor: float = 1.0,
    speed_threshold: float | None = None,
) -> Comparison:
    """Compare the runs of two files.

    Subjects are matched by name; where each file holds exactly one, these two are compared whatever they
    are called.

    Parameters
    ----------
    names : what outputs call the two files.
    accuracy_factor : a certified error may be so much larger before it counts as moved.
    speed_threshold : part by which a time may grow before the comparison is worse for it; None, never.

    Raises
    ------
    RequestError : a file holds no run, or none of a subject that the other has.
    """
    labels = [[member.label for member in subjects(runs)] for runs in (old, new)]
    before, after = dict(zip(labels[0], old, strict=True)), dict(zip(labels[1], new, strict=True))
    for name, runs in zip(names, (old, new), strict=True):
        if not runs:
            raise RequestError(f"{name} holds no run")
    matched = [(label, label) for label in after if label in before]
    if len(old) == len(new) == 1:
        matched = [(labels[0][0], labels[1][0])]
    if not matched:
        raise RequestError(
            f"{names[0]} and {names[1]} have no subject in common: "
            f"{', '.join(before)} there, {', '.join(after)} here"
        )
    runs_of = [(before[then], after[now]) for then, now in matched]
    speeds = compare_speeds(runs_of, speed_threshold)
    return Comparison(
        *names,
        pairs=tuple(
            _pair(labels, runs, speed, accuracy_factor)
            for labels, runs, speed in zip(matched, runs_of, speeds, strict=True)
        ),
        only_old=tuple(label for label in before if label not in {then for then, _ in matched}),
        only_new=tuple(label for label in after if label not in {now for _, now in matched}),
        speed_threshold=speed_threshold,
    )


def _pair(
    labels: tuple[str, str], runs: tuple[Run, Run], speeds: tuple[SpeedChange, ...], factor: float
) -> Pair:
    old, new = runs
    alike = not asked_differently(old, new)
    before, after = keyed(old).keys(), keyed(new).keys()
    return Pair(
        old=labels[0],
        new=labels[1],
        dates=(str(old.environment.get("date", "")), str(new.environment.get("date", ""))),
        asked_alike=alike,
        same_machine=is_same_machine(old, new),
        statuses=status_changes(old, new),
        accuracy=grade_changes(old, new, factor, alike=alike),
        errors=tuple(error_changes(old, new, factor, alike=alike)),
        speeds=speeds,
        differences=differences(old, new),
        only_old=len(before - after),
        only_new=len(after - before),
        cautions=tuple(cautions(old, new)),
    )
