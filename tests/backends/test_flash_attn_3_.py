"""The adapter of flash-attn 3 calls what its interface has, tried against a stand-in on the CPU."""

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from softcert.backends import load

PLAIN = load("numpy").ops


def flash_attn_func(
    q, k, v, softmax_scale=None, causal=False, *, deterministic=False, return_attn_probs=False
):
    """Heads behind the queries, causal masks bottom-right, out alone unless the lse is asked for."""
    torch = pytest.importorskip("torch")
    q, k, v = (a.transpose(1, 2) for a in (q, k, v))
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale)
    if causal:
        hidden = torch.ones(scores.shape[-2:], dtype=bool).triu(1 + k.shape[-2] - q.shape[-2])
        scores = scores.masked_fill(hidden, -torch.inf)
    out = (scores.softmax(-1) @ v).transpose(1, 2)
    return (out, scores.logsumexp(-1)) if return_attn_probs else out


@pytest.fixture
def backend(monkeypatch):
    pytest.importorskip("torch")
    heads_behind = importlib.import_module("softcert.backends.heads_behind")
    adapter = importlib.import_module("softcert.backends.flash_attn_3_")
    stand_in = SimpleNamespace(flash_attn_func=flash_attn_func)
    monkeypatch.setitem(sys.modules, "flash_attn_interface", stand_in)
    monkeypatch.setattr(heads_behind, "DEVICE", "cpu")
    monkeypatch.setattr(adapter, "start", lambda: None)
    return adapter.flash_attn_3_backend()


@pytest.mark.parametrize("options", [{}, {"scale": 0.3}, {"causal": True}])
def test_its_results_come_as_those_of_every_backend(backend, options):
    rng = np.random.default_rng(3)
    q, k, v = (rng.normal(size=(2, 3, n, 8)).astype(np.float32) for n in (4, 6, 6))
    out, lse = PLAIN["attention_lse"](q, k, v, **options)
    np.testing.assert_allclose(backend.ops["attention"](q, k, v, **options), out, atol=1e-6)
    for found, expected in zip(backend.ops["attention_lse"](q, k, v, **options), (out, lse), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    arguments = (q, k, v, out, lse, out)
    gradients = (ops["attention_vjp"](*arguments, **options) for ops in (backend.ops, PLAIN))
    for found, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_it_says_that_its_version_is_not_known_where_it_is_not_installed(backend):
    assert backend.versions["flash-attn-3"] == "unknown"
    assert backend.contract.causal == "bottom-right"
