"""The Triton backends on a GPU against a copy, a product of matrices, and the kernels of PyTorch.

    python benchmarks/gpu_kernels.py [softmax | attention] [--rounds N] [--json FILE]

It needs PyTorch, Triton and a GPU, and of softcert `src` on PYTHONPATH. One interleaved run for each size,
timed by events of the GPU. What softmax moves is compared with a copy of as many bytes, and what attention
multiplies with an 8192^3 product in bfloat16; attention has 4 B H L S D operations forward and 10 backward,
half of them under a causal mask. Before a kernel is timed its result is compared with PyTorch's.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from interleaved import Candidates, Ratios, compared, measure, show, write

#: Numbers of softmax, 1 GiB of float32; lengths of its rows, and what of a copy's rate is wanted at each.
NUMBERS = 1 << 28
ROWS = {128: 0.85, 512: 0.85, 1024: 0.92, 4096: 0.92, 32768: 0.92, 65536: 0.80, 131072: 0.68}
#: Batches, heads, length and features of attention.
SHAPE = (2, 16, 8192, 128)
#: Shares of the product's rate that are wanted, by backend, pass and whether causal.
WANTED = {
    ("triton", "forward", False): 0.58,
    ("triton", "forward", True): 0.50,
    ("triton", "backward", False): 0.42,
    ("triton", "backward", True): 0.36,
    ("triton-hopper", "forward", False): 0.82,
    ("triton-hopper", "forward", True): 0.74,
    ("triton-hopper", "backward", False): 0.64,
    ("triton-hopper", "backward", True): 0.56,
}
#: Of cuDNN's speed, by pass.
WANTED_OF_CUDNN = {"forward": 0.93, "backward": 0.9}
Run = tuple[Candidates, Ratios]


def main() -> None:
    """Print the tables, and write them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("softmax", "attention"))
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("gpu_kernels.py needs PyTorch and Triton: pip install 'softcert[gpu]'")
    if not torch.cuda.is_available():
        sys.exit("gpu_kernels.py times kernels on a GPU, and PyTorch finds none here")
    record: dict[str, Any] = {"environment": environment(), "seconds": {}, "ratios": []}
    makers: list[Callable[[], Run]] = []
    if options.what != "attention":
        makers += [partial(softmax_of, length, dtype) for dtype in ("float32", "bfloat16") for length in ROWS]
    if options.what != "softmax":
        makers += [partial(attention_of, causal=causal) for causal in (False, True)]
    for make in makers:
        timed, ratios = make()
        times = measure(timed, options.rounds, event_time)
        found = compared(times, ratios)
        show(times, found, "a byte or operation")
        record["seconds"] |= times
        record["ratios"] += found
        write(options.json, record)


