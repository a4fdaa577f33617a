"""Bounds of the differentiated softmax: no correct program exceeds them, the worst comes near, others do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.differentiated import (
    differentiated_bound,
    differentiated_vjp_bounds,
    logit_bound,
)
from softcert.conformance.bounds.softmax import rows_of

DIVISION, ANY = Contract(form="division"), Contract(form="any")
SHAPES = {
    "short": [(1, 1), (1, 1)],
    "one": [(5, 4)],
    "two": [(2, 6), (5, 2)],
    "three": [(1, 8), (2, 3), (6, 1)],
}
SPREADS = (0.0625, 1.0, 3.0)
DTYPES = ("float32", "float16", "bfloat16")
LOG2E = float(np.log2(np.e))


def layer(name, spread, dtype, rows=4):
    """h (rows, D), weights, biases and cotangents dy (rows, K), in binary64 but of a dtype."""
    rng = np.random.default_rng(7)
    shapes = SHAPES[name]

    def numbers(scale, shape):
        if name == "short":
            # products just above a power of two, where a rounding is the most that it can be
            size = 2 * scale * (1 + rng.uniform(0.01, 0.05, shape)) * rng.choice([-1.0, 1.0], shape)
            return size.astype(as_dtype(dtype)).astype(np.float64)
        return rng.normal(scale=scale, size=shape).astype(as_dtype(dtype)).astype(np.float64)

    h = numbers(1.0, (rows, sum(d for _, d in shapes)))
    return (
        h,
        [numbers(spread, s) for s in shapes],
        [numbers(spread, s[:1]) for s in shapes],
        numbers(1.0, (rows, sum(v for v, _ in shapes))),
    )


@dataclass
class Machine:
    """Rounded arithmetic of a contract; what `way` and `signs` say of steps, and of errors of exp and log."""

    dtype: str
    contract: Contract
    way: str = "nearest"
    signs: float | None = 0.0
    backwards: bool = False

    def __post_init__(self):
        self.rng = np.random.default_rng(0)
        self.a = arithmetic(self.contract, self.dtype)

    def quantum(self, v, u, eta):
        return np.maximum(2 * u * 2.0 ** np.floor(np.log2(np.maximum(np.abs(v), 2.0**-1000))), eta)

    def fl(self, v, u=None, eta=None):
        quantum = self.quantum(v, u or self.a.u_compute, eta or self.a.eta_compute)
        if self.way == "nearest":
            return np.rint(v / quantum) * quantum
        if self.way == "random":
            return v + quantum / 2 * self.rng.choice([-1.0, 1.0], np.shape(v)) * (v != 0)
        half = quantum / 2
        return (np.ceil if self.way == "up" else np.floor)(v / half) * half

    def add(self, v):
        return self.fl(
            v, self.a.u_sum, max(self.a.eta_compute if self.a.u_sum == self.a.u_compute else 0, 2.0**-149)
        )

    def off(self, v):
        a = self.a
        if self.signs is None:
            sign = np.where(np.arange(v.shape[-1]) == 0, 1.0, -1.0) if v.ndim else 1.0
        else:
            sign = self.signs
        return np.where(v != 0, v + sign * a.exp_ulp * self.quantum(v, a.u_compute, a.eta_compute), 0.0)

    def total(self, terms):
        """Sum of the last axis in the accumulator."""
        terms = terms[..., ::-1] if self.backwards else terms
        s = terms[..., 0]
        for k in range(1, terms.shape[-1]):
            s = self.add(s + terms[..., k])
        return s

    def narrow(self, v):
        return self.fl(v) if self.a.u_sum < self.a.u_compute else v

    def result(self, v):
        return self.fl(v, self.a.u_out, self.a.eta_out) if self.a.u_out > self.a.u_compute else v

    def dot(self, left, right):
        """Products and their sum in the accumulator, last axes of both."""
        return self.total(self.add(left * right))

    def exp(self, t, base=np.e):
        return np.where(t == 0, 1.0, np.maximum(self.off(base**t), 0.0))


def machines(dtype, contract):
    ways = product(("nearest", "up", "down", "random"), (1.0, -1.0, None), (False, True))
    return [Machine(dtype, contract, *how) for how in ways]


def logits(m, h, weights, biases):
    parts, at = [], 0
    for w, b in zip(weights, biases, strict=True):
        part = h[:, at : at + w.shape[1]]
        parts.append(m.narrow(m.add(m.dot(part[:, None, :], w[None]) + b)))
        at += w.shape[1]
    return np.concatenate(parts, -1)


def by_division(m, z):
    w = m.exp(m.fl(z - z.max(-1, keepdims=True)))
    return m.result(m.fl(w / m.narrow(m.total(w))[:, None]))


def base_two(m, z):
    y = m.fl(z * m.fl(np.asarray(LOG2E)), m.a.u_offset)
    w = m.exp(m.fl(y - y.max(-1, keepdims=True)), 2.0)
    return m.result(m.fl(w / m.narrow(m.total(w))[:, None]))


def through_lse(m, z):
    top = z.max(-1, keepdims=True)
    w = m.exp(m.fl(z - top))
    s = m.narrow(m.total(w))[:, None]
    exact = top + m.off(np.log(s))
    quantum = m.quantum(exact, m.a.u_offset, 2.0**-149)
    return m.result(m.exp(m.fl(z - np.rint(exact / quantum) * quantum)))


def online(m, z):
    top, s = np.full(len(z), -np.inf), np.zeros(len(z))
    for column in z.T:
        new = np.maximum(top, column)
        s = m.add(
            m.add(s * np.where(s > 0, m.exp(m.fl(np.where(s > 0, top - new, 0.0))), 0.0))
            + m.exp(m.fl(column - new))
        )
        top = new
    return m.result(m.fl(m.exp(m.fl(z - top[:, None])) / m.narrow(s)[:, None]))


FORMS = [(DIVISION, by_division), (ANY, by_division), (ANY, base_two), (ANY, through_lse), (ANY, online)]


def by_name(value):
    return value.__name__ if callable(value) else value.form if isinstance(value, Contract) else None


def facts(name, spread, dtype, contract):
    h, weights, biases, _ = layer(name, spread, dtype)
    exact = reference.differentiated_logits(h, weights, biases).to_float64()
    p = reference.differentiated_softmax(h, weights, biases).to_float64()
    a = arithmetic(contract, dtype)
    moved = logit_bound(h, weights, biases, exact, a)
    rows = rows_of(exact, 1.0, any_order=contract.form == "any")
    return (h, weights, biases), exact, moved, p, differentiated_bound(rows, moved, a)


def worst(program, contract, dtype, name, spread):
    operands, exact, moved, p, bound = facts(name, spread, dtype, contract)
    found = 0.0
    for m in machines(dtype, contract):
        z = logits(m, *operands)
        assert (np.abs(z - exact) <= moved).all()
        found = max(found, float((np.abs(program(m, z) - p) / bound).max()))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("contract", "program"), FORMS, ids=by_name)
@pytest.mark.parametrize("compute", [None, "float32"])
def test_no_program_exceeds_its_bound(contract, program, dtype, compute):
    for name, spread in product(SHAPES, SPREADS):
        assert worst(program, replace(contract, compute=compute), dtype, name, spread) <= 1.0, (name, spread)


#: Worst observed / bound that a program must reach; docs/explanation/bounds.md tabulates what it reaches.
FLOORS = {"by_division": 0.4, "base_two": 0.3, "through_lse": 0.3, "online": 0.2}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("contract", "program"), [FORMS[0], *FORMS[2:]], ids=by_name)
def test_the_worst_program_comes_near_its_bound(contract, program, dtype):
    reached = max(worst(program, contract, dtype, n, s) for n, s in product(SHAPES, SPREADS))
    assert reached >= FLOORS[program.__name__]


def test_the_bound_of_the_logits_is_reached():
    operands, exact, moved, _, _ = facts("short", 1.0, "float32", DIVISION)
    found = max(
        float((np.abs(logits(m, *operands) - exact) / moved).max()) for m in machines("float32", DIVISION)
    )
    assert found >= 0.6


# --- derivatives -------------------------------------------------------------------------------------


def slopes(m, h, weights, y, dy):
    """dh, dW and db, the cotangent of the logits held in the result's format."""
    mean = m.narrow(m.dot(y, dy))[:, None]
    g = m.result(m.fl(y * m.fl(dy - mean)))
    at, row, by_hidden, by_weights, by_biases = 0, 0, [], [], []
    for w in weights:
        own, part = g[:, row : row + len(w)], h[:, at : at + w.shape[1]]
        by_hidden.append(m.result(m.narrow(m.dot(own[:, None, :], w.T[None]))))
        by_weights.append(m.result(m.narrow(m.dot(own.T[:, None, :], part.T[None]))))
        by_biases.append(m.result(m.narrow(m.total(own.T))))
        at, row = at + w.shape[1], row + len(w)
    return [np.concatenate(by_hidden, -1), *by_weights, *by_biases]


