"""Where errors occur: by spread and magnitude of the logits, by place in the result, by remainder of a block.

Every figure is a maximum or a count over bins that are fixed beforehand, so that it does not depend on the
order of the cases and that its size is bounded whatever is examined.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softcert.backends.ops import ATTENTION_OPS, AXES, REDUCING_OPS
from softcert.backends.types import Call
from softcert.conformance.context import Context
from softcert.conformance.judging.extents import Extent, logit_extent
from softcert.conformance.judging.shapes import summed_length
from softcert.conformance.model import Compared, Judgement, Trial

Float = NDArray[np.float64]
Places = NDArray[np.intp]

#: Octaves from 2^-32 to 2^32; what is smaller, 0 included, shares the first bin, what is larger the last.
_OCTAVES = np.concatenate([[0.0], np.exp2(np.arange(-32.0, 33.0))])
#: Places in a result, each its own up to 16, then by quarters of octaves up to 2^24.
_PLACES = np.array([*range(16), *(4 * 2**e + quarter * 2**e for e in range(2, 23) for quarter in range(4))])
_FIRST_EDGES = {"spread": _OCTAVES, "magnitude": _OCTAVES}
#: The figure for each axis of a result of attention, by its name in `AXES`.
_BY_AXIS = {"L": "query", "S": "key", "D": "feature", "E": "feature"}
#: Limits in ulps within which errors are counted: quarters of octaves, half an ulp and one among them.
WITHIN = tuple(2.0 ** (k / 4) for k in range(-24, 49))
#: Remainders are those of the length of a row by 64, of the numbers of queries and keys by 32.
_MODULI = {"n": 64, "L": 32, "S": 32}


class _Worst(NamedTuple):
    """Largest error in ulps and error / bound, and the number of results, by place or bin."""

    error: Float
    margin: Float
    elements: NDArray[np.int64]


@dataclass
class Breakdown:
    """Running figures of one examination."""

    _bins: dict[str, _Worst] = field(default_factory=dict)
    _residues: dict[tuple[int, ...], tuple[float, int]] = field(default_factory=dict)
    _axes: tuple[str, ...] = ()
    _within: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(WITHIN) + 1, dtype=np.int64))

    def add(self, trial: Trial, judgement: Judgement, context: Context) -> None:
        """Count every result of a trial that was compared with an exact value."""
        extents: dict[int, Extent] = {}
        for compared in judgement.compared:
            if not compared.ordinary.any():
                continue
            call = trial.calls[compared.call]
            if compared.call not in extents:
                extents[compared.call] = logit_extent(call, context.contract)
            self._add_extents(call, compared, extents[compared.call])
            self._add_places(call, compared)
            self._add_residues(call, compared)
            # An error just as large as a limit is within it.
            places = np.searchsorted(WITHIN, compared.upper[compared.ordinary])
            self._within += np.bincount(places, minlength=len(WITHIN) + 1)

    def _add_extents(self, call: Call, compared: Compared, extent: Extent) -> None:
        worst = _by_row(call, compared)
        one_result_a_row = worst.error.size == extent.spread.size
        for kind, numbers in extent._asdict().items():
            # A gradient of a key stems from every query: the widest of them stands for all.
            rows = numbers.ravel() if one_result_a_row else np.full(worst.error.size, numbers.max())
            self._put(kind, rows, worst)

    def _add_places(self, call: Call, compared: Compared) -> None:
        if call.op not in ATTENTION_OPS:
            return
        axes = AXES[call.result_names[compared.result]][1:]
        for axis, name in enumerate(axes, start=compared.upper.ndim - len(axes)):
            others = tuple(k for k in range(compared.upper.ndim) if k != axis)
            worst = _reduced(compared, others)
            self._put(_BY_AXIS[name], np.arange(worst.error.size), worst)

    def _put(self, kind: str, numbers: NDArray[Any], worst: _Worst) -> None:
        """Sort what occurs at each of `numbers` into the bins of that kind."""
        edges = _FIRST_EDGES.get(kind, _PLACES)
        if kind not in self._bins:
            self._bins[kind] = _Worst(*(np.zeros(edges.size, dtype=d) for d in (float, float, np.int64)))
        some = np.flatnonzero(worst.elements)
        bins = np.searchsorted(edges, numbers[some], side="right") - 1
        total = self._bins[kind]
        np.maximum.at(total.error, bins, worst.error[some])
        np.maximum.at(total.margin, bins, worst.margin[some])
        np.add.at(total.elements, bins, worst.elements[some])

    def _add_residues(self, call: Call, compared: Compared) -> None:
        if call.op == "attention_merge":
            return
        lengths = {"n": summed_length(call)}
        if call.op in ATTENTION_OPS:
            lengths = {"L": call.operands[0].shape[-2], "S": summed_length(call)}
        self._axes = tuple(lengths)
        place = tuple(length % _MODULI[axis] for axis, length in lengths.items())
        margin, count = self._residues.get(place, (0.0, 0))
        worst = float(compared.margin[compared.ordinary].max())
        self._residues[place] = max(margin, worst), count + int(compared.ordinary.sum())

    def statistics(self) -> dict[str, Any]:
        """Figures for plots, JSON-ready; without those of which nothing was seen."""
        figures: dict[str, Any] = {f"by_{kind}": _listed(kind, worst) for kind, worst in self._bins.items()}
        if self._within.any():
            figures["within"] = {
                "ulps": list(WITHIN),
                "counts": np.cumsum(self._within[:-1]).tolist(),
                "of": int(self._within.sum()),
            }
        if self._residues:
            figures["residues"] = {
                "axes": list(self._axes),
                "moduli": [_MODULI[axis] for axis in self._axes],
                "cells": [[*place, *worst] for place, worst in sorted(self._residues.items())],
            }
        return figures


def _listed(kind: str, worst: _Worst) -> list[dict[str, Any]]:
    edges = _FIRST_EDGES.get(kind, _PLACES)
    return [
        {
            "from": edges[k].item(),
            "error_ulp": float(worst.error[k]),
            "margin": float(worst.margin[k]),
            "elements": int(worst.elements[k]),
        }
        for k in np.flatnonzero(worst.elements)
    ]


def _reduced(compared: Compared, axes: tuple[int, ...]) -> _Worst:
    ordinary = compared.ordinary
    error, margin = (np.where(ordinary, e, 0.0).max(axis=axes) for e in (compared.upper, compared.margin))
    counts = ordinary.sum(axis=axes)
    return _Worst(*(np.atleast_1d(e).ravel() for e in (error, margin, counts)))


def _by_row(call: Call, compared: Compared) -> _Worst:
    """The worst of each row or query; of the gradients of keys and values, the worst of all."""
    dimensions = compared.upper.ndim
    if call.op not in ATTENTION_OPS:
        return _reduced(compared, () if call.op in REDUCING_OPS else (int(call.params["axis"]) % dimensions,))
    axes = AXES[call.result_names[compared.result]]
    if "L" not in axes:
        return _reduced(compared, tuple(range(dimensions)))
    return _reduced(compared, () if axes.endswith("L") else (dimensions - 1,))
