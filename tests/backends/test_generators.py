"""Samplers: seeds that a function takes, those that it does not, and rows that are drawn one by one."""

import random
import sys

import numpy as np
import pytest

from softcert.backends.functions import adapted
from softcert.backends.generators import seed_shared_generators
from softcert.backends.session import Session
from softcert.backends.types import Backend, Call

X = np.zeros((6, 3))


def shared(x, tau=1.0, axis=-1):
    """A generator of the standard library and NumPy's old one."""
    noise = np.random.gumbel(size=x.shape) + random.random()  # noqa: NPY002 - these are what is seeded
    e = np.exp((x + noise) / tau)
    return e / e.sum(axis=axis, keepdims=True)


def of_a_row(x, temperature=1.0, seed=0):
    (n,) = x.shape
    e = np.exp((x + np.random.default_rng(seed).gumbel(size=n)) / temperature)
    return e / e.sum()


def performed(kernel, **params):
    session = Session(Backend("drawn", {"gumbel_softmax": kernel}))
    return session.perform(Call("gumbel_softmax", (X,), {"axis": -1, **params}))


def test_a_function_without_a_seed_draws_what_the_seed_of_the_call_says():
    for kernel in (shared, adapted(shared, "gumbel_softmax")):
        first, again, other = (performed(kernel, seed=seed).value for seed in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
        assert performed(kernel).side_effects == ()


def test_pytorch_is_seeded_where_it_is_loaded():
    torch = pytest.importorskip("torch")
    with torch.random.fork_rng(devices=()):
        seed_shared_generators(5)
        first = torch.rand(3)
        seed_shared_generators(5)
        assert torch.equal(first, torch.rand(3))
    assert "torch" in sys.modules


def test_rows_drawn_one_by_one_have_seeds_of_their_own():
    kernel = adapted(of_a_row, "gumbel_softmax")
    assert kernel.options == ("tau", "seed")
    one, other = (performed(kernel, seed=seed).value for seed in (1, 2))
    rows = [row.tobytes() for y in (one, other) for row in y]
    assert len(set(rows)) == 12
    np.testing.assert_array_equal(one, performed(kernel, seed=1).value)


def test_a_function_may_call_the_temperature_by_its_name():
    kernel = adapted(of_a_row, "gumbel_softmax")
    cold, warm = (performed(kernel, seed=1, tau=tau).value for tau in (0.5, 1.0))
    np.testing.assert_allclose(cold, warm**2 / (warm**2).sum(-1, keepdims=True), rtol=1e-12)


def test_a_generator_that_nothing_fixes_is_no_effect_of_the_first_call():
    rng = np.random.default_rng()

    def own(x, axis=-1):
        return x + rng.random(x.shape)

    assert performed(adapted(own, "gumbel_softmax")).side_effects == ()

    def deaf(x, axis=-1, seed=0):
        return x + rng.random(x.shape)

    assert performed(adapted(deaf, "gumbel_softmax")).side_effects == ("first-call-differs",)
