"""Vectors in compiled code: the exponential, the formats of 16 bits, products of matrices."""

import ml_dtypes
import numpy as np
import pytest

from softcert.backends.numba_ import lanes
from softcert.backends.numba_.compiled import compiled
from softcert.backends.numba_.exponential import exponential
from softcert.backends.numba_.lanes_memory import load, load_part, store, store_part
from softcert.backends.numba_.products import multiply

RNG = np.random.default_rng(11)


@compiled
def exponentials(d, e, y):
    for i in range(0, d.size, 16):
        store(y, i, exponential(load(d, i), load(e, i)))


@compiled
def exponentials_in_float64(d, e, y):
    for i in range(0, d.size, 8):
        store(y, i, exponential(load(d, i), load(e, i)))


@compiled
def copied(x, y):
    for i in range(0, x.size, 16):
        store_part(y, i, x.size - i, load_part(x, i, x.size - i, np.float32(1.0)))


@compiled
def product(a, b, c, sizes, lanes, turned, keep):
    m, n, depth = sizes
    multiply(a, 0, 1 if turned else depth, m if turned else 1, b, 0, n, c, 0, n, m, n, depth, lanes, keep)


def ulps(y, exact):
    """Errors of float32 numbers in units in the last place at the exact value."""
    return np.abs(y - exact) / np.ldexp(1.0, np.maximum(np.frexp(exact)[1] - 24, -149))


def worst_exponential(bits, share):
    """The largest error in ulps over negative floats of these bits, the second word a share of their ulp."""
    worst = 0.0
    for first in range(bits.start, bits.stop, bits.step << 22):
        d = -np.arange(first, min(first + (bits.step << 22), bits.stop), bits.step, dtype=np.int32).view("f4")
        d = d[: d.size // 16 * 16]
        e = (share * np.spacing(-d)).astype(np.float32)
        y = np.empty_like(d)
        exponentials(d, e, y)
        worst = max(worst, ulps(y, np.exp(d.astype(float) + e)).max(initial=0.0))
    return worst


BITS = range(int(np.float32(2.0**-30).view(np.int32)), int(np.float32(104.0).view(np.int32)))


@pytest.mark.parametrize("share", [0.0, 0.5, -0.5])
def test_the_exponential_is_within_an_ulp(share):
    assert worst_exponential(BITS[::1009], share) < 0.92


@pytest.mark.slow  # ten seconds
def test_the_exponential_is_within_nine_tenths_of_an_ulp_of_every_float32():
    assert worst_exponential(BITS, 0.0) < 0.895


def test_the_exponential_of_float64_is_within_an_ulp():
    d = -RNG.random(1 << 16) * 700.0
    y = np.empty_like(d)
    exponentials_in_float64(d, np.zeros_like(d), y)
    exact = np.exp(d.astype(np.longdouble))
    assert np.max(np.abs(y - exact) / np.spacing(exact.astype(float))) < 0.95


def test_the_ends_of_the_exponential():
    d = np.array([0.0, -0.0, -np.inf, np.nan, -104.0, -103.5, -1e30, -88.0] * 2, np.float32)
    e = np.where(np.isinf(d), np.float32(np.nan), np.float32(0.0))
    y = np.empty_like(d)
    exponentials(d, e, y)
    np.testing.assert_array_equal(y[:8], np.exp(d[:8].astype(float)).astype(np.float32))


@pytest.mark.parametrize(("dtype", "bits"), [("float16", np.int16), ("bfloat16", np.uint16)])
def test_numbers_of_16_bits_survive_being_widened(dtype, bits):
    every = np.arange(1 << 16, dtype=np.uint16).view(bits)
    back = np.empty_like(every)
    copied(every, back)
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    before, after = (a.view(kind).astype(np.float32) for a in (every, back))
    np.testing.assert_array_equal(before, after)


def test_narrowing_to_bfloat16_rounds_to_nearest_even():
    near = np.arange(1 << 16, dtype=np.uint32) << 16
    x = np.concatenate([near + k for k in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)]).astype(np.uint32)
    x = x.view(np.float32)
    y = np.empty(x.size, np.uint16)
    copied(x, y)
    with np.errstate(invalid="ignore"):
        expected = x.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(y.view(ml_dtypes.bfloat16).astype(np.float32), expected)


def test_powers_of_two_without_an_instruction_for_them_are_the_same(monkeypatch):
    monkeypatch.setattr(lanes, "_scales_in_one_instruction", lambda: False)
    portable = compiled(exponentials.py_func)
    d = -np.concatenate([RNG.random(4096) * 110.0, [0.0, 87.4, 103.9, 104.1] * 4]).astype(np.float32)
    y, z = np.empty_like(d), np.empty_like(d)
    portable(d, np.zeros_like(d), y)
    monkeypatch.undo()
    exponentials(d, np.zeros_like(d), z)
    np.testing.assert_array_equal(y, z)


@pytest.mark.parametrize(("dtype", "width"), [("float32", 16), ("float64", 8)])
@pytest.mark.parametrize("sizes", [(7, 65, 5), (1, 1, 1), (12, 128, 64), (13, 70, 9), (6, 63, 3), (3, 5, 0)])
def test_products_are_those_of_numpy(dtype, width, sizes):
    m, n, depth = sizes
    a, b, c = (RNG.normal(size=shape).astype(dtype) for shape in ((m, depth), (depth, n), (m, n)))
    for turned in (False, True):
        for keep in (False, True):
            result = c.copy()
            factor = np.array(a.T if turned else a, order="C").ravel()
            product(factor, b.ravel(), result.reshape(-1), sizes, width, turned, keep)
            expected = a.astype(float) @ b + (c if keep else 0.0)
            np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
