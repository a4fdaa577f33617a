"""Worst observed error / bound of simulated correct kernels of attention, forward and backward.

For each kind of operands and each dtype, kernels of every form run on machines that err as far as their
model lets them. The exact values are computed in binary64, and the bound of that computation's own error
is added to each error that is observed, so that no ratio is too small.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simulated_attention as forward
import simulated_backward as backward
from simulated_machine import ORDERS, WAYS, Float, Machine

from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic, attention_arithmetic
from softcert.conformance.bounds.attention_backward import (
    BackwardBounds,
    Cotangents,
    attention_backward_bounds,
)
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import ForwardBounds, attention_bounds
from softcert.conformance.environment import describe
from softcert.conformance.inputs.attention_families import KINDS, Shape, make_operands

DTYPES = ("bfloat16", "float16", "float32")
#: Gradients are held against the vjp of the out and lse given, and against the gradient of attention.
RESULTS = ("out", "lse", "dq given", "dk given", "dv given", "dq", "dk", "dv")
_DOUBLE = attention_arithmetic(Contract(), "float64")


@dataclass
class Study:
    """One problem, its bounds and its exact values.

    Attributes
    ----------
    operands, a : the problem and the arithmetic of its kernels.
    dout : (H, L, Dv), the cotangent of out; every other head's gets the signs of the errors of the out that
        a forward pass has stored, so that they add up in D.
    worst : largest error / bound of each result so far, with the program and the way of rounding.
    """

    operands: Operands
    a: AttentionArithmetic
    dout: Float

    def __post_init__(self) -> None:
        self.worst: dict[str, tuple[float, str]] = dict.fromkeys(RESULTS, (0.0, ""))
        self.heads = forward.heads_of(self.operands)
        self.bounds = attention_bounds(self.operands, self.a)
        self.own = attention_bounds(self.operands, _DOUBLE)
        self.signs = [
            forward.chosen_signs(head, out)
            for head, out in zip(self.heads, self.bounds.exact_out, strict=True)
        ]
        self.given = self._given()

    def machines(self, way: str, order: str, seed: int) -> list[Machine]:
        """A machine for each head."""
        return [Machine(self.a, way, order, signs, seed=100 * seed + h) for h, signs in enumerate(self.signs)]

    def forward(self, programs: Mapping[str, forward.Program], ways: tuple[str, ...]) -> None:
        """Run forward programs, each in each way of rounding."""
        for k, (name, program) in enumerate(programs.items()):
            for n, way in enumerate(ways):
                machines = self.machines(way, ORDERS[(k + n) % len(ORDERS)], k)
                pairs = [forward.run(m, head, program) for m, head in zip(machines, self.heads, strict=True)]
                out, lse = (np.stack([pair[part] for pair in pairs]) for part in (0, 1))
                where = f"{name}, {way}"
                self.note("out", where, out, self.bounds.exact_out, self.bounds.out, self.own.out)
                self.note("lse", where, lse, self.bounds.exact_lse, self.bounds.lse, self.own.lse)

    def backward(self, ways: tuple[str, ...]) -> None:
        """Run backward programs, each in each way of rounding."""
        given = self.given
        against_given = self._targets(given, None, None)
        ideal = Cotangents(self.bounds.exact_out, self.bounds.exact_lse, self.dout)
        against_gradient = self._targets(ideal, self.bounds, self.own)
        for k, (name, run, fused) in enumerate(_backward_programs(given)):
            for n, way in enumerate(ways):
                machines = self.machines(way, ORDERS[(k + n) % len(ORDERS)], k)
                parts = [
                    run(m, head, h) for h, (m, head) in enumerate(zip(machines, self.heads, strict=True))
                ]
                gradients = self._assembled(parts, apart=n % 2 == 1)
                where = f"{name}, {way}"
                if fused:
                    self._note_all(" given", where, gradients, against_given)
                self._note_all("", where, gradients, against_gradient)

    def _given(self) -> Cotangents:
        """out and lse as a correct forward pass stores them."""
        program = forward.PROGRAMS["blocks of 16, base 2 fused"]
        machines = self.machines("nearest", "sequential", 0)
        pairs = [forward.run(m, head, program) for m, head in zip(machines, self.heads, strict=True)]
        out, lse = (np.stack([pair[part] for pair in pairs]) for part in (0, 1))
        conspiring = np.copysign(self.dout, out - self.bounds.exact_out)
        self.dout = np.where(np.arange(len(out))[:, None, None] % 2 == 0, conspiring, self.dout)
        return Cotangents(out, lse, self.dout)

    def _targets(
        self, given: Cotangents, bounds: ForwardBounds | None, own: ForwardBounds | None
    ) -> tuple[tuple[Float, ...], BackwardBounds, BackwardBounds]:
        """Exact gradients, their kernel's bounds, and those of evaluating them here."""
        return (
            exact_gradients(self.operands, given),
            attention_backward_bounds(self.operands, given, self.a, bounds),
            attention_backward_bounds(self.operands, given, _DOUBLE, own),
        )

    def _assembled(self, parts: list[tuple[Float, Float, Float]], *, apart: bool) -> tuple[Float, ...]:
        """Gradients of all heads; those of k and v stored by head before they are added if `apart`."""
        m = Machine(self.a)
        groups = len(self.operands.k)
        dq = np.stack([part[0] for part in parts])
        shared = [np.stack([part[place] for part in parts]) for place in (1, 2)]
        if apart:
            shared = [m.fl(array, self.a.inputs, cast=True) for array in shared]
        dk, dv = (m.total(np.moveaxis(x.reshape(groups, -1, *x.shape[1:]), 1, 0)) for x in shared)
        return backward.stored(m, (dq, dk, dv))

    def _note_all(
        self,
        suffix: str,
        where: str,
        gradients: tuple[Float, ...],
        targets: tuple[tuple[Float, ...], BackwardBounds, BackwardBounds],
    ) -> None:
        exact, bounds, own = targets
        for place, name in enumerate(("dq", "dk", "dv")):
            self.note(
                name + suffix,
                where,
                gradients[place],
                exact[place],
                getattr(bounds, name),
                getattr(own, name),
            )

    def note(self, name: str, where: str, value: Float, exact: Float, bound: Float, own: Float) -> None:
        """Keep the largest error / bound."""
        worst = worst_ratio(value, exact, bound, own)  # NaN if there is one, which no test passes
        if not worst <= self.worst[name][0]:
            self.worst[name] = (worst, where)


