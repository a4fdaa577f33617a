"""The bounds of out and lse are narrow: each of these mistakes exceeds one that the right kernel holds.

The kernels compute in binary64, except that weights and results are rounded to the dtype, so that what
exceeds a bound is the mistake alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from softcert.backends.contract import Contract
from softcert.backends.types import as_dtype
from softcert.conformance.bounds.attention_arithmetic import attention_arithmetic
from softcert.conformance.bounds.attention_facts import Operands
from softcert.conformance.bounds.attention_forward import attention_bounds
from softcert.conformance.inputs.attention_families import Shape, make_operands

SHAPE = Shape(heads=4, groups=2, queries=17, keys=33, features=16, values=8)
BF16, F16, F32 = "bfloat16", "float16", "float32"
NARROW, ALL = (BF16, F16), (BF16, F16, F32)


def to(dtype, array):
    with np.errstate(over="ignore"):
        return array.astype(as_dtype(dtype)).astype(np.float64)


@dataclass
class Kernel:
    """A right kernel; each mistake changes one of its steps."""

    operands: Operands
    dtype: str

    def seen(self, h):
        length, count = self.operands.q.shape[1], self.operands.k.shape[1]
        if not self.operands.causal:
            return np.ones((length, count), dtype=bool)
        return np.arange(count) <= np.arange(length)[:, None] + self.offset(count - length)

    def offset(self, aligned):
        return 0 if self.operands.causal == "top-left" else aligned

    def group(self, h):
        return h // self.operands.sharing

    def scale(self):
        return self.operands.factor

    def raw(self, h):
        return self.operands.q[h] @ self.operands.k[self.group(h)].T

    def scores(self, h):
        return np.where(self.seen(h), self.scale() * self.raw(h), -np.inf)

    def values(self, h):
        return self.operands.v[self.group(h)]

    def exp(self, t):
        return np.exp(t)

    def total(self, weights):
        return weights.sum(axis=1, keepdims=True)

    def stored(self, weights):
        return to(self.dtype, weights)

    def finish(self, out):
        return to(self.dtype, out)

    def lse_of(self, top, total):
        return np.where(total > 0, top + np.log(np.where(total > 0, total, 1.0)), -np.inf)[:, 0]

    def head(self, h):
        s = self.scores(h)
        top = s.max(axis=1, keepdims=True, initial=-np.inf)
        top = np.where(np.isfinite(top), top, 0.0)
        weights = self.exp(s - top)
        total = self.total(weights)
        out = self.stored(weights) @ self.values(h) / np.where(total > 0, total, 1.0)
        return self.finish(out), to(F32, self.lse_of(top, total))

    def run(self):
        pairs = [self.head(h) for h in range(len(self.operands.q))]
        return np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])


# --- mistakes ---


class LastKeyDropped(Kernel):
    def seen(self, h):
        return super().seen(h) & (np.arange(self.operands.k.shape[1]) < self.operands.k.shape[1] - 1)


class PaddedKeySeen(Kernel):
    """A tile's zero key takes part with score 0 and value 0."""

    def raw(self, h):
        return np.pad(super().raw(h), ((0, 0), (0, 1)))

    def seen(self, h):
        return np.pad(super().seen(h), ((0, 0), (0, 1)), constant_values=True)

    def values(self, h):
        return np.pad(super().values(h), ((0, 1), (0, 0)))


class ScaleOff(Kernel):
    def scale(self):
        return 1.01 * self.operands.factor


class WrongRoot(Kernel):
    """1/sqrt of the padded number of features."""

    def scale(self):
        return 1.0 / np.sqrt(self.operands.q.shape[-1] + 16)


class SlightlyLarge(Kernel):
    def finish(self, out):
        return to(self.dtype, out * (1.02 if self.dtype == BF16 else 1.005))


class CausalOffByOne(Kernel):
    def offset(self, aligned):
        return super().offset(aligned) - 1


class CausalOneTooFar(Kernel):
    def offset(self, aligned):
        return super().offset(aligned) + 1


class OtherCorner(Kernel):
    def offset(self, aligned):
        return aligned - super().offset(aligned)


class Sentinel(Kernel):
    """Hidden scores are a finite number, which scores far below it do not outweigh."""

    def scores(self, h):
        return np.where(self.seen(h), super().scores(h), -1.0e4)


class MeanWhereNothingIsSeen(Kernel):
    def scores(self, h):
        return np.where(self.seen(h), super().scores(h), -1.0e30)


