"""The two products of attention by double words against error-free splitting with BLAS (Ozaki's scheme).

    python benchmarks/exact_products.py [--rounds N] [--length L] [--json FILE]

K. Ozaki, T. Ogita, S. Oishi & S. M. Rump, Error-free transformations of matrix multiplication, Numer.
Algorithms 59, 2012: each factor is split into slices of so few bits that binary64 sums of their products are
exact. Timed are the products of the slices, with the addition of scores in two words and the splitting of the
weights. One interleaved run, medians with quartiles, in ns a pair of a query and a key.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from interleaved import compared, measure, show, with_one_blas_thread, write

with_one_blas_thread()

import numpy as np  # noqa: E402 - after the number of threads is settled

from softcert.conformance.environment import describe  # noqa: E402
from softcert.reference.fast.attention_heads import padded_rows, transposed_tiles  # noqa: E402
from softcert.reference.fast.compiled import compiled  # noqa: E402
from softcert.reference.fast.double_word import two_sum  # noqa: E402
from softcert.reference.fast.tiles import TILE, absorb, dot_tile, weighted_sums  # noqa: E402

FEATURES = 64
RATIOS = (
    ("scores by slices", "scores by double words", "times as long", None),
    ("weighted sums by slices", "weighted sums by double words", "times as long", None),
)
#: Bits of the weights that two words hold, and of a binary32 row beside its largest number.
_WEIGHT_BITS, _ROW_BITS = 106, 46


def slices(a: np.ndarray, bits: int, total: int) -> list[np.ndarray]:
    """Split rows into parts of so many bits each, down to `total` bits below their largest numbers."""
    parts = []
    largest = np.abs(a).max(axis=1, keepdims=True)
    unit = np.exp2(np.ceil(np.log2(largest)) + 53)
    for done in range(bits, total + bits, bits):
        cut = unit * 2.0**-done
        parts.append((a + 1.5 * cut) - 1.5 * cut)
        a = a - parts[-1]
    return parts


@compiled
def _added(parts: np.ndarray, high: np.ndarray, low: np.ndarray) -> None:
    """Add matrices in two words."""
    for i in range(high.shape[0]):
        for j in range(high.shape[1]):
            s, e = parts[0, i, j], 0.0
            for k in range(1, parts.shape[0]):
                s, f = two_sum(s, parts[k, i, j])
                e += f
            high[i, j], low[i, j] = two_sum(s, e)


@compiled
def _dots(q: np.ndarray, keys: np.ndarray, high: np.ndarray, low: np.ndarray) -> None:
    for start in range(0, len(q), 8):
        for t in range(len(keys)):
            part = slice(t * TILE, (t + 1) * TILE)
            for i in range(start, start + 8):
                dot_tile(q[i], keys[t], high[i, part], low[i, part])


@compiled
def _sums(high: np.ndarray, low: np.ndarray, values: np.ndarray, out: np.ndarray, room: np.ndarray) -> None:
    for start in range(0, len(high), 8):
        for t in range(len(values) // TILE):
            part = slice(t * TILE, (t + 1) * TILE)
            for i in range(start, start + 8):
                w, e = high[i, part], low[i, part]
                weighted_sums(w, e, w, values[part], room[0], room[1], room[2])
                absorb(out[0, i], out[1, i], out[2, i], room[0], room[1], room[2])


def scores_by_slices(q: np.ndarray, k: np.ndarray, block: int = 128) -> None:
    """Exact dot products of binary32 rows, a block of queries at a time, in two words."""
    bits = (53 - (FEATURES - 1).bit_length()) // 2
    of_q, of_k = slices(q, bits, _ROW_BITS), slices(k, bits, _ROW_BITS)
    high, low = np.empty((block, len(k))), np.empty((block, len(k)))
    for start in range(0, len(q), block):
        rows = slice(start, start + block)
        _added(np.stack([a[rows] @ b.T for a in of_q for b in of_k]), high, low)


def sums_by_slices(w: np.ndarray, v: np.ndarray, block: int = 128) -> None:
    """Products of weights of two words with binary32 values, the sums of the slices left as they are."""
    bits = (53 - (len(v) - 1).bit_length()) // 2
    of_v = slices(v.T, bits, _ROW_BITS)
    for start in range(0, len(w), block):
        for part in slices(w[start : start + block], bits, _WEIGHT_BITS):
            for values in of_v:
                part @ values.T


def candidates(length: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, with the number of pairs of one call."""
    rng = np.random.default_rng(0)
    q, k, v = (
        rng.standard_normal((length, FEATURES)).astype(np.float32).astype(np.float64) for _ in range(3)
    )
    w = np.exp(-rng.exponential(size=(length, length)))
    keys, values = transposed_tiles(k), padded_rows(v)
    high, low = np.empty(w.shape), np.empty(w.shape)
    out, room = np.zeros((3, length, FEATURES)), np.empty((3, FEATURES))
    tasks: dict[str, Callable[[], object]] = {
        "scores by double words": lambda: _dots(q, keys, high, low),
        "scores by slices": lambda: scores_by_slices(q, k),
        "weighted sums by double words": lambda: _sums(w, w * 2.0**-54, values, out, room),
        "weighted sums by slices": lambda: sums_by_slices(w, v),
        "one product by BLAS": lambda: q @ k.T,
    }
    return {name: (task, length * length) for name, task in tasks.items()}


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--length", type=int, default=2048, metavar="L")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    times = measure(candidates(options.length), options.rounds)
    ratios = compared(times, RATIOS)
    show(times, ratios, "a pair")
    write(
        options.json,
        {"environment": describe(), "length": options.length, "seconds": times, "ratios": ratios},
    )


if __name__ == "__main__":
    main()
