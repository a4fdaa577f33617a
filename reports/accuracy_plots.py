"""Where errors occur: against spread, magnitude and place, and how many are within so many ulps."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    power,
    series_id,
    unit_of,
    verdicts_of,
    words_of,
)
from softcert.reports.summary import formats
from softcert.reports.wording import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from softcert.reports.summary import Subject

Curves = list[tuple["Subject", Points]]


@dataclass(frozen=True)
class _Against:
    """A plot of largest errors against one quantity.

    Attributes
    ----------
    statistic : of the verdicts, whose bins are drawn.
    title, label : of the plot, and of its horizontal axis.
    word : what precedes the quantity at a mark.
    """

    statistic: str
    title: str
    label: str
    word: str


AGAINST = {
    "spread": _Against("by_spread", "error by spread", "largest less smallest logit", "spread from"),
    "magnitude": _Against("by_magnitude", "error by magnitude", "largest |logit|", "magnitude from"),
    "query": _Against("by_query", "error by query", "place of the query", "query"),
    "key": _Against("by_key", "error by key", "place of the key", "key"),
    "feature": _Against("by_feature", "error by feature", "place of the feature", "feature"),
}


def curve_plots(members: Sequence[Subject]) -> tuple[Drawing, ...]:
    """Largest errors against each quantity of which verdicts hold figures, for each op x dtype."""
    drawings = []
    for place, (op, dtype) in enumerate(formats(members)):
        unit = unit_of(op)
        for kind, against in AGAINST.items():
            curves = [(s, _worst_by_bin(s, op, dtype, against.statistic)) for s in members]
            curves = [(s, points) for s, points in curves if points]
            if curves:
                title = f"{op}, {dtype}: {against.title}"
                svg = draw(
                    _paint_curves(against, unit, curves),
                    title,
                    _description(curves, against.label, unit),
                    f"{kind}-{place}",
                    points=marks_of(curves),
                )
                drawings.append(Drawing(op, dtype, kind, svg, (against.word, words_of(unit), "results")))
    return tuple(drawings)


def _worst_by_bin(subject: Subject, op: str, dtype: str, statistic: str) -> Points:
    """(lower edge, largest error, results) of each bin, of all verdicts together."""
    figure = "margin" if unit_of(op) == "bound" else "error_ulp"
    worst: dict[float, tuple[float, int]] = {}
    for verdict in verdicts_of(subject, op, dtype):
        for found in verdict.statistics.get(statistic, ()):
            edge, error = float(found["from"]), float(found[figure])
            before, count = worst.get(edge, (0.0, 0))
            # A NaN, of which nothing is known, stays.
            larger = before if before > error or math.isnan(before) else error
            worst[edge] = larger, count + int(found["elements"])
    return [(edge, *worst[edge]) for edge in sorted(worst)]


def _description(curves: Curves, label: str, unit: str) -> str:
    parts = []
    for subject, points in curves:
        edge, error, _ = max(points, key=lambda p: math.inf if math.isnan(p[1]) else p[1])
        parts.append(f"{subject.label}: at most {number(error)} {unit}, from {number(edge)} on.")
    return f"Largest certified error in units of one {unit} against: {label}. {' '.join(parts)}"


def _paint_curves(against: _Against, unit: str, curves: Curves) -> Callable[[Axes], None]:
    edges = sorted({edge for _, points in curves for edge, _, _ in points})
    # Every bin that occurs has the same room: a few far away would leave none to the many.
    at = {edge: place for place, edge in enumerate(edges)}

    def paint(axes: Axes) -> None:
        for subject, points in curves:
            places = [at[edge] for edge, _, _ in points]
            errors = [positive(error, FLOOR) for _, error, _ in points]
            _line(axes, subject, places, errors)
            mark_endless(axes, places, errors, subject)
        axes.set_yscale("log")
        if not any(math.isfinite(error) for _, points in curves for _, error, _ in points):
            axes.set_ylim(0.1, 10.0)
        if unit == "bound":
            axes.axhline(1.0, color=INK, linewidth=1, linestyle="--")
        plain_ticks(axes.yaxis)
        shown = _spaced(edges)
        axes.set_xticks([at[edge] for edge in shown], [power(edge) for edge in shown])
        axes.set_title(against.title, y=TITLE_PLACE)
        axes.set(xlabel=against.label, ylabel=f"error / {unit}")

    return paint


def _line(axes: Axes, subject: Subject, across: Sequence[float], up: Sequence[float]) -> None:
    """The line of a backend, thinner than where there are few marks."""
    colour, gid = SERIES[subject.slot], series_id(subject, "line")
    axes.plot(across, up, marker=marker(subject), color=colour, gid=gid, linewidth=1.1, markersize=3.6)


def _spaced(edges: Sequence[float], most: int = 7) -> list[float]:
    """At most so many of the edges, evenly apart, from the first on."""
    return list(edges[:: -(-len(edges) // most)])


def within_plots(members: Sequence[Subject]) -> tuple[Drawing, ...]:
    """Share of the results that are certainly within so many ulps, for each op x dtype."""
    drawings = []
    for place, (op, dtype) in enumerate(formats(members)):
        curves = [(s, _shares(s, op, dtype)) for s in members]
        curves = [(s, points) for s, points in curves if points]
        if curves:
            title = f"{op}, {dtype}: share within x ulps"
            description = "Share of the results that are certainly within so many ulps. " + " ".join(
                f"{s.label}: {number(_share_at(points, 0.5), 3)} % within 0.5 ulp, "
                f"{number(_share_at(points, 1.0), 3)} % within 1 ulp."
                for s, points in curves
            )
            svg = draw(
                _paint_shares(curves), title, description, f"within-{place}",
                points={series_id(s, "line"): points for s, points in curves},
            )  # fmt: skip
            drawings.append(Drawing(op, dtype, "within", svg, ("within", "%", "results")))
    return tuple(drawings)


def _shares(subject: Subject, op: str, dtype: str) -> Points:
    """(ulps, per cent within, results within); the limits at which nothing changes any more left out."""
    counts: dict[float, int] = {}
    total = 0
    for verdict in verdicts_of(subject, op, dtype):
        found = verdict.statistics.get("within")
        if not found:
            continue
        total += int(found["of"])
        for limit, count in zip(found["ulps"], found["counts"], strict=False):
            counts[float(limit)] = counts.get(float(limit), 0) + int(count)
    if not total:
        return []
    points: Points = [(limit, 100.0 * counts[limit] / total, counts[limit]) for limit in sorted(counts)]
    # Half an ulp and one say what grades do, whatever lies below and above.
    first = next((k for k, point in enumerate(points) if point[1] >= 1.0 or point[0] >= 0.5), 0)
    last = next((k for k, point in enumerate(points) if point[2] == points[-1][2] and point[0] >= 1.0), -1)
    # Every second limit, a half of an octave apart, is as much as a line can show.
    return [p for p in points[first : last + 1 or None] if (2.0 * math.log2(p[0])).is_integer()]


def _share_at(points: Points, limit: float) -> float:
    return max((share for ulps, share, _ in points if ulps <= limit), default=0.0)


def _paint_shares(curves: Curves) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for subject, points in curves:
            _line(axes, subject, [limit for limit, _, _ in points], [share for _, share, _ in points])
        axes.set_xscale("log", base=2)
        axes.set_ylim(0.0, 104.0)
        axes.xaxis.set_major_locator(require("matplotlib.ticker").LogLocator(base=2, numticks=7))
        plain_ticks(axes.xaxis)
        axes.set_title("share within x ulps", y=TITLE_PLACE)
        axes.set(xlabel="x / ulp", ylabel="results / %")

    return paint
