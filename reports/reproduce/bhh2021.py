"""Printed error bounds of Blanchard, Higham & Higham beside the errors that correct arithmetic really makes.

doi:10.1093/imanum/draa038, see `bhh_theorems.py`. Errors are certified: `softcert.reference` gives each as
an interval, and a bound is called violated only where the lower end exceeds it by more than the O(u^2) that
the theorems leave open, which is taken as c u / (1 - c u) for c u (N. J. Higham, Accuracy and Stability of
Numerical Algorithms, 2nd ed., SIAM 2002, lemma 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from softcert import reference
from softcert.conformance.inputs.families import make_row, to_dtype
from softcert.reference import Enclosure, format_of
from softcert.reports.reproduce.bhh_algorithms import Computed, Narrow, run_algorithms
from softcert.reports.reproduce.bhh_theorems import ABSOLUTE, THEOREMS, Facts, Float, Quantity, Theorem
from softcert.reports.reproduce.progress import Progress, silent

SOURCE = "Blanchard, Higham & Higham, IMA J. Numer. Anal. 41(4), 2021, doi:10.1093/imanum/draa038"
DTYPES: tuple[str, ...] = ("float16", "float32")
LENGTHS: tuple[int, ...] = (2, 3, 5, 9, 33, 128, 512)
SPREADS: tuple[float, ...] = (0.25, 1.0, 3.0)
SEEDS = 4
FAMILIES: tuple[str, ...] = (
    "normal",
    "equal",
    "ties",
    "near-ties",
    "one-hot",
    "peak-last",
    "increasing",
    "decreasing",
    "offset-up",
    "offset-down",
)
#: Offset of the pairs, at which theorems 4.2 and 4.4 promise what no number of the format can keep.
OFFSET = 1000.0
PAIRS = 200
#: How the inputs are chosen, for readers.
INPUTS = (
    f"rows of {', '.join(map(str, LENGTHS))} logits of the families {', '.join(FAMILIES)}, with spreads "
    f"{', '.join(f'{spread:g}' for spread in SPREADS)} and seeds 0 to {SEEDS - 1}; the same moved to y "
    f"near 0; and the pairs ({OFFSET:g}, {OFFSET:g} + k/64), 0 <= k < {PAIRS}, rounded to the format"
)

#: Logits are multiples of it, so that x - x_max of those below 2^12 is exact in binary64.
_GRID = 2.0**-40
#: Far above the error of evaluating bounds and ratios in binary64: their terms are below 2^13, and where
#: terms may cancel the sum is no less than 1.
_SLACK = 2.0**-30

Bounds = tuple[Float, Float]


@dataclass(frozen=True)
class Batch:
    """Rows of one length and format, what was computed of them, and certified errors of that.

    Attributes
    ----------
    errors : (lower, upper), each (rows,): absolute for quantities in `ABSOLUTE`, relative for others, in the
        maximum norm for softmax.
    """

    x: Narrow
    facts: Facts
    computed: Mapping[Quantity, Computed]
    errors: Mapping[Quantity, Bounds]


@dataclass(frozen=True)
class Observation:
    """The largest error / bound that was found in one format.

    Attributes
    ----------
    ratio : certified lower and upper end; the bound is the first-order one.
    violated : whether some error exceeds the bound and what O(u^2) may add to it, certainly.
    rows : how many rows of logits that rests on.
    x, computed : the row with the largest ratio, and what was computed of it.
    """

    ratio: tuple[float, float]
    violated: bool
    rows: int
    x: Narrow
    computed: Narrow


@dataclass(frozen=True)
class Finding:
    """What was observed of one theorem, by dtype; `repaired` only where it has a repair."""

    theorem: Theorem
    printed: Mapping[str, Observation]
    repaired: Mapping[str, Observation] | None

    @property
    def holds(self) -> bool:
        """Whether nothing that was tried violates the bound as printed."""
        return not any(seen.violated for seen in self.printed.values())

    @property
    def repair_holds(self) -> bool:
        """Whether nothing that was tried exceeds the repaired bound, to first order."""
        return self.repaired is not None and all(seen.ratio[1] <= 1.0 for seen in self.repaired.values())


def measure_bounds(progress: Progress = silent) -> tuple[Finding, ...]:
    """Hold every printed bound, and the repair where there is one, against certified errors."""
    steps = [(dtype, n) for dtype in DTYPES for n in LENGTHS]
    batches: dict[str, list[Batch]] = {dtype: [] for dtype in DTYPES}
    for done, (dtype, n) in enumerate(steps):
        progress(done, len(steps), f"{dtype}, rows of {n}")
        batches[dtype].append(examine(inputs(dtype, n)))
    return tuple(judge(theorem, batches) for theorem in THEOREMS)


def inputs(dtype: str, n: int) -> Narrow:
    """Rows of n logits, (rows, n) of `dtype`, always the same ones; `INPUTS` says which."""
    drawn = [
        make_row(family, n, seed, spread, dtype).astype(np.float64)
        for family in FAMILIES
        for spread in SPREADS
        for seed in range(SEEDS)
    ]
    rows = np.stack(drawn)
    top = rows.max(axis=1, keepdims=True)
    moved = rows - top - np.log(np.exp(rows - top).sum(axis=1, keepdims=True))
    pairs = OFFSET + np.stack([np.zeros(PAIRS), np.arange(PAIRS) / 64.0], axis=1)
    chosen = np.concatenate([rows, moved, pairs] if n == pairs.shape[1] else [rows, moved])
    on_grid = np.rint(to_dtype(chosen, dtype).astype(np.float64) / _GRID) * _GRID
    return np.unique(to_dtype(on_grid, dtype), axis=0)


def examine(x: Narrow) -> Batch:
    """Run every algorithm on rows of logits, multiples of 2^-40 below 2^12, and certify its errors."""
    wide = x.astype(np.float64)
    top = wide.max(axis=1)
    lse, log_sum = reference.logsumexp(x), reference.logsumexp(wide - top[:, None])
    softmax = reference.softmax(x)
    facts = Facts(x.shape[1], lse.round("float64"), log_sum.round("float64"), top, wide.min(axis=1))
    computed = run_algorithms(x)
    # softmax_j / max softmax, by which errors of components become errors in the maximum norm.
    share = np.exp(wide - top[:, None])
    errors: dict[Quantity, Bounds] = {}
    for quantity, found in computed.items():
        exact = softmax if found.value.ndim > 1 else log_sum if quantity == "log1p" else lse
        error = relative_error(exact, found.value)
        if found.value.ndim > 1:
            low, high = _times(error, share)
            error = low.max(axis=1), high.max(axis=1)
        elif quantity in ABSOLUTE:
            error = _times(error, facts.log_sum if quantity == "log1p" else facts.size)
        errors[quantity] = error
    return Batch(x, facts, computed, errors)


def relative_error(exact: Enclosure, computed: Narrow) -> Bounds:
    """Certified (lower, upper) of |computed - exact| / |exact|, of the enclosure's shape."""
    low, high = exact.error_ulp(computed)
    least, most = exact.in_ulps(computed.dtype)
    return low / most * (1.0 - _SLACK), high / least * (1.0 + _SLACK)


