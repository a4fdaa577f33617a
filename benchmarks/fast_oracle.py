"""Certified softmax by the fast path against oracles and ordinary libraries, in one interleaved run.

    python benchmarks/fast_oracle.py [--rounds N] [--json FILE]

Medians with quartiles. The slow oracles get fewer elements, and all times are for one element.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import mpmath
import numpy as np
from flint import arb, ctx
from interleaved import compared, measure, show, write

from softcert import reference
from softcert.conformance.environment import describe

ROWS, LENGTH = 1000, 1000
#: Candidate, what it is compared with, and what the comparison is meant to show.
RATIOS = (
    ("mpmath interval loop", "certified binary64", "faster than the interval loop", 1500.0),
    ("mpmath loop", "certified binary64", "faster than a loop without enclosures", None),
    ("flint loop, 128 bits", "certified binary64", "faster than Arb in a Python loop", 75.0),
    ("certified binary64", "scipy float64", "times scipy's time, at most", 3.0),
    ("certified binary64", "torch float64", "times torch's time", None),
    ("torch float32", "certified binary32", "of torch's float32 speed, at least", 0.4),
    ("8000 rows, 1 thread", "8000 rows, 2 threads", "faster with two threads, at least", 1.8),
    ("8000 rows, 1 process", "8000 rows, 2 processes", "of it, what two processes apart gain here", None),
)


def by_intervals(row: list[float]) -> None:
    """Softmax of a row in mpmath's intervals, at 120 bits."""
    iv = mpmath.iv
    iv.prec = 120
    weights = [iv.exp(iv.mpf(v)) for v in row]
    total = sum(weights, iv.mpf(0))
    for weight in weights:
        weight / total


def by_mpmath(row: list[float]) -> None:
    """Softmax of a row in mpmath's numbers, at 120 bits, which encloses nothing."""
    with mpmath.workprec(120):
        weights = [mpmath.exp(v) for v in row]
        total = mpmath.fsum(weights)
        for weight in weights:
            weight / total


def by_flint(row: list[float]) -> None:
    """Softmax of a row in Arb's balls, at 128 bits."""
    ctx.prec = 128
    weights = [arb(v).exp() for v in row]
    total = sum(weights, arb(0))
    for weight in weights:
        weight / total


def certified(x: np.ndarray, fmt: str) -> None:
    """Correctly rounded softmax of every row."""
    reference.softmax(x, method="fast").round(fmt)


def with_threads(count: int, task: Callable[[], object]) -> Callable[[], None]:
    """The task, with so many threads for the fast path."""

    def run() -> None:
        os.environ["SOFTCERT_THREADS"] = str(count)
        task()

    return run


def in_process(_: int) -> None:
    """8000 certified rows in one thread, all of it in this process."""
    os.environ["SOFTCERT_THREADS"] = "1"
    certified(_long_rows(), "float64")


@lru_cache(maxsize=1)
def _long_rows() -> np.ndarray:
    return np.tile(np.random.default_rng(0).standard_normal((ROWS, LENGTH)), (8, 1))


def processes_alone(pool: ProcessPoolExecutor, count: int) -> None:
    """So many processes at once, which share nothing but the machine."""
    list(pool.map(in_process, range(count)))


def candidates(pool: ProcessPoolExecutor) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, with the number of elements of one call."""
    x = np.random.default_rng(0).standard_normal((ROWS, LENGTH))
    narrow = x.astype(np.float32)
    long = _long_rows()  # starting a thread costs more than a million elements
    found: dict[str, tuple[Callable[[], object], int]] = {
        "mpmath interval loop": (lambda: by_intervals(x[0].tolist()), LENGTH),
        "mpmath loop": (lambda: by_mpmath(x[0].tolist()), LENGTH),
        "flint loop, 128 bits": (lambda: by_flint(x[0].tolist()), LENGTH),
    }
    found["certified binary64"] = (with_threads(1, partial(certified, x, "float64")), x.size)
    found["certified binary32"] = (with_threads(1, partial(certified, narrow, "float32")), x.size)
    for count in (1, 2):
        task = with_threads(count, partial(certified, long, "float64"))
        found[f"8000 rows, {count} thread{'s' * (count > 1)}"] = (task, long.size)
    for count, name in ((1, "1 process"), (2, "2 processes")):
        task = partial(processes_alone, pool, count)
        found[f"8000 rows, {name}"] = (task, count * long.size)
    if find_spec("scipy"):
        from scipy.special import softmax

        found["scipy float64"] = (partial(softmax, x, axis=-1), x.size)
    if find_spec("torch"):
        import torch

        torch.set_num_threads(1)
        for name, array in (("float64", x), ("float32", narrow)):
            tensor = torch.from_numpy(array)
            found[f"torch {name}"] = (partial(torch.softmax, tensor, -1), x.size)
    return found


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        processes_alone(pool, 2)  # so that both have compiled
        times = measure(candidates(pool), options.rounds)
    ratios = compared(times, RATIOS)
    show(times, ratios, "an element")
    write(
        options.json,
        {"environment": describe(), "shape": [ROWS, LENGTH], "seconds": times, "ratios": ratios},
    )


if __name__ == "__main__":
    main()
