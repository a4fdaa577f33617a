"""Times of two runs, which were never measured in the same rounds: what of their ratio can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from softcert.conformance.model import Run
from softcert.reports.comparison.model import SpeedChange
from softcert.reports.comparison.significance import ALPHA, chance, holm, ratio, ratio_interval

Key = tuple[str, str, tuple[int, ...]]
Row = Mapping[str, Any]

#: What a row says of itself where its time cannot be one.
_INVALID = "invalid"


@dataclass(frozen=True)
class _Timed:
    """One row in both runs."""

    key: Key
    old: Row
    new: Row

    @property
    def drift(self) -> float | None:
        """By what factor the copy beside the row differs, or None where a run has none."""
        rates = _positive([row.get("copy_bytes_per_second") for row in (self.old, self.new)])
        return max(rates) / min(rates) if rates else None

    @property
    def samples(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """The times of each round, or None where a run kept none."""
        old, new = (_positive(row.get("samples")) for row in (self.old, self.new))
        return (old, new) if old and new else None


def _positive(values: object) -> Sequence[float]:
    """The times, or rates, that a row holds; none where one of them is no positive number."""
    if not isinstance(values, (list, tuple)):
        return ()
    times = [float(v) for v in values if isinstance(v, (int, float)) and 0 < v < math.inf]
    return times if len(times) == len(values) else ()


def compare_speeds(
    pairs: Iterable[tuple[Run, Run]], threshold: float | None
) -> list[tuple[SpeedChange, ...]]:
    """Return, for each pair of runs, the times that both have, in the new run's order.

    All rows of all pairs are tested together, so that the chance of any false alarm stays at `ALPHA`.

    Parameters
    ----------
    threshold : part by which a time may grow (0.1: a tenth), beside what the copies drifted; or None.
    """
    rows = [list(_matched(old, new)) for old, new in pairs]
    common = _common_drift(timed for its in rows for timed in its)
    changes = [[_compared(timed, common, threshold) for timed in its] for its in rows]
    flat = [change for its in changes for change in its if change.p is not None]
    adjusted = iter(holm([change.p for change in flat if change.p is not None]))
    return [tuple(_decided(c, next(adjusted)) if c.p is not None else c for c in its) for its in changes]


def _matched(old: Run, new: Run) -> Iterable[_Timed]:
    before = {_key(row): row for row in old.speed if _is_timed(row)}
    for row in new.speed:
        if _is_timed(row) and _key(row) in before:
            yield _Timed(_key(row), before[_key(row)], row)


def _key(row: Row) -> Key:
    return row["op"], row["dtype"], tuple(row["shape"])


def _is_timed(row: Row) -> bool:
    return isinstance(row["seconds"], (int, float)) and 0 < row["seconds"] < math.inf


def _common_drift(rows: Iterable[_Timed]) -> float | None:
    """The middle of the drifts of all rows: a machine that is slower in all of them is no chance."""
    drifts = [timed.drift for timed in rows if timed.drift is not None]
    return median(drifts) if drifts else None


def _compared(timed: _Timed, common: float | None, threshold: float | None) -> SpeedChange:
    """A row before the adjustment for all of them; its `p` is that of the row alone."""
    drifts = [d for d in (timed.drift, common) if d is not None]
    drift = max(drifts) if drifts else None
    seconds = timed.old["seconds"], timed.new["seconds"]
    change = SpeedChange(
        *timed.key,
        seconds=seconds,
        ratio=seconds[1] / seconds[0],
        interval=_quartile_interval(timed),
        rounds=None,
        drift=drift,
        allowed=max(1.0 + (threshold or 0.0), drift or 1.0),
        p=None,
        verdict="untested",
    )
    samples = timed.samples
    if _INVALID in (timed.old.get("status"), timed.new.get("status")):
        return replace(change, note="invalid")
    if samples is None:
        return replace(change, note="no rounds kept")
    change = replace(
        change,
        ratio=ratio(*samples),
        interval=ratio_interval(*samples),
        rounds=(len(samples[0]), len(samples[1])),
    )
    if drift is None:
        return replace(change, note="drift unknown")
    return replace(change, p=chance(*samples, allowed=change.allowed))


def _quartile_interval(timed: _Timed) -> tuple[float, float] | None:
    old, new = (_positive(row.get("spread")) for row in (timed.old, timed.new))
    return (new[0] / old[1], new[1] / old[0]) if len(old) == len(new) == 2 else None


def _decided(change: SpeedChange, adjusted: float) -> SpeedChange:
    if adjusted > ALPHA:
        return replace(change, p=adjusted, verdict="undecided")
    return replace(change, p=adjusted, verdict="slower" if change.ratio > 1 else "faster")
