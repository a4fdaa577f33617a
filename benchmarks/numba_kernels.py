"""The numba backend against PyTorch, ONNX Runtime and a copy, in one interleaved run for each size.

    python benchmarks/numba_kernels.py [softmax | attention] [--rounds N] [--json FILE]

One thread each, float32. Rows of softmax fill 64 MiB and results go into memory that is there already, so
that kernels are timed and not the operating system; attention is timed through its public functions, results
allocated by both. Ratios are the other's time over ours, by rounds; an element of attention is a pair of a
query and a key.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from interleaved import compared, measure, show, with_one_blas_thread, write

os.environ["NUMBA_NUM_THREADS"] = "1"
with_one_blas_thread()

import numpy as np  # noqa: E402 - after the number of threads is settled
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from softcert.backends.numba_ import attention, softmax  # noqa: E402
from softcert.conformance.environment import describe  # noqa: E402

ELEMENTS = 1 << 24
#: Logits of a row.
ROWS = (128, 1024, 32768, 131072)
#: Heads, length and features, and whether causal.
SHAPES = tuple(
    (*shape, causal) for shape in ((8, 1024, 64), (8, 1024, 128), (2, 4096, 64)) for causal in (0, 1)
)

Timed = dict[str, tuple[Callable[[], object], int]]


def on_a_line(shape: tuple[int, int]) -> np.ndarray:
    """Room for a result that begins where a line of the cache does."""
    room = np.empty(ELEMENTS + 16, np.float32)
    first = (-room.ctypes.data % 64) // 4
    return room[first : first + ELEMENTS].reshape(shape)


def by_onnxruntime(x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Softmax of x into y by ONNX Runtime, one thread."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "xy"]
    node = helper.make_node("Softmax", ["x"], ["y"], axis=-1)
    graph = helper.make_graph([node], "softmax", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    bound = session.io_binding()
    bound.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    bound.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return partial(session.run_with_iobinding, bound)


def softmax_of(length: int) -> Timed:
    """What is timed for rows of a length."""
    x = np.random.default_rng(0).standard_normal((ELEMENTS // length, length), np.float32)
    y = on_a_line(x.shape)
    given, result = torch.from_numpy(x), torch.from_numpy(y)
    tasks: dict[str, Callable[[], object]] = {
        "numba": partial(softmax.kernel_of(x), x, y, y),
        "torch": lambda: torch.softmax(given, -1, out=result),
        "ONNX Runtime": by_onnxruntime(x, y),
        "copy": partial(np.copyto, y, x),
    }
    return {f"{name}, rows of {length}": (task, ELEMENTS) for name, task in tasks.items()}


def attention_of(heads: int, length: int, features: int, causal: int) -> Timed:
    """What is timed for a shape of attention."""
    rng = np.random.default_rng(0)
    q, k, v, dout = (rng.standard_normal((1, heads, length, features), np.float32) for _ in range(4))
    out, lse = attention.attention_lse(q, k, v, causal=bool(causal))
    given = [torch.from_numpy(a) for a in (q, k, v)]

    attend: Any = torch.nn.functional.scaled_dot_product_attention
    leaves = [a.detach().requires_grad_() for a in given]
    graph = attend(*leaves, is_causal=bool(causal))
    slopes = torch.from_numpy(dout)
    tasks: dict[str, Callable[[], object]] = {
        "numba forward": partial(attention.attention_lse, q, k, v, causal=bool(causal)),
        "torch forward": partial(attend, *given, is_causal=bool(causal)),
        "numba backward": partial(attention.attention_vjp, q, k, v, out, lse, dout, causal=bool(causal)),
        "torch backward": lambda: torch.autograd.grad(graph, leaves, slopes, retain_graph=True),
    }
    text = f"H={heads} S={length} D={features}{' causal' if causal else ''}"
    return {f"{name}, {text}": (task, heads * length * length) for name, task in tasks.items()}


def wanted(timed: Timed) -> list[tuple[str, str, str, float | None]]:
    """Which ratios are taken, and what is wanted of them."""
    first = next(iter(timed))
    _, _, what = first.partition(", ")
    if what.startswith("rows"):
        return [
            (f"torch, {what}", f"numba, {what}", "times its speed, at least", 1.5),
            (f"ONNX Runtime, {what}", f"numba, {what}", "times its speed, at least", 1.0),
            (f"numba, {what}", f"copy, {what}", "times the time of a copy, at most", 1.3),
        ]
    causal = what.endswith("causal")
    return [
        (
            f"torch forward, {what}",
            f"numba forward, {what}",
            "times its speed, at least",
            1.25 if causal else 1.0,
        ),
        (
            f"torch backward, {what}",
            f"numba backward, {what}",
            "times its speed, at least",
            1.4 if causal else 1.05,
        ),
    ]


def main() -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("softmax", "attention"))
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    torch.set_num_threads(1)
    makers: list[Callable[[], Timed]] = []
    if options.what != "attention":
        makers += [partial(softmax_of, length) for length in ROWS]
    if options.what != "softmax":
        makers += [partial(attention_of, *shape) for shape in SHAPES]
    record: dict[str, Any] = {"environment": describe(), "seconds": {}, "ratios": []}
    for make in makers:
        timed = make()
        times = measure(timed, options.rounds)
        ratios = compared(times, wanted(timed))
        show(times, ratios, "an element")
        record["seconds"] |= times
        record["ratios"] += ratios
    write(options.json, record)


if __name__ == "__main__":
    main()
