"""Certified attention by the fast path against binary64 attention in NumPy, in one interleaved run.

    python benchmarks/attention_oracle.py [--rounds N] [--length L] [--json FILE]

One head, L queries and keys, 64 features, binary32 and bfloat16 operands, one thread. Medians with quartiles,
then what one call adds to the peak of a process's memory, for lengths that double.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interleaved import compared, measure, show, with_one_blas_thread, write

with_one_blas_thread()

import ml_dtypes  # noqa: E402 - after the number of threads is settled
import numpy as np  # noqa: E402

from softcert import reference  # noqa: E402
from softcert.conformance.environment import describe  # noqa: E402

FEATURES = 64
RATIOS = (
    ("certified forward, binary32 rounded", "numpy forward", "times NumPy's time, at most", 20.0),
    ("certified forward, bfloat16 rounded", "numpy forward", "times NumPy's time, at most", 20.0),
    ("certified forward, errors in ulps", "numpy forward", "times NumPy's time", 20.0),
    ("certified backward, binary32 rounded", "numpy backward", "times NumPy's time, at most", 30.0),
    ("certified backward, bfloat16 rounded", "numpy backward", "times NumPy's time, at most", 30.0),
    ("certified forward, 2 threads", "certified forward, errors in ulps", "of the time of one thread", None),
)


def operands(length: int, dtype: Any = np.float32) -> list[np.ndarray]:
    """Return q, k, v and dout, (length, 64) each, normal."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, FEATURES)).astype(dtype) for _ in range(4)]


def by_numpy(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Attention in binary64, with as few passes over the scores as NumPy allows."""
    scores = q @ k.T
    scores *= 1.0 / np.sqrt(FEATURES)
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    out: np.ndarray = (scores @ v) / scores.sum(axis=1, keepdims=True)
    return out


def back_by_numpy(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, out: np.ndarray, lse: np.ndarray, dout: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cotangents of q, k and v in binary64."""
    scale = 1.0 / np.sqrt(FEATURES)
    p = q @ k.T
    p *= scale
    p -= lse[:, None]
    np.exp(p, out=p)
    dv = p.T @ dout
    ds = dout @ v.T
    ds -= (dout * out).sum(axis=1, keepdims=True)
    ds *= p
    return ds @ k * scale, ds.T @ q * scale, dv


def forward(q: np.ndarray, k: np.ndarray, v: np.ndarray, fmt: Any) -> None:
    """Correctly rounded attention."""
    reference.attention(q, k, v, method="fast").round(fmt)


def errors(q: np.ndarray, k: np.ndarray, v: np.ndarray, y: np.ndarray) -> None:
    """Certified errors of an output, which binary64 alone does not give."""
    reference.attention(q, k, v, method="fast").error_ulp(y)


def backward(given: list[np.ndarray], fmt: Any) -> None:
    """Correctly rounded cotangents."""
    for cotangent in reference.attention_vjp(*given, method="fast"):
        cotangent.round(fmt)


def in_threads(count: int, task: Callable[[], None]) -> Callable[[], None]:
    """The task, with so many threads for the fast path."""

    def run() -> None:
        os.environ["SOFTCERT_THREADS"] = str(count)
        task()

    return run


def candidates(length: int) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, a pair of a query and a key being the element."""
    found: dict[str, Callable[[], object]] = {}
    for name, dtype in (("binary32", np.float32), ("bfloat16", ml_dtypes.bfloat16)):
        q, k, v, dout = operands(length, dtype)
        out, lse = reference.attention_lse(q, k, v, method="fast")
        given = [q, k, v, out.round(dtype), lse.round(np.float32), dout]
        found[f"certified forward, {name} rounded"] = in_threads(1, partial(forward, q, k, v, dtype))
        found[f"certified backward, {name} rounded"] = in_threads(1, partial(backward, given, dtype))
        if name == "binary32":
            wide = [a.astype(np.float64) for a in given]
            found["numpy forward"] = partial(by_numpy, *wide[:3])
            found["numpy backward"] = partial(back_by_numpy, *wide)
            task = partial(errors, q, k, v, given[3])
            found["certified forward, errors in ulps"] = in_threads(1, task)
            found["certified forward, 2 threads"] = in_threads(2, task)
    return {name: (task, length * length) for name, task in found.items()}


def peak(length: int) -> int:
    """Bytes that one forward and backward pass adds to the peak memory of a process of its own."""
    command = [sys.executable, __file__, "--peak", str(length)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603


def measure_peak(length: int) -> int:
    """The same in this process, after a small pass has compiled everything."""

    def both(n: int) -> None:
        q, k, v, dout = operands(n)
        out, lse = reference.attention_lse(q, k, v, method="fast")
        given = out.round("float32"), lse.round("float32")
        out.error_ulp(given[0])
        backward([q, k, v, *given, dout], "float32")

    both(128)
    # Compilation has had a peak of its own, which this forgets (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = memory("VmRSS")
    both(length)
    return memory("VmHWM") - before


def memory(name: str) -> int:
    """Bytes that Linux counts for this process under a name of /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--length", type=int, default=2048, metavar="L")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(measure_peak(options.peak))
        return
    times = measure(candidates(options.length), options.rounds)
    ratios = compared(times, RATIOS)
    show(times, ratios, "a pair")
    peaks = {n: peak(n) for n in (options.length * 2**k for k in range(4))}
    for n, size in peaks.items():
        print(f"peak memory of L = S = {n}: {size / 2**20:.0f} MiB, {size / n:.0f} bytes a query")
    record = {"environment": describe(), "length": options.length, "seconds": times}
    write(options.json, {**record, "ratios": ratios, "peak_bytes": peaks})


if __name__ == "__main__":
    main()
