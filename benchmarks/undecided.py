"""Count the roundings that the fast path leaves to the slow one, on random logits.

    python benchmarks/undecided.py [--elements N] [--json FILE]

Rows of 1000, correctly rounded to the format of the logits; the counts are of elements that Arb decided.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from interleaved import write

from softcert import reference
from softcert.conformance.environment import describe

LENGTH, BLOCK = 1000, 2000
SPREADS = (0.1, 1.0, 10.0)
DTYPES = ("float64", "float32")


def count(elements: int, spread: float, dtype: str) -> tuple[int, int]:
    """Elements rounded, of normal logits of a standard deviation, and how many were left open."""
    rng = np.random.default_rng(17)
    done = left = 0
    while done < elements:
        x = (rng.standard_normal((BLOCK, LENGTH)) * spread).astype(dtype)
        certified = reference.softmax(x, method="fast")
        certified.round(dtype)
        done, left = done + x.size, left + certified.undecided
    return done, left


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=100_000_000, metavar="N", help="of each kind")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    found = []
    for dtype in DTYPES:
        for spread in SPREADS:
            started = time.perf_counter()
            done, left = count(options.elements, spread, dtype)
            found.append({"dtype": dtype, "spread": spread, "elements": done, "left": left})
            seconds = time.perf_counter() - started
            print(f"{dtype}, N(0, {spread:g}^2): {left} of {done} left to Arb, {seconds:.0f} s")
    write(options.json, {"environment": describe(), "counts": found})


if __name__ == "__main__":
    main()
