"""Maps of the largest error / bound by the remainder of the length: tails of tiles show as lines."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from softcert.reports.extras import require
from softcert.reports.plots import INK, SHADES, TITLE_PLACE, Drawing, Points, draw, series_id, verdicts_of
from softcert.reports.summary import formats
from softcert.reports.wording import number, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from matplotlib.axes import Axes

    from softcert.reports.summary import Subject

#: Largest error / bound of each shade but the last, which is beyond the bound.
LIMITS = (0.0625, 0.125, 0.25, 0.5, 1.0)
#: Maps beside each other, and inches of the side of one.
_ACROSS, _INCHES = 5, 1.15
#: Side of a map, the room that it has with its name and its distance from the next, and what is left above
#: the first line of maps, all in the units of the drawing.
_SIDE, _ROOM, _HEAD = 1.0, (1.14, 1.3), 0.28
#: Remainders of one axis are laid out in lines of so many.
_LINE = 8


class _Map(NamedTuple):
    """Largest error / bound of one subject by (column, row), and what the map is of."""

    axes: tuple[str, ...]
    columns: int
    rows: int
    cells: Mapping[tuple[int, int], float]


def residue_plots(members: Sequence[Subject]) -> tuple[Drawing, ...]:
    """A map for each backend, for each op x dtype of which verdicts hold remainders."""
    drawings = []
    for place, (op, dtype) in enumerate(formats(members)):
        maps = [(s, _map(s, op, dtype)) for s in members]
        shown = [(s, found) for s, found in maps if found is not None]
        if shown:
            title = f"{op}, {dtype}: error / bound by remainder of the length"
            marks: dict[str, Points] = {
                series_id(s, "cells"): [
                    (column + found.columns * row, margin, math.nan)
                    for (column, row), margin in found.cells.items()
                ]
                for s, found in shown
            }
            prefix = f"residues-{place}"
            svg = draw(_paint(shown), title, _description(shown), prefix, _size(len(shown)), points=marks)
            drawings.append(Drawing(op, dtype, "residues", svg, (_words(shown[0][1]), "of the bound", "")))
    return tuple(drawings)


def _words(found: _Map) -> str:
    """What the page has to know of the numbers of a map: axes, columns and rows."""
    return f"{','.join(found.axes)}/{found.columns}/{found.rows}"


def _map(subject: Subject, op: str, dtype: str) -> _Map | None:
    cells: dict[tuple[int, int], float] = {}
    shape: tuple[tuple[str, ...], int, int] | None = None
    for verdict in verdicts_of(subject, op, dtype):
        found = verdict.statistics.get("residues")
        if not found:
            continue
        axes, moduli = tuple(found["axes"]), [int(m) for m in found["moduli"]]
        alone = len(axes) == 1
        shape = (axes, _LINE, -(-moduli[0] // _LINE)) if alone else (axes, moduli[1], moduli[0])
        for cell in found["cells"]:
            *place, margin, _ = cell
            at = (place[0] % _LINE, place[0] // _LINE) if alone else (place[1], place[0])
            cells[at] = max(cells.get(at, 0.0), math.inf if math.isnan(margin) else float(margin))
    return _Map(*shape, cells) if shape and cells else None


def _description(maps: Sequence[tuple[Subject, _Map]]) -> str:
    parts = []
    for subject, found in maps:
        (column, row), margin = max(found.cells.items(), key=lambda cell: cell[1])
        parts.append(
            f"{subject.label}: at most {number(margin, 3)}, at {_place(found, column, row)}, "
            f"of {len(found.cells)} remainders tried."
        )
    return "Largest error / bound by the remainder of the length. " + " ".join(parts)


def _place(found: _Map, column: int, row: int) -> str:
    if len(found.axes) == 1:
        return f"{found.axes[0]} mod {found.columns * found.rows} = {column + _LINE * row}"
    return f"{found.axes[0]} mod {found.rows} = {row}, {found.axes[1]} mod {found.columns} = {column}"


def _shade(margin: float) -> int:
    return next((shade for shade, limit in enumerate(LIMITS) if margin <= limit), len(LIMITS))


def _extent(maps: int) -> tuple[float, float]:
    """Width and height of the drawing within its axes; however few the maps, all lines are of one width."""
    rows = -(-maps // _ACROSS)
    return _ROOM[0] * (_ACROSS - 1) + _SIDE + 0.08, _ROOM[1] * (rows - 1) + _SIDE + _HEAD + 0.04


def _size(maps: int) -> tuple[float, float]:
    """Inches of the drawing with the margins that `draw` leaves, one unit as long as the other."""
    width, height = _extent(maps)
    return 0.7 + _INCHES * width, 0.76 + _INCHES * height


def _paint(maps: Sequence[tuple[Subject, _Map]]) -> Callable[[Axes], None]:
    def paint(axes: Axes) -> None:
        width, height = _extent(len(maps))
        for k, (subject, found) in enumerate(maps):
            corner = (k % _ACROSS * _ROOM[0], k // _ACROSS * _ROOM[1])
            _paint_map(axes, subject, found, corner)
        axes.set_xlim(-0.04, width - 0.04)
        axes.set_ylim(height - _HEAD, -_HEAD)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        across, down = _labels(maps[0][1])
        axes.set_xlabel(across, loc="left")
        axes.set_ylabel(down, loc="top")
        # A part of the height, so that it is as far above many lines as above one.
        above = (TITLE_PLACE - 1.0) * _extent(1)[1] / height
        axes.set_title("largest error / bound by remainder of the length", y=1.0 + above)

    return paint


def _labels(found: _Map) -> tuple[str, str]:
    if len(found.axes) == 1:
        name = found.axes[0]
        return f"{name} mod {_LINE}: 0 to {_LINE - 1}", f"{name} mod {_LINE * found.rows}"
    return f"{found.axes[1]} mod {found.columns}", f"{found.axes[0]} mod {found.rows}"


def _paint_map(axes: Axes, subject: Subject, found: _Map, corner: tuple[float, float]) -> None:
    path_type = require("matplotlib.path").Path
    patches = require("matplotlib.patches")
    width, height = _SIDE / found.columns, _SIDE / found.rows
    by_shade: dict[int, list[tuple[int, int]]] = {}
    for place, margin in found.cells.items():
        by_shade.setdefault(_shade(margin), []).append(place)
    # One path a shade: a map of a thousand cells is six elements of the page.
    for shade, places in sorted(by_shade.items()):
        squares, codes = [], []
        for column, row, length in _runs(places):
            left, top = corner[0] + column * width, corner[1] + row * height
            right, bottom = left + length * width, top + height
            squares += [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            codes += [path_type.MOVETO, *[path_type.LINETO] * 3, path_type.CLOSEPOLY]
        beyond = shade == len(LIMITS)
        patch = patches.PathPatch(
            path_type(squares, codes),
            facecolor=SHADES[shade],
            edgecolor=INK if beyond else "none",
            linewidth=0.8 if beyond else 0.0,
            gid=series_id(subject, f"shade-{shade}"),
        )
        # Not as a patch, whose extent would be sought corner by corner: the limits are known.
        axes.add_artist(patch)
    frame = patches.Rectangle(
        corner, _SIDE, _SIDE, fill=False, edgecolor=INK, linewidth=0.5, gid=series_id(subject, "cells")
    )
    axes.add_artist(frame)
    name = subject.label if len(subject.label) <= _NAME else f"{subject.label[: _NAME - 1]}…"
    text = f"{subject.mark} {printable(name)}"
    axes.text(corner[0], corner[1] - 0.05, text, fontsize=7.5, va="bottom", gid=series_id(subject, "name"))


def _runs(places: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(column, row, length) of the cells that lie beside each other in a row."""
    found: list[tuple[int, int, int]] = []
    for column, row in sorted(places, key=lambda place: place[::-1]):
        if found and found[-1][1] == row and sum(found[-1][::2]) == column:
            found[-1] = (found[-1][0], row, found[-1][2] + 1)
        else:
            found.append((column, row, 1))
    return found


#: So many characters of a name have room above a map.
_NAME = 18