def _times(bounds: Bounds, factor: Float) -> Bounds:
    return bounds[0] * factor * (1.0 - _SLACK), bounds[1] * factor * (1.0 + _SLACK)


def judge(theorem: Theorem, batches: Mapping[str, Sequence[Batch]]) -> Finding:
    """Hold one theorem against batches of each dtype."""

    def observed(bound: Callable[[Facts], Float]) -> dict[str, Observation]:
        return {dtype: observe(theorem.quantity, bound, members) for dtype, members in batches.items()}

    repair = theorem.repaired
    return Finding(theorem, observed(theorem.bound), None if repair is None else observed(repair))


def observe(quantity: Quantity, bound: Callable[[Facts], Float], batches: Sequence[Batch]) -> Observation:
    """Find the largest error / bound among the rows on which a theorem speaks and its bound says something.

    Raises
    ------
    ValueError : there is no such row.
    """
    seen = [found for batch in batches if (found := _observe_batch(quantity, bound, batch)) is not None]
    if not seen:
        raise ValueError(f"no row is within the model of {quantity}")
    worst = max(seen, key=lambda found: found.ratio[1])
    return Observation(
        worst.ratio,
        any(found.violated for found in seen),
        sum(found.rows for found in seen),
        worst.x,
        worst.computed,
    )


def _observe_batch(quantity: Quantity, bound: Callable[[Facts], Float], batch: Batch) -> Observation | None:
    limit = bound(batch.facts) * format_of(batch.x.dtype).unit_roundoff
    found = batch.computed[quantity]
    # A bound of 1 and above is vacuous.
    kept = np.flatnonzero(found.within & (limit < 1.0))
    if not kept.size:
        return None
    limit, (low, high) = limit[kept], (end[kept] for end in batch.errors[quantity])
    violated = low > limit / (1.0 - limit) * (1.0 + _SLACK)
    place = int(np.argmax(high / limit))
    ratio = (
        float(low[place] / limit[place] * (1.0 - _SLACK)),
        float(high[place] / limit[place] * (1.0 + _SLACK)),
    )
    row = int(kept[place])
    return Observation(ratio, bool(violated.any()), int(kept.size), batch.x[row], found.value[row])


def bounds_to_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings as JSON-ready mappings."""
    return {
        "target": "bhh2021",
        "source": SOURCE,
        "inputs": INPUTS,
        "theorems": [
            {
                "number": finding.theorem.number,
                "error_of": finding.theorem.statement,
                "bound_over_u": finding.theorem.formula,
                "printed": _observations(finding.printed),
                "holds_as_printed": finding.holds,
                "repair": _repair(finding),
            }
            for finding in findings
        ],
    }


def _repair(finding: Finding) -> dict[str, Any] | None:
    if finding.repaired is None:
        return None
    return {
        "bound_over_u": finding.theorem.repaired_formula,
        "observed": _observations(finding.repaired),
        "holds": finding.repair_holds,
    }


def _observations(by_dtype: Mapping[str, Observation]) -> dict[str, Any]:
    return {
        dtype: {
            "ratio": list(seen.ratio),
            "violated": seen.violated,
            "rows": seen.rows,
            "x": [float(number).hex() for number in seen.x],
            "computed": [float(number).hex() for number in np.atleast_1d(seen.computed)],
        }
        for dtype, seen in by_dtype.items()
    }
