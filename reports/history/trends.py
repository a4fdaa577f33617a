"""A history as a document: its runs, and how errors and times moved from one to the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from softcert.conformance.model import RequestError
from softcert.reports.document import Column, Document, Row, Section, Sentence, Table
from softcert.reports.history.figures import Accuracy, Speed
from softcert.reports.history.store import Entry
from softcert.reports.plots import INK, MARKERS, SERIES, draw
from softcert.reports.summary import MARKS
from softcert.reports.wording import above, count, interval, number, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: What a plot is of: op, dtype and, of times, the shape.
Place = tuple[str, ...]
#: Figures of one entry, by their place.
Figures = Callable[[Entry], dict[Place, float]]
#: Largest number of labels that fit below a plot.
_MOST_LABELS = 4
#: The unit of errors whose limit is 1.
_IN_BOUNDS = "error / bound"


class _Series(NamedTuple):
    label: str
    slot: int
    entries: list[Entry]


def describe_history(
    entries: Sequence[Entry],
    *,
    title: str,
    by: str = "date",
    place: Place = (),
    plots: bool = False,
) -> Document:
    """Return the runs of a history as a document.

    Parameters
    ----------
    entries : by date, at least one.
    by : "date", or the name of a library whose versions stand on the axis.
    place : of which op, and of which dtype, figures are shown; () is all.
    plots : whether to draw them, which needs matplotlib.

    Raises
    ------
    RequestError : a library that no run names; nothing of that place; matplotlib is not installed.
    """
    if by != "date" and not any(by in entry.versions for entry in entries):
        known = sorted({name for entry in entries for name in entry.versions})
        raise RequestError(f"no run names a version of {by!r}; they name those of {', '.join(known)}")
    chosen = [_chosen(entry, place) for entry in entries]
    if any(place) and not any(entry.accuracy or entry.speed for entry in chosen):
        raise RequestError(f"no run of these has figures of {' '.join(filter(None, place))}")
    sections = [_runs(chosen), _accuracy(chosen), _speed(chosen)]
    if plots:
        sections = [*_trends(chosen, by), *sections]
    broken = sum(bool(entry.broken) for entry in entries)
    subjects = len({entry.subject for entry in entries})
    text = f"{count(len(entries), 'run')} of {count(subjects, 'subject')}, {broken} with a broken clause."
    return Document(title, Sentence(text), tuple(sections))


def unfolded(document: Document) -> Document:
    """Return a document that shows on a terminal too what pages show closed."""
    return replace(document, sections=tuple(replace(s, folded=False) for s in document.sections))


def _chosen(entry: Entry, place: Place) -> Entry:
    """The entry with the figures of one op, and of one dtype, alone; "" is any."""
    op, dtype = (*place, "", "")[:2]

    def fits(figures: Accuracy | Speed) -> bool:
        return op in ("", figures.op) and dtype in ("", figures.dtype)

    return replace(
        entry, accuracy=tuple(filter(fits, entry.accuracy)), speed=tuple(filter(fits, entry.speed))
    )


def _runs(entries: Sequence[Entry]) -> Section:
    rows = [
        Row(
            (
                entry.name,
                entry.date,
                entry.subject,
                f"{entry.profile} {entry.seed}",
                entry.versions.get("softcert", ""),
                " ".join(f"{a.op} {a.dtype} {a.grade}" for a in entry.accuracy[:3])
                + (" ..." if len(entry.accuracy) > 3 else ""),
                f"{entry.verdicts:,}",
                f"{entry.broken:,}",
                f"{len(entry.speed):,}",
            ),
            "worse" if entry.broken else "",
        )
        for entry in entries
    ]
    columns = (
        Column("run", "code"), Column("date"), Column("subject"), Column("profile, seed"), Column("softcert"),
        Column("grades", brief=False), Column("verdicts", "number"), Column("broken", "number"),
        Column("times", "number"),
    )  # fmt: skip
    return Section("runs", "Runs", table=Table("Runs by date.", columns, tuple(rows)))


def _accuracy(entries: Sequence[Entry]) -> Section:
    rows = [
        (a.op, a.dtype, entry.subject, entry.date, a.grade, *_errors(a.error, a.margin), f"{a.elements:,}")
        for entry in entries
        for a in entry.accuracy
    ]
    rows.sort(key=lambda row: row[:3])
    columns = (
        Column("op"), Column("dtype"), Column("subject"), Column("date"), Column("grade", "grade"),
        Column("largest error / ulp", "number"), Column("error / bound", "number"),
        Column("elements", "number"),
    )  # fmt: skip
    table = Table("Grades and errors, run by run.", columns, tuple(map(Row, rows)))
    return Section("accuracy", "Accuracy, run by run", table=table, folded=True)


def _errors(error: tuple[float, float], margin: float) -> tuple[str, str]:
    if any(map(math.isnan, (*error, margin))):
        return "-", "-"
    return interval(error), above(margin, 3)


def _speed(entries: Sequence[Entry]) -> Section:
    rows = [
        (s.op, s.dtype, s.shape, entry.subject, entry.date, seconds(s.seconds), _share(s.of_copy))
        for entry in entries
        for s in entry.speed
    ]
    rows.sort(key=lambda row: row[:4])
    columns = (
        Column("op"), Column("dtype"), Column("shape"), Column("subject"), Column("date"),
        Column("median time", "number"), Column("speed / copy", "number"),
    )  # fmt: skip
    table = Table("Times, run by run.", columns, tuple(map(Row, rows)))
    return Section("speed", "Times, run by run", table=table, folded=True)


def _share(of_copy: float | None) -> str:
    return "" if of_copy is None else number(of_copy, 3)


# --- trends ---


def _trends(entries: Sequence[Entry], by: str) -> Iterator[Section]:
    series = _series(entries)
    legend = tuple((s.slot, MARKS[s.slot], f"{s.label}: {count(len(s.entries), 'run')}") for s in series)
    quantities: tuple[tuple[str, str, str, str, Figures], ...] = (
        ("margin", "Error / bound", _IN_BOUNDS,
         "Largest error divided by its bound: above 1, the dashed line, the contract is broken.",
         lambda entry: {(a.op, a.dtype): a.margin for a in entry.accuracy}),
        ("error", "Largest error", "ulp", "Upper end of the largest certified error seen, in ulps.",
         lambda entry: {(a.op, a.dtype): a.error[1] for a in entry.accuracy}),
        ("rate", "Speed beside a copy", "speed / copy",
         "Traffic of memory as a part of that of a plain copy in the same rounds, by which runs of different "
         "days can be set beside each other; higher is faster.",
         lambda entry: {(s.op, s.dtype, s.shape): s.of_copy for s in entry.speed if s.of_copy is not None}),
    )  # fmt: skip
    for anchor, title, unit, note, figures in quantities:
        yield Section(
            f"trend-{anchor}",
            title,
            drawings=tuple(_drawings(series, by, anchor, unit, figures)),
            legend=legend,
            notes=(note,),
        )


def _series(entries: Sequence[Entry]) -> list[_Series]:
    """Runs that can be joined by a line: of one subject, asked for the same."""
    grouped: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        grouped.setdefault((entry.subject, entry.profile, entry.seed), []).append(entry)
    return [
        _Series(f"{subject}, {profile}, seed {seed}", place % len(MARKERS), its)
        for place, ((subject, profile, seed), its) in enumerate(grouped.items())
    ]


def _drawings(series: Sequence[_Series], by: str, anchor: str, unit: str, figures: Figures) -> Iterator[str]:
    places = dict.fromkeys(p for s in series for entry in s.entries for p in figures(entry))
    for index, place in enumerate(places):
        lines = [
            (
                s,
                [
                    (_position(entry, by), figures(entry)[place])
                    for entry in s.entries
                    if place in figures(entry)
                ],
            )
            for s in series
        ]
        lines = [(s, [(label, value) for label, value in points if label]) for s, points in lines]
        lines = [(s, points) for s, points in lines if points]
        if not lines:
            continue
        title = ", ".join(place)
        told = " ".join(
            f"{s.label}: {number(points[0][1])} at first, {number(points[-1][1])} at last."
            for s, points in lines
        )
        order = list(dict.fromkeys(_position(entry, by) for entry in _by_date(series)))
        axis = [label for label in order if any(label == at for _, points in lines for at, _ in points)]
        yield draw(_paint(title, unit, lines, axis), title, f"{unit} by {by}. {told}", f"{anchor}-{index}")


def _by_date(series: Sequence[_Series]) -> list[Entry]:
    return sorted((entry for s in series for entry in s.entries), key=lambda entry: entry.date)


def _position(entry: Entry, by: str) -> str:
    return entry.date if by == "date" else entry.versions.get(by, "")


def _paint(
    title: str, unit: str, lines: Sequence[tuple[_Series, list[tuple[str, float]]]], axis: Sequence[str]
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        places = {label: place for place, label in enumerate(axis)}
        drawn = []
        for series, points in lines:
            values = [value if math.isfinite(value) else math.nan for _, value in points]
            drawn += [value for value in values if not math.isnan(value)]
            at = [places[label] for label, _ in points]
            axes.plot(at, values, marker=MARKERS[series.slot], color=SERIES[series.slot])
        top = max(drawn, default=1.0)
        axes.set_ylim(0, 1.15 * top if top > 0 else 1.0)
        if unit == _IN_BOUNDS and top > 0.8:
            axes.axhline(1.0, color=INK, linewidth=1, linestyle="--")
        axes.set_xlim(-0.5, len(axis) - 0.5)
        step = max(1, math.ceil(len(axis) / _MOST_LABELS))
        shown = range(0, len(axis), step)
        axes.set_xticks(list(shown), [_brief(axis[place], axis) for place in shown], fontsize=8)
        # matplotlib's own would put the power of ten of large numbers into the title.
        axes.yaxis.set_major_formatter(lambda value, _: number(value, 3))
        axes.set_title(title, y=1.02)
        axes.set_ylabel(unit)

    return paint


def _brief(label: str, axis: Sequence[str]) -> str:
    """A date without what all have in common: the day, or the time of one day."""
    if "T" not in label:
        return label
    days = {other[:10] for other in axis}
    return label[11:16] if len(days) == 1 else label[2:10]
