"""Operands of attention as the kernels of the fast path take them: padded, in tiles, with their norms."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import TYPE_CHECKING

import numpy as np

from softcert.reference.fast.attention_forward import UNDERFLOW
from softcert.reference.fast.attention_weights import ROUNDED_UP
from softcert.reference.fast.tiles import TILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.float64]

#: Operands beyond it are left to the oracles: their products could overflow.
LARGEST = 2.0**400
#: Values below it may vanish in products with small weights.
_TINY = 2.0**-150
_FEATURES = 4
#: Bits of 1/sqrt(D) after the point: some 600 are left of a scale of 2**-400.
_ROOT_BITS = 1000


@dataclass(frozen=True)
class KeyTiles:
    """Keys and values of one head, in tiles of 64 rows, padded with zeros.

    Attributes
    ----------
    keys : (T, D, TILE), D a multiple of 4. key_sizes : (T * TILE,), Euclidean norms, rounded up.
    values : (T * TILE, C).
    tiny : what sums over the values can lose to underflow beside what their errors say.
    """

    keys: Words
    key_sizes: Words
    values: Words
    tiny: float


def key_tiles(k: Words, v: Words) -> KeyTiles:
    """Tiles of finite keys, (S, D), and values, (S, C)."""
    return KeyTiles(transposed_tiles(k), sizes(padded_rows(k)), padded_rows(v), tiny_error(v))


def padded_features(a: Words) -> Words:
    """Rows with zeros added up to a multiple of four features."""
    return np.ascontiguousarray(np.pad(a, ((0, 0), (0, -a.shape[1] % _FEATURES))))


def padded_rows(a: Words) -> Words:
    """Zero rows added up to whole tiles."""
    return np.ascontiguousarray(np.pad(a, ((0, -len(a) % TILE), (0, 0))))


def transposed_tiles(a: Words) -> Words:
    """Rows in tiles, features first: (T, D, TILE)."""
    rows = padded_rows(padded_features(a))
    return np.ascontiguousarray(rows.reshape(-1, TILE, rows.shape[1]).transpose(0, 2, 1))


def sizes(a: Words) -> Words:
    """Euclidean norm of each row, rounded up; scaled, so that no square is lost."""
    largest = np.abs(a).max(axis=1, initial=0.0)
    safe = np.where(largest > 0.0, largest, 1.0)[:, None]
    norms: Words = largest * np.sqrt(np.square(a / safe).sum(axis=1)) * ROUNDED_UP
    return norms


def tiny_error(a: Words) -> float:
    """`UNDERFLOW` where an array holds numbers so small that products with weights may vanish, else 0."""
    small = np.abs(a) < _TINY
    return UNDERFLOW if (small & (a != 0.0)).any() else 0.0


def scale_words(rational: Fraction, radicand: int) -> tuple[float, float]:
    """rational / sqrt(radicand) in two words, up to 2**-104 relatively.

    Parameters
    ----------
    rational : of a magnitude from 2**-400 to 2**400, or 0.
    """
    if radicand > 1:
        root = isqrt((rational.numerator**2 << 2 * _ROOT_BITS) // (rational.denominator**2 * radicand))
        rational = Fraction(root if rational > 0 else -root, 1 << _ROOT_BITS)
    high = rational.numerator / rational.denominator
    rest = rational - Fraction(high)
    return high, rest.numerator / rest.denominator
