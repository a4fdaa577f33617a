"""What the movers do to one row of numbers, in binary64; the caller rounds the result to the dtype.

Each aims at one way in which kernels err: where exp leaves the normal numbers, where its argument
reduction turns, where a block of threads or a vector ends, where a maximum is looked for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from softcert.conformance.inputs.families import Scale

Float = NDArray[np.float64]
Places = NDArray[np.int64]
#: A new row from a row; the scale names the thresholds of the dtype.
RowMover = Callable[[Generator, Float, Scale], Float]
#: Which of n elements the new row takes, in order.
Rearrangement = Callable[[Generator, Float], Places]

#: No row gets longer: an evaluation would take as long as hundreds of shorter ones.
LONGEST = 4097
#: Numbers of elements that one thread, vector, warp or block takes.
_TILES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
_LN2 = float(np.log(2.0))


def _top(row: Float) -> float:
    return float(row[np.isfinite(row)].max())


def some_places(rng: Generator, n: int) -> Places:
    """One place most often, sometimes many."""
    count = min(n, int(rng.geometric(0.4)) if rng.random() < 0.8 else int(rng.integers(1, n + 1)))
    return rng.permutation(n)[:count]


def ulp_of(values: Float, scale: Scale) -> Float:
    """Ulp of the dtype at each number."""
    magnitude = np.maximum(np.abs(values), scale.smallest * 2.0 ** (scale.precision - 1))
    return np.ldexp(1.0, (np.floor(np.log2(magnitude)) - scale.precision + 1).astype(np.int64))


def spread(rng: Generator, row: Float, _scale: Scale) -> Float:
    """Draw the row nearer to its maximum, or push it away."""
    top = _top(row)
    return top - (top - row) * float(np.exp2(1.5 * rng.standard_normal()))


def offset(rng: Generator, row: Float, scale: Scale) -> Float:
    """Move the whole row: to 0, by 120, by any power of two, next to the largest float."""
    kind = int(rng.integers(4))
    if kind == 0:
        return row - _top(row)
    sign = float(rng.choice([-1.0, 1.0]))
    if kind == 1:
        return row + 120.0 * sign
    if kind == 2:
        return row + sign * float(np.exp2(rng.uniform(-2.0, min(np.log2(scale.largest) - 1.0, 40.0))))
    return row - _top(row) + sign * 0.5 * scale.largest


def ties(rng: Generator, row: Float, _scale: Scale) -> Float:
    """Make some elements equal, to the maximum as a rule."""
    moved = row.copy()
    moved[some_places(rng, row.size)] = _top(row) if rng.random() < 0.7 else row[rng.integers(row.size)]
    return moved


def near_maximum(rng: Generator, row: Float, scale: Scale) -> Float:
    """Gather some elements within a few ulps of the maximum."""
    moved, top, places = row.copy(), _top(row), some_places(rng, row.size)
    steps = rng.integers(-4, 2, places.size).astype(np.float64)
    moved[places] = top + steps * ulp_of(np.full(1, top), scale)
    return moved


def gaps(rng: Generator, row: Float, scale: Scale) -> Float:
    """Put some elements where exp of the gap to the maximum becomes subnormal, vanishes, or is reduced."""
    moved, top, places = row.copy(), _top(row), some_places(rng, row.size)
    normal = scale.tiny_gap - _LN2 * (scale.precision - 1)
    half_turns = 0.5 * _LN2 * rng.integers(0, int(2.0 * scale.tiny_gap / _LN2) + 4, places.size)
    thresholds = np.array([scale.tiny_gap, scale.tiny_gap + _LN2, normal, 0.5 * normal, 88.0, 104.0])
    chosen = np.where(rng.random(places.size) < 0.5, rng.choice(thresholds, places.size), half_turns)
    moved[places] = top - chosen
    moved[places] += rng.integers(-3, 4, places.size) * ulp_of(moved[places], scale)
    return moved


def sign(rng: Generator, row: Float, _scale: Scale) -> Float:
    """Negate the row, or some of it."""
    chosen = np.isfinite(row)
    if rng.random() < 0.5:
        chosen &= rng.random(row.size) < 0.3
    return np.where(chosen, -row, row)


def ulps(rng: Generator, row: Float, scale: Scale) -> Float:
    """Move one element by a few ulps."""
    moved, place = row.copy(), int(rng.integers(row.size))
    if np.isfinite(row[place]):
        steps = float(rng.choice([-1.0, 1.0])) * float(rng.geometric(0.35))
        moved[place] += steps * float(ulp_of(row[place : place + 1], scale)[0])
    return moved


def element(rng: Generator, row: Float, _scale: Scale) -> Float:
    """Move some elements by anything from 2^-12 to 16."""
    moved, places = row.copy(), some_places(rng, row.size)
    moved[places] += rng.choice([-1.0, 1.0], places.size) * np.exp2(rng.uniform(-12.0, 4.0, places.size))
    return moved


def crossed(rng: Generator, row: Float, mate: Float) -> Float:
    """Take one part of a row and the other of its mate, which may be of another length."""
    moved, shared = row.copy(), min(row.size, mate.size)
    if rng.random() < 0.5:
        cut = int(rng.integers(shared + 1))
        moved[cut:shared] = mate[cut:shared]
    else:
        taken = np.flatnonzero(rng.random(shared) < 0.5)
        moved[taken] = mate[taken]
    return moved


# --- which elements, in which order ---


def length(rng: Generator, row: Float) -> Places:
    """Cut or continue the row, to a multiple of a tile or one element beside it."""
    n = row.size
    tile = int(_TILES[min(int(rng.geometric(0.15)), len(_TILES)) - 1])
    wanted = tile * int(rng.integers(1, 5)) + int(rng.integers(-1, 2))
    m = max(1, min(wanted, LONGEST))
    if m <= n:
        start = int(rng.integers(n - m + 1))
        return np.arange(start, start + m)
    if rng.random() < 0.5:
        return np.resize(np.arange(n), m)
    return np.concatenate([np.arange(n), rng.integers(0, n, m - n)])


def order(rng: Generator, row: Float) -> Places:
    """Sort, reverse, turn or shuffle the row, or put its maximum first, last or anywhere."""
    n = row.size
    kind = int(rng.integers(6))
    if kind == 0:
        return np.argsort(row, kind="stable")
    if kind == 1:
        return np.arange(n)[::-1].copy()
    if kind == 2:
        return np.roll(np.arange(n), int(rng.integers(n)))
    if kind == 3:
        return rng.permutation(n)
    rest = np.delete(np.arange(n), np.argmax(row))
    place = (0, n - 1)[int(rng.integers(2))] if kind == 4 else int(rng.integers(n))
    return np.insert(rest, place, np.argmax(row))
