"""The bounds of dq, dk and dv are narrow: each of these mistakes exceeds one that the right kernel holds.

The kernels compute in binary64, except that weights, dS and results are rounded to the dtype, so that what
exceeds a bound is the mistake alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_backward import Cotangents, attention_backward_bounds
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.inputs.attention_families import Shape, make_operands

#: As many queries as keys, so that one may stand in the other's place.
SHAPE = Shape(heads=4, groups=2, queries=33, keys=33, features=16, values=8)
BF16, F16, F32 = "bfloat16", "float16", "float32"
ALL = (BF16, F16, F32)


def to(dtype, array):
    return array.astype(as_dtype(dtype)).astype(np.float64)


def excess(computed, exact, bound):
    """Largest error / bound."""
    assert np.isfinite(computed).all()
    error = np.abs(computed - exact)
    return float(np.where(error == 0.0, 0.0, error / np.where(error == 0.0, 1.0, bound)).max())


@dataclass
class Backward:
    """A right backward pass from what was stored; each mistake changes one of its steps."""

    operands: Operands
    dtype: str
    given: Cotangents

    def mean(self, dout, out):
        return (dout * out).sum(axis=1, keepdims=True)

    def weight(self, scores, lse):
        return np.exp(scores - lse[:, None])

    def slope(self, weight, product, mean):
        return weight * (product - mean)

    def dq(self, slope, k):
        return self.operands.factor * slope @ k

    def dk(self, slope, q, _k):
        return self.operands.factor * slope.T @ q

    def dv(self, weight, _slope, dout):
        return weight.T @ dout

    def seen(self):
        length, count = self.operands.q.shape[1], self.operands.k.shape[1]
        everything = np.ones((length, count), dtype=bool)
        return np.tril(everything) if self.operands.causal else everything

    def scale(self):
        return self.operands.factor

    def heads(self, group):
        sharing = self.operands.sharing
        return range(group * sharing, (group + 1) * sharing)

    def head(self, h):
        o, dout, out, lse = self.operands, self.given.dout[h], self.given.out[h], self.given.lse[h]
        k, v = o.k[h // o.sharing], o.v[h // o.sharing]
        weight = self.weight(np.where(self.seen(), self.scale() * o.q[h] @ k.T, -np.inf), lse)
        slope = to(self.dtype, self.slope(weight, dout @ v.T, self.mean(dout, out)))
        return self.dq(slope, k), self.dk(slope, o.q[h], k), self.dv(to(self.dtype, weight), slope, dout)

    def run(self):
        parts = [self.head(h) for h in range(len(self.operands.q))]
        dq = np.stack([p[0] for p in parts])
        dk, dv = (
            np.stack([sum(parts[h][n] for h in self.heads(g)) for g in range(len(self.operands.k))])
            for n in (1, 2)
        )
        return tuple(to(self.dtype, x) for x in (dq, dk, dv))


class MeanOmitted(Backward):
    def mean(self, dout, out):
        return 0.0


class MeanOfProducts(Backward):
    """D as the plain mean of dP."""

    def slope(self, weight, product, mean):
        return weight * (product - product.mean(axis=1, keepdims=True))


class MeanAdded(Backward):
    def slope(self, weight, product, mean):
        return weight * (product + mean)


class UnscaledQ(Backward):
    def dq(self, slope, k):
        return slope @ k


class ScaledTwice(Backward):
    def dk(self, slope, q, k):
        return self.operands.factor * super().dk(slope, q, k)


class KeysForQueries(Backward):
    """dk from the keys, where it is made of the queries."""

    def dk(self, slope, q, k):
        return self.operands.factor * slope.T @ k


class OneHeadOfTheGroup(Backward):
    def heads(self, group):
        return [group * self.operands.sharing]


class StridedHeads(Backward):
    """Heads h, h + G, ... where the group is h sharing, h sharing + 1, ..."""

    def heads(self, group):
        return range(group, len(self.operands.q), len(self.operands.k))


class SlopeForWeight(Backward):
    def dv(self, weight, slope, dout):
        return slope.T @ dout


class UnnormalizedWeight(Backward):
    """exp(s - max): the sum forgotten."""

    def weight(self, scores, lse):
        return np.exp(scores - scores.max(axis=1, keepdims=True))


class BinaryLseGiven(Backward):
    def weight(self, scores, lse):
        return super().weight(scores, lse / np.log(2.0))


class MaskForgotten(Backward):
    def seen(self):
        return np.ones_like(super().seen())


class CausalOffByOne(Backward):
    def seen(self):
        return np.tril(super().seen(), -1)


class ScaleOff(Backward):
    def scale(self):
        return 1.01 * self.operands.factor


class LastKeyDropped(Backward):
    def seen(self):
        return super().seen() & (np.arange(self.operands.k.shape[1]) < self.operands.k.shape[1] - 1)


class SlightlyLargeGradient(Backward):
    def dv(self, weight, slope, dout):
        return super().dv(weight, slope, dout) * (1.03 if self.dtype == BF16 else 1.005)


BACKWARD = [
    (MeanOmitted, ALL, "normal", {}),
    (MeanOmitted, ALL, "v + 50", {}),
    (MeanOfProducts, ALL, "4x scores", {}),
    (MeanAdded, ALL, "normal", {}),
    (UnscaledQ, ALL, "normal", {}),
    (ScaledTwice, ALL, "normal", {}),
    (KeysForQueries, ALL, "normal", {}),
    (OneHeadOfTheGroup, ALL, "normal", {}),
    (StridedHeads, ALL, "normal", {}),
    (SlopeForWeight, ALL, "normal", {}),
    (UnnormalizedWeight, ALL, "normal", {}),
    (BinaryLseGiven, ALL, "normal", {}),
    (MaskForgotten, ALL, "normal", {"causal": True}),
    (CausalOffByOne, ALL, "normal", {"causal": True}),
    (ScaleOff, ALL, "4x scores", {}),
    (ScaleOff, (F16, F32), "common mode", {}),
    (LastKeyDropped, ALL, "normal", {}),
    (SlightlyLargeGradient, ALL, "normal", {}),
]


@pytest.mark.parametrize(
    ("mistake", "dtype", "kind", "how"),
    [(m, dtype, kind, how) for m, dtypes, kind, how in BACKWARD for dtype in dtypes],
    ids=lambda value: getattr(value, "__name__", None) if not isinstance(value, dict) else "",
)
def test_a_mistake_of_the_backward_pass_exceeds_a_bound(mistake, dtype, kind, how):
    operands = make_operands(kind, dtype, SHAPE, **how)
    a = attention_arithmetic(Contract(), dtype)
    forward = attention_bounds(operands, a)
    out, lse = to(dtype, forward.exact_out), to(F32, forward.exact_lse)
    dout = to(dtype, np.random.default_rng(1).standard_normal(out.shape))
    stored, ideal = Cotangents(out, lse, dout), Cotangents(forward.exact_out, forward.exact_lse, dout)
    for given, before in ((stored, None), (ideal, forward)):
        bounds = attention_backward_bounds(operands, given, a, before)
        exact = Exact(operands, dtype, given).run()
        ratios = [
            [excess(x, e, b) for x, e, b in zip(found, exact, (bounds.dq, bounds.dk, bounds.dv), strict=True)]
            for found in (Backward(operands, dtype, stored).run(), mistake(operands, dtype, stored).run())
        ]
        assert max(ratios[0]) <= 1.0
        assert max(ratios[1]) > 1.5, ratios[1]


class Exact(Backward):
    """Every step in binary64, nothing rounded."""

    def __post_init__(self):
        self.dtype = "float64"
