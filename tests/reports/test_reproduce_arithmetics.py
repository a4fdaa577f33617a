"""Each simulated arithmetic of FlashAttention-3's table against steps taken by hand."""

from __future__ import annotations

import numpy as np
import pytest

from softcert import reference
from softcert.reports.reproduce.arithmetics import (
    BLOCK,
    fp8_baseline,
    fp8_flash,
    fp16_baseline,
    fp16_flash,
    random_rotation,
)
from softcert.reports.reproduce.narrow import to_e4m3

ONE = np.ones(1)
# One query, two keys, depth 1: scores 0 and 1.
Q, K = np.array([[1.0]]), np.array([[0.0], [1.0]])


def column(*numbers):
    return np.array(numbers, dtype=np.float64)[:, None]


# exp(-1) = 0.36788, 1 + exp(-1) = 1.36788; the probabilities are 0.26894 and 0.73106.


def test_fp16_baseline_by_hand():
    """Probabilities in binary16: 1102/4096 and 1497/2048, so 1000 p - 368 q = 208/4096; exact is -0.088."""
    assert fp16_baseline(Q, K, column(1000, -368), ONE).tolist() == [[208 / 4096]]


def test_fp16_flash_by_hand():
    """Weights in binary16: 1507/4096 and 1, so (1000 w - 368) / 1.36788 = -0.0586; the sum is not rounded."""
    given = fp16_flash(Q, K, column(1000, -368), ONE)
    assert given.item() == np.float16((1507000 / 4096 - 368) / (1 + np.exp(-1)))


def test_fp16_baseline_rounds_scores_before_and_after_scaling():
    """q k = 1025.5, 1025 become 1026, 1025; over sqrt(8) 362.74, 362.39, which become 362.75, 362.5.

    Rounded once, before or after, they would be 0.35 apart or level.
    """
    q, k, v = np.zeros((1, 8)), np.zeros((2, 8)), np.zeros((2, 8))
    q[0, :2], k[0, :2], k[1, :2], v[0, 0] = 1, (1024, 1.5), (1024, 1), 1
    assert fp16_baseline(q, k, v, np.ones(8))[0, 0] == np.float16(1 / (1 + np.exp(-0.25)))
    assert fp16_flash(q, k, v, np.ones(8))[0, 0] == np.float16(1 / (1 + np.exp(-0.5 / np.sqrt(8))))


def test_fp8_baseline_by_hand():
    """Probabilities 1102/4096, 1497/2048 scaled to 165, 448 and rounded to 160, 448; v to 448, -128.

    160 x 448 - 448 x 128 = 14336, times 1497/2048/448 and 1000/448, is 52.211; exact is 49.6.
    """
    expected = 14336 * (1497 / 2048 / 448) * (1000 / 448)
    assert fp8_baseline(Q, K, column(1000, -300), ONE).item() == np.float16(expected)


def test_fp8_baseline_rounds_scores_to_binary16():
    """q k = 257 and 256 over sqrt(2) are 181.73 and 181.02, in binary16 181.75 and 181.

    The probabilities 0.679 and 0.321 are 448 and 211.6 at their scale, which e4m3 rounds to 208; scores 0.707
    apart would give 220.9, and 224.
    """
    q, k = np.array([[16.0, 1.0]]), np.array([[16.0, 1.0], [16.0, 0.0]])
    given = fp8_baseline(q, k, np.array([[0.0, 0.0], [1.0, 0.0]]), np.ones(2))
    assert given[0, 0] == pytest.approx(208 / 448 / (1 + np.exp(-0.75)), rel=2.0**-10)


def test_fp8_baseline_rounds_every_step_to_binary16():
    """One number at a time. Inputs are e4m3's but for a power of two, so that every dot product is exact."""
    rng = np.random.default_rng(2)
    q, k, v = (rng.integers(-7, 8, (rows, 4)) * unit for rows, unit in ((200, 0.5), (24, 0.5), (24, 1.0)))
    # Scores with more bits than binary16 holds.
    q, k = (x * 2.0 ** -rng.integers(0, 6, x.shape) for x in (q, k))
    # The largest is 7 times a power of two, and 448 / 7 = 64: scaled without rounding.
    q[0, 0], k[0, 0], v[0, 0] = 3.5, 3.5, 7
    probabilities = np.empty((200, 24), dtype=np.float32)
    for i, row in enumerate(q):
        scores = [np.float16(np.dot(row, key) / 2) for key in k]
        weights = [np.float16(np.exp(np.float32(np.float16(score - max(scores))))) for score in scores]
        total = np.sum(np.array(weights, dtype=np.float32))
        probabilities[i] = [np.float16(np.float32(weight) / total) for weight in weights]
    factor = probabilities.max() / np.float32(448)
    expected = (to_e4m3(probabilities / factor).astype(np.float64) @ v) * factor
    given = fp8_baseline(q, k, v, np.ones(4))
    # The output's own rounding, and binary32's: a weight that e4m3 rounds the other way moves it further.
    assert (np.abs(given - expected) <= 2.0**-11 * np.abs(expected) + 2.0**-17).all()


@pytest.mark.parametrize("by_block", [True, False])
@pytest.mark.parametrize("rotated", [True, False])
def test_fp8_flash_by_hand(by_block, rotated):
    """Weights 94.2 and 256 rounded to 96 and 256; v as above: 10240 x 1000/448 / (256 x 1.36788) = 65.27."""
    attention = fp8_flash(by_block=by_block, rotated=rotated)
    expected = (96 * 448 - 256 * 128) * (1000 / 448) / (256 * (1 + np.exp(-1)))
    assert attention(Q, K, column(1000, -300), ONE).item() == np.float16(expected)


