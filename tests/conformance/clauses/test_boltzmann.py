"""The clauses on the Boltzmann distribution: what they see that no comparison of values sees."""

from __future__ import annotations

import numpy as np
import pytest

from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance import CLAUSES
from softcert.conformance.context import Context
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial

BY_ID = {clause.id: clause for clause in CLAUSES}
U = 2.0**-24
MANY = np.array([0.0, *([8.0] * 512)], dtype=np.float32)


def context(op="softmax"):
    return Context(op=op, dtype="float32", contract=Contract(form="division"), ops=("softmax", "logsumexp"))


def findings(clause, trial, answers, op="softmax"):
    """What the clause says, and what the values say."""
    asked = context(op)
    return (
        BY_ID[clause].judge(trial, answers, asked).finding,
        judge_values(trial, answers, asked).finding,
    )


def capacity(answer):
    trial = Trial((Call("softmax", (-MANY,), {"axis": -1}),))
    return findings("boltzmann.heat-capacity", trial, (answer.astype(np.float32),))


def test_the_heat_capacity_forgives_the_sum_and_not_the_weights():
    right = numpy_.softmax(-MANY).astype(np.float64)
    heavy = right.copy()
    heavy[1:] *= 1 + 250 * U
    assert capacity(right) == (None, None)
    assert capacity(right * (1 + 250 * U)) == (None, None)
    finding, values = capacity(heavy)
    assert values is None
    assert "beta^2 (<E^2> - <E>^2)" in finding.message


def free_energy(probabilities, log_z, x):
    params = {"axis": -1}
    trial = Trial((Call("softmax", (x,), params), Call("logsumexp", (x,), params)))
    return findings("boltzmann.free-energy", trial, (probabilities, np.asarray(log_z, dtype=np.float32)))


@pytest.mark.parametrize("level", [0.0, 40.0])
def test_softmax_and_logsumexp_of_two_temperatures_do_not_belong_together(level):
    x = np.array([0.0, -1.0, -2.5, -4.0], dtype=np.float32) + np.float32(level)
    right, log_z = numpy_.softmax(x), numpy_.logsumexp(x)
    assert free_energy(right, log_z, x) == (None, None)
    warm = numpy_.softmax((x * np.float32(0.99)).astype(np.float32))
    finding, _ = free_energy(warm, log_z, x)
    assert "not 0" in finding.message
    finding, _ = free_energy(right, log_z * np.float32(1.001) + np.float32(0.001), x)
    assert "not 0" in finding.message


def test_errors_of_the_probabilities_enter_the_free_energy_in_second_order():
    """A probability vector that is off by a thousandth moves the identity by a millionth."""
    x = np.array([0.0, -1.0, -2.5, -4.0])
    p = numpy_.softmax(x)
    off = p * (1 + 1e-3 * np.array([1.0, -1.0, 1.0, -1.0]))
    off /= off.sum()
    moved = numpy_.logsumexp(x) - x @ off + off @ np.log(off)
    assert 0 <= moved < 2e-6


def slope(log_zs, low=1.0, high=1.5):
    energies = np.array([0.0, 1.0, 1.0, 3.0], dtype=np.float32)
    calls = tuple(Call("logsumexp", (np.float32(-b) * energies,), {"axis": -1}) for b in (low, high))
    relation = {"low": low, "high": high, "energies": [float(e).hex() for e in energies]}
    right = [numpy_.logsumexp(call.operands[0]) for call in calls]
    answers = tuple(np.asarray(r + d, dtype=np.float32) for r, d in zip(right, log_zs, strict=True))
    return findings("boltzmann.mean-energy", Trial(calls, relation), answers, "logsumexp")


def test_the_slope_of_log_z_lies_between_two_mean_energies():
    assert slope((0.0, 0.0)) == (None, None)
    assert slope((0.5, 0.5))[0] is not None  # each value is wrong, the slope is not
    for log_zs in ((0.0, 0.1), (0.2, 0.0)):
        finding, _ = slope(log_zs)
        assert finding is not None
