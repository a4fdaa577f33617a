"""Gumbel-max and Gumbel-softmax in NumPy, written to be read; the generator is the caller's or a seed's.

E. Jang, S. Gu and B. Poole, arXiv:1611.01144 (2016); C. Maddison, A. Mnih and Y. W. Teh, arXiv:1611.00712
(2016). Noise is made in float64, whatever the dtype of the logits: 16-bit noise takes so few values that
ties are common, and a float32 uniform number is 0 once in 2^24 draws, which gives infinite noise.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numpy_ import softmax, softmax_vjp
from softcert.backends.numpy_rounding import narrow, widen
from softcert.backends.types import Array

#: Uniform numbers are odd multiples of 2^-53: 52 bits and a half.
_BITS = 52


def gumbel_of(uniform: Array) -> Array:
    """-log(-log(u)), of uniform numbers strictly between 0 and 1; infinite at both."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(-np.log(uniform)))


def gumbel_noise(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Independent Gumbel variables in float64, never infinite: between -3.604 and 36.737.

    Parameters
    ----------
    shape : of the result. rng : advanced by one integer for each element.
    """
    integers = rng.integers(0, 1 << _BITS, size=shape)
    # exact, and neither 0 nor 1
    return gumbel_of((integers + 0.5) * 2.0**-_BITS)


def gumbel_max(x: Array, rng: np.random.Generator, axis: int = -1) -> Array:
    """Classes drawn with the probabilities softmax(x), by the largest of x + g.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, n >= 1.

    Returns
    -------
    Indices, of x's shape without `axis`.
    """
    # In float64, so that no two sums are rounded to one and the first of them preferred.
    return np.asarray(np.argmax(x.astype(np.float64) + gumbel_noise(x.shape, rng), axis=axis))


def gumbel_softmax(x: Array, tau: float, rng: np.random.Generator, axis: int = -1) -> Array:
    """softmax((x + g) / tau) with noise drawn here.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, n >= 1. tau : temperature, above 0.

    Returns
    -------
    An array of the shape and dtype of `x`, computed in float64 and rounded once.
    """
    perturbed = x.astype(np.float64) + gumbel_noise(x.shape, rng)
    return narrow(softmax(perturbed / tau, axis=axis), x)


def seeded_gumbel_softmax(
    x: Array, axis: int = -1, *, tau: float = 1.0, hard: int = 0, seed: int = 0
) -> Array:
    """The op `gumbel_softmax`: a draw that the seed fixes, its noise the same for every tau and for `hard`.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype, n >= 1. tau : temperature, above 0.
    hard : 1 for one-hot vectors, 0 for soft ones. seed : an integer of 0 or more.

    Returns
    -------
    An array of the shape and dtype of `x`.
    """
    one_hot, soft = straight_through(x, tau, np.random.default_rng(seed), axis)
    return one_hot if hard else soft


def gumbel_softmax_vjp(y: Array, dy: Array, tau: float, axis: int = -1) -> Array:
    """Gradient by the logits, y (dy - sum_j y_j dy_j) / tau, as a function of the soft output y.

    Parameters
    ----------
    y, dy : outputs and their cotangent (..., n, ...), of one shape and floating dtype.

    Returns
    -------
    An array of the shape and dtype of `y`.
    """
    return narrow(softmax_vjp(widen(y), widen(dy), axis=axis) / widen(y).dtype.type(tau), y)


def straight_through(x: Array, tau: float, rng: np.random.Generator, axis: int = -1) -> tuple[Array, Array]:
    """The one-hot vector of the largest output, which goes forward, and the soft output, for the gradient.

    Libraries with automatic gradients write it as hard - soft + soft, which rounds to the hard one exactly:
    with rounding to nearest (1 - y) + y is 1 and (0 - y) + y is 0 for every float y in [0, 1].

    Parameters
    ----------
    x, tau, rng, axis : as `gumbel_softmax`, by which the soft one is made.

    Returns
    -------
    (hard, soft), each of the shape and dtype of `x`; NaN where the soft one is.
    """
    perturbed = x.astype(np.float64) + gumbel_noise(x.shape, rng)
    chosen = np.expand_dims(np.argmax(perturbed, axis=axis), axis)
    hard = np.zeros_like(x)
    np.put_along_axis(hard, chosen, 1, axis=axis)
    soft = narrow(softmax(perturbed / tau, axis=axis), x)
    return np.where(np.isnan(soft), soft, hard), soft
