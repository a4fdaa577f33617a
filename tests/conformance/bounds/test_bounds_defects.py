"""Known defects exceed the bounds, and theorems 4.2 and 4.4 as printed are exceeded by correct code."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from softcert import reference
from softcert.backends.contract import Contract
from softcert.backends.types import Call
from softcert.conformance.bounds.arithmetic import arithmetic
from softcert.conformance.bounds.softmax import logsumexp_bound, rows_of
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.model import Trial

f32 = np.float32
U32, U16 = 2.0**-24, 2.0**-11


def judged(op, operands, value, contract=None):
    context = Context(op=op, dtype=str(operands[0].dtype), contract=contract or Contract(), ops=(op,))
    trial = Trial((Call(op, operands, {"axis": -1}),))
    with np.errstate(all="ignore"):
        return judge_values(trial, (value,), context)


def right(x):
    w = np.exp(x - x.max())
    return w / w.sum(dtype=f32)


def with_epsilon(x):
    w = np.exp(x - x.max())
    return w / (w.sum() + f32(1e-6))


def without_last(x):
    w = np.exp(x - x.max())
    return w / w[:-1].sum()


def half_sum(x):
    total = np.float16(0)
    w = np.exp(x - x.max())
    for v in w:
        total = np.float16(total + np.float16(v))
    return w / f32(total)


def degree_three(x):
    t = (x - x.max()) * f32(np.log2(np.e))
    k = np.floor(t)
    f = t - k
    c = [f32(v) for v in (0.077119089663, 0.227564394474, 0.695146143436, 1.0)]
    w = np.ldexp(((c[0] * f + c[1]) * f + c[2]) * f + c[3], k.astype(np.int32))
    return w / w.sum()


def clamped(x):
    w = np.exp(np.maximum(x - x.max(), f32(-30)))
    return w / w.sum()


def stretched(x):
    return right(x) * f32(1.0005)


def half_logits(x):
    return right(x.astype(np.float16).astype(f32))


def short_base(x):
    w = np.exp2((x - x.max()) * f32(1.4427))
    return w / w.sum()


def flushed(x):
    y = right(x)
    return np.where(y < f32(2.0**-126), f32(0), y)


def neighbours_exchanged(x):
    y = right(x).copy()
    y[:2] = y[1::-1]
    return y


ROW = make_row("normal", 33, 1, 2.0, "float32")
DEFECTS = {
    with_epsilon: np.array([0, -40], dtype=f32),
    without_last: make_row("normal", 64, 1, 1.0, "float32"),
    half_sum: ROW,
    degree_three: ROW,
    clamped: np.array([0, -40, -1], dtype=f32),
    stretched: ROW,
    half_logits: ROW,
    short_base: np.array([0, -20, -1], dtype=f32),
    flushed: np.array([0, -95, -1], dtype=f32),
    neighbours_exchanged: ROW,
}


@pytest.mark.parametrize("form", ["any", "division"])
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda f: f.__name__)
def test_a_defect_of_softmax_exceeds_the_bound(defect, form):
    x = DEFECTS[defect]
    judgement = judged("softmax", (x,), defect(x), Contract(form=form))
    assert judgement.finding is not None
    assert judgement.margin > 1.0
    assert judged("softmax", (x,), right(x), Contract(form=form)).finding is None


@pytest.mark.parametrize("n", [2, 3, 8, 17, 33, 64])
def test_a_dropped_last_element_exceeds_the_bound_at_every_short_length(n):
    x = make_row("normal", n, n, 1.0, "float32")
    assert judged("softmax", (x,), without_last(x)).finding is not None


def lse(x):
    return np.asarray(x.max() + np.log(np.exp(x - x.max()).sum()), dtype=x.dtype)


LOG_DEFECTS = {
    "binary logarithm": lambda x: np.asarray(x.max() + np.log2(np.exp(x - x.max()).sum()), dtype=f32),
    "epsilon": lambda x: np.asarray(x.max() + np.log(np.exp(x - x.max()).sum() + f32(1e-5)), dtype=f32),
    "mean": lambda x: np.asarray(x.max() + np.log(np.exp(x - x.max()).mean()), dtype=f32),
    "last dropped": lambda x: lse(x[:-1]),
}


@pytest.mark.parametrize("defect", LOG_DEFECTS)
def test_a_defect_of_logsumexp_exceeds_the_bound(defect):
    x = np.array([0, -20], dtype=f32) if defect == "epsilon" else ROW
    assert judged("logsumexp", (x,), lse(x)).finding is None
    assert judged("logsumexp", (x,), LOG_DEFECTS[defect](x)).finding is not None


def test_log_softmax_through_a_rounded_lse_exceeds_the_bound_where_an_offset_is_large():
    x = f32(1e7) + np.array([0, 1, 2], dtype=f32)
    assert judged("log_softmax", (x,), (x - x.max()) - np.log(np.exp(x - x.max()).sum())).finding is None
    assert judged("log_softmax", (x,), x - lse(x)).finding is not None


def test_a_derivative_without_its_sum_exceeds_the_bound():
    y, dy = right(ROW), make_row("normal", 33, 9, 3.0, "float32")
    assert judged("softmax_vjp", (y, dy), y * (dy - (y * dy).sum())).finding is None
    for wrong in (y * dy, y * (dy - dy.mean()), y * (dy + (y * dy).sum()), dy - (y * dy).sum()):
        assert judged("softmax_vjp", (y, dy), wrong).finding is not None


# --- the theorems as printed ---


def printed_4_2(x, u, y):
    """Theorem 4.2: relative error of the shifted log-sum-exp, to first order."""
    return abs((y + len(x) - x.min()) / y) * u


def printed_4_4(x, u, y):
    """Theorem 4.4: relative error of exp(x - lse), to first order."""
    return (1 + np.abs(x - y).max() + abs(y + len(x) - x.min())) * u


@pytest.mark.parametrize(("dtype", "u", "offset"), [("float32", U32, 1000.0), ("float16", U16, 1000.0)])
def test_theorem_4_2_as_printed_is_violated_and_the_repaired_bound_holds(dtype, u, offset):
    worst = 0.0
    for k in range(200):
        x = (offset + np.array([0.0, k / 64])).astype(dtype)
        wide = x.astype(np.float64)
        exact = reference.logsumexp(x)
        y = exact.to_float64().item()
        # Every step exact, but for the last addition, which is rounded to nearest.
        computed = float(np.dtype(dtype).type(y))
        error = abs(computed - y)
        worst = max(worst, error / abs(y) / printed_4_2(wide, u, y))
        rows = rows_of(wide, 1.0, any_order=False)
        assert error <= logsumexp_bound(rows, arithmetic(Contract(form="division"), dtype)).item()
    assert worst > 100.0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_theorem_4_4_as_printed_is_violated_and_the_repaired_bound_holds(dtype):
    u = U32 if dtype == "float32" else U16
    worst = 0.0
    for k in range(200):
        x = (1000.0 + np.array([0.0, k / 64])).astype(dtype)
        wide = x.astype(np.float64)
        y = reference.logsumexp(x).to_float64().item()
        rounded = float(np.dtype(dtype).type(y))
        given = np.exp(wide - rounded)
        exact = reference.softmax(x).to_float64()
        worst = max(worst, float((np.abs(given - exact) / exact).max()) / printed_4_4(wide, u, y))
        assert judged("softmax", (x,), given.astype(dtype), Contract(compute=dtype)).finding is None
    assert worst > 50.0


def test_the_omitted_addition_is_the_whole_of_the_violation():
    x = np.array([1000.0, 1000.0], dtype=f32)
    exact, computed = reference.logsumexp(x).to_float64().item(), float(f32(1000.0 + np.log(2.0)))
    assert abs(Fraction(computed) - Fraction(exact)) <= Fraction(U32) * Fraction(exact)
