"""A figure that cannot be true, or rests on a wrong answer, is no figure."""

from dataclasses import dataclass

import numpy as np
import pytest

from softcert.backends import load
from softcert.backends.canonical import CanonicalKernel, Outcome
from softcert.backends.types import Backend
from softcert.reports.speed import Problem, Stopwatch
from softcert.reports.speed.limits import Limits, Machine
from softcert.reports.speed.validity import COPY_FACTOR, MATRIX_FACTOR, beyond_limits

SHAPES = ((64, 256),)
NUMPY = load("numpy").ops
ROUNDS = 3


@dataclass
class Liar(CanonicalKernel):
    """A right answer, and a time of its own."""

    op: str = "softmax"

    def compute(self, problem):
        return Outcome((NUMPY["softmax"](*problem.operands),), 1e-9)


def keeps(kernel):
    """A kernel that gives its first answer again to whatever has the same shape."""
    kept = {}

    def keeping(*operands, **params):
        shapes = tuple(a.shape for a in operands)
        if shapes not in kept:
            kept[shapes] = kernel(*operands, **params)
        results = kept[shapes]
        return tuple(a.copy() for a in results) if isinstance(results, tuple) else results.copy()

    return keeping


def one(backend, op="softmax", shape=SHAPES[0]):
    with Stopwatch([backend]) as stopwatch:
        rows = [row for _, row in stopwatch.rows([op], ["float32"], [shape], ROUNDS)]
        assert len(rows) == 1, (stopwatch.unloadable, stopwatch.unmeasured)
    return rows[0]


def test_a_right_answer_is_judged_and_has_no_doubts():
    row = one("numpy")
    assert row["status"] in {"ok", "noisy"}
    assert 0 < row["error_ulp"] < 10
    assert 0 < row["margin"] < 1


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        ("softmax", (64, 256)),
        ("logsumexp", (64, 256)),
        ("softmax_vjp", (64, 256)),
        ("attention", (2, 16, 32, 8)),
        ("attention_lse", (2, 16, 32, 8)),
        ("attention_vjp", (2, 16, 32, 8)),
        ("attention_merge", (2, 16, 32, 8)),
    ],
)
def test_an_answer_that_was_kept_is_a_wrong_one(op, shape):
    assert one("numpy", op, shape)["status"] != "invalid"
    row = one(Backend("keeper", {op: keeps(NUMPY[op])}), op, shape)
    assert row["status"] == "invalid"
    assert row["reason"].startswith("the answer after timing is wrong")


def test_a_wrong_shape_is_a_wrong_answer():
    row = one(Backend("flat", {"softmax": lambda x, axis=-1: np.ravel(x)}))
    assert row["status"] == "invalid"
    assert "(16384,)" in row["reason"]


def test_a_time_that_no_copy_reaches_is_no_time():
    row = one(Backend("liar", {"softmax": Liar()}), shape=(64, 4096))
    assert row["status"] == "invalid"
    assert "times as fast as a copy in the same cache" in row["reason"]
    assert row["margin"] < 1


def test_a_limit_that_other_work_held_down_accuses_nobody(monkeypatch):
    """Each copy of the rounds took a thousand times as long as one that is made later."""
    honest, asked = Machine.copy_rate, []

    def slowed(self, traffic):
        asked.append(traffic)
        return honest(self, traffic) / (1000 if len(asked) <= 2 * (ROUNDS + 1) else 1)

    monkeypatch.setattr(Machine, "copy_rate", slowed)
    assert one("numpy", shape=(64, 4096))["status"] != "invalid"
    assert len(asked) > 2 * (ROUNDS + 1)


def test_the_limits_are_those_stated():
    problem = Problem("attention", "float32", (1, 1000, 1000, 50))
    limits = [Limits(0.5e9, 1e9, 0.5e9), Limits(1e9, 1e9, 1e9)]
    traffic = 10**6
    slowest = problem.flops / MATRIX_FACTOR / 1e9
    assert beyond_limits(problem, traffic, 1.01 * slowest, limits) == ""
    assert "NumPy's matrix product" in beyond_limits(problem, traffic, 0.99 * slowest, limits)
    narrow = Problem("attention", "bfloat16", problem.shape)
    assert beyond_limits(narrow, traffic, 0.99 * slowest, limits) == ""
    slowest = traffic / COPY_FACTOR / 1e9
    assert "a copy in the same cache" in beyond_limits(narrow, traffic, 0.99 * slowest, limits)
    softmax = Problem("softmax", "float32", (10, 10))
    assert beyond_limits(softmax, traffic, 1.01 * slowest, [Limits(1e9, 1e9, None)]) == ""


def test_no_two_calls_have_the_same_inputs(tmp_path):
    """Whatever reached the kernel when it was timed, all of it other numbers."""
    told = tmp_path / "seen"

    def noted(x, axis=-1):
        with told.open("a") as file:
            file.write(f"{x.tobytes()[:64].hex()}\n")
        return NUMPY["softmax"](x, axis=axis)

    row = one(Backend("noting", {"softmax": noted}))
    seen = told.read_text().split()
    # The memory is measured on inputs that were timed before.
    again = 1 if "peak_bytes" in row else 0
    assert len(set(seen)) == len(seen) - again == 8


def test_who_cannot_be_loaded_or_fails_is_told():
    def failing(x, axis=-1):
        raise ValueError("no such luck")

    with Stopwatch(["nothing.here:softmax", Backend("failing", {"softmax": failing})]) as stopwatch:
        assert list(stopwatch.rows(["softmax"], ["float32"], SHAPES, 2)) == []
        assert "nothing" in str(stopwatch.unloadable[0])
        (unmeasured,) = stopwatch.unmeasured
    assert (unmeasured.position, unmeasured.problem.shape) == (1, (64, 256))
    assert "no such luck" in unmeasured.message
