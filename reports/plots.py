"""Plots as inline SVG that follow the page: its text colour, its series colours, its font.

The same data gives the same bytes. Colours are drawn as placeholders that become CSS variables, so that
one drawing serves the light and the dark page.
"""

from __future__ import annotations

import io
import json
import math
import re
import warnings
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from softcert.backends.ops import ATTENTION_OPS
from softcert.reports.extras import require
from softcert.reports.summary import MARKS, GradeRow, Subject, formats
from softcert.reports.wording import interval, number, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from softcert.conformance.model import Verdict

INK = "#000001"
_RULE = "#000002"
SERIES = tuple(f"#0000a{slot}" for slot in range(8))
#: Shades of maps, from little to much; what is beyond the bound has the last.
SHADES = tuple(f"#0000b{shade}" for shade in range(6))
#: matplotlib's names of `softcert.reports.summary.MARKS`, in the same order.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "softcert",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": _RULE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "xtick.color": _RULE,
    "ytick.color": _RULE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
}


class Drawing(NamedTuple):
    """A drawing with what the page says of it.

    Attributes
    ----------
    op, dtype : what it is of.
    kind : of what it shows, a key of `softcert.reports.plot_panels.KINDS`.
    svg : the drawing.
    words : what precedes the first number of a mark, and follows the second and the third.
    """

    op: str
    dtype: str
    kind: str
    svg: str
    words: tuple[str, str, str] = ("", "", "")


#: (place, value, further figure) of each mark of a curve, in the order in which they are drawn.
Points = list[tuple[float, float, float]]


def series_id(subject: Subject, part: str) -> str:
    """Identifier of what is drawn of a backend, by which the page finds it."""
    return f"series-{subject.index}-{part}"


def draw(
    paint: Callable[[Axes], None],
    title: str,
    description: str,
    prefix: str,
    size: tuple[float, float] = (3.2, 2.45),
    points: Mapping[str, Points] | None = None,
) -> str:
    """Return a drawing as an SVG element.

    Parameters
    ----------
    paint : draws on the matplotlib axes given.
    title, description : its accessible name and what it says, in words.
    prefix : made part of every identifier, so that no two drawings of a page share one.
    size : inches.
    points : the numbers of the marks, by the identifier (`series_id`) of what holds them.

    Raises
    ------
    RequestError : matplotlib is not installed.
    """
    matplotlib = require("matplotlib")
    figure_type = require("matplotlib.figure").Figure
    with matplotlib.rc_context(dict(_STYLE)), warnings.catch_warnings():
        # Names may hold characters that the measuring font lacks; the reader's own font draws them.
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        figure = figure_type(figsize=size)
        # Fixed margins in inches: fitting them to the labels would take half the time of a page.
        width, height = size
        room = {
            "left": 0.6 / width,
            "right": 1 - 0.1 / width,
            "bottom": 0.48 / height,
            "top": 1 - 0.28 / height,
        }
        paint(figure.subplots(gridspec_kw=room))
        stream = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    svg = _inline(stream.getvalue(), printable(title), printable(description), prefix)
    return _with_points(svg, prefix, points or {})


def _with_points(svg: str, prefix: str, points: Mapping[str, Points]) -> str:
    """Say of what is drawn of a backend whose it is, and which numbers its marks stand for."""

    def named(found: re.Match[str]) -> str:
        marks = points.get(found["id"])
        data = (
            "" if marks is None else f' data-points="{json.dumps([[_brief(x) for x in m] for m in marks])}"'
        )
        return f'{found[0]} data-subject="{found["subject"]}"{data}'

    return re.sub(rf'id="{prefix}-(?P<id>series-(?P<subject>\d+)-[\w-]+)"', named, svg)


def _brief(value: float) -> float | None:
    """A number in four digits; None for one that is not finite."""
    return None if not math.isfinite(value) else float(f"{value:.4g}")


def _inline(svg: str, title: str, description: str, prefix: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<style.*?</style>|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r'<g id="(?!series-)[^"]*">', "<g>", svg)  # nothing refers to these
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = svg.replace("xlink:href=", "href=")
    svg = svg.replace(INK, "currentColor").replace(_RULE, "var(--rule)")
    for slot, colour in enumerate(SERIES):
        svg = svg.replace(colour, f"var(--series-{slot})")
    for shade, colour in enumerate(SHADES):
        svg = svg.replace(colour, f"var(--shade-{shade})")
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)
    svg = re.sub(r'\b(width|height)="[0-9.]+pt" ?', "", svg, count=2)
    names = f'<title id="{prefix}-title">{escape(title)}</title>'
    names += f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    label = f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc"'
    head, _, rest = svg.partition(">")
    whole = re.sub(r"\s*\n\s*", "\n", f"{label}{head[4:]}>{names}{rest}").strip()
    return re.sub(r"<g([^>]*)>\n((?:<use [^>]*/>\n)+)</g>", _with_one_style, whole)


