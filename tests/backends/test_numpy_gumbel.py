"""Gumbel samplers in NumPy: formulas by another route, ends of the noise, axes, straight-through."""

import numpy as np
import pytest

from softcert.backends import numpy_gumbel

X = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, -np.inf]])


class Last:
    """A generator whose integers are all the smallest, or the largest."""

    def __init__(self, value):
        self.value = value

    def integers(self, low, high, size):
        return np.full(size, low if self.value == "smallest" else high - 1)


@pytest.mark.parametrize(("which", "expected"), [("smallest", -3.603778), ("largest", 36.736801)])
def test_noise_is_finite_at_both_ends(which, expected):
    noise = numpy_gumbel.gumbel_noise((3,), Last(which))
    np.testing.assert_allclose(noise, expected, rtol=1e-6)


def test_noise_of_the_ends_of_the_unit_interval_is_infinite():
    assert numpy_gumbel.gumbel_of(np.array([0.0, 1.0])).tolist() == [-np.inf, np.inf]
    np.testing.assert_allclose(numpy_gumbel.gumbel_of(np.exp(-np.exp([-1.0, 0.0, 3.0]))), [1.0, 0.0, -3.0])


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("tau", [0.25, 3.0])
def test_soft_samples_are_the_softmax_of_perturbed_logits(dtype, tau):
    x = X.astype(dtype)
    y = numpy_gumbel.gumbel_softmax(x, tau, np.random.default_rng(1))
    perturbed = (x.astype(float) + numpy_gumbel.gumbel_noise(x.shape, np.random.default_rng(1))) / tau
    weights = np.exp(perturbed)
    assert y.dtype == dtype
    # The sum of perturbations up to 40 rounds once more here; in float16 one share is subnormal.
    room = {"rtol": 2 * np.finfo(dtype).eps, "atol": float(np.finfo(dtype).smallest_subnormal) / 2}
    np.testing.assert_allclose(y, weights / weights.sum(axis=-1, keepdims=True), **room)
    assert y[1, 2] == 0


def test_another_axis_is_the_transpose():
    tall = np.ascontiguousarray(np.swapaxes(np.random.default_rng(0).normal(size=(4, 4)), 0, 1))
    rng = np.random.default_rng(2)
    y = numpy_gumbel.gumbel_softmax(tall, 1.0, rng, axis=0)
    np.testing.assert_allclose(y.sum(axis=0), 1.0)
    assert numpy_gumbel.gumbel_max(tall[:, :2], rng, axis=0).shape == (2,)


def test_classes_are_those_of_the_largest_perturbed_logit():
    classes = numpy_gumbel.gumbel_max(np.tile(X[1], (500, 1)), np.random.default_rng(3))
    assert set(classes.tolist()) == {0, 1}


def test_the_pair_of_straight_through_comes_from_one_noise():
    hard, soft = numpy_gumbel.straight_through(X, 0.5, np.random.default_rng(4))
    np.testing.assert_array_equal(hard, np.eye(3)[soft.argmax(axis=-1)])
    np.testing.assert_array_equal(soft, numpy_gumbel.gumbel_softmax(X, 0.5, np.random.default_rng(4)))


def test_hard_minus_soft_plus_soft_is_hard_for_every_float16():
    y = np.arange(0x3C01, dtype=np.uint16).view(np.float16)
    assert y[-1] == 1
    one, zero = np.float16(1), np.float16(0)
    assert (((one - y) + y) == 1).all()
    assert (((zero - y) + y) == 0).all()


def test_gradient_is_that_of_difference_quotients():
    tau, step = 0.75, 1e-6
    x, g, dy = np.random.default_rng(5).normal(size=(3, 4))

    def output(logits):
        weights = np.exp((logits + g) / tau)
        return weights / weights.sum()

    quotients = [(output(x + step * e) - output(x - step * e)) @ dy / (2 * step) for e in np.eye(4)]
    np.testing.assert_allclose(numpy_gumbel.gumbel_softmax_vjp(output(x), dy, tau), quotients, rtol=1e-7)
