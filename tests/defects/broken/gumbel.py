"""Gumbel-softmax with one fault each."""

import numpy as np


def _uniform(shape, seed):
    return (np.random.default_rng(seed).integers(0, 1 << 52, size=shape) + 0.5) * 2.0**-52


def _gumbel(shape, seed):
    return -np.log(-np.log(_uniform(shape, seed)))


def _softmax(z, axis):
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


def _chosen(y, axis, where=np.argmax):
    hard = np.zeros_like(y)
    np.put_along_axis(hard, np.expand_dims(where(y, axis=axis), axis), 1, axis=axis)
    return np.where(np.isnan(y), y, hard)


def _sample(x, z, axis, hard):
    """Soft or one-hot samples of perturbed logits over the temperature, in the dtype of x."""
    y = _softmax(z, axis)
    return (_chosen(y, axis) if hard else y).astype(x.dtype)


def gumbel_normal_noise(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Normal noise."""
    return _sample(x, (x + np.random.default_rng(seed).normal(size=x.shape)) / tau, axis, hard)


def gumbel_logarithm_once(x, axis=-1, tau=1.0, hard=0, seed=0):
    """-log u in place of -log(-log u)."""
    return _sample(x, (x - np.log(_uniform(x.shape, seed))) / tau, axis, hard)


def gumbel_noise_of_the_other_sign(x, axis=-1, tau=1.0, hard=0, seed=0):
    """log(-log u): every pair of shares has the right law."""
    return _sample(x, (x - _gumbel(x.shape, seed)) / tau, axis, hard)


def gumbel_one_noise_for_all_rows(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The noise of one row, broadcast over the others."""
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return _sample(x, (x + _gumbel(shape, seed)) / tau, axis, hard)


def gumbel_one_noise_for_all_classes(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The noise of one class, broadcast over the others, which softmax does not feel."""
    shape = list(x.shape)
    shape[axis] = 1
    return _sample(x, (x + _gumbel(shape, seed)) / tau, axis, hard)


def gumbel_two_classes_alike(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Every third class has the noise of the first: neighbours have the right law."""
    g = np.moveaxis(_gumbel(x.shape, seed), axis, -1)
    g[..., 2::2] = g[..., :1]
    return _sample(x, (x + np.moveaxis(g, -1, axis)) / tau, axis, hard)


def gumbel_two_halves_alike(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The second half of the rows has the noise of the first."""
    g = np.moveaxis(_gumbel(x.shape, seed), axis, -1)
    rows = g.reshape(-1, x.shape[axis])
    half = len(rows) // 2
    rows[half : 2 * half] = rows[:half]
    return _sample(x, (x + np.moveaxis(rows.reshape(g.shape), -1, axis)) / tau, axis, hard)


def gumbel_temperature_of_the_logits(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The logits are divided by the temperature, and the noise is not."""
    return _sample(x, x / tau + _gumbel(x.shape, seed), axis, hard)


def gumbel_temperature_of_the_noise(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The noise is divided by the temperature, and the logits are not."""
    return _sample(x, x + _gumbel(x.shape, seed) / tau, axis, hard)


def gumbel_temperature_ignored(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The keyword is taken and not looked at."""
    return _sample(x, x + _gumbel(x.shape, seed), axis, hard)


def gumbel_temperature_multiplied(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Multiplied by the temperature in place of divided."""
    return _sample(x, (x + _gumbel(x.shape, seed)) * tau, axis, hard)


def gumbel_noise_of_each_temperature(x, axis=-1, tau=1.0, hard=0, seed=0):
    """A seed that depends on the temperature: each call alone is right."""
    return _sample(x, (x + _gumbel(x.shape, [seed, hash(tau) % 1024])) / tau, axis, hard)


def gumbel_hard_is_soft(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The soft sample, whatever is asked for."""
    return _sample(x, (x + _gumbel(x.shape, seed)) / tau, axis, 0)


def gumbel_hard_is_smallest(x, axis=-1, tau=1.0, hard=0, seed=0):
    """One at the smallest share."""
    y = _softmax((x + _gumbel(x.shape, seed)) / tau, axis)
    return (_chosen(y, axis, np.argmin) if hard else y).astype(x.dtype)


def gumbel_hard_has_new_noise(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The one-hot sample is another draw than the soft one: each call alone is right."""
    return _sample(x, (x + _gumbel(x.shape, [seed, hard])) / tau, axis, hard)


def gumbel_hard_without_noise(x, axis=-1, tau=1.0, hard=0, seed=0):
    """One at the largest logit."""
    return _sample(x, x / tau if hard else (x + _gumbel(x.shape, seed)) / tau, axis, hard)


def gumbel_of_probabilities(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Probabilities taken for logits."""
    return _sample(x, (_softmax(x, axis) + _gumbel(x.shape, seed)) / tau, axis, hard)


def gumbel_clipped(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Uniform numbers kept from 0 and 1 by 0.01."""
    u = np.clip(_uniform(x.shape, seed), 0.01, 0.99)
    return _sample(x, (x - np.log(-np.log(u))) / tau, axis, hard)


def gumbel_uniform_of_eight_bits(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Uniform numbers of so few bits that samples come again."""
    u = (np.random.default_rng(seed).integers(0, 256, size=x.shape) + 0.5) / 256
    return _sample(x, (x - np.log(-np.log(u))) / tau, axis, hard)


def gumbel_uniform_may_be_zero(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Uniform numbers of 11 bits, as float16 has them, 0 among them: noise of -inf, and NaN where all are."""
    u = np.random.default_rng(seed).integers(0, 2048, size=x.shape) / 2048
    with np.errstate(all="ignore"):
        return _sample(x, (x - np.log(-np.log(u))) / tau, axis, hard)


def gumbel_last_class_never(x, axis=-1, tau=1.0, hard=0, seed=0):
    """An index that stops one short: the last class is never the largest where there are others."""
    z = np.moveaxis(((x + _gumbel(x.shape, seed)) / tau).copy(), axis, -1)
    if z.shape[-1] > 1:
        z[..., -1] = np.minimum(z[..., -1], z[..., :-1].max(axis=-1) - 1e-3)
    return _sample(x, np.moveaxis(z, -1, axis), axis, hard)


def gumbel_seed_ignored(x, axis=-1, tau=1.0, hard=0, seed=0):
    """A generator that nothing fixes."""
    return _sample(x, (x + _gumbel(x.shape, None)) / tau, axis, hard)


def gumbel_one_seed(x, axis=-1, tau=1.0, hard=0):
    """A generator made anew from a constant in every call."""
    return _sample(x, (x + _gumbel(x.shape, 7)) / tau, axis, hard)


def gumbel_seeds_overlap(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Row r of a seed has the noise of row r + 1 of the one before."""
    last = np.moveaxis(x, axis, -1)
    rows = last.size // last.shape[-1]
    g = _gumbel((seed + rows, last.shape[-1]), 0)[seed:].reshape(last.shape)
    return _sample(x, (x + np.moveaxis(g, -1, axis)) / tau, axis, hard)


def gumbel_sum_in_sixteen_bits(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Noise added in float16: sums at large logits are tied, and the first is preferred."""
    with np.errstate(over="ignore"):
        z = (x.astype(np.float16) + _gumbel(x.shape, seed).astype(np.float16)).astype(np.float64)
    return _sample(x, z / tau, axis, hard)


def gumbel_masked_is_lifted(x, axis=-1, tau=1.0, hard=0, seed=0):
    """A logit of -inf taken for -5, which noise may lift."""
    return _sample(x, (np.where(np.isneginf(x), -5.0, x) + _gumbel(x.shape, seed)) / tau, axis, hard)


def gumbel_class_of_nan(x, axis=-1, tau=1.0, hard=0, seed=0):
    """A one-hot sample where a NaN leaves none."""
    y = _softmax((x + _gumbel(x.shape, seed)) / tau, axis)
    return (_chosen(np.nan_to_num(y), axis) if hard else y).astype(x.dtype)


def gumbel_without_maximum(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Exponentials of the perturbed logits themselves."""
    with np.errstate(all="ignore"):
        e = np.exp(((x + _gumbel(x.shape, seed)) / tau).astype(x.dtype))
        y = e / e.sum(axis=axis, keepdims=True)
    return (_chosen(y, axis) if hard else y).astype(x.dtype)


def gumbel_epsilon_in_the_sum(x, axis=-1, tau=1.0, hard=0, seed=0):
    """1e-5 added to the sum of exponentials."""
    z = (x + _gumbel(x.shape, seed)) / tau
    with np.errstate(all="ignore"):
        e = np.exp(z - z.max(axis=axis, keepdims=True))
        y = e / (e.sum(axis=axis, keepdims=True) + 1e-5)
    return (_chosen(y, axis) if hard else y).astype(x.dtype)


def gumbel_last_axis_only(x, axis=-1, tau=1.0, hard=0, seed=0):
    """The axis is taken and not looked at."""
    return _sample(x, (x + _gumbel(x.shape, seed)) / tau, -1, hard)


def gumbel_in_place(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Noise added to the caller's array."""
    x += _gumbel(x.shape, seed).astype(x.dtype)
    return _sample(x, x / tau, axis, hard)


def gumbel_widened(x, axis=-1, tau=1.0, hard=0, seed=0):
    """Samples in float64, whatever the logits are."""
    return _sample(x.astype(np.float64), (x + _gumbel(x.shape, seed)) / tau, axis, hard)
