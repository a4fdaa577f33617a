"""PyTorch's samplers: seeds, the straight-through gradient by autograd, and the sampled loss as NumPy's."""

import numpy as np
import pytest

pytest.importorskip("torch")

from softcert.backends import numpy_gumbel, numpy_sampled, torch_sampling

X = np.array([[0.5, -1.0, 2.0], [0.0, 1.0, 3.0]], dtype=np.float32)


def test_a_seed_repeats_its_samples_and_leaves_the_generator_alone():
    import torch

    before = torch.random.get_rng_state()
    first, second = (torch_sampling.gumbel_softmax(X, 0.5, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != torch_sampling.gumbel_softmax(X, 0.5, seed=8)).any()
    assert torch.equal(before, torch.random.get_rng_state())


def test_hard_samples_are_the_one_hot_vectors_of_the_soft_ones():
    soft = torch_sampling.gumbel_softmax(X, 0.5, seed=7)
    hard = torch_sampling.gumbel_softmax(X, 0.5, seed=7, hard=True)
    np.testing.assert_array_equal(hard, np.eye(3)[soft.argmax(axis=-1)])


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_the_straight_through_gradient_is_that_of_the_soft_output(tau):
    dy = np.array([[1.0, -2.0, 0.5], [0.25, 0.0, 3.0]], dtype=np.float32)
    output, gradient = torch_sampling.straight_through_vjp(X, dy, tau, seed=7)
    soft = torch_sampling.gumbel_softmax(X, tau, seed=7)
    np.testing.assert_array_equal(output, np.eye(3)[soft.argmax(axis=-1)])
    expected = numpy_gumbel.gumbel_softmax_vjp(soft, dy, tau)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)
    assert np.abs(gradient).max() > 0


@pytest.mark.parametrize("remove", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_sampled_loss_is_that_of_numpy(dtype, remove):
    scores = np.array([0.5, -1.0, 2.0, 0.25], dtype=dtype)
    counts, draws = np.array([0.5, 0.25, 1.5, 0.75]), np.array([[[0, 2, 2], [1, 1, 3]]])
    losses = [
        module.sampled_softmax_loss(scores, 2, draws, counts, remove_accidental_hits=remove)
        for module in (numpy_sampled, torch_sampling)
    ]
    assert losses[0].shape == losses[1].shape == (1, 2)
    np.testing.assert_allclose(*losses, rtol=8 * np.finfo(dtype).eps)
