"""Rounding to binary16 and e4m3 in the simulated arithmetics, against the formats' own numbers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from softcert.reference import format_of
from softcert.reports.reproduce.narrow import quantize, to_e4m3, to_half, to_single

f32 = np.float32


def numbers(dtype):
    """Every finite number of a format that is not negative, ascending; its place is its encoding."""
    fmt = format_of(dtype)
    decoded = (fmt.decode(encoding) for encoding in range(1 << (fmt.bits - 1)))
    return [number for number in decoded if np.isfinite(number)]


def nearest(x, grid):
    """The number nearest to x, of two equally near the one of even encoding; beyond the largest that one."""
    distances = [abs(Fraction(x) - Fraction(number)) for number in grid]
    least = min(distances)
    places = [place for place, distance in enumerate(distances) if distance == least]
    return grid[next((place for place in places if place % 2 == 0), places[0])]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_e4m3_is_nearest_and_ties_go_to_even(sign):
    grid = numbers("float8_e4m3fn")
    middles = [(low + high) / 2 for low, high in pairwise(grid)]
    tried = [f32(x) for x in (*grid, *middles)]
    tried += [np.nextafter(x, f32(way)) for x in tried for way in (-1e9, 1e9) if x > 0]
    rounded = to_e4m3(sign * np.array(tried))
    assert rounded.dtype == f32
    assert rounded.tolist() == [sign * nearest(float(x), grid) for x in tried]


def test_e4m3_saturates():
    assert to_e4m3(np.array([449, 464, 465, 1e30, -1e30], dtype=f32)).tolist() == [448] * 4 + [-448]


def test_half_is_numpys_and_overflows_quietly():
    assert to_half(np.array([2049.0, 2051.0, 65519.0, 65520.0, 2.0**-25])).tolist() == [
        2048.0,
        2052.0,
        65504.0,
        np.inf,
        0.0,
    ]
    # Halfway but for a bit that binary32 does not hold: rounded once.
    assert to_half(np.array([2049.0 + 2.0**-40])).item() == 2050.0


def test_single():
    assert to_single(np.array([1.0 + 2.0**-24])).item() == 1.0


def test_a_tensor_is_scaled_as_a_whole():
    x = np.array([[1.0, -2.0], [0.25, 7.0]], dtype=f32)
    narrow, factor = quantize(x)
    # 448 / 7 = 64: every number is scaled by it, exactly.
    assert narrow.tolist() == [[64.0, -128.0], [16.0, 448.0]]
    assert factor.tolist() == [[0.015625]] * 2


def test_each_block_has_its_own_scale_and_the_last_may_be_short():
    x = np.array([[1.0], [0.5], [-28.0], [14.0], [3.5]], dtype=f32)
    narrow, factor = quantize(x, 2)
    assert narrow.ravel().tolist() == [448.0, 224.0, -448.0, 224.0, 448.0]
    assert factor.ravel().tolist() == [f32(1 / 448)] * 2 + [0.0625] * 2 + [0.0078125]


def test_blocks_of_zeros_and_of_tiny_numbers_stay_numbers():
    narrow, factor = quantize(np.array([[0.0], [1e-44]], dtype=f32), 1)
    assert narrow[0].item() == 0.0
    assert np.isfinite(narrow).all()
    assert (factor > 0).all()
