"""No correct sparsemax or entmax, simulated with steps that err as far as they may, exceeds its bound.

Programs of every form that the bounds allow run in binary64, each elementary step moved by a unit roundoff of
2^-11 either way at random, powers by three ulps.
"""

from __future__ import annotations

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.entmax import entmax_bound, entmax_vjp_bound, shares_of
from softcert.conformance.bounds.softmax import rows_of
from softcert.conformance.inputs.families import make_row, output_near

U = 2.0**-11
ULPS = 3.0
FAMILIES = (("normal", 0.1), ("normal", 1.0), ("ties", 0.5), ("equal", 1.0), ("near-ties", 1.0))
LENGTHS = (2, 3, 9, 33)


class Machine:
    """Arithmetic whose every step errs by U, in a direction drawn anew or the same for all."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.way = seed % 3 - 1

    def off(self, v, units=1.0):
        v = np.asarray(v, dtype=np.float64)
        signs = self.rng.choice([-1.0, 1.0], v.shape) if self.way == 0 else np.full(v.shape, float(self.way))
        return v * (1.0 + units * U * signs)

    def total(self, v):
        s = v[0]
        for part in v[1:]:
            s = self.off(s + part)
        return s

    def power(self, t, exponent):
        if exponent == 1.0:
            return t
        return np.where(t > 0, self.off(np.where(t > 0, t, 1.0) ** exponent, 2 * ULPS), 0.0)


def sorted_sparsemax(m, z, _alpha):
    """Martins and Astudillo's algorithm 1."""
    ordered = np.sort(z)[::-1]
    sums, size = [], 0
    for k in range(1, len(z) + 1):
        sums.append(m.off(ordered[0]) if k == 1 else m.off(sums[-1] + ordered[k - 1]))
        size = k if m.off(1 + m.off(k * ordered[k - 1])) > sums[-1] else size
    tau = m.off(m.off(sums[size - 1] - 1) / size)
    return np.maximum(m.off(z - tau), 0)


def sorted_entmax15(m, z, _alpha):
    """The closed form of order 1.5, as the package by its authors has it."""
    ordered = np.sort(z)[::-1]
    taus, size = [], 0
    for k in range(1, len(z) + 1):
        mean = m.off(m.total(ordered[:k]) / k)
        square = m.off(m.total(m.off(ordered[:k] ** 2)) / k)
        variation = m.off(k * m.off(square - m.off(mean**2)))
        delta = m.off(m.off(1 - variation) / k)
        taus.append(m.off(mean - m.off(np.sqrt(max(float(delta), 0.0)))))
        size = k if taus[-1] <= ordered[k - 1] else size
    return m.off(np.maximum(m.off(z - taus[max(size, 1) - 1]), 0) ** 2)


def halved(m, z, alpha, *, normalised=False):
    """A threshold found by halving until its neighbours are the ends."""
    exponent = m.off(1 / m.off(alpha - 1))
    low, high = -1.0, 0.0
    while high - low > 2 * U * -low:
        middle = (low + high) / 2
        over = m.total(m.power(np.maximum(m.off(z - middle), 0), exponent)) >= 1
        low, high = (middle, high) if over else (low, middle)
    p = m.power(np.maximum(m.off(z - low), 0), exponent)
    return m.off(p / m.total(p)) if normalised else p


def halved_and_normalised(m, z, alpha):
    return halved(m, z, alpha, normalised=True)


PROGRAMS = {
    "sorted": (sorted_sparsemax, (2.0,)),
    "closed form": (sorted_entmax15, (1.5,)),
    "halved": (halved, (1.25, 1.5, 1.75, 2.0, 3.0)),
    "halved, normalised": (halved_and_normalised, (1.25, 1.5, 1.75, 2.0, 3.0)),
}


def promised(form):
    contract = Contract(form=form, compute="float16", accumulator="float16", exp_ulp=ULPS)
    return arithmetic(contract, "float32")


def rows():
    for family, spread in FAMILIES:
        for n in LENGTHS:
            yield make_row(family, n, n, spread, "float32")


def shown(x, alpha, form, offset=0.0):
    """The exact shares of a row, and their bound, with the row moved by an offset."""
    moved = (x + np.float32(offset)).astype(np.float32)
    p = reference.entmax(moved, alpha=alpha).to_float64()
    facts = rows_of(moved.astype(np.float64), 1.0, any_order=False)
    return moved, p, entmax_bound(shares_of(facts, p, alpha), promised(form))


def worst(program, alpha, form, offset=0.0, seeds=9):
    ratios = [0.0]
    for x in rows():
        moved, p, bound = shown(x, alpha, form, offset)
        for seed in range(seeds):
            m = Machine(seed)
            gaps = moved.astype(np.float64) - (moved.max() if form == "division" else 0.0)
            z = m.off(m.off(gaps) * m.off(alpha - 1))
            # A program that leaves the maximum in has it in its threshold too.
            top = 0.0 if form == "division" else float(z.max())
            y = program(m, m.off(z - top) if top else z, alpha)
            assert (np.abs(y - p) <= bound).all(), (x, alpha, y, p, bound)
            ratios.append(float((np.abs(y - p) / np.where(bound > 0, bound, np.inf)).max()))
    return max(ratios)


#: Worst observed / bound of each program, as docs/explanation/bounds.md tabulates it.
SHARP = {"sorted": 0.1, "closed form": 0.1, "halved": 0.3, "halved, normalised": 0.15}


@pytest.mark.parametrize("name", PROGRAMS)
def test_bounds_are_sound_and_not_vanishing(name):
    program, orders = PROGRAMS[name]
    assert max(worst(program, alpha, "division") for alpha in orders) >= SHARP[name]


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_offset_costs_accuracy_where_no_form_is_promised(name):
    program, orders = PROGRAMS[name]
    for alpha in orders:
        worst(program, alpha, "any", offset=4.0, seeds=3)


def test_what_is_far_below_the_threshold_has_to_be_zero():
    _, p, bound = shown(np.array([0.0, -3.0, -0.5], dtype=np.float32), 2.0, "division")
    assert (p[1], bound[1]) == (0.0, 0.0)
    assert 0.0 < bound[2] < 0.1


@pytest.mark.parametrize("alpha", [1.25, 1.5, 1.75, 2.0])
@pytest.mark.parametrize("fused", [True, False])
def test_bounds_of_derivatives_are_sound(alpha, fused):
    largest = 0.0
    for x in rows():
        y = output_near("entmax_vjp", x)
        dy = make_row("normal", y.size, 7, 3.0, "float32")
        exact = reference.entmax_vjp(y, dy, alpha=alpha).to_float64()
        bound = entmax_vjp_bound(y.astype(np.float64), dy.astype(np.float64), alpha, promised("division"))
        for seed in range(9):
            m = Machine(seed)
            s = m.power(y.astype(np.float64), 2 - alpha) if alpha < 2 else (y > 0).astype(np.float64)
            mean = m.off(m.total(m.off(s * dy)) / m.total(s))
            got = m.off(s * m.off(dy - mean)) if fused else m.off(m.off(s * dy) - m.off(s * mean))
            assert (np.abs(got - exact) <= bound).all(), (x, alpha)
            assert (bound[y == 0] == 0).all()
            largest = max(largest, float((np.abs(got - exact) / np.where(bound > 0, bound, np.inf)).max()))
    assert largest >= 0.1
