"""What the statistics say of PyTorch: nothing in float64 and float32, the truth in 16 bits."""

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("torch")

from softcert import reference
from softcert.backends import torch_sampling
from softcert.conformance.judging import gumbel_samples, sampling

X = np.array([0.5, -1.0, 0.0, 1.25])
MANY = 1 << 16


def logits(x, dtype, n=MANY):
    return np.tile(np.asarray(x).astype(getattr(ml_dtypes, dtype, dtype)), (n, 1))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("tau", [0.1, 1.0, 10.0])
def test_soft_samples_have_the_law(dtype, tau):
    x = logits(X, dtype)
    assert (
        gumbel_samples.gumbel_softmax_departure(torch_sampling.gumbel_softmax(x, tau, seed=0), x[0], tau)
        is None
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_classes_have_the_law(dtype, shift):
    x = logits(X + shift, dtype)
    classes = torch_sampling.gumbel_softmax(x, 1.0, seed=0, hard=True).argmax(axis=-1)
    assert sampling.argmax_departure(classes, x[0]) is None
    assert sampling.rows_departure(classes.reshape(-1, 4), x[0]) is None


@pytest.mark.parametrize(("dtype", "level"), [("bfloat16", 100.0), ("float16", 1000.0)])
def test_classes_of_large_equal_logits_are_not_even_in_16_bits(dtype, level):
    """The sum of logit and noise is rounded to multiples of 1/2; the first of the largest is chosen."""
    x = logits(np.full(4, level), dtype)
    classes = torch_sampling.gumbel_softmax(x, 1.0, seed=0, hard=True).argmax(axis=-1)
    found = sampling.argmax_departure(classes, x[0])
    assert found is not None
    assert "class 0" in found.message


def test_the_density_of_torch_is_the_one_enclosed():
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        x = torch.randn(32, 5, dtype=torch.float64)
        law = torch.distributions.RelaxedOneHotCategorical(torch.tensor(0.5, dtype=torch.float64), logits=x)
        y = law.sample()
        density = law.log_prob(y).numpy()
    exact = reference.concrete_log_density(y.numpy(), x.numpy(), 0.5)
    assert np.abs(density - exact.to_float64()).max() < 1e-13
    wrong = reference.concrete_log_density(y.numpy(), x.numpy(), 0.25)
    assert np.abs(density - wrong.to_float64()).max() > 0.1


def test_sampled_losses_have_the_exact_moments():
    scores, proposal = np.array([0.5, -1.25, 2.0, 0.0]), np.array([0.125, 0.25, 0.5, 0.125])
    draws = np.random.default_rng(1).choice(4, size=(MANY, 3), p=proposal)
    moments = reference.sampled_loss_moments(scores, 3, proposal, 3)
    losses = torch_sampling.sampled_softmax_loss(scores.astype(np.float32), 3, draws, 3 * proposal)
    assert sampling.mean_departure(losses, moments, (0.0, 6.0)) is None
    hits = torch_sampling.sampled_softmax_loss(scores, 3, draws, 3 * proposal, remove_accidental_hits=False)
    assert sampling.mean_departure(hits, moments, (0.0, 6.0)) is not None
