"""What the hierarchical and the differentiated softmax cost against the full one, to a million classes.

    python benchmarks/hierarchical.py [--rounds N] [--features D] [--largest BITS] [--json FILE]

float32, one thread, BLAS too, in processor time, which other work on the machine moves least. Timed are one
log-probability, scores and logits given, and one training step: loss, and gradients by the hidden vector and
by every vector that it depends on. Classes are drawn by Zipf's law, whose counts the Huffman tree is of. Each
round times every candidate at every number of classes once, in an order of its own. Growth is the exponent of
K over the largest three, as `softcert bench` fits it.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from interleaved import measure, quartiles, with_one_blas_thread, write

os.environ["NUMBA_NUM_THREADS"] = "1"
with_one_blas_thread()

import numpy as np  # noqa: E402 - after the number of threads is settled

from softcert.backends.numba_ import softmax  # noqa: E402
from softcert.backends.numba_.differentiated import (  # noqa: E402
    differentiated_softmax,
    differentiated_softmax_vjp,
)
from softcert.backends.numba_.hierarchical import hierarchical_log_softmax, hierarchical_step  # noqa: E402
from softcert.conformance.environment import describe  # noqa: E402
from softcert.reference import (  # noqa: E402
    balanced_tree,
    differentiated_multiplications,
    huffman_tree,
)
from softcert.reports.speed import growths  # noqa: E402

Timed = dict[str, tuple[Callable[[], object], int]]

#: Classes drawn beforehand, all of which one call of a tree is about.
_DRAWN = 1024
#: Logits of one call of the full softmax, at least where there is more than a row of them.
_AT_ONCE = 1 << 18
#: Blocks of the differentiated softmax: shares of the classes and of the features.
_BLOCKS = ((1 / 16, 1 / 2), (3 / 16, 1 / 4), (3 / 4, 1 / 4))
#: Rows, classes and features of the differentiated softmax.
_LAYER = (64, 1 << 15, 512)


def processor_time(task: Callable[[], object]) -> float:
    """Seconds of the processor that a task takes."""
    start = time.process_time()
    task()
    return time.process_time() - start


def zipf(classes: int) -> list[int]:
    """Counts of classes by rank."""
    return [10**9 // rank for rank in range(1, classes + 1)]


def full_step(h: np.ndarray, w: np.ndarray, classes: np.ndarray, dw: np.ndarray) -> object:
    """Losses of rows of h, and their gradients by h and, summed, by the vectors w of all classes."""
    logs = softmax.log_softmax(h @ w.T)
    slopes = np.exp(logs)
    rows = np.arange(len(h))
    losses = -logs[rows, classes]
    slopes[rows, classes] -= 1
    if len(h) == 1:
        np.multiply(slopes.T, h, out=dw)  # which BLAS takes twice as long for
    else:
        np.matmul(slopes.T, h, out=dw)
    return losses, slopes @ w


def of_classes(classes: int, features: int) -> tuple[Timed, dict[str, float]]:
    """What is timed for a number of classes, and the mean path length of the trees."""
    rng = np.random.default_rng(0)
    counts = zipf(classes)
    shares = np.array(counts) / sum(counts)
    trees = {"balanced": balanced_tree(classes), "Huffman": huffman_tree(counts)}
    drawn = rng.choice(classes, _DRAWN, p=shares)
    scores = rng.standard_normal((1, classes - 1), np.float32)
    vectors = rng.standard_normal((classes, features), np.float32)
    hidden = rng.standard_normal((_DRAWN, features), np.float32)
    rows = min(_DRAWN, max(1, _AT_ONCE // classes))
    logits = rng.standard_normal((rows, classes), np.float32)
    room = np.empty_like(vectors)
    timed: Timed = {}
    for name, tree in trees.items():
        timed[f"log-probability {name}"] = (
            partial(hierarchical_log_softmax, scores, drawn[None], *tree),
            _DRAWN,
        )
        timed[f"step {name}"] = (partial(hierarchical_step, hidden, vectors[:-1], drawn, *tree), _DRAWN)
    timed["log-probability full"] = (partial(softmax.log_softmax, logits), rows)
    timed["step full"] = (partial(full_step, hidden[:rows], vectors, drawn[:rows], room), rows)
    lengths = {name: float(shares @ tree.lengths) for name, tree in trees.items()}
    return {f"{name}, K = {classes}": task for name, task in timed.items()}, lengths


def of_blocks() -> tuple[Timed, float]:
    """The differentiated softmax and a dense layer, and the ratio of their multiplications."""
    rng = np.random.default_rng(1)
    rows, classes, features = _LAYER
    h = rng.standard_normal((rows, features), np.float32)
    shapes = [(int(v * classes), int(d * features)) for v, d in _BLOCKS]
    layers = {
        "differentiated": [rng.standard_normal(shape, np.float32) for shape in shapes],
        "dense": [rng.standard_normal((classes, features), np.float32)],
    }
    timed: Timed = {}
    for name, weights in layers.items():
        y = differentiated_softmax(h, weights)
        timed[f"logits {name}"] = (partial(products, h, weights, np.empty_like(y)), rows)
        timed[f"softmax {name}"] = (partial(differentiated_softmax, h, weights), rows)
        timed[f"gradients {name}"] = (partial(differentiated_softmax_vjp, h, weights, y, y), rows)
    wanted = {name: differentiated_multiplications(weights) for name, weights in layers.items()}
    return timed, wanted["dense"] / wanted["differentiated"]


def products(h: np.ndarray, weights: list[np.ndarray], out: np.ndarray) -> None:
    """The logits of each block alone."""
    row = column = 0
    for w in weights:
        np.matmul(h[:, column : column + w.shape[1]], w.T, out=out[:, row : row + len(w)])
        row, column = row + len(w), column + w.shape[1]


def show_trees(times: dict[str, list[float]], ladder: list[int], lengths: dict[str, list[float]]) -> None:
    """Print the medians with quartiles by classes, nodes of a path, and growth."""
    for task in ("log-probability", "step"):
        print(f"\n{task}: ns, [quartiles], nodes of a path")
        for place, classes in enumerate(ladder):
            cells = []
            for name in ("balanced", "Huffman", "full"):
                low, middle, high = (1e9 * t for t in quartiles(times[f"{task} {name}, K = {classes}"]))
                path = f" {lengths[name][place]:.1f}" if name in lengths else ""
                cells.append(f"{name} {middle:.0f} [{low:.0f}, {high:.0f}]{path}")
            print(f"K = {classes:8}: " + "; ".join(cells))
    rows = [
        {
            "op": name.partition(", K")[0],
            "dtype": "float32",
            "shape": (1, int(name.rpartition(" ")[2])),
            "seconds": median(samples),
            "samples": samples,
        }
        for name, samples in times.items()
        if ", K = " in name
    ]
    for growth in growths(rows):
        low, high, _ = growth.interval or (growth.exponent, growth.exponent, 0.0)
        print(f"{growth.op}: K^{growth.exponent:.2f} [{low:.2f}, {high:.2f}] over K = {growth.lengths}")


def show_blocks(times: dict[str, list[float]], wanted: float) -> None:
    """Print what a dense layer takes of the time of the differentiated one, by rounds."""
    print(f"\ndense / differentiated, by multiplications {wanted:.2f}")
    for task in ("logits", "softmax", "gradients"):
        pairs = zip(times[f"{task} dense"], times[f"{task} differentiated"], strict=True)
        low, middle, high = quartiles([a / b for a, b in pairs])
        here = [1e6 * median(times[f"{task} {name}"]) for name in ("dense", "differentiated")]
        print(f"{task}: {middle:.2f} [{low:.2f}, {high:.2f}]; {here[0]:.1f} and {here[1]:.1f} us a row")


def main() -> None:
    """Print the tables, and write the times as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--features", type=int, default=64, metavar="D")
    parser.add_argument("--largest", type=int, default=20, metavar="BITS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    ladder = [1 << bits for bits in range(4, options.largest + 1, 2)]
    timed: Timed = {}
    lengths: dict[str, list[float]] = {"balanced": [], "Huffman": []}
    for classes in ladder:
        tasks, paths = of_classes(classes, options.features)
        timed |= tasks
        for name, length in paths.items():
            lengths[name].append(length)
    times = measure(timed, options.rounds, processor_time)
    show_trees(times, ladder, lengths)
    blocks, wanted = of_blocks()
    of_layer = measure(blocks, options.rounds, processor_time)
    show_blocks(of_layer, wanted)
    record: dict[str, Any] = {"environment": describe(), "lengths": lengths, "seconds": times | of_layer}
    write(options.json, record)


if __name__ == "__main__":
    main()