def event_time(task: Callable[[], object]) -> float:
    """Seconds that a task takes on the GPU."""
    import torch

    event: Any = torch.cuda.Event
    start, end = (event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    task()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def environment() -> dict[str, str]:
    """GPU, versions and date."""
    import torch
    import triton

    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def softmax_of(length: int, dtype: str) -> Run:
    """What is timed for rows of a length: two tensors' bytes each."""
    import torch

    from softcert.backends.triton_ import softmax as kernels

    x = torch.randn(NUMBERS // length, length, device="cuda").to(getattr(torch, dtype))
    room = torch.empty_like(x)
    compare(kernels.forward("softmax", x), torch.softmax(x.float(), -1), f"softmax of rows of {length}")
    what = f"{dtype} rows of {length}"
    tasks: dict[str, Callable[[], object]] = {
        f"copy, {what}": partial(room.copy_, x),
        f"triton, {what}": partial(kernels.forward, "softmax", x),
        f"torch, {what}": partial(torch.softmax, x, -1),
    }
    moved = 2 * x.numel() * x.element_size()
    ratios = [
        (f"copy, {what}", f"triton, {what}", "of a copy's rate, at least", ROWS[length]),
        (f"torch, {what}", f"triton, {what}", "times PyTorch's speed", None),
    ]
    return {name: (task, moved) for name, task in tasks.items()}, ratios


def attention_of(*, causal: bool) -> Run:
    """What is timed for attention and its gradient, bfloat16."""
    import torch

    q, k, v, slope = (torch.randn(SHAPE, device="cuda", dtype=torch.bfloat16) for _ in range(4))
    square = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    batches, heads, length, features = SHAPE
    pairs = batches * heads * length * length * features * (0.5 if causal else 1.0)
    timed: dict[str, tuple[Callable[[], object], int]] = {}
    timed["product"] = (partial(torch.matmul, square, square), 2 * 8192**3)
    passes = {**dict(ours(q, k, v, slope, causal)), **dict(theirs(q, k, v, slope, causal))}
    suffix = " causal" if causal else ""
    for (name, way), task in passes.items():
        timed[f"{name} {way}{suffix}"] = (task, int((4 if way == "forward" else 10) * pairs))
    ratios: list[tuple[str, str, str, float | None]] = []
    for name, way in passes:
        wanted = WANTED.get((name, way, causal))
        ratios.append(("product", f"{name} {way}{suffix}", "of the product's rate, at least", wanted))
    for way, wanted in WANTED_OF_CUDNN.items():
        pair = (f"cudnn {way}{suffix}", f"triton-hopper {way}{suffix}")
        ratios.append((*pair, "of cuDNN's speed, at least", wanted))
    return timed, ratios


def ours(
    q: Any, k: Any, v: Any, slope: Any, causal: bool
) -> Iterator[tuple[tuple[str, str], Callable[[], object]]]:
    """Passes of the Triton backends, compared with PyTorch's mathematics on two heads first."""
    import torch

    from softcert.backends.triton_ import attention as portable
    from softcert.backends.triton_ import hopper_launch as hopper

    scale, offset = 1.0 / math.sqrt(q.shape[-1]), 0 if causal else None
    alignment: portable.Causal = "bottom-right" if causal else "none"
    attend: Any = torch.nn.functional.scaled_dot_product_attention
    expected = attend(*(t[:1, :2].float() for t in (q, k, v)), is_causal=causal)
    out, lse = portable.forward(q, k, v, causal=alignment)
    compare(out[:1, :2], expected, "triton forward")
    yield ("triton", "forward"), partial(portable.forward, q, k, v, causal=alignment)
    yield (
        ("triton", "backward"),
        partial(portable.backward, q, k, v, out, lse, slope, causal=alignment),
    )
    if torch.cuda.get_device_capability() != (9, 0):
        return
    compare(hopper.forward(q, k, v, scale, offset)[0][:1, :2], expected, "triton-hopper forward")
    gradients = portable.backward(q, k, v, out, lse, slope, causal=alignment)
    for one, other in zip(hopper.backward(q, k, v, out, lse, slope, scale, offset), gradients, strict=True):
        compare(one, other, "triton-hopper backward")
    yield ("triton-hopper", "forward"), partial(hopper.forward, q, k, v, scale, offset)
    yield (
        ("triton-hopper", "backward"),
        partial(hopper.backward, q, k, v, out, lse, slope, scale, offset),
    )


def theirs(
    q: Any, k: Any, v: Any, slope: Any, causal: bool
) -> Iterator[tuple[tuple[str, str], Callable[[], object]]]:
    """Passes of the fused kernels of PyTorch."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    attend: Any = torch.nn.functional.scaled_dot_product_attention
    for name, kind in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        leaves = [t.detach().requires_grad_() for t in (q, k, v)]
        with sdpa_kernel(kind):
            graph = attend(*leaves, is_causal=causal)

        def forward(kind: Any = kind) -> object:
            with sdpa_kernel(kind):
                return attend(q, k, v, is_causal=causal)

        yield (name, "forward"), forward
        yield (name, "backward"), partial(torch.autograd.grad, graph, leaves, slope, retain_graph=True)


def compare(got: Any, expected: Any, what: str) -> None:
    """Exit where a result is not PyTorch's to within the rounding of bfloat16: its speed says nothing."""
    error = (got.float() - expected.float()).abs().max().item()
    largest = expected.float().abs().max().item()
    if not error <= 2.0**-6 * max(largest, 1e-3):
        sys.exit(f"{what} is off by {error:.3g} of {largest:.3g}: not timed")


if __name__ == "__main__":
    main()
