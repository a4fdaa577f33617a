"""The plots of a report, sorted by op and dtype, of which the page shows one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from softcert.reports.accuracy_plots import curve_plots, within_plots
from softcert.reports.error_plots import histogram_plots, length_plots, margin_plots
from softcert.reports.plots import Drawing
from softcert.reports.residue_plots import residue_plots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from softcert.reports.summary import GradeRow, Subject

#: What each kind of plot shows, in the order in which a panel has them.
KINDS: Mapping[str, str] = {
    "margin": "Largest error divided by its bound; what passes the dashed line is outside the contract.",
    "length": "Largest certified error seen at each length of the sum (of many lengths: in each doubling). "
    "The dashed line of the same colour is the bound that the contract allows there, in the colour of the "
    "text where it is the same for all.",
    "spread": "Largest certified error by the largest less the smallest finite logit of a row, in octaves; "
    "of attention by that of the scores of a query, of gradients by that of the cotangent.",
    "magnitude": "The same by the largest absolute logit or score.",
    "histogram": "Number of results by the size of their error, on a logarithmic scale.",
    "within": "Share of all results that are certainly within so many ulps of the exact value.",
    "query": "Of attention, largest error by the place of the query, each its own up to 16.",
    "key": "Of attention's gradients of keys and values, largest error by the place of the key.",
    "feature": "Of attention, largest error by the place of the feature.",
    "residues": "Largest error / bound by the remainder of the length: of rows n mod 64 in lines of 8, from "
    "the upper left on; of attention the numbers of queries (down) and keys (across) mod 32. A tail that is "
    "computed otherwise than whole tiles shows as columns or rows that stand out. Remainders without a "
    "shade were not tried.",
}


@dataclass(frozen=True)
class Panel:
    """The plots of one op x dtype.

    Attributes
    ----------
    rests : what the figures of each subject rest on, by its index: anchors within the page.
    """

    op: str
    dtype: str
    drawings: tuple[Drawing, ...]
    rests: Mapping[int, str]


def panels(
    members: Sequence[Subject], grades: Sequence[GradeRow], anchors: Sequence[str]
) -> tuple[Panel, ...]:
    """Return the panels of which something can be drawn, op by op.

    Parameters
    ----------
    anchors : what each of the grades rests on.
    """
    makers = (length_plots, curve_plots, histogram_plots, within_plots, residue_plots)
    drawn = list(chain(margin_plots(grades), *(maker(members) for maker in makers)))
    order = list(KINDS)
    places = list(dict.fromkeys((d.op, d.dtype) for d in drawn))
    ops = list(dict.fromkeys(op for op, _ in places))
    found = []
    for op, dtype in sorted(places, key=lambda place: ops.index(place[0])):
        own = sorted((d for d in drawn if (d.op, d.dtype) == (op, dtype)), key=lambda d: order.index(d.kind))
        rests = {
            row.subject.index: anchor
            for row, anchor in zip(grades, anchors, strict=True)
            if (row.op, row.dtype) == (op, dtype)
        }
        found.append(Panel(op, dtype, tuple(own), rests))
    return tuple(found)