def test_weights_are_scaled_away_from_e4m3s_underflow():
    """exp(-8) is below half of e4m3's smallest number, 2^-9, and 256 exp(-8) = 0.0859 rounds to 0.0859375."""
    given = fp8_flash(by_block=True, rotated=False)(column(1), column(0, 8), column(448, 0), ONE)
    assert given.item() == np.float16(448 * 0.0859375 / 256 / (1 + np.exp(-8)))


def test_blocks_of_values_have_their_own_scale():
    """Keys of equal score, a value 1000 in one block and 2^-10 in the next, which a common scale loses."""
    q, k, v = np.zeros((1, 2)), np.zeros((2 * BLOCK, 2)), np.zeros((2 * BLOCK, 2))
    v[0, 0], v[BLOCK:, 1] = 1000.0, 2.0**-10
    kept = fp8_flash(by_block=True, rotated=False)(q, k, v, np.ones(2))
    lost = fp8_flash(by_block=False, rotated=False)(q, k, v, np.ones(2))
    assert kept.tolist() == [[1000 / 256, 2.0**-11]]
    assert lost.tolist() == [[1000 / 256, 0.0]]


def test_blocks_of_keys_have_their_own_scale():
    """Keys of 2^-10 in one block, and one of -1000 in another, which a common scale loses beside it."""
    keys = np.concatenate([np.zeros(BLOCK), np.full(BLOCK, 2.0**-10)])
    keys[0] = -1000.0
    q, v = column(1024.0), np.concatenate([np.zeros(BLOCK), np.ones(BLOCK)])[:, None]
    # Scores -1024000 once, 0 for 127 keys and 1 for 128.
    kept = fp8_flash(by_block=True, rotated=False)(q, keys[:, None], v, ONE).item()
    lost = fp8_flash(by_block=False, rotated=False)(q, keys[:, None], v, ONE).item()
    assert kept == pytest.approx(128 * np.e / (128 * np.e + 127), rel=2.0**-4)
    assert lost == pytest.approx(128 / 255, rel=2.0**-4)


def test_blocks_of_queries_have_their_own_scale():
    """A query of 2^-10 in one block, and one of 1000 in another, which a common scale loses beside it."""
    q = np.zeros((BLOCK + 1, 1))
    q[0], q[BLOCK] = 1000.0, 2.0**-10
    k, v = column(0, 1024), column(0, 1)
    kept = fp8_flash(by_block=True, rotated=False)(q, k, v, ONE)[BLOCK].item()
    assert kept == pytest.approx(1 / (1 + np.exp(-1)), rel=2.0**-4)
    assert fp8_flash(by_block=False, rotated=False)(q, k, v, ONE)[BLOCK].item() == 0.5


@pytest.mark.parametrize("depth", [1, 2, 8, 128])
def test_the_rotation_is_orthogonal_and_leaves_scores_as_they_are(depth):
    rng = np.random.default_rng(depth)
    rotation = random_rotation(rng.choice([-1.0, 1.0], depth))
    assert np.abs(rotation @ rotation.T - np.eye(depth)).max() < 1e-14
    assert np.allclose(np.abs(rotation), depth**-0.5, rtol=1e-15)
    q, k = rng.standard_normal((2, 5, depth))
    assert np.abs((q @ rotation) @ (k @ rotation).T - q @ k.T).max() < 1e-13


def test_the_rotation_by_hand():
    expected = np.array([[1, 1, 1, 1], [-1, 1, -1, 1], [1, 1, -1, -1], [-1, 1, 1, -1]]) / 2
    assert random_rotation(np.array([1, -1, 1, -1])).tolist() == expected.tolist()


def test_the_signs_matter():
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 8, 8))
    attention = fp8_flash(by_block=True, rotated=True)
    # Alternating signs would only change places with each other in every row.
    one, other = attention(q, k, v, np.ones(8)), attention(q, k, v, np.array([1.0] * 7 + [-1]))
    assert not np.array_equal(one, other)
    unrotated = fp8_flash(by_block=True, rotated=False)
    assert np.array_equal(unrotated(q, k, v, np.ones(8)), unrotated(q, k, v, -np.ones(8)))


@pytest.mark.parametrize("order", [1, -1])
def test_a_maximum_that_rises_from_block_to_block_is_followed(order):
    """On inputs that binary16 holds, weights and output are rounded: 2^-11 (sum p |v| + |out|)."""
    rng = np.random.default_rng(3)
    keys = np.linspace(-6, 6, 2 * BLOCK + 7)[::order, None].astype(np.float16)
    q, v = np.array([[1.5], [-2.0]]), rng.standard_normal((len(keys), 1)).astype(np.float16)
    exact = reference.attention(q, keys, v, method="arb").round("float64")
    size = reference.attention(q, keys, np.abs(v), method="arb").round("float64")
    error = np.abs(fp16_flash(q, keys.astype(np.float64), v.astype(np.float64), ONE) - exact)
    assert (error <= 2.0**-11 * (size + np.abs(exact)) * 1.02 + 2.0**-25 * np.abs(v).sum()).all()


@pytest.mark.parametrize("attention", [fp16_baseline, fp16_flash])
def test_fp16_results_are_numbers_of_binary16(attention):
    rng = np.random.default_rng(1)
    given = attention(*rng.standard_normal((3, 6, 4)), np.ones(4))
    assert given.dtype == np.float32
    assert np.array_equal(given, given.astype(np.float16))