class OtherGroup(Kernel):
    def group(self, h):
        return h % len(self.operands.k)


class NarrowSum(Kernel):
    """The row sum kept in the dtype of the weights."""

    def total(self, weights):
        total = np.zeros((len(weights), 1))
        for column in weights.T:
            total = to(BF16 if self.dtype == F32 else self.dtype, total + column[:, None])
        return total


class NarrowScores(Kernel):
    def raw(self, h):
        return to(BF16 if self.dtype == F32 else self.dtype, super().raw(h))


class NarrowWeights(Kernel):
    def stored(self, weights):
        return to("float8_e4m3fn" if self.dtype == BF16 else BF16, weights)


class Saturated(Kernel):
    """Weights without the maximum subtracted, which end at float16's largest number."""

    def head(self, h):
        weights = np.exp(self.scores(h))
        total = self.total(weights)
        out = np.minimum(weights, 65504.0) @ self.values(h) / np.where(total > 0, total, 1.0)
        return self.finish(out), to(F32, np.log(total[:, 0]))


class ShortPolynomial(Kernel):
    """exp2 by the polynomial of degree 3 that 16-bit inputs get in FlashAttention-4."""

    def exp(self, t):
        t = np.maximum(t * np.log2(np.e), -127.0)
        whole = np.floor(t)
        x = t - whole
        return np.where(
            t <= -127.0, 0.0, np.exp2(whole) * (1 + x * (0.69514614 + x * (0.22756439 + x * 0.07711909)))
        )


class Online(Kernel):
    """Blocks of 8 keys, each step open to a mistake."""

    def factor(self, old, new):
        return np.where(np.isfinite(old), np.exp(old - new), 0.0)

    def rescaled_out(self, out, factor):
        return out * factor

    def rescaled_total(self, total, factor):
        return total * factor

    def edges(self, count):
        return range(0, count, 8)

    def head(self, h):
        s, v = self.scores(h), self.values(h)
        top, total, out = np.full((len(s), 1), -np.inf), np.zeros((len(s), 1)), np.zeros((len(s), v.shape[1]))
        for start in self.edges(s.shape[1]):
            part = s[:, start : start + 8]
            new = np.maximum(top, part.max(axis=1, keepdims=True))
            safe = np.where(np.isfinite(new), new, 0.0)
            factor = self.factor(top, safe)
            weights = np.exp(part - safe)
            total = self.rescaled_total(total, factor) + weights.sum(axis=1, keepdims=True)
            out = self.rescaled_out(out, factor) + self.stored(weights) @ v[start : start + 8]
            top = new
        out = out / np.where(total > 0, total, 1.0)
        return self.finish(out), to(F32, self.lse_of(np.where(np.isfinite(top), top, 0.0), total))


class OutputNotRescaled(Online):
    def rescaled_out(self, out, factor):
        return out


class SumNotRescaled(Online):
    def rescaled_total(self, total, factor):
        return total


class TailTwice(Online):
    """The last block starts early enough to be full, and takes some keys twice."""

    def edges(self, count):
        return [*range(0, count - 8, 8), count - 8]


class PlainAverage(Kernel):
    """Two halves of the keys averaged without their weights."""

    def head(self, h):
        half = self.operands.k.shape[1] // 2
        parts = []
        for keys in (slice(0, half), slice(half, None)):
            o = self.operands
            part = Kernel(Operands(o.q, o.k[:, keys], o.v[:, keys], o.scale), self.dtype)
            parts.append(part.head(h))
        lse = np.logaddexp(parts[0][1], parts[1][1])
        return self.finish(0.5 * (parts[0][0] + parts[1][0])), to(F32, lse)


class BinaryLse(Kernel):
    def lse_of(self, top, total):
        return super().lse_of(top, total) / np.log(2.0)


class LseWithoutMaximum(Kernel):
    def lse_of(self, top, total):
        return np.log(total[:, 0])


class ValuesMean(Kernel):
    def exp(self, t):
        return np.isfinite(t).astype(float)


class Zeros(Kernel):
    def finish(self, out):
        return np.zeros_like(out)


class NeighbouringFeatures(Kernel):
    def finish(self, out):
        return to(self.dtype, out[:, np.r_[1, 0, 2 : out.shape[1]]])


def problem(kind, dtype, *, causal=False, shape=SHAPE, far=False):
    operands = make_operands(kind, dtype, shape, causal=causal)
    if far:  # scores near -16384, exactly representable in every dtype
        operands.q[..., 0], operands.k[..., 0] = 256.0, -256.0
    return operands


