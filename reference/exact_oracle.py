"""Functions of floats that are dyadic rationals: computed in integers, no rounding anywhere."""

from __future__ import annotations

from softcert.reference.interval import Interval


def aligned(values: list[float]) -> tuple[list[int], int]:
    """Integers n and an exponent e with values[i] == n[i] * 2**e."""
    ratios = [v.as_integer_ratio() for v in values]
    scale = max((d.bit_length() for _, d in ratios), default=1) - 1
    return [n << (scale + 1 - d.bit_length()) for n, d in ratios], -scale


def jvp_row(y: list[float], direction: list[float]) -> list[Interval]:
    """y_i (d_i - sum_k y_k d_k), exactly; y need not sum to 1."""
    (weights, e), (tangents, f) = aligned(y), aligned(direction)
    mean = sum(w * t for w, t in zip(weights, tangents, strict=True))
    # d_i * 2**f - mean * 2**(e + f), over the common exponent e + f <= f
    products = [w * ((t << -e) - mean) for w, t in zip(weights, tangents, strict=True)]
    return [Interval(p, p, 2 * e + f) for p in products]


def sum_row(values: list[float]) -> Interval:
    """Exact sum."""
    integers, e = aligned(values)
    total = sum(integers)
    return Interval(total, total, e)
