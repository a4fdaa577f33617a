"""Bounds of the hierarchical softmax: no correct program exceeds them, the worst comes near, wrong ones do.

Programs are simulated in binary64, in the precision and range of a narrower format; every step errs as far as
the model lets it, as `test_bounds.py` describes it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.hierarchical import (
    branches_of,
    hierarchical_log_bound,
    hierarchical_vjp_bound,
    sides_of,
)
from softcert.reference import balanced_tree, huffman_tree

DIVISION, ANY = Contract(form="division"), Contract(form="any")
TREES = {
    "two": balanced_tree(2),
    "balanced": balanced_tree(11),
    "deep": huffman_tree([2**k for k in range(9)]),
}
KINDS = ("normal", "wide", "tiny", "ties", "one-sided", "halves")
DTYPES = ("float32", "float16", "bfloat16")
LOG2E = float(np.log2(np.e))


def scores(kind, n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = {
        "normal": rng.normal(scale=2.0, size=n),
        "wide": rng.uniform(-30, 30, n),
        "tiny": rng.normal(scale=1e-4, size=n),
        "ties": rng.choice([0.0, 1.0, -1.0], n),
        # exp(-|s|) just above a power of two, where an ulp is the most that it can be of a number
        "halves": rng.choice([-1.0, 1.0], n) * (rng.integers(1, 4, n) * np.log(2.0) - 0.004),
        "one-sided": rng.uniform(4, 12, n),
    }[kind]
    return x.astype(as_dtype(dtype)).astype(np.float64)


@dataclass
class Machine:
    """Rounded arithmetic of a contract."""

    dtype: str
    contract: Contract
    way: str = "nearest"
    signs: float | None = 0.0  # of the errors of exp and log; None is random
    backwards: bool = False
    seed: int = 0

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)
        self.a = arithmetic(self.contract, self.dtype)

    def fl(self, v, u=None, eta=None):
        u = self.a.u_compute if u is None else u
        quantum = np.maximum(
            2 * u * 2.0 ** np.floor(np.log2(np.maximum(np.abs(v), 2.0**-1000))), eta or self.a.eta_compute
        )
        if self.way == "nearest":
            return np.rint(v / quantum) * quantum
        if self.way == "random":
            return v + quantum / 2 * self.rng.choice([-1.0, 1.0], np.shape(v)) * (v != 0)
        half = quantum / 2
        return (np.ceil if self.way == "up" else np.floor)(v / half) * half

    def off(self, v):
        """Move v by its declared ulps."""
        a = self.a
        quantum = np.maximum(
            2 * a.u_compute * 2.0 ** np.floor(np.log2(np.maximum(np.abs(v), 2.0**-1000))), a.eta_compute
        )
        sign = self.rng.choice([-1.0, 1.0], np.shape(v)) if self.signs is None else self.signs
        return np.where(v != 0, v + sign * a.exp_ulp * quantum, 0.0)

    def exp(self, t, base=np.e):
        return np.where(t == 0, 1.0, np.maximum(self.off(base**t), 0.0))

    def total(self, terms):
        """Sum of the last axis in the accumulator, narrowed to what is computed in."""
        a = self.a
        terms = terms[..., ::-1] if self.backwards else terms
        s = terms[..., 0]
        for k in range(1, terms.shape[-1]):
            s = self.fl(s + terms[..., k], a.u_sum, 2.0**-149)
        return self.fl(s) if a.u_sum < a.u_compute else s

    def result(self, v):
        """Round to a narrower result."""
        return self.fl(v, self.a.u_out, self.a.eta_out) if self.a.u_out > self.a.u_compute else v


def machines(dtype, contract):
    for way, signs, backwards in product(
        ("nearest", "up", "down", "random"), (1.0, -1.0, None), (False, True)
    ):
        yield Machine(dtype, contract, way, signs, backwards)


# --- programs ----------------------------------------------------------------------------------------


def by_log1p(m, t):
    w = m.exp(-np.abs(t))
    return m.result(m.total(m.fl(np.minimum(t, 0.0) - m.off(np.log1p(w)))))


def by_log(m, t):
    w = m.exp(-np.abs(t))
    return m.result(m.total(m.fl(np.minimum(t, 0.0) - m.off(np.log(m.fl(1.0 + w))))))


def base_two(m, t):
    """log2(1 + 2^(-c |t|)) / c."""
    w = m.exp(-m.fl(np.abs(t) * m.fl(np.asarray(LOG2E))), 2.0)
    rest = m.fl(m.off(np.log2(m.fl(1.0 + w))) * m.fl(np.asarray(1 / LOG2E)))
    return m.result(m.total(m.fl(np.minimum(t, 0.0) - rest)))


def both_shares(m, s):
    """sigma(s) and sigma(-s)."""
    w = m.exp(-np.abs(s))
    one = m.fl(1.0 + w)
    small, large = m.fl(w / one), m.fl(1.0 / one)
    return np.where(s > 0, large, small), np.where(s > 0, small, large)


def by_shares(m, s, dy, sign):
    """sum of dy times sigma(-s) or -sigma(s), leaf by leaf."""
    here, there = both_shares(m, s)
    return m.result(m.total(m.fl(dy * np.where(sign > 0, there[:, None], -here[:, None]))))


def by_label(m, s, dy, sign):
    """sum of dy (t - sigma(s)), which cancels."""
    here, _ = both_shares(m, s)
    return m.result(m.total(m.fl(dy * m.fl((sign > 0) - here[:, None]))))


def by_sums(m, s, dy, sign):
    """A - (A + B) sigma(s)."""
    here, _ = both_shares(m, s)
    ahead, both = m.total(np.where(sign > 0, dy, 0.0)), m.total(dy)
    return m.result(m.fl(ahead - m.fl(both * here)))


LOGS = [(DIVISION, by_log1p), (ANY, by_log1p), (ANY, by_log), (ANY, base_two)]
SLOPES = [(DIVISION, by_shares), (ANY, by_shares), (ANY, by_label), (ANY, by_sums)]


def by_name(value):
    return value.__name__ if callable(value) else value.form if isinstance(value, Contract) else None


def log_facts(name, kind, dtype, contract):
    """Branches of all leaves (m, L), the exact logarithms, and their bound."""
    tree = TREES[name]
    s, leaves = scores(kind, tree.classes - 1, dtype), np.arange(tree.classes)
    branches = branches_of(s, leaves, *tree)
    exact = reference.hierarchical_log_softmax(s, leaves, *tree).to_float64()
    return branches, exact, hierarchical_log_bound(branches, arithmetic(contract, dtype))


def slope_facts(kind, dtype, contract, classes=9):
    """Node 0 of a balanced tree, over all leaves, for many scores."""
    tree = balanced_tree(classes)
    rng = np.random.default_rng(4)
    s = scores(kind, 40, dtype)
    dy = rng.normal(size=classes).astype(as_dtype(dtype)).astype(np.float64)
    if classes == 2:
        dy[1] = 0.0  # one leaf alone
    leaves = np.arange(classes)
    sign = tree.path_signs[tree.path_starts[:-1]].astype(float)
    rows = np.zeros((40, classes - 1))
    rows[:, 0] = s
    slopes = np.broadcast_to(dy, (40, classes))
    sides, signed = sides_of(slopes, leaves, *tree)
    exact = reference.hierarchical_log_softmax_vjp(rows, slopes, leaves, *tree).to_float64()[:, 0]
    bound = hierarchical_vjp_bound(rows, sides, signed, arithmetic(contract, dtype))[:, 0]
    return s, dy, sign, exact, bound


def worst_log(program, contract, dtype, kind, name):
    branches, exact, bound = log_facts(name, kind, dtype, contract)
    found = 0.0
    for m in machines(dtype, contract):
        got = np.array([program(m, t[np.isfinite(t)]) for t in branches.t])
        found = max(found, float((np.abs(got - exact) / bound).max()))
    return found


def worst_slope(program, contract, dtype, kind, classes=9):
    s, dy, sign, exact, bound = slope_facts(kind, dtype, contract, classes)
    return max(
        float((np.abs(program(m, s, dy, sign) - exact) / bound).max()) for m in machines(dtype, contract)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("contract", "program"), LOGS, ids=by_name)
@pytest.mark.parametrize("compute", [None, "float32"])
def test_no_program_exceeds_the_bound_of_the_logarithm(contract, program, dtype, compute):
    promised = replace(contract, compute=compute)
    for kind, name in product(KINDS, TREES):
        assert worst_log(program, promised, dtype, kind, name) <= 1.0, (kind, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("contract", "program"), SLOPES, ids=by_name)
@pytest.mark.parametrize("compute", [None, "float32"])
def test_no_program_exceeds_the_bound_of_the_derivative(contract, program, dtype, compute):
    for kind, classes in product(KINDS, (2, 9)):
        assert worst_slope(program, replace(contract, compute=compute), dtype, kind, classes) <= 1.0, kind


#: Worst observed / bound that a program must reach; docs/explanation/bounds.md tabulates what it reaches.
FLOORS = {
    "by_log1p": 0.85,
    "by_log": 0.95,
    "base_two": 0.95,
    "by_shares": 0.8,
    "by_label": 0.35,
    "by_sums": 0.6,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("contract", "program"), [LOGS[0], *LOGS[2:], SLOPES[0], *SLOPES[2:]], ids=by_name)
def test_the_worst_program_comes_near_its_bound(contract, program, dtype):
    if program in {p for _, p in LOGS}:
        reached = max(worst_log(program, contract, dtype, k, n) for k, n in product(KINDS, TREES))
    else:
        reached = max(worst_slope(program, contract, dtype, k, 2) for k in KINDS)
    assert reached >= FLOORS[program.__name__]


def test_certain_branches_cost_nothing_and_impossible_ones_are_not_judged():
    tree = TREES["balanced"]
    leaves = np.arange(11)
    a = arithmetic(DIVISION, "float32")
    s = np.where(scores("normal", 10, "float32") > 0, np.inf, -np.inf)
    bound = hierarchical_log_bound(branches_of(s, leaves, *tree), a)
    logs = reference.hierarchical_log_softmax(s, leaves, *tree).to_float64()
    assert sorted(set(logs)) == [-np.inf, 0.0]
    assert (bound[logs == -np.inf] == 0).all()
    assert (bound[logs == 0] < 1e-40).all()
    sides, signed = sides_of(np.ones((1, 2)), np.array([3, 4]), *tree)
    on = {n for w in (3, 4) for n in tree.path_nodes[tree.path_starts[w] : tree.path_starts[w + 1]].tolist()}
    bound = hierarchical_vjp_bound(np.zeros((1, 10)), sides, signed, a)[0]
    assert {k for k, v in enumerate(bound.tolist()) if v} == on


# --- defects -----------------------------------------------------------------------------------------

f32 = np.float32


def softplus(t):
    return np.minimum(t, f32(0)) - np.log1p(np.exp(-np.abs(t)))


LOG_DEFECTS = {
    # exp overflows, or sigma rounds to 1
    "log of sigma": lambda t: np.log(f32(1) / (f32(1) + np.exp(-t))).sum(),
    "log of the product": lambda t: np.log(np.prod(f32(1) / (f32(1) + np.exp(-t)))),
    "no log1p": lambda t: (np.minimum(t, f32(0)) - np.log(f32(1) + np.exp(-np.abs(t)))).sum(),
    "last node dropped": lambda t: softplus(t)[:-1].sum(),
    "root dropped": lambda t: softplus(t)[1:].sum(),
    "signs exchanged": lambda t: softplus(-t).sum(),
    "clipped at 6": lambda t: softplus(np.clip(t, -6, 6)).sum(),
    # word2vec's: 1000 values of sigma on [-6, 6]
    "table of sigma": lambda t: np.log(
        1 / (1 + np.exp(-((((np.clip(t, -5.99, 5.99) + 6) * (1000 / 12)).astype(int) / 1000) * 12 - 6)))
    ).sum(),
    "float16 sum": lambda t: np.float16(softplus(t).astype(np.float16).sum(dtype=np.float16)),
    "epsilon": lambda t: np.log(f32(1) / (f32(1) + np.exp(-t)) + f32(1e-7)).sum(),
    "binary logarithm": lambda t: softplus(t).sum() / f32(np.log(2)),
    "mean": lambda t: softplus(t).mean(),
}


def log_excess(program, kinds=KINDS, names=TREES):
    """Worst error / bound of a program of float32, by what it promises."""
    found = 0.0
    for kind, name in product(kinds, names):
        branches, exact, bound = log_facts(name, kind, "float32", DIVISION)
        with np.errstate(all="ignore"):
            got = np.array([program(t[np.isfinite(t)].astype(f32)) for t in branches.t], dtype=np.float64)
        ratio = np.where(np.isfinite(got), np.abs(got - exact) / bound, np.inf)
        found = max(found, float(ratio.max()))
    return found


def test_the_right_program_is_none_of_the_defects():
    assert log_excess(lambda t: softplus(t).sum()) <= 1.0


@pytest.mark.parametrize("name", LOG_DEFECTS)
def test_defects_of_the_logarithm_exceed_the_bound(name):
    assert log_excess(LOG_DEFECTS[name]) > 2.0


def sigmoid(s):
    w = np.exp(-np.abs(s))
    return np.where(s > 0, f32(1) / (f32(1) + w), w / (f32(1) + w))


SLOPE_DEFECTS = {
    "1 - sigma": lambda s, dy, sign: (dy * ((sign > 0).astype(f32) - sigmoid(s)[:, None])).sum(-1),
    "sigma alone": lambda s, dy, sign: (dy * -sigmoid(s)[:, None] * np.ones_like(sign)).sum(-1),
    "label exchanged": lambda s, dy, sign: (dy * ((sign < 0) - sigmoid(s)[:, None])).sum(-1),
    "last leaf dropped": lambda s, dy, sign: (
        dy * np.where(sign > 0, sigmoid(-s)[:, None], -sigmoid(s)[:, None])
    )[:, :-1].sum(-1),
    "clipped at 6": lambda s, dy, sign: (
        dy * np.where(sign > 0, sigmoid(-np.clip(s, -6, 6))[:, None], -sigmoid(np.clip(s, -6, 6))[:, None])
    ).sum(-1),
    "by p (1 - p)": lambda s, dy, sign: (dy * (sign * (sigmoid(s) * sigmoid(-s))[:, None])).sum(-1),
}


@pytest.mark.parametrize("name", [None, *SLOPE_DEFECTS])
def test_defects_of_the_derivative_exceed_the_bound(name):
    worst = 0.0
    for kind, classes in product(KINDS, (2, 9)):
        s, dy, sign, exact, bound = slope_facts(kind, "float32", DIVISION, classes)
        s, dy = s.astype(f32), dy.astype(f32)
        if name is None:
            got = (dy * np.where(sign > 0, sigmoid(-s)[:, None], -sigmoid(s)[:, None])).sum(-1)
        else:
            got = SLOPE_DEFECTS[name](s, dy, sign.astype(f32))
        worst = max(worst, float((np.abs(got.astype(np.float64) - exact) / bound).max()))
    assert worst <= 1.0 if name is None else worst > 2.0
