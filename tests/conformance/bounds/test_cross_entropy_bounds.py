"""No correct cross-entropy exceeds its bound, the worst comes near it, and wrong ones exceed it.

Implementations are simulated in binary64 in the precision and range of narrower formats. Every step errs as
far as the model lets it: to nearest, directed one bit finer, or by u either way; exponentials and logarithms
err by all of their declared ulps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.conformance.bounds.arithmetic import Arithmetic, arithmetic
from softcert.conformance.bounds.cross_entropy import (
    cross_entropy_bound,
    cross_entropy_vjp_bound,
    losses_of,
)
from softcert.conformance.inputs.families import make_row

LOG2E = float(np.log2(np.e))
FAMILIES = ("normal", "ties", "near-ties", "one-hot", "offset-up", "offset-down", "gap-sweep", "increasing")
OPTIONS = (
    {},
    {"label_smoothing": 0.1},
    {"z_loss": 0.01},
    {"label_smoothing": 0.999, "z_loss": 0.3},
)
WAYS = ("nearest", "up", "down", "random")
FORMATS = (
    ("float32", None),
    ("float16", None),
    ("float16", "float32"),
    ("bfloat16", None),
    ("bfloat16", "float32"),
)


def quantum(v, unit, eta):
    _, exponent = np.frexp(np.where(np.isfinite(v), v, 1.0))
    return np.maximum(np.ldexp(2.0 * unit, np.clip(exponent - 1, -1074, 1000)), eta)


@dataclass
class Machine:
    """Arithmetic of a contract; `way` says how steps are rounded, `sign` whither exp and log err."""

    a: Arithmetic
    way: str = "nearest"
    sign: float = 0.0
    backwards: bool = False
    seed: int = 0

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)

    def fl(self, v, where="compute", *, cast=False):
        unit = getattr(self.a, f"u_{where}")
        eta = {"compute": self.a.eta_compute, "out": self.a.eta_out}.get(where, 2.0**-149)
        if unit == self.a.u_compute:
            eta = self.a.eta_compute
        v = np.asarray(v, dtype=np.float64)
        q = quantum(v, unit, eta)
        way = "nearest" if cast else self.way
        if way == "nearest":
            return np.rint(v / q) * q
        if way == "random":
            return v + q / 2 * self.rng.choice([-1.0, 1.0], v.shape) * (v != 0)
        return (np.ceil if way == "up" else np.floor)(v / q * 2) * q / 2

    def wrong(self, v):
        """Off by all of the declared ulps, one way or the other."""
        signs = self.sign if self.sign else self.rng.choice([-1.0, 1.0], np.shape(v))
        q = quantum(v, self.a.u_compute, self.a.eta_compute)
        return v + np.where(v != 0, signs * self.a.exp_ulp * q, 0.0)

    def exp(self, t, base=np.exp):
        return np.where(np.abs(t) <= self.a.u_compute, 1.0, np.maximum(self.wrong(base(t)), 0.0))

    def log(self, s, base=np.log):
        return self.wrong(np.asarray(base(s)))

    def total(self, w):
        """The sum in the accumulator's format, brought to that of the steps."""
        w = w[::-1] if self.backwards else w
        s = w[0]
        for v in w[1:]:
            s = self.fl(s + v, "sum")
        return self.fl(s) if self.a.u_sum < self.a.u_compute else s

    def result(self, v):
        return self.fl(v, "out", cast=True) if self.a.u_out > self.a.u_compute else v


@dataclass
class Task:
    """A row, its target and the options of its loss."""

    x: np.ndarray
    t: int
    s: float = 0.0
    z: float = 0.0
    d: float = 1.0

    @property
    def own(self):
        return np.arange(len(self.x)) == self.t


# --- losses ---


def terms(m, x):
    t = m.fl(x - x.max())
    return t, m.total(m.exp(t))


def combined(m, k, logs, lse):
    """(1 - s) (-log p_t) + (s / n) sum (-log p_j) + z lse^2 of log-probabilities."""
    loss = -logs[k.t]
    if k.s:
        s = m.fl(k.s)
        share = m.fl(s / len(k.x))
        loss = m.fl(m.fl(m.fl(1.0 - s) * loss) + m.fl(m.total(-logs) * share))
    return m.result(with_z(m, k, loss, lse))


def with_z(m, k, loss, lse):
    return m.fl(loss + m.fl(m.fl(k.z) * m.fl(lse * lse))) if k.z else loss


def from_log_softmax(m, k):
    t, s = terms(m, k.x)
    log = m.log(s)
    return combined(m, k, m.fl(t - log), m.fl(k.x.max() + log))


