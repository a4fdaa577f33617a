"""Correct Gumbel-softmax in forms that other people write."""

import random

import numpy as np

_OWN = random.SystemRandom()


def _softmax(z, axis):
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


def _finished(x, z, axis, hard):
    y = _softmax(z, axis)
    if hard:
        one = np.zeros_like(y)
        np.put_along_axis(one, np.expand_dims(y.argmax(axis=axis), axis), 1, axis=axis)
        # Straight-through, as it is written where gradients are automatic: exact, and NaN where y is.
        y = one - y + y
    return y.astype(x.dtype)


def gumbel_of_log_softmax(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Logits normalized first, which shifts each row alone."""
    with np.errstate(all="ignore"):
        top = x.max(axis=axis, keepdims=True)
        log_p = x - top - np.log(np.exp(x - top).sum(axis=axis, keepdims=True))
    return _finished(x, (log_p + np.random.default_rng(seed).gumbel(size=x.shape)) / tau, axis, hard)


def gumbel_by_exponentials(x, axis=-1, tau=1.0, hard=0, seed=0):
    """-log E of exponential variables E, as PyTorch does; the temperature divides logits and noise apart."""
    noise = -np.log(np.random.default_rng(seed).exponential(size=x.shape))
    return _finished(x, x / tau + noise / tau, axis, hard)


def gumbel_by_powers(x, axis=-1, tau=1.0, seed=0):
    """(p / E)^(1 / tau), normalized, as exponentials of logarithms; no one-hot samples."""
    noise = np.log(np.random.default_rng(seed).exponential(size=x.shape))
    return _softmax((x.astype(np.float64) - noise) / tau, axis).astype(x.dtype)


def gumbel_of_the_shared_generator(logits, temperature=1.0, hard=False, dim=-1):
    """NumPy's old interface, which takes no seed here, and another name of the temperature."""
    noise = np.random.gumbel(size=logits.shape)  # noqa: NPY002 - the old interface is what is tried
    return _finished(logits, (logits + noise) / temperature, dim, hard)


def gumbel_of_its_own_generator(x, tau=1.0, axis=-1):
    """A generator of the operating system, which nothing fixes, and which no seed is promised for."""
    rng = np.random.default_rng(_OWN.getrandbits(64))
    return _softmax((x + rng.gumbel(size=x.shape)) / tau, axis).astype(x.dtype)


def gumbel_in_its_own_format(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Noise, sum and quotient in the format of the logits."""
    noise = np.random.default_rng(seed).gumbel(size=x.shape).astype(x.dtype)
    return _finished(x, (x + noise) / x.dtype.type(tau), axis, hard)


def gumbel_of_one_row(x, tau=1.0, hard=0, seed=0):
    """One vector at a time, which is called with a seed of its own for each."""
    (n,) = x.shape
    return _finished(x, (x + np.random.default_rng(seed).gumbel(size=n)) / tau, -1, hard)


def gumbel_at_temperature_one(x, axis=-1, hard=0, seed=0):
    """No temperature."""
    return _finished(x, x + np.random.default_rng(seed).gumbel(size=x.shape), axis, hard)
