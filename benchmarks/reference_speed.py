"""Time of one certified element, and its ratio to what one would write with mpmath by hand.

The two are timed in turn, so that a change of clock speed or a busy neighbour hits both alike; the ratio of
each pair is what is stable from machine to machine. Medians with quartiles, not means.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import mpmath
import numpy as np

from softcert import reference
from softcert.conformance.environment import describe

LENGTHS = (16, 256, 4096)


def certified(row: Sequence[float]) -> None:
    """Correctly rounded softmax of a row in float32."""
    reference.softmax(np.array(row)).round("float32")


def by_hand(row: Sequence[float]) -> None:
    """The same digits from mpmath, at a precision that is hoped to be enough; nothing is proven."""
    with mpmath.workprec(128):
        weights = [mpmath.exp(z) for z in row]
        total = mpmath.fsum(weights)
        np.array([float(w / total) for w in weights], dtype=np.float32)


def seconds(function: Callable[[Sequence[float]], None], row: Sequence[float]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    function(row)
    return time.perf_counter() - start


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def measure(length: int, repeats: int) -> tuple[list[float], list[float]]:
    """Times of certified rows in seconds, and their ratios to rows by hand, from interleaved pairs."""
    generator = np.random.default_rng(length)
    times, ratios = [], []
    for repeat in range(repeats + 1):
        row = (4 * generator.standard_normal(length)).tolist()
        ours, theirs = seconds(certified, row), seconds(by_hand, row)
        if repeat:  # the first pair warms caches up
            times.append(ours)
            ratios.append(ours / theirs)
    return times, ratios


def main() -> None:
    """Print one line per row length."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15, help="pairs per row length (default 15)")
    repeats = max(parser.parse_args().repeats, 2)
    environment = describe()
    print(f"{environment['processor']}, Python {platform.python_version()}, {repeats} pairs each")
    heads = ("length", "us / element", "quartiles", "ratio to mpmath by hand", "quartiles")
    print("{:>8}  {:>12}  {:>15}  {:>24}  {:>13}".format(*heads))
    for length in LENGTHS:
        times, ratios = measure(length, repeats)
        low, middle, high = (1e6 * t / length for t in quartiles(times))
        rlow, rmiddle, rhigh = quartiles(ratios)
        spread, rspread = f"{low:.2f} - {high:.2f}", f"{rlow:.2f} - {rhigh:.2f}"
        print(f"{length:>8}  {middle:>12.2f}  {spread:>15}  {rmiddle:>24.2f}  {rspread:>13}")


if __name__ == "__main__":
    main()