def from_gaps(m, k):
    """(1 - s) gap_t + (s / n) sum of gaps, and the logarithm of the sum once."""
    t, total = terms(m, k.x)
    log, lost = m.log(total), -t[k.t]
    if k.s:
        s = m.fl(k.s)
        lost = m.fl(m.fl(m.fl(1.0 - s) * lost) + m.fl(m.total(-t) * m.fl(s / len(k.x))))
    return m.result(with_z(m, k, m.fl(lost + log), m.fl(k.x.max() + log)))


def from_base_two(m, k):
    c = m.fl(LOG2E)
    t = m.fl(m.fl(k.x - k.x.max()) * c)
    log = m.log(m.total(m.exp(t, np.exp2)), np.log2)
    logs = m.fl(m.fl(t - log) * m.fl(1.0 / LOG2E))
    top = m.fl(k.x.max() * m.fl(LOG2E, "offset"), "offset")
    lse = m.fl(m.fl(top + log, "offset") * m.fl(1.0 / LOG2E, "offset"), "offset")
    return combined(m, k, logs, lse)


def lse_of(m, x):
    _, s = terms(m, x)
    return m.fl(x.max() + m.log(s), "offset")


def fused(m, k):
    """lse - x_t at once; smoothed by sums of the logits, as Liger's kernel does."""
    lse = lse_of(m, k.x)
    if not k.s:
        return m.result(with_z(m, k, m.fl(lse - k.x[k.t]), lse))
    s = m.fl(k.s, "offset")
    eps = m.fl(s / len(k.x), "offset")
    scaled = 0.0
    for v in m.fl(-eps * k.x, "offset"):
        scaled = m.fl(scaled + v, "sum")
    own = m.fl(m.fl(lse - k.x[k.t], "offset") * m.fl(1.0 - s, "offset"), "offset")
    smooth = m.fl(scaled + m.fl(s * lse, "offset"), "offset")
    return m.result(with_z(m, k, m.fl(own + smooth), lse))


def fused_at_once(m, k):
    """lse - ((1 - s) x_t + s mean(x))."""
    lse, s = lse_of(m, k.x), m.fl(k.s, "offset")
    total = 0.0
    for v in k.x:
        total = m.fl(total + v, "sum")
    mean = m.fl(total * m.fl(s / len(k.x), "offset"), "offset")
    own = m.fl(m.fl(1.0 - s, "offset") * k.x[k.t], "offset") if k.s else k.x[k.t]
    return m.result(with_z(m, k, m.fl(lse - m.fl(own + mean, "offset")), lse))


# --- gradients ---


def shares(m, k):
    if not k.s:
        return 1.0, 0.0  # exactly, whatever the way
    s = m.fl(k.s)
    return m.fl(1.0 - s), m.fl(s / len(k.x))


def taken_from(m, k, product):
    """The weights taken from p (1 + 2 z lse), as Liger's kernel does, and the cotangent."""
    rest, eps = shares(m, k)
    v = m.fl(product - eps) if k.s else product
    v = np.where(k.own, m.fl(v - rest), v)
    return m.result(m.fl(v * k.d))


def by_division(m, k):
    t, s = terms(m, k.x)
    p = m.fl(m.exp(t) / s)
    if k.z:
        lift = m.fl(1.0 + m.fl(m.fl(2.0 * m.fl(k.z)) * m.fl(k.x.max() + m.log(s))))
        p = m.fl(p * lift)
    return taken_from(m, k, p)


def by_division_in_steps(m, k):
    """p + (2 z lse) p, by a reciprocal."""
    t, s = terms(m, k.x)
    p = m.fl(m.exp(t) * m.fl(1.0 / s))
    if k.z:
        p = m.fl(p + m.fl(m.fl(2.0 * m.fl(k.z) * m.fl(k.x.max() + m.log(s), "offset")) * p))
    return taken_from(m, k, p)


def through_lse(m, k):
    lse = float(m.fl(k.x.max() + m.log(terms(m, k.x)[1]), "offset", cast=True))
    p = m.exp(m.fl(k.x - lse))
    if k.z:
        p = m.fl(p * m.fl(1.0 + m.fl(m.fl(2.0 * m.fl(k.z)) * lse)))
    return taken_from(m, k, p)


