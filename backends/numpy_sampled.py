"""Softmax losses over samples of the classes in NumPy, written to be read.

Importance sampling: Y. Bengio and J.-S. Senecal, IEEE Trans. Neural Networks 19 (2008). Target sampling: S.
Jean, K. Cho, R. Memisevic and Y. Bengio, arXiv:1412.2007 (2014). The sampled loss is that of TensorFlow's
sampled_softmax_loss: logits less the logarithm of their expected counts, accidental hits removed.
"""

from __future__ import annotations

import numpy as np

from softcert.backends.numpy_ import logsumexp, softmax
from softcert.backends.types import Array


def draw_classes(proposal: Array, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Classes drawn with replacement, with probabilities in proportion to `proposal`, by inversion.

    Parameters
    ----------
    proposal : (K,), at least 0, not all 0.

    Returns
    -------
    Integers of the shape asked for.
    """
    cumulated = np.cumsum(proposal, dtype=np.float64)
    # random() is below 1, but its product may be rounded up to the last sum.
    places = np.searchsorted(cumulated, rng.random(shape) * cumulated[-1], side="right")
    return np.asarray(np.minimum(places, np.flatnonzero(proposal)[-1]))


def importance_partition(scores: Array, proposal: Array, draws: Array) -> Array:
    """Mean of exp(s_k) / Q_k over the draws: an estimate of sum_k exp(s_k) without bias.

    Parameters
    ----------
    scores : (K,). proposal : (K,), above 0, summing to 1. draws : (..., m) classes.

    Returns
    -------
    Estimates (...) of the scores' dtype.
    """
    return np.asarray(np.mean(np.exp(scores[draws]) / proposal[draws].astype(scores.dtype), axis=-1))


def importance_log_partition(scores: Array, proposal: Array, draws: Array) -> Array:
    """Logarithm of `importance_partition`, without overflow: low on average.

    Parameters, result as `importance_partition`.
    """
    logits = scores[draws] - np.log(proposal[draws]).astype(scores.dtype)
    return np.asarray(logsumexp(logits, axis=-1) - scores.dtype.type(np.log(draws.shape[-1])))


def importance_gradient(scores: Array, proposal: Array, draws: Array) -> Array:
    """Share of each class in the sum of exp(s) / Q over the draws: a biased estimate of softmax(scores).

    Parameters
    ----------
    scores, proposal, draws : as `importance_partition`.

    Returns
    -------
    Estimates (..., K) of the scores' dtype.
    """
    shares = softmax(scores[draws] - np.log(proposal[draws]).astype(scores.dtype))
    hits = draws[..., None] == np.arange(len(scores))
    return np.asarray((shares[..., None] * hits).sum(axis=-2))


def target_sampling(scores: Array, target: int, subset: Array) -> Array:
    """Softmax over the target and a subset of the classes, as if there were no others.

    Parameters
    ----------
    scores : (K,). subset : classes, with repeats.

    Returns
    -------
    Shares of the target and the subset, in ascending order of class.
    """
    return softmax(scores[np.union1d(subset, target)])


def sampled_softmax_loss(
    scores: Array, target: int, sample: Array, expected_counts: Array, *, remove_accidental_hits: bool = True
) -> Array:
    """Cross-entropy of the target among itself and each sample, scores less the log of expected counts.

    Parameters
    ----------
    scores : (K,). sample : (..., m) classes. expected_counts : (K,), above 0.

    Returns
    -------
    Losses (...) of the scores' dtype.
    """
    corrected = scores - np.log(expected_counts).astype(scores.dtype)
    rivals = corrected[sample]
    if remove_accidental_hits:
        rivals = np.where(sample == target, scores.dtype.type(-np.inf), rivals)
    truth = np.broadcast_to(corrected[target], (*sample.shape[:-1], 1))
    return np.asarray(logsumexp(np.concatenate([truth, rivals], axis=-1)) - corrected[target])
