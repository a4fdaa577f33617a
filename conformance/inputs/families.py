"""Families of inputs: named, seeded rows that stress one thing each, in binary64 before rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from softcert.backends.types import Array, as_dtype
from softcert.conformance.spec import SPARSE_DERIVATIVE_OPS
from softcert.reference import format_of

Float = NDArray[np.float64]

#: Rows longer than this are drawn on a grid, so that the oracle meets few distinct logits.
FEW_DISTINCT = 512


@dataclass(frozen=True)
class Scale:
    """The thresholds of a format that families aim at."""

    largest: float
    smallest: float
    tiny_gap: float
    precision: int

    @classmethod
    def of(cls, dtype: str) -> Scale:
        """Thresholds of `dtype`."""
        fmt = format_of(dtype)
        smallest = 2.0 ** (fmt.emin - fmt.precision + 1)
        largest = float((2.0 - 2.0 ** (1 - fmt.precision)) * 2.0**fmt.emax)
        return cls(largest, smallest, float(-np.log(2.0) * (fmt.emin - fmt.precision + 1)), fmt.precision)


Maker = Callable[[Generator, int, float, Scale], Float]


def _normal(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    return rng.standard_normal(n) * spread


def _offset_down(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    return rng.standard_normal(n) - 120.0 * spread


def _offset_up(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    return rng.standard_normal(n) + 120.0 * spread


def _wide(rng: Generator, n: int, _spread: float, scale: Scale) -> Float:
    top = np.log2(scale.largest)
    bottom = max(np.log2(scale.smallest) + 2, -80.0)
    return rng.choice([-1.0, 1.0], n) * np.exp2(rng.uniform(bottom, top - 0.01, n))


def _near_overflow(rng: Generator, n: int, _spread: float, scale: Scale) -> Float:
    row: Float = rng.uniform(-1.0, 1.0, n) * scale.largest
    row[rng.integers(n)] = scale.largest
    return row


def _tiny_outputs(rng: Generator, n: int, _spread: float, scale: Scale) -> Float:
    row = -scale.tiny_gap + rng.uniform(-6.0, 30.0, n)
    row[rng.integers(n)] = 0.0
    return row


def _gap_sweep(rng: Generator, n: int, _spread: float, scale: Scale) -> Float:
    row = -np.linspace(0.0, 1.05 * scale.tiny_gap, n) * (1.0 + 1e-3 * rng.uniform())
    return rng.permutation(row)


def _ties(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    row = np.minimum(rng.standard_normal(n), 1.0) * spread
    row[rng.permutation(n)[: max(1, n // 3)]] = 2.0 * spread
    return row


def _near_ties(rng: Generator, n: int, spread: float, scale: Scale) -> Float:
    steps = rng.integers(-3, 4, n).astype(np.float64)
    row: Float = spread * (1.0 + steps * 2.0 ** (1 - scale.precision))
    return row


def _one_hot(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    row = rng.standard_normal(n)
    row[rng.integers(n)] += 12.0 * spread
    return row


def _peak_last(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    row = rng.standard_normal(n) * spread
    row[-1] = row.max() + np.log(n)
    return row


def _peak_first(rng: Generator, n: int, spread: float, scale: Scale) -> Float:
    return np.ascontiguousarray(_peak_last(rng, n, spread, scale)[::-1])


def _increasing(rng: Generator, n: int, spread: float, scale: Scale) -> Float:
    return np.sort(_normal(rng, n, 3.0 * spread, scale))


def _decreasing(rng: Generator, n: int, spread: float, scale: Scale) -> Float:
    return np.ascontiguousarray(_increasing(rng, n, spread, scale)[::-1])


def _equal(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    return np.full(n, spread * rng.integers(-8, 9))


def _masked(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    row = rng.standard_normal(n) * spread
    row[rng.uniform(size=n) < 0.4] = -np.inf
    row[rng.integers(n)] = rng.standard_normal()
    return row


def _masked_first(rng: Generator, n: int, spread: float, _scale: Scale) -> Float:
    row = rng.standard_normal(n) * spread
    row[: n // 2] = -np.inf
    return row


def _subnormal_logits(rng: Generator, n: int, _spread: float, scale: Scale) -> Float:
    return scale.smallest * rng.integers(-9, 10, n).astype(np.float64)


FAMILIES: Mapping[str, Maker] = MappingProxyType(
    {
        "normal": _normal,
        "equal": _equal,
        "ties": _ties,
        "near-ties": _near_ties,
        "one-hot": _one_hot,
        "peak-last": _peak_last,
        "peak-first": _peak_first,
        "increasing": _increasing,
        "decreasing": _decreasing,
        "offset-down": _offset_down,
        "offset-up": _offset_up,
        "masked": _masked,
        "masked-first": _masked_first,
        "gap-sweep": _gap_sweep,
        "tiny-outputs": _tiny_outputs,
        "wide": _wide,
        "near-overflow": _near_overflow,
        "subnormal-logits": _subnormal_logits,
    }
)


def make_row(family: str, n: int, seed: int, spread: float, dtype: str) -> Array:
    """One row of a family, rounded to `dtype`; the same arguments always give the same row."""
    scale = Scale.of(dtype)
    rng = np.random.default_rng([seed, n, sorted(FAMILIES).index(family)])
    row = FAMILIES[family](rng, n, spread, scale)
    if n > FEW_DISTINCT:
        row = _on_a_grid(row)
    return to_dtype(row, dtype)


def _on_a_grid(row: Float) -> Float:
    """Snap the finite logits to at most `FEW_DISTINCT` levels, the extremes kept."""
    finite = np.isfinite(row)
    low, high = float(row[finite].min()), float(row[finite].max())
    if low == high:
        return row
    levels = np.linspace(low / 2, high / 2, FEW_DISTINCT) * 2
    place = np.rint((row[finite] / 2 - low / 2) / (high / 2 - low / 2) * (FEW_DISTINCT - 1))
    snapped = row.copy()
    snapped[finite] = levels[place.astype(np.int64)]
    return snapped


def to_dtype(row: Float, dtype: str) -> Array:
    """Round to `dtype`, finite values kept finite."""
    largest = Scale.of(dtype).largest
    finite = np.clip(row, -largest, largest)
    return np.where(np.isfinite(row), finite, row).astype(as_dtype(dtype))


def probabilities(x: Array) -> Array:
    """A probability vector near softmax(x), of x's dtype: the y that derivatives are taken at."""
    logits = x.astype(np.float64)
    logits = np.where(np.isfinite(logits), logits, -1e4)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    y: Array = (weights / weights.sum(axis=-1, keepdims=True)).astype(x.dtype)
    return y


def _sparse_output(x: Array) -> Array:
    """A probability vector near sparsemax(x), of x's dtype, with zeros in it."""
    logits = x.astype(np.float64)
    logits = np.where(np.isfinite(logits), logits, -1e4)
    gaps = np.sort(logits.max(axis=-1, keepdims=True) - logits, axis=-1)
    counts = np.arange(1, gaps.shape[-1] + 1)
    # Falling as long as the next logit still has a share.
    thresholds = (1.0 + np.cumsum(gaps, axis=-1)) / counts
    inside = (gaps < thresholds).sum(axis=-1, keepdims=True)
    threshold = np.take_along_axis(thresholds, inside - 1, axis=-1)
    y: Array = np.maximum(threshold - (logits.max(axis=-1, keepdims=True) - logits), 0.0).astype(x.dtype)
    return y


def output_near(op: str, x: Array) -> Array:
    """The y at which a derivative of an op is taken: near its output for logits, of their dtype."""
    return _sparse_output(x) if op in SPARSE_DERIVATIVE_OPS else probabilities(x)