def by_autograd(m, k):
    """dlog_j - exp(log p_j) sum(dlog), from the log-probabilities that the forward pass kept."""
    t, s = terms(m, k.x)
    logs = m.fl(t - m.log(s))
    rest, eps = shares(m, k)
    slopes = -np.where(k.own, m.fl(rest + eps), eps) * k.d
    slopes = m.fl(slopes) if k.s else np.where(k.own, -k.d, 0.0)
    v = m.fl(slopes - m.fl(m.exp(logs) * m.total(slopes)))
    if k.z:
        lse = lse_of(m, k.x)
        v = m.fl(v + m.fl(m.fl(m.fl(2.0 * m.fl(k.z) * lse) * k.d) * m.exp(m.fl(k.x - float(lse)))))
    return m.result(v)


DIVISION, ANY = Contract(form="division"), Contract()
LOSSES = (
    (DIVISION, from_log_softmax),
    (DIVISION, from_gaps),
    (ANY, from_base_two),
    (ANY, fused),
    (ANY, fused_at_once),
)
GRADIENTS = (
    (DIVISION, by_division),
    (DIVISION, by_division_in_steps),
    (ANY, through_lse),
    (ANY, by_autograd),
)


def machines(a):
    for k, way in enumerate(WAYS):
        for sign in (0.0, 1.0, -1.0):
            yield Machine(a, way, sign, backwards=bool(k % 2), seed=k)


def question(k, a, dtype, *, gradient):
    """Exact values and bounds of a task."""
    target, options = np.array(k.t), {"label_smoothing": k.s, "z_loss": k.z}
    losses = losses_of(k.x.astype(np.float64), target, any_order=not a.division, **options)
    if gradient:
        exact = reference.cross_entropy_vjp(k.x, k.t, np.dtype(np.float64).type(k.d), **options)
        return exact.to_float64(), cross_entropy_vjp_bound(losses, np.array([k.d]), a)
    return reference.cross_entropy(k.x, k.t, **options).to_float64(), cross_entropy_bound(losses, a)[..., 0]


def worst_ratio(form, contract, dtype, task, *, gradient):
    a = arithmetic(contract, dtype)
    exact, bound = question(task, a, dtype, gradient=gradient)
    wide = replace(task, x=task.x.astype(np.float64))
    worst = 0.0
    for machine in machines(a):
        error = np.abs(form(machine, wide) - exact)
        assert (error <= bound).all(), (machine, task, (error / bound).max())
        worst = max(
            worst, float((error[error > 0] / np.broadcast_to(bound, error.shape)[error > 0]).max(initial=0))
        )
    return worst


def tasks(dtype, families=FAMILIES, sizes=(1, 2, 5, 33), options=OPTIONS):
    for i, family in enumerate(families):
        for n in sizes:
            x = make_row(family, n, n + i, 2.0, dtype)
            for k, chosen in enumerate(options):
                places = {"s": chosen.get("label_smoothing", 0.0), "z": chosen.get("z_loss", 0.0)}
                # the likeliest and another class
                t = int(np.argmax(x.astype(float))) if (i + k) % 2 else (n + k) % n
                yield Task(x, t, **places, d=(1.0, -0.75)[k % 2])


@pytest.mark.parametrize(("dtype", "compute"), FORMATS)
@pytest.mark.parametrize("part", ["loss", "gradient"])
def test_no_implementation_exceeds_its_bound(dtype, compute, part):
    for contract, form in LOSSES if part == "loss" else GRADIENTS:
        for task in tasks(dtype):
            worst_ratio(form, replace(contract, compute=compute), dtype, task, gradient=part == "gradient")


def by_name(value):
    return getattr(value, "__name__", getattr(value, "form", None))


#: Worst observed / bound that each must reach; docs/explanation/bounds.md tabulates what it reaches.
FLOORS = {
    "from_log_softmax": 0.9,
    "from_gaps": 0.9,
    "from_base_two": 0.5,
    "fused": 0.2,
    "fused_at_once": 0.2,
    "by_division": 0.6,
    "by_division_in_steps": 0.6,
    "through_lse": 0.45,
    "by_autograd": 0.45,
}


def sharpness(contract, form, dtype, *, gradient):
    """Worst observed / bound of a form over a few short rows."""
    chosen = tasks(dtype, ("normal", "ties", "one-hot", "gap-sweep", "offset-up"), (2, 3))
    return max(worst_ratio(form, contract, dtype, task, gradient=gradient) for task in chosen)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("contract", "form"), LOSSES + GRADIENTS, ids=by_name)
def test_the_worst_implementation_comes_near_its_bound(contract, form, dtype):
    assert sharpness(contract, form, dtype, gradient=(contract, form) in GRADIENTS) >= FLOORS[form.__name__]
