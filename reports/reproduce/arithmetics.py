"""The arithmetics whose errors table 3 of FlashAttention-3 compares, simulated step by step.

J. Shah et al., FlashAttention-3, arXiv:2407.08608 (2024), sections 3.3 and 4.3. Matrix products are binary32
sums of products that are exact in binary32, as factors have at most 11 bits; their order is that of the BLAS
at hand. Where the paper says no more than "softmax in FP16", each function says what was taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softcert.reports.reproduce.narrow import Single, quantize, to_e4m3, to_half, to_single

Double = NDArray[np.float64]
#: Takes q (L, d), k (S, d), v (S, d) and the signs of the random rotation, (d,); gives (L, d).
Attention = Callable[[Double, Double, Double, Double], Single]

#: Rows of q, and of k and v, that share a step of the loop and, in FP8, a scale.
BLOCK = 128
#: What of a GPU's arithmetic is left out; the second is described by Khattak & Mikaitis, arXiv:2512.07004.
NOT_SIMULATED: tuple[str, ...] = (
    "the order of a GPU's sums",
    "the fewer bits in which tensor cores add 8-bit products",
)
#: FlashAttention-3's 8-bit kernels multiply the weights by it, so that few are subnormal in e4m3.
WEIGHT_SCALE = np.float32(256.0)


def fp16_baseline(q: Double, k: Double, v: Double, _signs: Double) -> Single:
    """Standard attention in FP16: scores, scaled scores and probabilities are stored in binary16.

    The softmax between them is one kernel, which computes in binary32.
    """
    half_q, half_k, half_v = (to_half(x) for x in (q, k, v))
    scores = to_half(to_half(half_q @ half_k.T) * _scale(q))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities = to_half(weights / weights.sum(axis=1, keepdims=True))
    return to_half(probabilities @ half_v)


def fp16_flash(q: Double, k: Double, v: Double, _signs: Double) -> Single:
    """FlashAttention-2 and 3 in FP16: all but the factors of the two products is binary32.

    The two differ in scheduling alone, which changes the order of no more than binary32 sums.
    """
    half_q, half_k, half_v = (to_half(x) for x in (q, k, v))
    scores = (half_q @ half_k.T) * _scale(q)
    return _flash(scores, half_v, np.ones((len(v), 1), dtype=np.float32), to_half, np.float32(1))


def fp8_baseline(q: Double, k: Double, v: Double, _signs: Double) -> Single:
    """Standard attention in e4m3 with a scale for each tensor, the softmax between the products in FP16.

    Scores, weights and probabilities are stored in binary16; the probabilities are scaled as a tensor too.
    """
    (narrow_q, factor_q), (narrow_k, factor_k), (narrow_v, factor_v) = (
        quantize(to_single(x)) for x in (q, k, v)
    )
    scores = to_half((narrow_q @ narrow_k.T) * (factor_q * factor_k.T * _scale(q)))
    weights = to_half(np.exp(to_half(scores - scores.max(axis=1, keepdims=True))))
    narrow_p, factor_p = quantize(to_half(weights / weights.sum(axis=1, keepdims=True)))
    return to_half((narrow_p @ narrow_v) * (factor_p * factor_v[0]))


def fp8_flash(*, by_block: bool, rotated: bool) -> Attention:
    """Return FlashAttention-3 in e4m3, or one of its ablations.

    Parameters
    ----------
    by_block : one scale for each `BLOCK` rows of q, k and v; otherwise one for each tensor.
    rotated : multiply q and k by a random rotation first ("incoherent processing"), which leaves the exact
        scores as they are and spreads outliers over the row.
    """
    rows = BLOCK if by_block else None

    def attention(q: Double, k: Double, v: Double, signs: Double) -> Single:
        single_q, single_k = to_single(q), to_single(k)
        if rotated:
            rotation = to_single(random_rotation(signs))
            single_q, single_k = single_q @ rotation, single_k @ rotation
        narrow_q, factor_q = quantize(single_q, rows)
        narrow_k, factor_k = quantize(single_k, rows)
        narrow_v, factor_v = quantize(to_single(v), rows)
        scores = (narrow_q @ narrow_k.T) * (factor_q * factor_k.T * _scale(q))
        return _flash(scores, narrow_v, factor_v, to_e4m3, WEIGHT_SCALE)

    return attention


def random_rotation(signs: NDArray[Any]) -> Double:
    """Return diag(signs) H / sqrt(d) with the Hadamard matrix H of Sylvester's construction, (d, d).

    It is orthogonal, so (q R) (k R)^T = q k^T (arXiv:2407.08608, section 3.3).

    Parameters
    ----------
    signs : (d,), each 1 or -1; d is a power of two.
    """
    hadamard = np.ones((1, 1))
    while len(hadamard) < len(signs):
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    rotation: Double = signs[:, None] * hadamard / np.sqrt(len(signs))
    return rotation


def _scale(q: Double) -> np.float32:
    return np.float32(1.0 / np.sqrt(q.shape[1]))


def _flash(
    scores: Single,
    values: Single,
    factor: Single,
    narrow: Callable[[Single], Single],
    weight_scale: np.float32,
) -> Single:
    """Run the loop over blocks of keys: running maximum and sum, and an output that is divided at the end.

    arXiv:2407.08608, algorithm 1. The sum takes the weights before they are rounded for the second product.

    Parameters
    ----------
    scores : (L, S), scaled by 1 / sqrt(d). values : (S, d), numbers of the format that v is held in.
    factor : (S, 1), what the values have to be multiplied by, the same throughout a block.
    narrow : rounds weights to the format of the second product.
    weight_scale : multiplies all weights, and cancels in the quotient.
    """
    rows = len(scores)
    top = np.full((rows, 1), -np.inf, dtype=np.float32)
    total = np.zeros((rows, 1), dtype=np.float32)
    output = np.zeros((rows, values.shape[1]), dtype=np.float32)
    for start in range(0, scores.shape[1], BLOCK):
        keys = slice(start, start + BLOCK)
        risen = np.maximum(top, scores[:, keys].max(axis=1, keepdims=True))
        rescale = np.exp(top - risen)
        weights = np.exp(scores[:, keys] - risen) * weight_scale
        total = total * rescale + weights.sum(axis=1, keepdims=True)
        # The product is of numbers of the narrow format, and is scaled after it, as a kernel does.
        output = output * rescale + (narrow(weights) @ values[keys]) * factor[start]
        top = risen
    return to_half(output / total)
