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
from softcert.conformance.spec import ORDERED_OPS
from softcert.reports.extras import require
from softcert.reports.summary import MARKS, Subject
from softcert.reports.wording import number, printable

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
        numbers = json.dumps([[_brief(x) for x in m] for m in marks or ()], separators=(",", ":"))
        data = "" if marks is None else f' data-points="{numbers}"'
        return f'{found[0]} data-subject="{found["subject"]}"{data}'

    return re.sub(rf'id="{prefix}-(?P<id>series-(?P<subject>\d+)-[\w-]+)"', named, svg)


def _brief(value: float) -> float | None:
    """A number in four digits; None for one that is not finite."""
    if not math.isfinite(value):
        return None
    brief = float(f"{value:.4g}")
    return int(brief) if brief.is_integer() else brief


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
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg)
    svg = re.sub(_RECTANGLE, r"M \1 \2H \3V \4H \1z", svg)
    svg = re.sub(r'\b(width|height)="[0-9.]+pt" ?', "", svg, count=2)
    names = f'<title id="{prefix}-title">{escape(title)}</title>'
    names += f'<desc id="{prefix}-desc">{escape(description)}</desc>'
    label = f'<svg role="img" aria-labelledby="{prefix}-title" aria-describedby="{prefix}-desc"'
    head, _, rest = svg.partition(">")
    whole = re.sub(r"\s*\n\s*", "\n", f"{label}{head[4:]}>{names}{rest}").strip()
    return re.sub(r"<g([^>]*)>\n((?:<(?:use|path) [^>]*/>\n)+)</g>", _with_one_style, whole)


#: The corners of a rectangle, as matplotlib writes them.
_RECTANGLE = re.compile(r"M (\S+) (\S+)\s+L (\S+) \2\s+L \3 (\S+)\s+L \1 \4\s+z")


def _with_one_style(found: re.Match[str]) -> str:
    """Marks that look alike say so once: they are most of a page on many backends."""
    attributes, marks = found.groups()
    for name in ("style", "clip-path"):
        values = re.findall(rf' {name}="[^"]*"', marks)
        if len(values) == marks.count("/>") and len(set(values)) == 1 and f" {name}=" not in attributes:
            attributes += values[0]
            marks = marks.replace(values[0], "")
    return f"<g{attributes}>\n{marks}</g>"


#: Ops whose errors are shown as shares of their bounds.
_OF_BOUND = frozenset({*ATTENTION_OPS, *ORDERED_OPS})


def unit_of(op: str) -> str:
    """What errors are counted in: ulps of what cancels, or of a share next to 0, tell of the inputs alone."""
    return "bound" if op in _OF_BOUND else "ulp"


def marks_of(curves: Sequence[tuple[Subject, Points]]) -> dict[str, Points]:
    """The numbers of the marks of curves, by what holds them; `mark_endless` draws what is not finite."""
    finite = {series_id(s, "line"): [p for p in points if math.isfinite(p[1])] for s, points in curves}
    rest = {series_id(s, "endless"): [p for p in points if not math.isfinite(p[1])] for s, points in curves}
    return finite | rest


def words_of(unit: str) -> str:
    """The unit as it follows a number."""
    return "of the bound" if unit == "bound" else unit


def verdicts_of(subject: Subject, op: str, dtype: str) -> list[Verdict]:
    """The verdicts on one op x dtype."""
    return [v for v in subject.run.verdicts if (v.op, v.dtype) == (op, dtype)]


def marker(subject: Subject) -> str:
    """Its mark, by matplotlib's name."""
    return MARKERS[MARKS.index(subject.mark)]


def positive(value: float, floor: float) -> float:
    """Keep a value on a logarithmic axis; what is not finite leaves a gap."""
    return max(value, floor) if math.isfinite(value) else math.nan


#: Place of titles above the axes: a fixed one spares the search for room.
TITLE_PLACE = 1.02
#: Errors below this are drawn on it: an exact result has no place on a logarithmic axis.
FLOOR = 1e-3


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
