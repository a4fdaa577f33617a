"""The merge of two parts has the bounds of attention over two keys, whatever the number of queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.bounds.attention_merge import merge_bounds
from softcert.reference import format_of

F16, F32, F64 = (format_of(name) for name in ("float16", "float32", "float64"))


def parts(count, width=3):
    rng = np.random.default_rng(count)
    return 4.0 * rng.standard_normal((2, count)), rng.standard_normal((2, count, width))


def alone(lse, out, i, a):
    """Bounds of one query: attention with scale 1 over the keys lse_a and lse_b that are not empty.

    A third key is hidden: the largest of its block of 64, whose size the underflow of scores is counted by.
    """
    block = lse[:, i // 64 * 64 : i // 64 * 64 + 64]
    largest = np.abs(np.where(np.isfinite(block), block, 0.0)).max()
    shown = np.append(lse[:, i] > -np.inf, False)
    keys = np.where(shown, np.append(lse[:, i], 0.0), largest).reshape(1, -1, 1)
    values = np.concatenate([out[:, i], np.zeros((1, out.shape[-1]))])[None]
    found = attention_bounds(Operands(np.ones((1, 1, 1)), keys, values, 1.0, mask=shown), a)
    return found.out[0, 0], found.lse[0, 0], found.out_size[0, 0]


def plain(a):
    """Arithmetic in which no weight is stored narrower, no matrix unit adds, and lse is kept as made."""
    a = replace(a, weights=a.compute, scores=a.compute, group=1)
    return replace(a, compute=F32, accumulator=F32) if a.compute == F16 else a


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
@pytest.mark.parametrize("contract", [Contract(), Contract(compute="float16", accumulator="float16")])
def test_each_query_has_the_bounds_of_two_keys(contract, count):
    a = attention_arithmetic(contract, "float16")
    lse, out = parts(count)
    bounds = merge_bounds(lse, out, a)
    assert [b.shape for b in bounds] == [(count, 3), (count,), (count, 3)]
    for i in {0, 1, 62, 63, 64, count - 1} & set(range(count)):
        for ours, theirs in zip(bounds, alone(lse, out, i, plain(a)), strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_an_empty_part_is_left_out(dtype):
    a = attention_arithmetic(Contract(), dtype)
    lse, out = parts(4)
    lse[0, 1] = lse[1, 2] = lse[0, 3] = lse[1, 3] = -np.inf
    of_out, of_lse, size = merge_bounds(lse, out, a)
    for i in range(3):
        wanted = alone(lse, out, i, plain(a))
        np.testing.assert_allclose(of_out[i], wanted[0], rtol=1e-6)
        np.testing.assert_allclose(of_lse[i], wanted[1], rtol=1e-6)
    np.testing.assert_allclose(size[1], np.abs(out[1, 1]), rtol=1e-6)
    np.testing.assert_allclose(size[2], np.abs(out[0, 2]), rtol=1e-6)
    assert (of_out[3] == 0.0).all()
    assert of_lse[3] == 0.0


def test_steps_wider_than_the_lse_keep_their_width():
    a = attention_arithmetic(Contract(compute="float64", accumulator="float64"), "float32")
    lse, out = parts(1)
    narrow = merge_bounds(lse, out, attention_arithmetic(Contract(), "float32"))
    wide = merge_bounds(lse, out, a)
    assert (wide[0] < narrow[0] / 2).all()
    np.testing.assert_allclose(wide[0][0], alone(lse, out, 0, plain(a))[0], rtol=1e-6)
