"""The rules by which others accept a kernel's results, as their sources state them.

A rule is asked about each sample that it speaks of. It notices an implementation where it rejects one; no
answer at all (an exception, a crash, a hang) fails anyone's test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from softcert.backends.convert import to_torch
from softcert.backends.types import Array

if TYPE_CHECKING:
    from rival_data import Sample

#: Integers of the width of a format, by which ulps are counted as its bit patterns.
_BITS = {"float32": "int32", "float16": "int16"}


def assert_close(sample: Sample, given: tuple[Array, ...]) -> bool:
    """`torch.testing.assert_close` with the tolerances that it has for each dtype."""
    try:
        for value, wanted in zip(given, sample.wanted, strict=True):
            torch.testing.assert_close(_tensor(value), _tensor(wanted))
    except (AssertionError, TypeError):
        return False
    return True


def allclose(sample: Sample, given: tuple[Array, ...]) -> bool:
    """`np.allclose(rtol=1e-2, atol=1e-2)`: shapes that broadcast, and other dtypes, pass."""
    pairs = zip(given, sample.wanted, strict=True)
    try:
        return all(np.allclose(_wide(a), _wide(b), rtol=1e-2, atol=1e-2) for a, b in pairs)
    except (ValueError, TypeError):
        return False


def twice_the_peer(sample: Sample, given: tuple[Array, ...]) -> bool:
    """FlashAttention's: at most twice the error of PyTorch in the same dtype, and what rounding 0.3 adds.

    Of a forward pass out alone is compared, of a backward pass dq, dk and dv; of a merge lse too, as in the
    test of its combining kernel.
    """
    if sample.call.op == "attention_merge":
        return _combines(sample, given)
    compared = 3 if sample.call.op == "attention_vjp" else 1
    for value, single, peer in list(zip(given, sample.single, sample.peer, strict=False))[:compared]:
        if value.shape != tuple(single.shape):
            return False
        reference = single.to(peer.dtype)
        allowed = 2 * _distance(peer, reference) + 2 * _distance(reference + 0.3 - 0.3, reference)
        if not _distance(_tensor(value), reference) <= allowed:
            return False
    return True


def _combines(sample: Sample, given: tuple[Array, ...]) -> bool:
    out, lse = (_tensor(value) for value in given)
    if out.shape != sample.single[0].shape or lse.shape != sample.single[1].shape:
        return False
    if not torch.allclose(lse.float(), sample.single[1], atol=1e-5, rtol=1e-5):
        return False
    peer = sample.peer[0]
    near = _distance(out, sample.single[0]) <= 2 * _distance(peer, sample.single[0])
    return near or torch.allclose(out.float(), peer.float(), atol=1e-5, rtol=1e-5)


def webnn(sample: Sample, given: tuple[Array, ...]) -> bool:
    """WebNN's conformance tests of softmax: 3 n + 3 ulps, counted as the distance of bit patterns."""
    (value,), (wanted,) = given, sample.wanted
    if value.shape != wanted.shape or value.dtype != wanted.dtype:
        return False
    bits = _BITS[wanted.dtype.name]
    length = wanted.shape[int(sample.call.params["axis"])]
    far = np.abs(_integers(value, bits) - _integers(wanted, bits)) > 3 * length + 3
    return not bool((far & (value != wanted)).any())


def _integers(value: Array, bits: str) -> Array:
    return np.ascontiguousarray(value).view(bits).astype(np.int64)


def _tensor(value: Array) -> Tensor:
    tensor: Tensor = to_torch(np.ascontiguousarray(value))
    return tensor


def _wide(value: Array) -> Array:
    return value if value.dtype.kind == "c" else value.astype(np.float64)


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference; NaN where one is NaN, which is not at most anything."""
    return float((a - b).abs().max())


@dataclass(frozen=True)
class Rule:
    """A rule of acceptance.

    Attributes
    ----------
    name, source : what it is called, and where it is stated.
    accepts : whether it accepts the results of a sample.
    ops, dtypes : of which it speaks.
    """

    name: str
    source: str
    accepts: Callable[[Sample, tuple[Array, ...]], bool]
    ops: tuple[str, ...]
    dtypes: tuple[str, ...]


_SOFTMAX = ("softmax", "log_softmax", "logsumexp", "softmax_vjp", "softmax_jvp")
_ATTENTION = ("attention", "attention_lse", "attention_vjp", "attention_merge")
_ALL = ("float64", "float32", "float16", "bfloat16")

RULES: Mapping[str, Rule] = {
    "assert_close": Rule(
        "torch.testing.assert_close",
        "PyTorch's defaults for each dtype, against binary64 rounded to it",
        assert_close,
        (*_SOFTMAX, *_ATTENTION),
        _ALL,
    ),
    "allclose": Rule(
        "np.allclose at 1e-2",
        "rtol = atol = 1e-2, as KernelBench has for 16 bits and BackendBench for all",
        allclose,
        (*_SOFTMAX, *_ATTENTION),
        _ALL,
    ),
    "flash": Rule(
        "FlashAttention's twice the peer",
        "Dao-AILab/flash-attention, tests/cute/test_flash_attn.py and test_flash_attn_combine.py",
        twice_the_peer,
        _ATTENTION,
        ("float16", "bfloat16"),
    ),
    "webnn": Rule(
        "WebNN's 3n + 3 ulps",
        "web-platform-tests, webnn/resources/utils.js: getSoftmaxPrecisionTolerance",
        webnn,
        ("softmax",),
        ("float32", "float16"),
    ),
}