def worst_ratio(value: Float, exact: Float, bound: Float, own: Float) -> float:
    """Largest error / bound, `own` being what `exact` may be off by; NaN where value is, and exact is not.

    Equal infinities and what is exactly 0 count as no error.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(value == exact, 0.0, np.abs(value - exact) + own)
        return float(np.where(error == 0.0, 0.0, error / bound).max())


BackwardRun = Callable[[Machine, forward.Head, int], tuple[Float, Float, Float]]


def _backward_programs(given: Cotangents) -> Iterator[tuple[str, BackwardRun, bool]]:
    """Name, program, and whether it computes a function of the out and lse given."""
    for k, (name, program) in enumerate(backward.PROGRAMS.items()):

        def anew(
            m: Machine, head: forward.Head, h: int, p: forward.Program = program, first: bool = k % 2 == 1
        ) -> tuple[Float, Float, Float]:
            return backward.run_backward(
                m, head, p, given.out[h], given.lse[h], given.dout[h], scale_first=first
            )

        yield name, anew, True
    for name, program in backward.UNFUSED.items():

        def kept(
            m: Machine, head: forward.Head, h: int, p: forward.Program = program
        ) -> tuple[Float, Float, Float]:
            return backward.run_backward_unfused(m, head, p, given.dout[h])

        yield name, kept, False


def exact_gradients(operands: Operands, given: Cotangents) -> tuple[Float, Float, Float]:
    """Gradients as defined, from the out and lse given, in binary64."""
    dq, dk, dv = (np.zeros_like(x) for x in (operands.q, operands.k, operands.v))
    for h, head in enumerate(forward.heads_of(operands)):
        scores = head.scale * (head.q @ head.k.T) + (0.0 if head.bias is None else head.bias)
        lse = np.where(np.isfinite(given.lse[h]), given.lse[h], 0.0)[:, None]
        weights = np.where(head.seen, np.exp(np.where(head.seen, scores - lse, 0.0)), 0.0)
        mean = (given.dout[h] * given.out[h]).sum(axis=1, keepdims=True)
        slope = weights * (given.dout[h] @ head.v.T - mean)
        group = h // operands.sharing
        dq[h] = head.scale * (slope @ head.k)
        dk[group] += head.scale * (slope.T @ head.q)
        dv[group] += weights.T @ given.dout[h]
    return dq, dk, dv


def cotangent(dtype: str, operands: Operands, seed: int = 0) -> Float:
    """A random dout, numbers of `dtype`."""
    shape = (*operands.q.shape[:2], operands.v.shape[-1])
    normal = np.random.default_rng([seed, 1]).standard_normal(shape)
    return np.asarray(normal.astype(as_dtype(dtype)).astype(np.float64))


def study(kind: str, dtype: str, shape: Shape, *, causal: bool | str = False, seed: int = 0) -> Study:
    """All programs on one problem, in every way of rounding."""
    operands = make_operands(kind, dtype, shape, causal=causal, seed=seed)
    found = Study(operands, attention_arithmetic(Contract(), dtype), cotangent(dtype, operands, seed))
    found.forward(forward.PROGRAMS, WAYS)
    found.backward(WAYS)
    return found


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=32, metavar="L")
    parser.add_argument("--keys", type=int, default=128, metavar="S")
    parser.add_argument("--features", type=int, default=32, metavar="D")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    shape = Shape(2, 1, options.queries, options.keys, options.features, options.features // 2)
    rows = []
    print(f"| kind | dtype | {' | '.join(RESULTS)} |\n|{' --- |' * (len(RESULTS) + 2)}")
    for kind in KINDS:
        for dtype in DTYPES:
            runs = [study(kind, dtype, shape, causal=causal).worst for causal in (False, "bottom-right")]
            worst = {name: max(run[name] for run in runs) for name in RESULTS}
            figures = " | ".join(f"{worst[name][0]:.2f}" for name in RESULTS)
            print(f"| {kind} | {dtype} | {figures} |", flush=True)
            rows.append({"kind": kind, "dtype": dtype, "worst": worst})
    if options.json:
        record = {"environment": describe(), "shape": vars(shape), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
