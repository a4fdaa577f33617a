"""Plots of speed: time and memory by length, the roofline, accuracy against speed."""

from __future__ import annotations

import math
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from softcert.backends.ops import ATTENTION_OPS
from softcert.reports.extras import require
from softcert.reports.plots import INK, SERIES, TITLE_PLACE, draw, marker, plain_ticks, unit_of
from softcert.reports.speed import growths, ladders
from softcert.reports.speed_table import valid_rows
from softcert.reports.summary import grade_rows
from softcert.reports.wording import described_growth, number, printable, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from softcert.reports.summary import GradeRow, Subject

_SIZE = (4.2, 3.0)
_LENGTHS = {"n": "row length n", "L": "queries L and keys S", "S": "keys S"}
#: Errors below this are drawn on it: an exact result has no place on a logarithmic axis.
_FLOOR = 1e-3


class Line(NamedTuple):
    """What one subject reaches by length.

    Attributes
    ----------
    ends : of the interval of each figure, where it is known.
    """

    subject: Subject
    lengths: tuple[int, ...]
    figures: tuple[float, ...]
    ends: tuple[tuple[float, float], ...]


class Mark(NamedTuple):
    """A subject or one of its figures as a point.

    Attributes
    ----------
    where : what the point is, in words.
    """

    subject: Subject
    x: float
    y: float
    where: str = ""


# --- by length -------------------------------------------------------------------------------------


def time_plots(members: Sequence[Subject]) -> tuple[str, ...]:
    """Time by length, a drawing for each op, dtype and ladder of lengths; exponents in its description."""
    sentences: dict[tuple[str, str, str, str], list[str]] = {}
    for subject in members:
        for growth in growths(valid_rows(subject)):
            key = (growth.op, growth.dtype, growth.what, growth.fixed)
            sentences.setdefault(key, []).append(f"{subject.label}: {described_growth(growth)}.")
    return _drawn(_lines(members, "seconds", 1e6), "time", "time / µs", sentences)


def memory_plots(members: Sequence[Subject]) -> tuple[str, ...]:
    """Memory beyond the operands by length, likewise, of attention alone."""
    found = {key: lines for key, lines in _lines(members, "peak_bytes", 2.0**-20).items() if _scores(key[0])}
    return _drawn(found, "memory", "memory / MiB", {})


def _scores(op: str) -> bool:
    return op in ATTENTION_OPS


def _lines(
    members: Sequence[Subject], key: str, factor: float
) -> dict[tuple[str, str, str, str], list[Line]]:
    """Lines of the subjects under (op, dtype, what grows, what stays)."""
    found: dict[tuple[str, str, str, str], list[Line]] = {}
    for subject in members:
        for place, steps in ladders(valid_rows(subject)).items():
            known = [(n, row) for n, row in steps if float(row.get(key) or 0) > 0]
            if len(known) > 1:
                figures = tuple(float(row[key]) * factor for _, row in known)
                ends = tuple(_ends(row, factor) for _, row in known) if key == "seconds" else ()
                found.setdefault(place, []).append(Line(subject, tuple(n for n, _ in known), figures, ends))
    return found


def _ends(row: Mapping[str, Any], factor: float) -> tuple[float, float]:
    low, high = row.get("interval") or row.get("spread") or (row["seconds"], row["seconds"])
    return low * factor, high * factor


def _drawn(
    found: Mapping[tuple[str, str, str, str], Sequence[Line]],
    prefix: str,
    label: str,
    sentences: Mapping[tuple[str, str, str, str], Sequence[str]],
) -> tuple[str, ...]:
    drawings = []
    for place, (key, lines) in enumerate(found.items()):
        op, dtype, what, fixed = key
        title = f"{op}, {dtype}: {fixed}"
        told = sentences.get(key) or [
            f"{line.subject.label}: {number(line.figures[0], 3)} at {line.lengths[0]}, "
            f"{number(line.figures[-1], 3)} at {line.lengths[-1]}."
            for line in lines
        ]
        description = f"{label.partition(' /')[0].capitalize()} by length, both logarithmic. {' '.join(told)}"
        paint = _paint_lines(lines, title, _LENGTHS[what], label)
        drawings.append(draw(paint, title, description, f"{prefix}-{place}", _SIZE))
    return tuple(drawings)


