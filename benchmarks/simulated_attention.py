"""Correct kernels of attention on a simulated machine: unfused, online, split and merged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from softcert.conformance.bounds.attention_facts import Operands

if TYPE_CHECKING:
    from simulated_machine import Float, Machine

LOG2E = math.log2(math.e)


@dataclass(frozen=True)
class Head:
    """One head's operands.

    Attributes
    ----------
    q : (L, D). k : (S, D). v : (S, Dv). seen : (L, S). bias : (L, S), or None.
    """

    q: Float
    k: Float
    v: Float
    scale: float
    seen: np.ndarray
    bias: Float | None

    def part(self, keys: slice) -> Head:
        """The same queries on some of the keys."""
        bias = None if self.bias is None else self.bias[:, keys]
        return replace(self, k=self.k[keys], v=self.v[keys], seen=self.seen[:, keys], bias=bias)


def heads_of(operands: Operands) -> list[Head]:
    """Every head of q with what it sees."""
    length, count = operands.q.shape[1], operands.k.shape[1]
    seen = np.ones((len(operands.q), length, count), dtype=bool)
    if operands.causal:
        offset = 0 if operands.causal == "top-left" else count - length
        seen &= np.arange(count) <= np.arange(length)[:, None] + offset
    bias = None
    if operands.mask is not None:
        mask = np.broadcast_to(operands.mask, seen.shape)
        seen &= mask if mask.dtype == np.bool_ else mask != -np.inf
        bias = None if mask.dtype == np.bool_ else np.where(mask == -np.inf, 0.0, mask)
    return [
        Head(
            operands.q[h],
            operands.k[h // operands.sharing],
            operands.v[h // operands.sharing],
            operands.factor,
            seen[h],
            None if bias is None else bias[h],
        )
        for h in range(len(operands.q))
    ]


@dataclass(frozen=True)
class Program:
    """How a kernel computes.

    Attributes
    ----------
    block : keys between two rescales; None computes all scores first.
    backwards : from the last key to the first.
    base2 : exp2 with the scale folded into log2(e). fused : by fused multiply-add.
    lazy : rescales only where the largest weight would pass 2^8.
    reciprocal : multiplies by 1 / sum, where others divide.
    place : where the scale goes: "scores", "q", or "roots", its root to q and to k.
    parts : stretches of keys that are computed apart, and merged.
    through_lse : weights are exp(score - lse), in a second pass.
    """

    block: int | None = 16
    backwards: bool = False
    base2: bool = False
    fused: bool = True
    lazy: bool = False
    reciprocal: bool = False
    place: str = "scores"
    parts: int = 1
    through_lse: bool = False


PROGRAMS: Mapping[str, Program] = {
    "unfused": Program(block=None),
    "unfused, roots of the scale": Program(block=None, place="roots"),
    "unfused, base 2": Program(block=None, base2=True, fused=False, place="q", reciprocal=True),
    "unfused, through lse": Program(block=None, through_lse=True),
    "key by key": Program(block=1, place="q"),
    "blocks of 16, base 2 fused": Program(block=16, base2=True, reciprocal=True),
    "blocks of 7, backwards": Program(block=7, backwards=True, reciprocal=True),
    "blocks of 5, base 2 backwards": Program(block=5, backwards=True, base2=True, fused=False),
    "lazy rescaling": Program(block=4, base2=True, lazy=True, reciprocal=True),
    "lazy backwards": Program(block=1, backwards=True, base2=True, lazy=True),
    "split and merged": Program(block=8, base2=True, parts=3, reciprocal=True),
    "split, key by key": Program(block=1, parts=4),
}


def run(m: Machine, head: Head, program: Program) -> tuple[Float, Float]:
    """Output (L, Dv) and lse (L,) of one head."""
    if program.block is None:
        out, lse = _unfused(m, head, program)
    elif program.parts == 1:
        out, lse = _online(m, head, program)
    else:
        out, lse = _merged(m, head, program)
    return m.fl(out, m.a.result, cast=True), m.fl(lse, m.a.lse, cast=True)


def scores(m: Machine, head: Head, program: Program) -> Float:
    """Scores, hidden ones -inf; without the scale where it is folded into the exponential."""
    q, k = head.q, head.k
    scale = m.fl(np.float64(head.scale))
    if program.place == "q":
        q = m.fl(m.fl(q * scale), m.a.scaled, cast=True)
    elif program.place == "roots":
        root = m.fl(np.sqrt(scale))
        q, k = m.fl(m.fl(q * root), m.a.scaled, cast=True), m.fl(m.fl(k * root), m.a.scaled, cast=True)
    product = m.fl(m.product(q, k), m.a.scores, cast=True)
    if program.place == "scores" and not _folds(program, head):
        product = m.fl(m.fl(product * scale), m.a.scores, cast=True)
    if head.bias is not None:
        product = m.fl(m.fl(product + head.bias), m.a.scores, cast=True)
    return np.where(head.seen, product, -np.inf)


def _folds(program: Program, head: Head) -> bool:
    return program.base2 and program.place == "scores" and head.bias is None


def _constant(m: Machine, head: Head, program: Program) -> Float:
    """What a score is multiplied by before exp2."""
    base = m.fl(np.float64(LOG2E))
    return m.fl(m.fl(np.float64(head.scale)) * base) if _folds(program, head) else base


def _weights(m: Machine, head: Head, program: Program, s: Float, top: Float) -> Float:
    """exp(s - top), top (L, 1) finite, 0 where hidden."""
    shown = np.isfinite(s)
    s = np.where(shown, s, top)
    if not program.base2:
        return np.where(shown, m.exp(m.fl(s - top)), 0.0)
    c = _constant(m, head, program)
    offset = m.fl(top * c)
    argument = m.fl(s * c - offset) if program.fused else m.fl(m.fl(s * c) - offset)
    return np.where(shown, m.exp(argument, base2=True), 0.0)


def _normalized(m: Machine, program: Program, values: Float, total: Float) -> Float:
    """values / total; 0 where the total is."""
    safe = np.where(total > 0.0, total, 1.0)
    return m.fl(values * m.fl(1.0 / safe)) if program.reciprocal else m.fl(values / safe)


def _log_sum_exp(m: Machine, head: Head, program: Program, top: Float, total: Float) -> Float:
    if _folds(program, head):
        top = m.fl(top * m.fl(np.float64(head.scale)))
    lse = m.fl(np.where(total > 0.0, top, 0.0) + m.log(np.where(total > 0.0, total, 1.0)))
    return np.where(total > 0.0, lse, -np.inf)


def _unfused(m: Machine, head: Head, program: Program) -> tuple[Float, Float]:
    s = scores(m, head, program)
    weights, total, top = _unfused_weights(m, head, program, s)
    lse = _log_sum_exp(m, head, program, top, total)
    if program.through_lse:
        normalized = _weights(m, head, program, s, np.where(np.isfinite(lse), lse, 0.0))
    else:
        normalized = _normalized(m, program, weights, total)
    stored = m.fl(normalized, m.a.weights, cast=True)
    return m.fl(m.weighted(stored, head.v)), lse[:, 0]


def unfused_weights(m: Machine, head: Head, program: Program) -> tuple[Float, Float, Float]:
    """Weights before they are normalized, their sum and the largest score, (L, S) and twice (L, 1)."""
    return _unfused_weights(m, head, program, scores(m, head, program))


def _unfused_weights(m: Machine, head: Head, program: Program, s: Float) -> tuple[Float, Float, Float]:
    top = s.max(axis=1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0.0)
    weights = _weights(m, head, program, s, top)
    return weights, m.total(weights.T)[:, None], top


def _online(m: Machine, head: Head, program: Program) -> tuple[Float, Float]:
    """One pass over blocks of keys with a running maximum."""
    size = program.block or len(head.k)
    starts = list(range(0, len(head.k), size))
    s = scores(m, head, program)
    c = _constant(m, head, program) if program.base2 else np.ones(())
    top = np.full((len(head.q), 1), -np.inf)
    total, out = np.zeros((len(head.q), 1)), np.zeros((len(head.q), head.v.shape[1]))
    for start in reversed(starts) if program.backwards else starts:
        keys = slice(start, start + size)
        new = np.maximum(top, s[:, keys].max(axis=1, keepdims=True))
        if program.lazy:
            started = np.isfinite(top)
            new = np.where(started & ((new - np.where(started, top, 0.0)) * c <= 8.0), top, new)
        safe = np.where(np.isfinite(new), new, 0.0)
        rises = np.isfinite(top) & (new > top)
        factor = _rescale(m, program, np.where(rises, top - safe, 0.0), c)
        total = np.where(rises, m.fl(total * factor, m.a.accumulator), total)
        out = np.where(rises, m.fl(out * factor, m.a.accumulator), out)
        part = replace(m, chosen=None if m.chosen is None else m.chosen[:, keys], seed=m.seed + start)
        weights = _weights(part, head.part(keys), program, s[:, keys], safe)
        total = part.total(weights.T, total[:, 0])[:, None]
        out = part.weighted(part.fl(weights, m.a.weights, cast=True), head.v[keys], out)
        top = new
    lse = _log_sum_exp(m, head, program, np.where(np.isfinite(top), top, 0.0), total)
    return _normalized(m, program, out, total), lse[:, 0]


def _rescale(m: Machine, program: Program, difference: Float, c: Float) -> Float:
    argument = m.fl(difference)
    return m.exp(m.fl(argument * c), base2=True) if program.base2 else m.exp(argument)


def _merged(m: Machine, head: Head, program: Program) -> tuple[Float, Float]:
    """Stretches of keys apart, their outputs weighted by exp(lse_part - lse) in the end."""
    edges = np.linspace(0, len(head.k), program.parts + 1).astype(int)
    outs, lses = [], []
    for start, stop in pairwise(edges):
        keys = slice(int(start), int(stop))
        part = replace(m, chosen=None if m.chosen is None else m.chosen[:, keys], seed=m.seed + keys.start)
        out, lse = _online(part, head.part(keys), replace(program, parts=1))
        outs.append(out)
        lses.append(m.fl(lse, m.a.lse, cast=True))
    stacked = np.stack(lses)
    top = stacked.max(axis=0)
    safe = np.where(np.isfinite(top), top, 0.0)
    total = m.total(m.exp(m.fl(stacked - safe)))
    lse = _log_sum_exp(m, head, Program(), safe[:, None], total[:, None])[:, 0]
    final = np.where(np.isfinite(lse), lse, 0.0)
    factors = m.exp(m.fl(stacked - final))
    return m.total(m.fl(np.stack(outs) * factors[:, :, None])), lse


def chosen_signs(head: Head, exact_out: Float) -> Float:
    """Signs by query and key that move the first feature of the output one way."""
    signs = np.sign(head.v[None, :, 0] - exact_out[:, :1])
    return np.where(signs == 0.0, 1.0, signs)
