"""The clauses on limits: what they see that no comparison of values sees, and the figures they rest on."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from softcert import reference
from softcert.backends import numpy_
from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance import CLAUSES
from softcert.conformance.bounds import limits as limit_bounds
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.softmax import exact_sum, rows_of, softmax_bound
from softcert.conformance.context import Context
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial

BY_ID = {clause.id: clause for clause in CLAUSES}
DIVISION = Contract(form="division")
U = 2.0**-24


def context(op="softmax", contract=DIVISION, dtype="float32"):
    return Context(op=op, dtype=dtype, contract=contract, ops=(op,), beta=True)


def judged(clause, x, answer, op="softmax"):
    """The clause's finding, and that of the values alone."""
    trial = Trial((Call(op, (x,), {"axis": -1}),))
    asked = context(op)
    return (
        BY_ID[clause].judge(trial, (answer,), asked).finding,
        judge_values(trial, (answer,), asked).finding,
    )


def long_row(n=1000, top=40.0, maxima=1):
    x = np.zeros(n, dtype=np.float32)
    x[:maxima] = top
    return x


@pytest.mark.parametrize("maxima", [1, 3, 400])
def test_near_arg_max_the_sum_does_not_grow_with_the_length(maxima):
    """A sum off by 300 units is within what 999 additions may err, but these add integers."""
    x = long_row(maxima=maxima)
    right = numpy_.softmax(x)
    off = (right.astype(np.float64) / (1 + 300 * U)).astype(np.float32)
    assert judged("limits.argmax", x, right) == (None, None)
    finding, values = judged("limits.argmax", x, off)
    assert values is None
    assert "from arg max" in finding.message


def test_near_the_maximum_logsumexp_does_not_grow_with_the_length():
    x = long_row(top=0.0) - np.float32(40.0)
    x[0] = 0.0
    right = numpy_.logsumexp(x)
    off = np.float32(right + 300 * U)
    assert judged("limits.tropical", x, right, "logsumexp") == (None, None)
    finding, values = judged("limits.tropical", x, off, "logsumexp")
    assert values is None
    assert "outside [max + log m" in finding.message


def test_the_normalised_mean_forgives_the_sum_and_nothing_else():
    x = np.full(1000, -7.0, dtype=np.float32)
    x[0] = 0.0
    right = numpy_.softmax(x).astype(np.float64)
    common, tail = right * (1 + 300 * U), right.copy()
    tail[1:] *= 1 + 300 * U
    assert judged("limits.expectation", x, common.astype(np.float32)) == (None, None)
    finding, values = judged("limits.expectation", x, tail.astype(np.float32))
    assert values is None
    assert "the mean of x under softmax(x)" in finding.message


def test_too_sharp_is_as_wrong_as_too_soft():
    """A distance is compared from both sides: near a tie an arg max is not the answer."""
    x = np.array([1.0, 1.0 + 2.0**-23], dtype=np.float32)
    for answer in ([0.0, 1.0], [0.25, 0.75]):
        assert judged("limits.near-ties", x, np.array(answer, dtype=np.float32))[0] is not None
    assert judged("limits.near-ties", x, numpy_.softmax(x))[0] is None


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_at_every_beta_a_near_tie_stays_half_a_unit_away(dtype):
    """Not uniform: at each beta the clause asks for a row that is certainly 1/2 - 2^-9 from its arg max."""
    clause, asked = BY_ID["limits.near-ties"], context(dtype=dtype)
    furthest: dict[float, Fraction] = {}
    for seedling in clause.directed(asked):
        (x,), factor = seedling.operands, float(seedling.extra["factor"])
        if x[0] != x[1]:
            distance = Fraction(
                reference.softmax(x, beta=factor)[int(np.argmin(x))].bounds_decimal(30)[0].item()
            )
            furthest[factor] = max(furthest.get(factor, Fraction(0)), distance)
    assert len(furthest) == 7
    assert all(
        Fraction(1, 2) - Fraction(1, 512) < distance < Fraction(1, 2) for distance in furthest.values()
    )


def in_lanes(weights, rng):
    """Sum in binary32, in random order and three lanes."""
    lanes = np.zeros(3, dtype=np.float32)
    for weight in rng.permutation(weights):
        lanes[rng.integers(3)] += weight
    return float((lanes[0] + lanes[1]) + lanes[2])


def test_where_the_sum_is_called_exact_it_is_the_number_of_maxima():
    rng, exact, a = np.random.default_rng(7), 0, arithmetic(DIVISION, "float32")
    for _ in range(300):
        maxima, n = int(rng.integers(1, 40)), int(rng.integers(50, 400))
        x = rng.uniform(-35, -22, n).astype(np.float32)
        x[:maxima] = 0.0
        if exact_sum(rows_of(x.astype(np.float64), 1.0, any_order=False), a).item():
            exact += 1
            assert in_lanes(np.exp(x), rng) == maxima
    assert exact > 50


def test_heavier_weights_do_change_a_sum_and_are_not_called_exact():
    """Sharp: a weight of one unit is added, and at the threshold of 1/8 unit it is not."""
    a = arithmetic(DIVISION, "float32")
    for light, exact in ((U / 9, True), (U / 7, False), (U, False)):
        rows = rows_of(np.array([0.0, np.log(light)]), 1.0, any_order=False)
        assert exact_sum(rows, a).item() is exact
    assert np.float32(1) + np.float32(2 * U) > 1


def test_masses_that_balance_make_the_distance_indifferent_to_the_sum():
    """With half of the weight on either side what is common to a row moves nothing."""
    x = np.full((1, 1001), -np.log(1000.0))
    x[0, 0] = 0.0
    a = arithmetic(DIVISION, "float32")
    rows = rows_of(x, 1.0, any_order=False)
    by_elements = (softmax_bound(rows, a, np.ones_like(x))).sum()
    assert limit_bounds.distance_bound(rows, a).item() < by_elements / 20