def slope_facts(name, dtype, contract):
    h, weights, biases, dy = layer(name, 1.0, dtype)
    y = reference.differentiated_softmax(h, weights, biases).round(dtype).astype(np.float64)
    exact = reference.differentiated_softmax_vjp(h, weights, y, dy)
    bounds = differentiated_vjp_bounds(h, weights, y, dy, arithmetic(contract, dtype))
    return (
        (h, weights, y, dy),
        [e.to_float64() for e in (exact[0], *exact[1], *exact[2])],
        [bounds[0], *bounds[1], *bounds[2]],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compute", [None, "float32"])
def test_derivatives_stay_within_their_bounds_and_come_near(dtype, compute):
    contract = replace(DIVISION, compute=compute)
    reached = 0.0
    for name in SHAPES:
        operands, exact, bounds = slope_facts(name, dtype, contract)
        assert [b.shape for b in bounds] == [e.shape for e in exact]
        for m in machines(dtype, contract):
            for got, truth, bound in zip(slopes(m, *operands), exact, bounds, strict=True):
                reached = max(reached, float((np.abs(got - truth) / bound).max()))
    assert 0.25 <= reached <= 1.0


# --- defects -----------------------------------------------------------------------------------------

f32 = np.float32


def plain(h, weights, biases):
    z, at = [], 0
    for w, b in zip(weights, biases, strict=True):
        z.append(h[:, at : at + w.shape[1]] @ w.T + b)
        at += w.shape[1]
    return np.concatenate(z, -1)


def softmax(z):
    w = np.exp(z - z.max(-1, keepdims=True))
    return w / w.sum(-1, keepdims=True)


def shared_slice(h, weights, biases):
    """Every block reads from the first feature on."""
    return softmax(
        np.concatenate([h[:, : w.shape[1]] @ w.T + b for w, b in zip(weights, biases, strict=True)], -1)
    )


def softmax_by_block(h, weights, biases):
    z, parts, row = plain(h, weights, biases), [], 0
    for w in weights:
        parts.append(softmax(z[:, row : row + len(w)]) * f32(len(w) / z.shape[-1]))
        row += len(w)
    return np.concatenate(parts, -1)


DEFECTS = {
    "every block reads the first features": shared_slice,
    "a softmax of each block": softmax_by_block,
    "no biases": lambda h, w, b: softmax(plain(h, w, [0 * v for v in b])),
    "float16 logits": lambda *o: softmax(plain(*o).astype(np.float16).astype(f32)),
    "bfloat16 features": lambda h, w, b: softmax(plain(h.astype(as_dtype("bfloat16")).astype(f32), w, b)),
    "scaled by the root of the features": lambda h, w, b: softmax(plain(h / f32(h.shape[1] ** 0.5), w, b)),
    "last class dropped from the sum": lambda *o: softmax(plain(*o)) * f32(1.0001),
    "blocks in another order": lambda h, w, b: softmax(plain(h, w, b)[:, ::-1]),
}


@pytest.mark.parametrize("name", [None, *DEFECTS])
@pytest.mark.parametrize("contract", [DIVISION, ANY], ids=by_name)
def test_defects_exceed_the_bound(name, contract):
    ratio = 0.0
    for shapes, spread in product(("two", "three"), SPREADS):
        operands, _, _, p, bound = facts(shapes, spread, "float32", contract)
        h, weights, biases = operands[0].astype(f32), *([v.astype(f32) for v in o] for o in operands[1:])
        got = (DEFECTS[name] if name else lambda *o: softmax(plain(*o)))(h, weights, biases)
        ratio = max(ratio, float((np.abs(got.astype(np.float64) - p) / bound).max()))
    assert ratio <= 1.0 if name is None else ratio > 2.0


def test_a_gradient_that_crosses_blocks_exceeds_the_bound():
    (h, weights, y, dy), exact, bounds = slope_facts("three", "float32", ANY)
    g = y * (dy - (y * dy).sum(-1, keepdims=True))
    right = np.concatenate([g[:, :1] @ weights[0], g[:, 1:3] @ weights[1], g[:, 3:] @ weights[2]], -1)
    assert (np.abs(right - exact[0]) <= bounds[0]).all()
    crossed = right.copy()
    crossed[:, 8:11] += 1e-4 * (g[:, :1] @ weights[0])[:, :3]
    assert (np.abs(crossed - exact[0]) > bounds[0]).any()
    # dW of one row alone, not of all
    assert (np.abs(g[:1, :1].T @ h[:1, :8] - exact[1]) > bounds[1]).any()
