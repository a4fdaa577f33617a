"""Count the roundings on which the fast path and an oracle disagree, over every family of inputs.

    python benchmarks/agreement.py [--op softmax|attention] [--elements N] [--oracle arb|mpmath] [--seed N]

Rows of softmax, log_softmax and logsumexp are those of the conformance suite's families, with several inverse
temperatures; attention goes forward and backward over small operands of many kinds. Into every format. One
disagreement ends in exit status 1 and is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert import reference
from softcert.conformance.inputs.families import FAMILIES, make_row
from softcert.reference.enclosure import numpy_dtype

Floats = NDArray[np.float64]

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
    return (
        fast.size * len(FORMATS),
        _disagreeing(fast, slow),
        fast.undecided,
        f"{op} of {family} ({rows}, {n}) {dtype} {keywords}",
    )


def _ties(rng: np.random.Generator, a: Floats) -> Floats:
    return np.round(a) if rng.random() < 0.5 else np.repeat(a[..., :1, :], a.shape[-2], axis=-2)


#: Kinds of operands of attention: what normal q, k and v become.
KINDS: dict[str, Callable[[np.random.Generator, list[Floats]], list[Floats]]] = {
    "normal": lambda _, a: a,
    "scaled": lambda rng, a: [x * 2.0 ** rng.integers(-12, 13) for x in a],
    "outliers": lambda rng, a: [np.where(rng.random(x.shape) < 0.02, 100 * x, x) for x in a],
    "ties": lambda rng, a: [a[0], _ties(rng, a[1]), a[2]],
    "grid": lambda _, a: [np.round(4 * x) / 4 for x in a],
    "equal values": lambda _, a: [a[0], a[1], np.ones_like(a[2]) * a[2].flat[0]],
    "shifted": lambda _, a: [a[0], a[1] + 40.0, a[2]],
    "offset values": lambda _, a: [a[0], a[1], a[2] + 50.0],
    "nearly equal": lambda _, a: [np.ones_like(a[0]), 1.0 + a[1] * 2.0**-50, a[2]],
    "wide": lambda _, a: [a[0] * 30, a[1] * 30, a[2]],
    "tiny": lambda _, a: [a[0], a[1], a[2] * 2.0**-140],
    "huge": lambda _, a: [a[0] * 1e30, a[1] * 1e30, a[2] * 1e30],
}
NARROW = ("float64", "float64", "float32", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2")


def compare_attention(rng: np.random.Generator, oracle: str) -> tuple[int, int, int, str]:
    """One call forward and one backward; see `compare`."""
    kind, dtype = str(rng.choice(sorted(KINDS))), numpy_dtype(reference.format_of(str(rng.choice(NARROW))))
    length, keys = (int(rng.choice((1, 2, 5, 17))) for _ in range(2))
    keys, depth, columns = keys * int(rng.choice((1, 4, 13))), *(int(rng.choice((1, 3, 8))) for _ in range(2))
    shapes = ((length, depth), (keys, depth), (keys, columns))
    with np.errstate(over="ignore", under="ignore"):
        q, k, v = (a.astype(dtype) for a in KINDS[kind](rng, [rng.standard_normal(s) for s in shapes]))
    params: dict[str, Any] = {"causal": bool(rng.random() < 0.3)}
    if rng.random() < 0.3:
        params["mask"] = rng.random((length, keys)) < 0.7
    slow = reference.attention_lse(q, k, v, **params, method=oracle)
    fast = reference.attention_lse(q, k, v, **params, method="fast")
    dout = rng.standard_normal((length, columns)).astype(dtype)
    out, lse = (np.nan_to_num(e.round(dtype).astype(np.float64), posinf=9.0, neginf=-9.0) for e in slow)
    both = [
        reference.attention_vjp(q, k, v, out, lse, dout, **params, method=method)
        for method in ("fast", oracle)
    ]
    pairs = [*zip(fast, slow, strict=True), *zip(*both, strict=True)]
    wrong = sum(_disagreeing(*pair) for pair in pairs)
    count, left = sum(a.size for a, _ in pairs) * len(FORMATS), sum(a.undecided for a, _ in pairs)
    return count, wrong, left, f"attention of {kind} {shapes} {dtype} {sorted(params)}"


def _disagreeing(fast: reference.Enclosure, slow: reference.Enclosure) -> int:
    wrong = int((~fast.overlaps(slow)).sum())
    for fmt in FORMATS:
        a, b = (e.round(fmt).astype(np.float64) for e in (fast, slow))
        wrong += int((~((a == b) | (np.isnan(a) & np.isnan(b)))).sum())
    return wrong


def main() -> int:
    """Compare until enough elements were; the exit status says whether all agreed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--op", choices=("softmax", "attention"), default="softmax")
    parser.add_argument("--elements", type=int, default=1_000_000, metavar="N", help="roundings to compare")
    parser.add_argument("--oracle", choices=("arb", "mpmath"), default="arb")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    one = compare_attention if options.op == "attention" else compare
    compared = disagreeing = slow = 0
    started = time.perf_counter()
    while compared < options.elements:
        count, wrong, undecided, what = one(rng, options.oracle)
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
