"""Count the roundings on which the fast path and an oracle disagree, over every family of inputs.

    python benchmarks/agreement.py [--elements N] [--oracle arb|mpmath] [--seed N]

The families are those of the conformance suite, with lengths from 1 to 3000 and several inverse
temperatures, into every format. One disagreement ends in exit status 1 and is printed.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from softcert import reference
from softcert.conformance.families import FAMILIES, make_row

LENGTHS = (1, 2, 3, 7, 16, 33, 64, 100, 257, 500)
BETAS = (1.0, 1.0, 0.5, 1.7, -0.3, 20.0)
DTYPES = ("float64", "float32", "float16")
FORMATS = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")
OPS = ("softmax", "softmax", "log_softmax", "logsumexp")


def compare(rng: np.random.Generator, oracle: str) -> tuple[int, int, int, str]:
    """One array: elements compared, roundings that disagree, roundings left to the slow path, what it was."""
    family, n = str(rng.choice(sorted(FAMILIES))), int(rng.choice(LENGTHS))
    dtype, op, beta = str(rng.choice(DTYPES)), str(rng.choice(OPS)), float(rng.choice(BETAS))
    spread, seed = float(rng.choice((0.01, 1.0, 10.0))), int(rng.integers(1 << 30))
    rows = max(1, 2000 // n)
    x = np.stack([make_row(family, n, seed + i, spread, dtype) for i in range(rows)])
    keywords = {"beta": beta} if op == "softmax" else {}
    fast = getattr(reference, op)(x, method="fast", **keywords)
    slow = getattr(reference, op)(x, method=oracle, **keywords)
    wrong = 0
    for fmt in FORMATS:
        a, b = (e.round(fmt).astype(np.float64) for e in (fast, slow))
        wrong += int((~((a == b) | (np.isnan(a) & np.isnan(b)))).sum())
    return (
        fast.size * len(FORMATS),
        wrong,
        fast.undecided,
        f"{op} of {family} ({rows}, {n}) {dtype} {keywords}",
    )


def main() -> int:
    """Compare until enough elements were; the exit status says whether all agreed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--elements", type=int, default=1_000_000, metavar="N", help="roundings to compare")
    parser.add_argument("--oracle", choices=("arb", "mpmath"), default="arb")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    compared = disagreeing = slow = 0
    started = time.perf_counter()
    while compared < options.elements:
        count, wrong, undecided, what = compare(rng, options.oracle)
        compared, disagreeing, slow = compared + count, disagreeing + wrong, slow + undecided
        if wrong:
            print(f"{wrong} disagree: {what}")
    print(
        f"{compared} roundings against {options.oracle}: {disagreeing} disagree, {slow} were left to it, "
        f"{time.perf_counter() - started:.0f} s"
    )
    return 1 if disagreeing else 0


if __name__ == "__main__":
    sys.exit(main())