def _paint_lines(lines: Sequence[Line], title: str, xlabel: str, ylabel: str) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        for line in lines:
            colour = SERIES[line.subject.slot]
            axes.plot(line.lengths, line.figures, marker=marker(line.subject), color=colour)
            places = [place for n, _ in zip(line.lengths, line.ends, strict=False) for place in (n, n, n)]
            # One line with gaps: a line for each interval would be most of the drawing.
            axes.plot(places, [y for ends in line.ends for y in (*ends, math.nan)], color=colour, linewidth=1)
        axes.set_xscale("log", base=2)
        _logarithmic(axes)
        axes.set_xticks(sorted({float(n) for line in lines for n in line.lengths}))
        plain_ticks(axes.xaxis)
        axes.set_title(printable(title), y=TITLE_PLACE, fontsize=8)
        axes.set(xlabel=xlabel, ylabel=ylabel)

    return paint


def _logarithmic(axes: Axes) -> None:
    """Make the axis upright logarithmic, with at least a whole decade on it."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    if high < 12 * low:
        middle = math.sqrt(low * high)
        axes.set_ylim(middle / 4, middle * 4)
    low, high = axes.get_ylim()
    between = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.yaxis.set_major_locator(require("matplotlib.ticker").LogLocator(subs=between, numticks=8))
    plain_ticks(axes.yaxis)


# --- roofline --------------------------------------------------------------------------------------


class Ceilings(NamedTuple):
    """Limits of a machine: bytes a second of memory and of its caches, operations a second or None."""

    memory: float
    cache: float
    matrix: float | None


def roofline_plots(members: Sequence[Subject]) -> tuple[str, ...]:
    """Achieved operations against those a byte, under what the machine allows: a drawing for each dtype."""
    rows = [
        (subject, row)
        for subject in members
        for row in valid_rows(subject)
        if row.get("operations") and row.get("memory_bytes_per_second") and row.get("clock") == "wall"
    ]
    drawings = []
    for place, dtype in enumerate(dict.fromkeys(row["dtype"] for _, row in rows)):
        those = [(subject, row) for subject, row in rows if row["dtype"] == dtype]
        marks = [_on_roofline(subject, row) for subject, row in those]
        ceilings = _ceilings(row for _, row in those)
        best = max(marks, key=lambda mark: mark.y)
        memory, cache, matrix = (number(rate / 1e9, 3) if rate else "" for rate in ceilings)
        description = (
            f"Operations a second against operations a byte, both logarithmic. Copies reach {memory} GB/s in "
            f"memory and {cache} in a cache{f', products of matrices {matrix} GFLOP/s' if matrix else ''}. "
            f"The most is {number(best.y, 3)} GFLOP/s: {best.subject.label}, {best.where}."
        )
        title = f"roofline, {dtype}"
        paint = _paint_roofline(marks, ceilings, title)
        drawings.append(draw(paint, title, description, f"roofline-{place}", (5.2, 3.4)))
    return tuple(drawings)


def _on_roofline(subject: Subject, row: Mapping[str, Any]) -> Mark:
    where = f"{row['op']} {' × '.join(map(str, row['shape']))}"
    return Mark(subject, row["operations"] / row["bytes"], row["operations"] / row["seconds"] / 1e9, where)


def _ceilings(rows: Iterable[Mapping[str, Any]]) -> Ceilings:
    """The fastest that was measured beside any of the rows."""
    known = list(rows)
    products = [row["matrix_flops_per_second"] for row in known if row.get("matrix_flops_per_second")]
    return Ceilings(
        max(row["memory_bytes_per_second"] for row in known),
        max(row["copy_bytes_per_second"] for row in known),
        max(products, default=None),
    )


def _paint_roofline(marks: Sequence[Mark], ceilings: Ceilings, title: str) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        left, right = min(mark.x for mark in marks) / 2, max(mark.x for mark in marks) * 3
        for rate, name, dashes in ((ceilings.memory, "memory", "--"), (ceilings.cache, "cache", ":")):
            knee = (ceilings.matrix or math.inf) / rate
            bends = [left, knee, right] if left < knee < right else [left, right]
            heights = [min(x * rate, ceilings.matrix or math.inf) / 1e9 for x in bends]
            axes.plot(bends, heights, color=INK, linewidth=1, linestyle=dashes, label=f"copy, {name}")
        if ceilings.matrix:
            axes.axhline(ceilings.matrix / 1e9, color=INK, linewidth=1, label="product of matrices")
        for subject, own in groupby(marks, key=lambda mark: mark.subject):
            across, up = zip(*((mark.x, mark.y) for mark in own), strict=True)
            axes.plot(across, up, linestyle="none", marker=marker(subject), color=SERIES[subject.slot])
        axes.set_xlim(left, right)
        axes.set_xscale("log")
        _logarithmic(axes)
        plain_ticks(axes.xaxis)
        axes.legend(fontsize=7, loc="lower right", frameon=False)
        axes.set_title(title, y=TITLE_PLACE)
        axes.set(xlabel="operations a byte", ylabel="GFLOP/s")

    return paint


# --- accuracy against speed ------------------------------------------------------------------------


def frontier(marks: Sequence[Mark]) -> list[Mark]:
    """The marks that no other one beats in speed (x, more is better) and error (y, less is better)."""
    kept: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (-mark.x, mark.y)):
        if not kept or mark.y < kept[-1].y:
            kept.append(mark)
    return kept[::-1]


def accuracy_plots(members: Sequence[Subject]) -> tuple[str, ...]:
    """Largest certified error against speed, a mark a subject: a drawing for each op and dtype."""
    places: dict[tuple[str, str], dict[tuple[int, ...], list[tuple[Subject, Mapping[str, Any]]]]] = {}
    for subject in members:
        for row in valid_rows(subject):
            shapes = places.setdefault((row["op"], row["dtype"]), {})
            shapes.setdefault(tuple(row["shape"]), []).append((subject, row))
    graded = {(row.subject.index, row.op, row.dtype): row for row in grade_rows(members) if row.elements}
    drawings = []
    for place, ((op, dtype), shapes) in enumerate(places.items()):
        # At the largest of the shapes that most subjects were timed on.
        shape = max(shapes, key=lambda s: (len(shapes[s]), math.prod(s)))
        found = [
            _beside_error(subject, row, graded.get((subject.index, op, dtype)))
            for subject, row in shapes[shape]
        ]
        marks = [mark for mark in found if mark]
        if len(marks) > 1:
            drawings.append(_accuracy_drawing(op, dtype, shape, marks, place))
    return tuple(drawings)


def _beside_error(subject: Subject, row: Mapping[str, Any], graded: GradeRow | None) -> Mark | None:
    """Calls a second, and the largest error known: that of the verdicts, or of the answer that was timed."""
    of_bound = unit_of(row["op"]) == "bound"
    errors = [graded.margin if of_bound else graded.error_max[1]] if graded else []
    timed = row.get("margin" if of_bound else "error_ulp")
    errors += [float(timed)] if timed is not None else []
    if not errors or not all(map(math.isfinite, errors)):
        return None
    return Mark(subject, 1.0 / row["seconds"], max(*errors, _FLOOR), seconds(row["seconds"]))


def _accuracy_drawing(op: str, dtype: str, shape: Sequence[int], marks: Sequence[Mark], place: int) -> str:
    unit = unit_of(op)
    title = f"{op}, {dtype}, {' × '.join(map(str, shape))}"
    best = frontier(marks)
    description = (
        f"Largest error in units of one {unit} against calls a second, both logarithmic. Not beaten in both: "
        + ", ".join(mark.subject.label for mark in best)
        + ". "
        + " ".join(f"{mark.subject.label}: {number(mark.y, 3)} {unit}, {mark.where}." for mark in marks)
    )
    paint = _paint_accuracy(marks, best, title, unit)
    return draw(paint, title, description, f"frontier-{place}", (4.6, 3.2))


#: So many marks have their names beside them.
_NAMED = 8


def _paint_accuracy(
    marks: Sequence[Mark], best: Sequence[Mark], title: str, unit: str
) -> Callable[[Axes], None]:
    # Names of a crowd lie on each other; the legend has those of the others.
    named = marks if len(marks) <= _NAMED else best

    def paint(axes: Axes) -> None:
        axes.set_xscale("log")
        axes.plot([m.x for m in best], [m.y for m in best], color=INK, linewidth=1, linestyle="--")
        for mark in marks:
            series = mark.subject
            axes.plot(mark.x, mark.y, linestyle="none", marker=marker(series), color=SERIES[series.slot])
            if mark in named:
                place = (mark.x, mark.y)
                axes.annotate(series.label, place, xytext=(4, 3), textcoords="offset points", fontsize=6.5)
        low, high = min(m.x for m in marks), max(m.x for m in marks)
        # Room at the right for the last name.
        axes.set_xlim(low / 1.5, high * (high / low) ** 0.35 * 1.5)
        _logarithmic(axes)
        between = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
        axes.xaxis.set_major_locator(require("matplotlib.ticker").LogLocator(subs=between, numticks=8))
        plain_ticks(axes.xaxis)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(printable(title), y=TITLE_PLACE)
        axes.set(xlabel="calls a second", ylabel=f"error / {unit}")

    return paint
