"""Correct backward passes of attention on a simulated machine, from out and lse or from kept weights."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from simulated_attention import LOG2E, Program, scores, unfused_weights

if TYPE_CHECKING:
    from simulated_attention import Head
    from simulated_machine import Float, Machine

    Gradients = tuple[Float, Float, Float]

#: How weights are made anew: natural or base 2, where the scale goes, how arguments are fused.
PROGRAMS = {
    "base 2 fused": Program(base2=True),
    "base 2": Program(base2=True, fused=False),
    "natural": Program(),
    "natural, scaled q": Program(place="q"),
    "base 2, roots of the scale": Program(base2=True, fused=False, place="roots"),
}
UNFUSED = {
    "unfused": Program(block=None),
    "unfused, roots of the scale": Program(block=None, place="roots", reciprocal=True),
}


def run_backward(
    m: Machine,
    head: Head,
    program: Program,
    out: Float,
    lse: Float,
    dout: Float,
    *,
    scale_first: bool = False,
) -> Gradients:
    """dq, dk and dv from what the forward pass stored; `scale_first` scales dS before it is stored."""
    weights = _made_anew(m, head, program, lse[:, None])
    product = m.fl(m.product(dout, head.v), m.a.scores, cast=True)
    products = dout * out
    mean = m.total((products if _exact(m) else m.fl(products, m.a.accumulator)).T)[:, None]
    slope = m.fl(weights * m.fl(product - mean))
    return _sums(m, head, weights, slope, dout, scale_first=scale_first)


def run_backward_unfused(m: Machine, head: Head, program: Program, dout: Float) -> Gradients:
    """The same from weights kept in their format, D the sum of weights times dP."""
    weights, total, _ = unfused_weights(m, head, program)
    safe = np.where(total > 0.0, total, 1.0)
    stored = m.fl(m.fl(weights / safe), m.a.weights, cast=True)
    product = m.fl(m.product(dout, head.v), m.a.scores, cast=True)
    mean = m.total(m.fl(stored * product).T)[:, None]
    slope = m.fl(stored * m.fl(product - mean))
    return _sums(m, head, stored, slope, dout, scale_first=False)


def _exact(m: Machine) -> bool:
    return 2 * m.a.inputs.precision <= m.a.accumulator.precision


def _made_anew(m: Machine, head: Head, program: Program, lse: Float) -> Float:
    s = scores(m, head, program)
    shown = np.isfinite(s)
    lse = np.where(np.isfinite(lse), lse, 0.0)
    s = np.where(shown, s, lse)
    if not program.base2:
        return np.where(shown, m.exp(m.fl(s - lse)), 0.0)
    base = m.fl(np.float64(LOG2E))
    folds = program.place == "scores" and head.bias is None
    c = m.fl(m.fl(np.float64(head.scale)) * base) if folds else base
    offset = m.fl(lse * base)
    argument = m.fl(s * c - offset) if program.fused else m.fl(m.fl(s * c) - offset)
    return np.where(shown, m.exp(argument, base2=True), 0.0)


def _sums(
    m: Machine, head: Head, weights: Float, slope: Float, dout: Float, *, scale_first: bool
) -> Gradients:
    scale = m.fl(np.float64(head.scale))
    if scale_first:
        slope = m.fl(slope * scale)
    slope, weights = (m.fl(x, m.a.weights, cast=True) for x in (slope, weights))
    turned = replace(m, chosen=None, seed=m.seed + 1)
    dq, dk = m.weighted(slope, head.k), turned.weighted(slope.T, head.q)
    if not scale_first:
        dq, dk = m.fl(dq * scale), m.fl(dk * scale)
    return dq, dk, turned.weighted(weights.T, dout)


def stored(m: Machine, parts: Gradients) -> Gradients:
    """Gradients in the format of the inputs."""
    dq, dk, dv = (m.fl(part, m.a.inputs, cast=True) for part in parts)
    return dq, dk, dv
