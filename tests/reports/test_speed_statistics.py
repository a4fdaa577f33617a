"""What a few rounds say of a time."""

import random
from itertools import product

import pytest

from softcert.reports.speed import growths, median_interval
from softcert.reports.speed.statistics import unrest


def test_the_interval_is_of_order_statistics_with_the_probability_told():
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0, 0.75)
    assert median_interval(list(range(1, 8))) == (1, 7, 1 - 2 / 128)
    assert median_interval(list(range(1, 10))) == (2, 8, 1 - 2 * (1 + 9) / 512)


@pytest.mark.parametrize("n", [2, 5, 9, 12])
def test_the_probability_is_that_of_every_way_to_fall(n):
    """Each sample is below or above the median with probability 1/2: all 2^n ways are counted."""
    held = total = 0
    for sides in product((-1.0, 1.0), repeat=n):
        samples = [side * (k + 1) for k, side in enumerate(sides)]
        low, high, confidence = median_interval(samples)
        held += low < 0.0 < high
        total += 1
    assert confidence == pytest.approx(held / total)


def test_unrest_is_the_distance_of_the_quartiles():
    assert unrest([1.0, 2.0, 3.0, 4.0, 5.0]) == pytest.approx(2.0 / 3.0)


def rows(power, lengths=(64, 128, 256, 512), noise=0.0, op="attention"):
    draw = random.Random(1)
    for n in lengths:
        shape = [8, n, n, 64] if op == "attention" else [64, n]
        samples = [1e-9 * n**power * (1 + noise * draw.random()) for _ in range(9)]
        yield {
            "op": op,
            "dtype": "float32",
            "shape": shape,
            "seconds": sorted(samples)[4],
            "samples": samples,
        }


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_is_found_over_the_largest_lengths(power):
    (found,) = growths(rows(power))
    assert (found.what, found.fixed, found.lengths) == ("L", "8 heads, 64 features, S = L", (128, 256, 512))
    assert found.exponent == pytest.approx(power)
    (found,) = growths(rows(power, noise=0.3))
    assert found.interval.low < power < found.interval.high


def test_ladders_are_told_apart():
    decode = [row | {"shape": [8, 1, row["shape"][2], 64]} for row in rows(1.0)]
    softmax = list(rows(1.0, op="softmax"))
    found = growths([*rows(2.0), *decode, *softmax, *softmax[:1]])
    assert [(g.op, g.what, round(g.exponent)) for g in found] == [
        ("attention", "L", 2),
        ("attention", "S", 1),
        ("softmax", "n", 1),
    ]


def test_two_lengths_and_files_without_rounds_tell_no_more_than_they_hold():
    assert growths(list(rows(2.0))[:2]) == ()
    old = [{k: v for k, v in row.items() if k != "samples"} for row in rows(2.0)]
    (found,) = growths(old)
    assert found.interval is None
    assert found.exponent == pytest.approx(2.0)
