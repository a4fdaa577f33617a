"""Clauses on samplers: what they ask, whom they accuse, and that nothing asks for an exact value."""

from __future__ import annotations

import numpy as np
import pytest

from softcert.backends import as_dtype, numpy_gumbel
from softcert.backends.contract import Contract
from softcert.conformance import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.model import Trial

OP = "gumbel_softmax"
OF_SAMPLERS = {clause.id: clause for clause in CLAUSES if OP in clause.ops}
LAWS = ("gumbel.choice", "gumbel.law", "gumbel.independent")


def context_of(dtype="float32", **facts):
    return Context(op=OP, dtype=dtype, contract=Contract(), ops=(OP,), **facts)


def asked(clause, dtype="float32", **facts):
    context = context_of(dtype, **facts)
    return [clause.grow(seedling, context) for seedling in clause.directed(context)]


def answered(call, kernel=numpy_gumbel.seeded_gumbel_softmax, offset=0):
    params = {**call.params, "seed": call.params.get("seed", 0) + offset}
    with np.errstate(all="ignore"):
        return kernel(*call.operands, **params)


def findings(clause, kernel=numpy_gumbel.seeded_gumbel_softmax, dtype="float32", offset=0, **facts):
    context = context_of(dtype, **facts)
    with np.errstate(all="ignore"):
        judged = [
            clause.judge(trial, tuple(answered(call, kernel, offset) for call in trial.calls), context)
            for trial in asked(clause, dtype)
        ]
    return [j.finding for j in judged if j.finding is not None]


def test_no_clause_that_speaks_of_a_sampler_compares_with_an_exact_value():
    assert {clause.group for clause in OF_SAMPLERS.values()} == {"gumbel", "purity"}
    assert not any(clause.accuracy for clause in OF_SAMPLERS.values())


@pytest.mark.parametrize("name", LAWS)
def test_a_faithful_sampler_is_not_accused_at_another_seed(name):
    assert not findings(OF_SAMPLERS[name], offset=70)


def test_large_logits_have_to_be_summed_with_noise_in_more_than_16_bits():
    """By the format that the contract promises for sums; who declares 16 bits for all may tie."""
    clause = OF_SAMPLERS["gumbel.choice"]

    def tied(x, axis=-1, *, tau=1.0, hard=0, seed=0):
        noise = numpy_gumbel.gumbel_noise(x.shape, np.random.default_rng(seed)).astype(x.dtype)
        return numpy_gumbel.straight_through(x + noise, tau, _Silent(), axis)[0 if hard else 1]

    (finding,) = findings(clause, tied, "bfloat16")
    assert "class 0 was drawn" in finding.message
    assert "by chance less often than once in 2^" in finding.message
    declared = Context(op=OP, dtype="bfloat16", contract=Contract(compute="bfloat16"), ops=(OP,))
    trial = next(t for t in asked(clause, "bfloat16") if float(t.calls[0].operands[0].max()) > 100)
    assert clause.judge(trial, (answered(trial.calls[0], tied),), declared).finding is None


class _Silent:
    """A generator whose every draw is the median, so that its noise moves no class past another."""

    def integers(self, low, high, size):
        return np.full(size, high // 2)


def test_rarer_defects_are_looked_for_with_more_draws():
    plain, thorough = (len(asked(OF_SAMPLERS["gumbel.law"], thorough=t)) for t in (0.0, 1.0))
    assert thorough == plain + 1
    most = max(len(t.calls[0].operands[0]) for t in asked(OF_SAMPLERS["gumbel.law"], thorough=1.0))
    assert most == 1 << 17


def test_one_hot_samples_of_an_unseeded_sampler_need_not_follow_the_soft_ones():
    clause = OF_SAMPLERS["gumbel.hard"]

    def apart(x, axis=-1, *, tau=1.0, hard=0, seed=0):
        return numpy_gumbel.seeded_gumbel_softmax(x, axis, tau=tau, hard=hard, seed=seed + hard)

    assert findings(clause, apart)
    assert not findings(clause, apart, seeded=False)
    two = np.array([[1.0, 1.0, 0.0]], dtype=np.float32)
    trial = asked(clause)[0]
    given = (two[:, :2] / 2, np.ones((1, 2), np.float32))
    call = trial.calls[0]
    small = Trial(tuple(type(call)(OP, (two[:, :2],), c.params) for c in trial.calls))
    assert "not a 1 and zeros" in clause.judge(small, given, context_of(seeded=False)).finding.message


@pytest.mark.parametrize("name", ["gumbel.temperature", "gumbel.seed"])
def test_what_a_seed_promises_is_asked_of_who_takes_one(name):
    clause = OF_SAMPLERS[name]
    assert clause.applies(context_of()) is None
    assert clause.applies(context_of(seeded=False)) == "the subject takes no seed"


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_temperatures_bound_shares_from_both_sides(dtype):
    """A share that is off by one part in ten is found at some temperature; the faithful one at none."""
    clause = OF_SAMPLERS["gumbel.temperature"]
    assert not findings(clause, dtype=dtype)

    def warmer(x, axis=-1, *, tau=1.0, hard=0, seed=0):
        return numpy_gumbel.seeded_gumbel_softmax(x, axis, tau=tau * (2.0 if tau > 1 else 1.0), seed=seed)

    assert findings(clause, warmer, dtype)


def test_special_rows_are_held_to_the_contract_and_ordinary_ones_beside_them():
    clause = OF_SAMPLERS["gumbel.special"]

    def spreading(x, axis=-1, *, tau=1.0, hard=0, seed=0):
        y = numpy_gumbel.seeded_gumbel_softmax(x, axis, tau=tau, hard=hard, seed=seed)
        return np.where(np.isnan(y).any(), np.float32(np.nan), y).astype(x.dtype)

    messages = [finding.message for finding in findings(clause, spreading)]
    assert messages
    assert all("an ordinary row beside special ones gives" in message for message in messages)
    zero = as_dtype("float32").type(0)
    found = findings(clause, lambda x, **params: np.where(np.isnan(answered_row(x, params)), zero, 1))
    assert any("a row with a NaN gives 0 where it must give NaN" in f.message for f in found)


def answered_row(x, params):
    return numpy_gumbel.seeded_gumbel_softmax(x, **params)
