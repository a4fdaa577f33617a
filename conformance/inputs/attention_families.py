"""Kinds of operands on which kernels of attention differ, each made from its name, its shape and a seed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import as_dtype
from softcert.conformance.bounds.attention_facts import Operands

Float = NDArray[np.float64]
Triple = tuple[Float, Float, Float]


@dataclass(frozen=True)
class Shape:
    """Sizes of attention: H heads of q, G of k and v, L queries, S keys, D features, Dv of them in v."""

    heads: int = 1
    groups: int = 1
    queries: int = 32
    keys: int = 48
    features: int = 16
    values: int = 16


def _normal(s: Shape, rng: np.random.Generator) -> Triple:
    return (
        rng.standard_normal((s.heads, s.queries, s.features)),
        rng.standard_normal((s.groups, s.keys, s.features)),
        rng.standard_normal((s.groups, s.keys, s.values)),
    )


def _outliers(s: Shape, rng: np.random.Generator) -> Triple:
    """N(0, 1), and N(0, 100) added to one entry in a thousand: arXiv:2407.08608, section 4.3."""
    q, k, v = (
        a + 10.0 * rng.standard_normal(a.shape) * (rng.random(a.shape) < 1e-3) for a in _normal(s, rng)
    )
    return q, k, v


def _peaked(s: Shape, rng: np.random.Generator) -> Triple:
    q, k, v = _normal(s, rng)
    return 4.0 * q, k, v


def _increasing(s: Shape, rng: np.random.Generator) -> Triple:
    """Scores that rise from key to key, by 6 in all: every key raises the running maximum."""
    q, k, v = _normal(s, rng)
    q[..., 0], k = 2.0, 0.01 * k
    k[..., 0] = 3.0 * np.sqrt(s.features) * np.arange(s.keys) / s.keys
    return q, k, v


def _ties(s: Shape, rng: np.random.Generator) -> Triple:
    q, k, v = _normal(s, rng)
    return q, np.broadcast_to(k[:, :1], k.shape).copy(), v


def _common_mode(s: Shape, rng: np.random.Generator) -> Triple:
    """An offset common to all queries and keys: large scores that differ little."""
    q, k, v = _normal(s, rng)
    return q + 4.0, k + 4.0, v


def _offset_values(s: Shape, rng: np.random.Generator) -> Triple:
    q, k, v = _normal(s, rng)
    return q, k, v + 50.0


def _sink(s: Shape, rng: np.random.Generator) -> Triple:
    """The first key takes nearly all the weight and holds almost nothing."""
    q, k, v = _normal(s, rng)
    q[..., 0] = 4.0
    k[..., 0] = 0.0
    k[:, 0], v[:, 0] = 0.0, 0.01 * v[:, 0]
    k[:, 0, 0] = 2.5 * np.sqrt(s.features)
    return q, k, v


def _underflow(s: Shape, rng: np.random.Generator) -> Triple:
    """Weights just below what float16 holds, on everything that counts."""
    q, k, v = _normal(s, rng)
    q, k = 0.01 * q, 0.01 * k
    q[..., 0], k[..., 0] = 4.0, 0.0
    v = np.abs(v)
    k[:, 0, 0], v[:, 0] = 17.5 / 4.0 * np.sqrt(s.features), 0.0
    return q, k, v


def _shifted(s: Shape, rng: np.random.Generator) -> Triple:
    """All scores moved by -120: what a padded key or a sentinel would outweigh."""
    q, k, v = _normal(s, rng)
    q[..., 0], k[..., 0] = 8.0, -15.0 * np.sqrt(s.features)
    return q, k, v


def _mixed_sizes(s: Shape, rng: np.random.Generator) -> Triple:
    """Keys and values whose sizes span five orders of magnitude: bounds must hold element by element."""
    q, k, v = _normal(s, rng)
    sizes = np.exp(rng.uniform(-6.0, 6.0, (s.groups, s.keys, 1)))
    return q, k * np.minimum(sizes, 4.0), v * sizes


#: Every kind by name. The first nine are those of the published table, the last two softcert's own.
KINDS: Mapping[str, Callable[[Shape, np.random.Generator], Triple]] = MappingProxyType(
    {
        "normal": _normal,
        "outliers": _outliers,
        "4x scores": _peaked,
        "increasing": _increasing,
        "ties": _ties,
        "common mode": _common_mode,
        "v + 50": _offset_values,
        "sink": _sink,
        "float16 underflow": _underflow,
        "scores - 120": _shifted,
        "mixed sizes": _mixed_sizes,
    }
)


def make_operands(
    kind: str,
    dtype: str,
    shape: Shape,
    *,
    seed: int = 0,
    causal: bool | str = False,
    mask: NDArray[np.generic] | None = None,
) -> Operands:
    """Operands of a kind, each a number of `dtype`, held in float64."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
    q, k, v = (a.astype(as_dtype(dtype)).astype(np.float64) for a in KINDS[kind](shape, rng))
    return Operands(q, k, v, causal=causal, mask=mask)


__all__ = ["KINDS", "Shape", "make_operands"]
