"""The generators that a process shares: what a sampler without a keyword `seed` draws from.

They are seeded before each call of such a sampler, by the seed of the call, so that a run and the replay of a
witness see the same draws wherever a function draws from one of them. A generator of its own is left alone.
"""

from __future__ import annotations

import random
import sys

import numpy as np


def seed_shared_generators(seed: int) -> None:
    """Seed the generators of `random`, of NumPy's old interface, and of PyTorch where it is loaded.

    Parameters
    ----------
    seed : an integer from 0 to 2^32 - 1, which is what NumPy takes.
    """
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the shared generator itself is meant
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)
