"""What a verdict rests on: counts, worst errors and the figures that plots are drawn from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softcert.conformance.judging.shapes import summed_length
from softcert.conformance.model import Judgement, Status, Trial

#: Edges of the error histogram, in ulps; the last bin is open.
EDGES = (0.0, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 16.0, 32.0, 64.0, 128.0, 1e3, 1e4, 1e6)


@dataclass
class Tally:
    """Running figures of one examination."""

    cases: int = 0
    elements: int = 0
    error_max: tuple[float, float] = (0.0, 0.0)
    bound_ulp: float = 0.0
    margin: float = 0.0
    vacuous_cases: int = 0
    judged_cases: int = 0
    _weighted: float = 0.0
    _by_length: dict[int, tuple[float, float, str]] = field(default_factory=dict)
    _margins: dict[int, float] = field(default_factory=dict)
    _histogram: np.ndarray = field(default_factory=lambda: np.zeros(len(EDGES), dtype=np.int64))
    _bias: tuple[float, float, int] | None = None

    def add(self, trial: Trial, judgement: Judgement) -> None:
        """Count one judged trial."""
        self.cases += 1
        self.elements += judgement.elements
        if judgement.elements:
            self.judged_cases += 1
            self.vacuous_cases += judgement.vacuous
        self._weighted += judgement.mean_ulp * judgement.elements
        if judgement.error_ulp[1] > self.error_max[1]:
            self.error_max = judgement.error_ulp
        if judgement.margin > self.margin:
            self.margin, self.bound_ulp = judgement.margin, judgement.bound_ulp
        if judgement.bias is not None:
            self._bias = judgement.bias
            return
        self._count_lengths(trial, judgement)
        self._histogram += np.histogram(judgement.errors, bins=[*EDGES, np.inf])[0]

    def _count_lengths(self, trial: Trial, judgement: Judgement) -> None:
        call = trial.calls[0]
        n = summed_length(call)
        if judgement.elements:
            self._margins[n] = max(self._margins.get(n, 0.0), judgement.margin)
        if judgement.elements and judgement.error_ulp[1] >= self._by_length.get(n, (-1.0, 0.0, ""))[0]:
            self._by_length[n] = (judgement.error_ulp[1], judgement.bound_ulp, trial.family)

    @property
    def mean(self) -> float:
        """Mean absolute error over every element judged, in ulps."""
        return self._weighted / self.elements if self.elements else 0.0

    @property
    def vacuous(self) -> bool:
        """Whether the bound accepted everything in every case that was judged."""
        return self.judged_cases > 0 and self.vacuous_cases == self.judged_cases

    def grade(self, status: Status) -> str:
        """A, B, C or F, from the certified upper end of the largest error."""
        if status in {"fail", "error"}:
            return "F"
        if status != "pass":
            return ""
        return "A" if self.error_max[1] <= 0.5 else "B" if self.error_max[1] < 1.0 else "C"

    def statistics(self) -> dict[str, Any]:
        """Figures for plots, JSON-ready."""
        lengths = [
            {"n": n, "error_ulp": error, "bound_ulp": bound, "margin": self._margins[n], "family": family}
            for n, (error, bound, family) in sorted(self._by_length.items())
        ]
        figures: dict[str, Any] = {
            "by_length": lengths,
            "histogram": {"edges": list(EDGES), "counts": self._histogram.tolist()},
            "vacuous_cases": self.vacuous_cases,
        }
        if self._bias is not None:
            figures["bias"] = dict(zip(("mean_ulp", "z", "count"), self._bias, strict=True))
        return figures