LONG = Shape(1, 1, 3, 700, 16, 8)
TALL = replace(SHAPE, queries=40)
FORWARD = [
    (LastKeyDropped, ALL, "normal", {}),
    (LastKeyDropped, ALL, "v + 50", {"shape": replace(SHAPE, keys=3)}),
    (PaddedKeySeen, ALL, "scores - 120", {}),
    (PaddedKeySeen, ALL, "ties", {}),
    (ScaleOff, ALL, "4x scores", {}),
    (ScaleOff, (F16, F32), "normal", {}),
    (WrongRoot, ALL, "normal", {}),
    (SlightlyLarge, ALL, "normal", {}),
    (SlightlyLarge, ALL, "v + 50", {}),
    (CausalOffByOne, ALL, "normal", {"causal": True}),
    (CausalOneTooFar, ALL, "normal", {"causal": True}),
    (OtherCorner, ALL, "normal", {"causal": True}),
    (OtherCorner, ALL, "normal", {"causal": "top-left"}),
    (Sentinel, ALL, "normal", {"causal": True, "far": True}),
    (MeanWhereNothingIsSeen, ALL, "normal", {"causal": True, "shape": TALL}),
    (OtherGroup, ALL, "normal", {}),
    (NarrowSum, ALL, "ties", {"shape": replace(LONG, keys=3000)}),
    (NarrowSum, (BF16, F32), "normal", {"shape": LONG}),
    (NarrowScores, ALL, "4x scores", {}),
    (NarrowScores, ALL, "common mode", {}),
    (NarrowWeights, ALL, "normal", {}),
    (Saturated, NARROW, "common mode", {}),
    (ShortPolynomial, (F32,), "normal", {"shape": replace(SHAPE, features=4)}),
    (OutputNotRescaled, ALL, "increasing", {}),
    (SumNotRescaled, ALL, "increasing", {}),
    (TailTwice, ALL, "normal", {}),
    (PlainAverage, ALL, "increasing", {}),
    (BinaryLse, ALL, "normal", {}),
    (LseWithoutMaximum, ALL, "normal", {}),
    (ValuesMean, ALL, "normal", {}),
    (Zeros, ALL, "normal", {}),
    (NeighbouringFeatures, ALL, "normal", {}),
    (NeighbouringFeatures, ALL, "v + 50", {}),
]


def excess(computed, exact, bound):
    """Largest error / bound, infinite where a finite result is expected and there is none."""
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.where(computed == exact, 0.0, np.abs(computed - exact))
        ratio = np.where(error == 0.0, 0.0, error / bound)
    return float(np.where(np.isfinite(computed) | (computed == exact), ratio, np.inf).max())


@pytest.mark.parametrize(
    ("mistake", "dtype", "kind", "how"),
    [(m, dtype, kind, how) for m, dtypes, kind, how in FORWARD for dtype in dtypes],
    ids=lambda value: getattr(value, "__name__", None) if not isinstance(value, dict) else "",
)
def test_a_mistake_of_the_forward_pass_exceeds_a_bound(mistake, dtype, kind, how):
    operands = problem(kind, dtype, **how)
    bounds = attention_bounds(operands, attention_arithmetic(Contract(), dtype))
    right = Online(operands, dtype) if issubclass(mistake, Online) else Kernel(operands, dtype)
    with np.errstate(divide="ignore"):
        ratios = [
            [excess(out, bounds.exact_out, bounds.out), excess(lse, bounds.exact_lse, bounds.lse)]
            for out, lse in (right.run(), mistake(operands, dtype).run())
        ]
    assert max(ratios[0]) <= 1.0
    assert max(ratios[1]) > 1.5, ratios[1]


def test_what_16_bit_inputs_hide_needs_a_declaration():
    """The polynomial of degree 3 errs by 8.8e-5: within float16's bound only where exp_ulp says so."""
    operands = problem("normal", F16, shape=replace(SHAPE, keys=5, features=4))
    undeclared, declared = (
        attention_bounds(operands, attention_arithmetic(Contract(exp_ulp=e), F16)) for e in (3.0, 1500.0)
    )
    assert (declared.out > undeclared.out).all()
    lse = ShortPolynomial(operands, F16).run()[1]
    assert excess(lse, undeclared.exact_lse, undeclared.lse) > 1.0
    assert excess(lse, declared.exact_lse, declared.lse) <= 1.0
