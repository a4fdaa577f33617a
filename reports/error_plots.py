"""Plots of errors: against row length, how they are distributed, and how much of its bound a grade uses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from softcert.reports.extras import require
from softcert.reports.plots import (
    FLOOR,
    INK,
    SERIES,
    TITLE_PLACE,
    Drawing,
    Points,
    draw,
    mark_endless,
    marker,
    marks_of,
    plain_ticks,
    positive,
    series_id,
    unit_of,
    verdicts_of,
    words_of,
)
from softcert.reports.summary import GradeRow, Subject, formats
from softcert.reports.wording import interval, number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

#: With more lengths than this, a plot shows the worst of each doubling.
_MOST_POINTS = 12
#: Inches between bars.
_BAR = 0.15
#: Where the bars of a histogram begin.
_LEAST = 0.5


def length_plots(members: Sequence[Subject]) -> tuple[Drawing, ...]:
    """Error against row length, a drawing for each op x dtype that has such figures."""
    drawings = []
    for place, (op, dtype) in enumerate(formats(members)):
        series = [(subject, _by_length(subject, op, dtype)) for subject in members]
        series = [(subject, points) for subject, points in series if points]
        if series:
            title = f"{op}, {dtype}: error by length"
            unit = unit_of(op)
            description = f"Largest certified error in units of one {unit} against row length. "
            description += " ".join(f"{s.label}: {_sentence(points, unit)}" for s, points in series)
            marks = marks_of([(s, [(float(n), error, bound) for n, error, bound in p]) for s, p in series])
            paint = _paint_lengths(unit, series)
            svg = draw(paint, title, description, f"length-{place}", points=marks)
            drawings.append(Drawing(op, dtype, "length", svg, ("length", words_of(unit), "allowed")))
    return tuple(drawings)


def _by_length(subject: Subject, op: str, dtype: str) -> list[tuple[int, float, float]]:
    """(length, largest error, bound there) of a subject, by rising length."""
    worst: dict[int, tuple[float, float]] = {}
    in_bounds = unit_of(op) == "bound"
    for verdict in verdicts_of(subject, op, dtype):
        for point in verdict.statistics.get("by_length", ()):
            n, error = int(point["n"]), float(point.get("margin" if in_bounds else "error_ulp", math.nan))
            if n not in worst or error > worst[n][0]:
                worst[n] = (error, 1.0 if in_bounds else float(point.get("bound_ulp", math.nan)))
    return _thinned([(n, *worst[n]) for n in sorted(worst)])


def _thinned(points: list[tuple[int, float, float]]) -> list[tuple[int, float, float]]:
    """Keep the worst of each doubling of the length, where there are more lengths than a line can show."""
    if len(points) <= _MOST_POINTS:
        return points
    worst: dict[int, tuple[int, float, float]] = {}
    for point in points:
        octave = point[0].bit_length()
        if octave not in worst or point[1] > worst[octave][1]:
            worst[octave] = point
    return list(worst.values())


def _sentence(points: Sequence[tuple[int, float, float]], unit: str) -> str:
    first, last = points[0], points[-1]
    return f"{number(first[1])} {unit} at {first[0]}, {number(last[1])} {unit} at {last[0]}."


def _paint_lengths(
    unit: str, series: Sequence[tuple[Subject, list[tuple[int, float, float]]]]
) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        bounds = [[_bound(point) for point in points] for _, points in series]
        # One contract's bounds are the same whoever is judged by it: then the line is nobody's.
        shared = len(series) > 1 and all(points == bounds[0] for points in bounds)
        for (subject, points), bound in zip(series, bounds, strict=True):
            lengths = [max(n, 1) for n, _, _ in points]
            colour = SERIES[subject.slot]
            gid = None if shared else series_id(subject, "bound")
            axes.plot(lengths, bound, linestyle="--", linewidth=1, color=INK if shared else colour, gid=gid)
            errors = [positive(error, FLOOR) for _, error, _ in points]
            gid = series_id(subject, "line")
            axes.plot(lengths, errors, marker=marker(subject), color=colour, gid=gid)
            mark_endless(axes, lengths, errors, subject)
        drawn = [y for line in (*bounds, *([e for _, e, _ in points] for _, points in series)) for y in line]
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        if not any(map(math.isfinite, drawn)):
            axes.set_ylim(0.1, 10.0)
        ticker = require("matplotlib.ticker")
        axes.xaxis.set_major_locator(ticker.LogLocator(base=2, numticks=7))
        plain_ticks(axes.xaxis)
        plain_ticks(axes.yaxis)
        axes.set_title("error by length", y=TITLE_PLACE)
        axes.set(xlabel="row length n", ylabel=f"error / {unit}")

    return paint


def _bound(point: tuple[int, float, float]) -> float:
    """The bound to draw at a point; beside an error that is not finite it would only be noise."""
    _, error, bound = point
    return positive(bound, FLOOR) if math.isfinite(error) else math.nan


def histogram_plots(members: Sequence[Subject]) -> tuple[Drawing, ...]:
    """How often errors of each size occur, a drawing for each op x dtype that has such figures."""
    drawings = []
    for place, (op, dtype) in enumerate(formats(members)):
        series = [(subject, _histogram(subject, op, dtype)) for subject in members]
        series = [(subject, bars) for subject, bars in series if bars]
        if series:
            title = f"{op}, {dtype}: results by size of error"
            description = "Number of results by size of error, logarithmic. " + " ".join(
                f"{s.label}: {sum(c for _, _, c in bars):,} results, largest below {number(bars[-1][1])} ulp."
                for s, bars in series
            )
            marks: dict[str, Points] = {
                series_id(s, "bars"): [(upper, float(amount), math.nan) for _, upper, amount in bars]
                for s, bars in series
            }
            svg = draw(_paint_histogram(series), title, description, f"histogram-{place}", points=marks)
            drawings.append(Drawing(op, dtype, "histogram", svg, ("errors below", "results", "")))
    return tuple(drawings)


def _histogram(subject: Subject, op: str, dtype: str) -> list[tuple[float, float, int]]:
    """(lower edge, upper edge, count) of the bins up to the last that is not empty, verdicts added up."""
    bins: dict[tuple[float, float], int] = {}
    for verdict in verdicts_of(subject, op, dtype):
        histogram = verdict.statistics.get("histogram", {})
        edges = [float(edge) for edge in histogram.get("edges", ())]
        for lower, upper, amount in zip(edges, edges[1:], histogram.get("counts", ()), strict=False):
            bins[lower, upper] = bins.get((lower, upper), 0) + int(amount)
    bars = [(lower, upper, amount) for (lower, upper), amount in sorted(bins.items())]
    while bars and bars[-1][2] == 0:
        bars.pop()
    return bars


def _paint_histogram(
    series: Sequence[tuple[Subject, list[tuple[float, float, int]]]],
) -> Callable[[Axes], None]:
    # Bins grow by decades, so each edge gets the same room and its own label.
    edges = sorted({edge for _, bars in series for lower, upper, _ in bars for edge in (lower, upper)})
    place = {edge: index for index, edge in enumerate(edges)}
    collection = require("matplotlib.collections").PolyCollection

    def paint(axes: Axes) -> None:
        width = 0.86 / len(series)
        for index, (subject, bars) in enumerate(series):
            boxes = [
                _box(place[lower] + 0.07 + index * width, width, max(amount, _LEAST))
                for lower, _, amount in bars
            ]
            gid = series_id(subject, "bars")
            drawn = collection(boxes, facecolor=SERIES[subject.slot], linewidth=0, gid=gid)
            axes.add_collection(drawn, autolim=False)
        axes.set_yscale("log")
        most = max(amount for _, bars in series for _, _, amount in bars)
        axes.set_ylim(_LEAST, most * (most / _LEAST) ** 0.05)
        axes.set_xlim(-0.4, len(edges) - 0.4)
        axes.grid(visible=False, axis="x")
        plain_ticks(axes.yaxis)
        axes.set_xticks(range(len(edges)), [number(edge, 6) for edge in edges])
        if len(edges) > 8:
            axes.tick_params(axis="x", labelrotation=45, labelsize=7, pad=1)
        axes.set_title("results by size of error", y=TITLE_PLACE)
        axes.set(xlabel="error / ulp", ylabel="results")

    return paint


def _box(left: float, width: float, top: float) -> list[tuple[float, float]]:
    right = left + width
    return [(left, _LEAST), (right, _LEAST), (right, top), (left, top)]


def margin_plots(rows: Sequence[GradeRow]) -> tuple[Drawing, ...]:
    """How much of its bound each grade uses, a drawing for each op x dtype of which something was judged."""
    drawings = []
    judged = [row for row in rows if row.elements]
    for place, (op, dtype) in enumerate(dict.fromkeys((row.op, row.dtype) for row in judged)):
        chosen = [row for row in judged if (row.op, row.dtype) == (op, dtype)]
        description = "Largest error divided by its bound; above 1 breaks the contract. " + " ".join(
            f"{r.subject.label}: {number(r.margin, 3)} (error {interval(r.error_max)} ulp)." for r in chosen
        )
        size = (3.2, max(2.45, 0.76 + _BAR * len(chosen)))
        marks: dict[str, Points] = {
            series_id(r.subject, "margin"): [(math.nan, r.margin, math.nan)] for r in chosen
        }
        paint, title = _paint_margins(chosen), f"{op}, {dtype}: error / bound"
        svg = draw(paint, title, description, f"margin-{place}", size, points=marks)
        drawings.append(Drawing(op, dtype, "margin", svg, ("", "of the bound", "")))
    return tuple(drawings)


def _paint_margins(rows: Sequence[GradeRow]) -> Callable[[Axes], None]:
    finite = [row.margin for row in rows if math.isfinite(row.margin)]
    limit = max(1.2, min(max(finite, default=1.0), 4.0) * 1.25)

    def paint(axes: Axes) -> None:
        widths = [min(row.margin, limit) if not math.isnan(row.margin) else limit for row in rows]
        colours = [SERIES[row.subject.slot] for row in rows]
        bars = axes.barh(range(len(rows)), widths, height=0.72, color=colours)
        for place, (row, width, bar) in enumerate(zip(rows, widths, bars, strict=True)):
            bar.set_gid(series_id(row.subject, "margin"))
            text = axes.text(width, place, f" {number(row.margin, 2)}", va="center", fontsize=8)
            text.set_gid(series_id(row.subject, "figure"))
        axes.axvline(1.0, color=INK, linewidth=1, linestyle="--")
        axes.set_xlim(0, 1.12 * limit)
        axes.set_yticks(range(len(rows)), [row.subject.mark for row in rows])
        # However few the bars, none is thicker than among eight.
        axes.set_ylim(max(len(rows), 8) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_title("largest error / bound", y=TITLE_PLACE)
        axes.set(xlabel="largest error / bound (1: the bound)")

    return paint
