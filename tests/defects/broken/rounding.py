"""Softmax kernels that round their results wrongly: too coarse, biased, or at random."""

import numpy as np


def _softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _wider(x):
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def through_bfloat16(x, axis=-1):
    """The result passes through bfloat16."""
    bits = _softmax(x, axis).astype(np.float32).view(np.uint32)
    return ((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32).astype(x.dtype)


def through_float16(x):
    """The result passes through float16."""
    return _softmax(x).astype(np.float16).astype(x.dtype)


def through_float32(x):
    """A float64 result passes through float32."""
    return _softmax(x).astype(np.float32).astype(x.dtype)


def three_decimals(x):
    """The result is rounded to three decimals."""
    return np.round(_softmax(x), 3)


def seven_decimals(x):
    """The result is rounded to seven decimals."""
    return np.round(_softmax(x), 7)


def eight_bit_levels(x):
    """The result is one of 256 levels."""
    return np.round(_softmax(x) * 255) / x.dtype.type(255)


def sixteen_bit_fixed_point(x):
    """The result is a multiple of 2**-16."""
    return np.floor(_softmax(x) * 65536) / x.dtype.type(65536)


def logits_in_three_decimals(x):
    """The logits are rounded to three decimals first."""
    return _softmax(np.round(x, 3))


def logits_through_bfloat16(x):
    """The logits pass through bfloat16 first."""
    bits = x.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
    return _softmax(bits.view(np.float32).astype(x.dtype))


def truncated(x):
    """Right to the last bit but always rounded toward zero: the mean error is half an ulp."""
    exact = _softmax(_wider(x))
    y = exact.astype(x.dtype)
    return np.where(y.astype(exact.dtype) > exact, np.nextafter(y, x.dtype.type(0)), y)


def rounded_up(x):
    """Right to the last bit but always rounded away from zero."""
    exact = _softmax(_wider(x))
    y = exact.astype(x.dtype)
    return np.where(y.astype(exact.dtype) < exact, np.nextafter(y, x.dtype.type(2)), y)


def biased_on_repeated_maximum(x):
    """Outputs are a few ulps low only where the maximum is repeated."""
    y = _softmax(_wider(x)).astype(x.dtype)
    repeated = (x == x.max(axis=-1, keepdims=True)).sum(axis=-1, keepdims=True) > 1
    return np.where(repeated, y - 3 * np.spacing(y), y)


def stochastic(x):
    """Rounded up or down at random."""
    exact = _softmax(_wider(x))
    y = exact.astype(x.dtype)
    up = np.random.default_rng().random(y.shape) < 0.5  # unseeded: two calls differ
    return np.where(up, np.nextafter(y, x.dtype.type(1)), y)


def noise_of_a_millionth(x):
    """Dropout-like noise of 1e-6 is left on."""
    return _softmax(x) * (1 + x.dtype.type(1e-6) * np.random.default_rng().standard_normal(x.shape)).astype(
        x.dtype
    )


def racing_sum(x):
    """The order of the additions changes from call to call, as atomics do."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    order = np.random.default_rng().permutation(x.shape[-1])
    total = np.add.accumulate(e[..., order], axis=-1)[..., -1:]
    return e / total


def lse_in_sixteen_bits(x, axis=-1):
    """exp(x - lse) with lse in the format of the input. Trigger: 16 bits, rows of some hundred, an offset."""
    wide = x.astype(np.float32)
    top = wide.max(axis=axis, keepdims=True)
    lse = (top + np.log(np.exp(wide - top).sum(axis=axis, keepdims=True))).astype(x.dtype)
    return np.exp(wide - lse.astype(np.float32)).astype(x.dtype)


def weights_lean_with_the_length(x):
    """Weights below the maximum are too heavy, by a unit for each pair of logits: sums may err by more."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    lean = x.dtype.type(1) + x.dtype.type(x.shape[-1] * np.finfo(x.dtype).eps / 4)
    e = np.where(e < 1, e * lean, e)
    return e / e.sum(axis=-1, keepdims=True)
