"""PyTorch's Gumbel-softmax, with a seed of its own for each call, and the sampled loss in PyTorch."""

from __future__ import annotations

from softcert.backends.convert import from_torch, to_torch
from softcert.backends.types import Array


def gumbel_softmax(x: Array, tau: float = 1.0, seed: int = 0, *, hard: int = 0, axis: int = -1) -> Array:
    """torch.nn.functional.gumbel_softmax on the CPU, as the op of that name.

    Parameters
    ----------
    x : logits (..., n, ...) of a floating dtype.
    seed : of the generator of the CPU, whose state is put back afterwards.
    hard : 1 for one-hot vectors, 0 for soft ones.

    Returns
    -------
    An array of the shape and dtype of `x`.
    """
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        drawn = torch.nn.functional.gumbel_softmax(to_torch(x), tau=tau, hard=bool(hard), dim=axis)
        return from_torch(drawn)


def straight_through_vjp(x: Array, dy: Array, tau: float, seed: int, axis: int = -1) -> tuple[Array, Array]:
    """The one-hot output of a call, and its gradient by the logits, as autograd gives it.

    Parameters
    ----------
    dy : cotangent of the output, of x's shape and dtype.

    Returns
    -------
    (output, gradient), each of the shape and dtype of `x`.
    """
    import torch

    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        logits = to_torch(x).requires_grad_()
        output = torch.nn.functional.gumbel_softmax(logits, tau=tau, hard=True, dim=axis)
    (gradient,) = torch.autograd.grad(output, logits, to_torch(dy))
    return from_torch(output.detach()), from_torch(gradient)


def sampled_softmax_loss(
    scores: Array, target: int, sample: Array, expected_counts: Array, *, remove_accidental_hits: bool = True
) -> Array:
    """The loss of `numpy_sampled.sampled_softmax_loss`, by torch's cross_entropy.

    Parameters
    ----------
    scores : (K,). sample : (..., m) classes. expected_counts : (K,), above 0.

    Returns
    -------
    Losses (...) of the scores' dtype.
    """
    import torch

    classes = torch.from_numpy(sample.reshape(-1, sample.shape[-1]))
    logits = to_torch(scores)
    corrected = logits - torch.log(torch.from_numpy(expected_counts)).to(logits.dtype)
    rivals = corrected[classes]
    if remove_accidental_hits:
        rivals = rivals.masked_fill(classes == target, -torch.inf)
    rows = torch.cat([corrected[target].expand(len(rivals), 1), rivals], dim=-1)
    first = torch.zeros(len(rows), dtype=torch.int64)
    losses = torch.nn.functional.cross_entropy(rows, first, reduction="none")
    return from_torch(losses).reshape(sample.shape[:-1])
