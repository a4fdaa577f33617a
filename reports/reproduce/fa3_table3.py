"""FlashAttention-3's table 3, errors of attention in FP16 and FP8, measured against the certified oracle.

J. Shah et al., FlashAttention-3: Fast and Accurate Attention with Asynchrony and Low-precision,
arXiv:2407.08608 (2024), section 4.3: root mean square error against a reference in FP64, with entries of
q, k and v drawn from N(0, 1) + N(0, 100) Bernoulli(0.001).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from softcert import reference
from softcert.conformance.model import RequestError
from softcert.reports.reproduce.arithmetics import (
    BLOCK,
    NOT_SIMULATED,
    Attention,
    Double,
    fp8_baseline,
    fp8_flash,
    fp16_baseline,
    fp16_flash,
)
from softcert.reports.reproduce.progress import Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE = "FlashAttention-3, arXiv:2407.08608, section 4.3, table 3"
#: What the paper leaves open, and what each was set to here.
NOT_STATED: Mapping[str, str] = MappingProxyType(
    {
        "sequence length": "see keys and queries",
        "head dimension": "see depth",
        "batch and heads": "one of each; the figures are a median over seeds",
        "mask": "none",
        "whether the reference sees the inputs before or after rounding": "before: the binary64 inputs drawn",
        "rows of a block": f"{BLOCK}",
        "where the baselines round": "see reports/reproduce/arithmetics.py",
    }
)

#: Entries that get a normal number of ten times the standard deviation added.
_OUTLIERS, _OUTLIER_DEVIATION = 0.001, 10.0
#: Queries that the oracle certifies between two signs of progress.
_AT_ONCE = 128
#: Largest queries x keys: the score matrices of a seed then take about 1 GB.
_MOST_SCORES = 2**25
_MOST_DEPTH = 1024
#: Tells the random streams of this table from those of any other use of a seed.
_STREAM = 2407_08608


@dataclass(frozen=True)
class Setting:
    """What is drawn and how much of it; the defaults come near the paper's figures.

    Attributes
    ----------
    seeds : seeds 0 to seeds - 1 are measured.
    keys, queries, depth : S, L and d of one head of attention; depth is a power of two.

    Raises
    ------
    RequestError : a number that is not positive, a depth that is no power of two, or more than fits memory.
    """

    seeds: int = 8
    keys: int = 8448
    queries: int = 512
    depth: int = 128

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise RequestError(f"{name} has to be at least 1, not {value}")
        if self.depth & (self.depth - 1) or self.depth > _MOST_DEPTH:
            raise RequestError(
                f"depth has to be a power of two up to {_MOST_DEPTH}, not {self.depth}: "
                "the rotation is a Hadamard matrix"
            )
        if self.queries * self.keys > _MOST_SCORES:
            raise RequestError(
                f"queries x keys has to be at most {_MOST_SCORES}, and {self.queries} x {self.keys} is more"
            )


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    name, fmt : of the arithmetic, as the paper calls it.
    paper : the paper's RMSE.
    rmse : the measured one, by seed.
    """

    name: str
    fmt: Literal["FP16", "FP8"]
    paper: float
    rmse: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the seeds: a single seed's figure varies twofold, as a few outliers make it."""
        return median(self.rmse)

    @property
    def ratio(self) -> float:
        """Measured median / the paper's figure."""
        return self.median / self.paper


@dataclass(frozen=True)
class Table:
    """The table as measured."""

    setting: Setting
    rows: tuple[Row, ...]


_ARITHMETICS: tuple[tuple[str, Literal["FP16", "FP8"], float, Attention], ...] = (
    ("baseline", "FP16", 3.2e-4, fp16_baseline),
    ("FlashAttention-2 and 3", "FP16", 1.9e-4, fp16_flash),
    ("baseline", "FP8", 2.4e-2, fp8_baseline),
    ("FlashAttention-3", "FP8", 9.1e-3, fp8_flash(by_block=True, rotated=True)),
    ("  without block quantization", "FP8", 9.3e-3, fp8_flash(by_block=False, rotated=True)),
    ("  without incoherent processing", "FP8", 2.4e-2, fp8_flash(by_block=True, rotated=False)),
)


def measure_table3(
    setting: Setting | None = None, *, method: str = "fast", progress: Progress = silent
) -> Table:
    """Measure the table.

    Parameters
    ----------
    method : of `softcert.reference.attention`.
    """
    chosen = setting or Setting()
    steps = -(-chosen.queries // _AT_ONCE)
    errors: list[list[float]] = [[] for _ in _ARITHMETICS]
    for seed in range(chosen.seeds):
        q, k, v, signs = draw(chosen, seed)
        exact = np.empty((chosen.queries, chosen.depth))
        for step in range(steps):
            progress(seed * steps + step, chosen.seeds * steps, f"seed {seed}")
            some = slice(step * _AT_ONCE, (step + 1) * _AT_ONCE)
            exact[some] = reference.attention(q[some], k, v, method=method).round("float64")
        for found, (*_, attention) in zip(errors, _ARITHMETICS, strict=True):
            found.append(rmse(attention(q, k, v, signs), exact))
    rows = zip(_ARITHMETICS, errors, strict=True)
    return Table(chosen, tuple(Row(name, fmt, paper, tuple(found)) for (name, fmt, paper, _), found in rows))


def draw(setting: Setting, seed: int) -> tuple[Double, Double, Double, Double]:
    """Draw q (L, d), k (S, d), v (S, d) and the signs of the rotation (d,), the same for the same seed."""
    rng = np.random.default_rng([_STREAM, seed])

    def tensor(rows: int) -> Double:
        shape = (rows, setting.depth)
        outliers = _OUTLIER_DEVIATION * rng.standard_normal(shape) * (rng.random(shape) < _OUTLIERS)
        return rng.standard_normal(shape) + outliers

    return (
        tensor(setting.queries),
        tensor(setting.keys),
        tensor(setting.keys),
        rng.choice([-1.0, 1.0], setting.depth),
    )


def rmse(computed: NDArray[Any], exact: Double) -> float:
    """Root mean square of the errors, over all elements."""
    return float(np.sqrt(np.mean(np.square(computed.astype(np.float64) - exact))))


def table3_to_json(table: Table) -> dict[str, Any]:
    """Return the table as JSON-ready mappings."""
    return {
        "target": "fa3-table3",
        "source": SOURCE,
        "setting": asdict(table.setting),
        "not_stated": dict(NOT_STATED),
        "not_simulated": list(NOT_SIMULATED),
        "rows": [
            {
                "arithmetic": row.name.strip(),
                "format": row.fmt,
                "rmse": {"median": row.median, "min": min(row.rmse), "max": max(row.rmse)},
                "rmse_by_seed": list(row.rmse),
                "paper": row.paper,
                "ratio": row.ratio,
            }
            for row in table.rows
        ],
    }


__all__ = ["Row", "Setting", "Table", "draw", "measure_table3", "rmse", "table3_to_json"]