def _with_one_style(found: re.Match[str]) -> str:
    """Marks that look alike say so once: they are most of a page on many backends."""
    attributes, marks = found.groups()
    styles = set(re.findall(r' style="[^"]*"', marks))
    if len(styles) != 1 or "style=" in attributes:
        return found[0]
    (style,) = styles
    return f"<g{attributes}{style}>\n{marks.replace(style, '')}</g>"


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


def unit_of(op: str) -> str:
    """What errors are counted in: ulps of a sum that cancels would tell of the inputs alone."""
    return "bound" if op in ATTENTION_OPS else "ulp"


def marks_of(curves: Sequence[tuple[Subject, Points]]) -> dict[str, Points]:
    """The numbers of the marks of curves, by what holds them; `mark_endless` draws what is not finite."""
    finite = {series_id(s, "line"): [p for p in points if math.isfinite(p[1])] for s, points in curves}
    rest = {series_id(s, "endless"): [p for p in points if not math.isfinite(p[1])] for s, points in curves}
    return finite | rest


def words_of(unit: str) -> str:
    """The unit as it follows a number."""
    return "of the bound" if unit == "bound" else unit


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


def verdicts_of(subject: Subject, op: str, dtype: str) -> list[Verdict]:
    """The verdicts on one op x dtype."""
    return [v for v in subject.run.verdicts if (v.op, v.dtype) == (op, dtype)]


def _sentence(points: Sequence[tuple[int, float, float]], unit: str) -> str:
    first, last = points[0], points[-1]
    return f"{number(first[1])} {unit} at {first[0]}, {number(last[1])} {unit} at {last[0]}."


def marker(subject: Subject) -> str:
    """Its mark, by matplotlib's name."""
    return MARKERS[MARKS.index(subject.mark)]


def positive(value: float, floor: float) -> float:
    """Keep a value on a logarithmic axis; what is not finite leaves a gap."""
    return max(value, floor) if math.isfinite(value) else math.nan


#: With more lengths than this, a plot shows the worst of each doubling.
_MOST_POINTS = 12
#: Place of titles above the axes: a fixed one spares the search for room.
TITLE_PLACE = 1.02
#: Errors below this are drawn on it: an exact result has no place on a logarithmic axis.
FLOOR = 1e-3


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


def mark_endless(axes: Axes, lengths: Sequence[int], errors: Sequence[float], subject: Subject) -> None:
    """Draw errors that are not finite as hollow marks on the upper edge."""
    infinite = [n for n, error in zip(lengths, errors, strict=True) if math.isnan(error)]
    if infinite:
        axes.plot(
            infinite,
            [1.0] * len(infinite),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker=marker(subject),
            markerfacecolor="none",
            color=SERIES[subject.slot],
            clip_on=False,
            gid=series_id(subject, "endless"),
        )


def plain_ticks(axis: Axis) -> None:
    """Label powers as text, without the library's typesetting, and leave the minor ticks out."""
    ticker = require("matplotlib.ticker")
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: power(value)))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_minor_locator(ticker.NullLocator())


def power(value: float) -> str:
    """Return 0.01 or 4096 as they are, and what is longer as a power of ten or two."""
    text = number(value, 6)
    if len(text) > 4 and value > 0:
        for base, exponent in ((10, math.log10(value)), (2, math.log2(value))):
            if exponent == round(exponent):
                return f"{base}{str(round(exponent)).translate(_RAISED)}"
    return text


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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
                series_id(s, f"bar{k}"): [(upper, float(amount), math.nan)]
                for s, bars in series
                for k, (_, upper, amount) in enumerate(bars)
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

    def paint(axes: Axes) -> None:
        width = 0.86 / len(series)
        for index, (subject, bars) in enumerate(series):
            left = [place[lower] + 0.07 + index * width for lower, _, _ in bars]
            colour, heights = SERIES[subject.slot], [amount for _, _, amount in bars]
            for k, bar in enumerate(axes.bar(left, heights, width, align="edge", color=colour)):
                bar.set_gid(series_id(subject, f"bar{k}"))
        axes.set_yscale("log", nonpositive="clip")
        axes.set_ylim(bottom=0.5)
        axes.grid(visible=False, axis="x")
        plain_ticks(axes.yaxis)
        axes.set_xticks(range(len(edges)), [number(edge, 6) for edge in edges])
        if len(edges) > 8:
            axes.tick_params(axis="x", labelrotation=45, labelsize=7, pad=1)
        axes.set_title("results by size of error", y=TITLE_PLACE)
        axes.set(xlabel="error / ulp", ylabel="results")

    return paint


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


#: Inches between bars.
_BAR = 0.15


def _paint_margins(rows: Sequence[GradeRow]) -> Callable[[Axes], None]:
    finite = [row.margin for row in rows if math.isfinite(row.margin)]
    limit = max(1.2, min(max(finite, default=1.0), 4.0) * 1.25)

    def paint(axes: Axes) -> None:
        for place, row in enumerate(rows):
            width = min(row.margin, limit) if not math.isnan(row.margin) else limit
            (bar,) = axes.barh(place, width, height=0.72, color=SERIES[row.subject.slot])
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
