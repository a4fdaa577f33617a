"""Rounded arithmetic that errs as far as its model lets it, for kernels simulated in binary64.

Every elementary step is rounded to the nearest number of a format; or directed, up or down, one bit finer,
which errs by up to u like any rounding; or by u either way. Exponentials and logarithms err by all of their
ulps. A sum runs in sequence, backwards, by pairs, or as a matrix unit does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic
from softcert.reference import FloatFormat

Float = NDArray[np.float64]

WAYS = ("nearest", "up", "down", "random", "chosen")
ORDERS = ("sequential", "reversed", "pairwise", "unit")
#: Bits that a matrix unit keeps of what it aligns, the implicit one included, and beyond its accumulator's.
_UNIT_BITS = 24 + 2


@dataclass
class Machine:
    """Arithmetic of a kernel.

    Attributes
    ----------
    a : formats and exp's ulps.
    way : how steps are rounded, of `WAYS`; "chosen" errs by u in the sign of `chosen`.
    order : in which order sums run, of `ORDERS`.
    chosen : signs by (query, key), for errors that conspire against one feature of the output.
    seed : of what is random.
    """

    a: AttentionArithmetic
    way: str = "nearest"
    order: str = "sequential"
    chosen: Float | None = None
    seed: int = 0
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def fl(self, value: Float | np.float64, fmt: FloatFormat | None = None, *, cast: bool = False) -> Float:
        """Value as a step in `fmt` gives it, `compute` where none is named; casts are to nearest."""
        fmt = fmt or self.a.compute
        value = np.asarray(value)
        quantum = _quantum(value, fmt)
        way = "nearest" if cast and self.way in {"up", "down", "random"} else self.way
        signs = self._signs(value.shape) if way == "chosen" else None
        with np.errstate(invalid="ignore"):
            if signs is not None:
                half = 0.5 * quantum
                result = np.where(signs > 0, np.ceil(value / half), np.floor(value / half)) * half
            elif way in {"nearest", "chosen"}:
                result = np.rint(value / quantum) * quantum
            elif way == "random":
                result = value + 0.5 * quantum * self.rng.choice([-1.0, 1.0], value.shape) * (value != 0.0)
            else:
                half = 0.5 * quantum
                result = (np.ceil if way == "up" else np.floor)(value / half) * half
        if self.a.flush:
            result = np.where(np.abs(result) < fmt.min_normal, 0.0, result)
        return np.where(np.isfinite(value), result, value)

    def _signs(self, shape: tuple[int, ...]) -> Float | None:
        """The chosen signs, where a step has one element for each query and key."""
        return self.chosen if self.chosen is not None and shape == self.chosen.shape else None

    def exp(self, argument: Float, *, base2: bool = False) -> Float:
        """Exponential off by all of its ulps; exactly 1 at 0."""
        with np.errstate(under="ignore"):
            value = np.exp2(argument) if base2 else np.exp(argument)
        wrong = self._wrong(value)
        return np.where(argument == 0.0, 1.0, np.maximum(wrong, 0.0))

    def log(self, value: Float) -> Float:
        """Natural logarithm off by all of its ulps."""
        with np.errstate(divide="ignore"):
            return self._wrong(np.log(value))

    def _wrong(self, value: Float) -> Float:
        signs = self._signs(value.shape)
        if signs is None:
            signs = {
                "up": np.ones(value.shape),
                "down": -np.ones(value.shape),
                "nearest": np.zeros(value.shape),
            }.get(self.way, self.rng.choice([-1.0, 1.0], value.shape))
        quantum = _quantum(value, self.a.compute)
        moved = value + signs * self.a.exp_ulp * quantum * (value != 0.0)
        return np.where(np.isfinite(value), moved, value)

    def total(self, terms: Float, start: Float | None = None) -> Float:
        """Sum over the first axis in the accumulator's format, after `start` where there is one."""
        if not len(terms):
            return np.zeros(terms.shape[1:]) if start is None else start
        if self.order == "unit" and self.a.group > 1:
            return self._by_unit(terms, np.zeros(terms.shape[1:]) if start is None else start)
        if self.order == "pairwise":
            part = self._by_pairs(terms)
            return part if start is None else self.add(start, part)
        ordered = terms[::-1] if self.order == "reversed" else terms
        total = ordered[0] if start is None else self.add(start, ordered[0])
        for term in ordered[1:]:
            total = self.add(total, term)
        return total

    def add(self, a: Float, b: Float) -> Float:
        """A sum in the accumulator's format; adding 0 changes nothing."""
        return np.where(b == 0.0, a, np.where(a == 0.0, b, self.fl(a + b, self.a.accumulator)))

    def _by_pairs(self, terms: Float) -> Float:
        while len(terms) > 1:
            pairs = self.add(terms[0 : len(terms) - 1 : 2], terms[1::2])
            terms = np.concatenate([pairs, terms[-1:]]) if len(terms) % 2 else pairs
        return np.asarray(terms[0])

    def _by_unit(self, terms: Float, start: Float) -> Float:
        """Groups aligned to their largest term, two bits kept beyond binary32's, everything truncated."""
        total = start
        for at in range(0, len(terms), self.a.group):
            group = np.concatenate([total[None], terms[at : at + self.a.group]])
            _, exponents = np.frexp(np.abs(group).max(axis=0))
            unit = np.ldexp(1.0, exponents - _UNIT_BITS)
            whole = (np.trunc(group / unit) * unit).sum(axis=0)
            _, exponents = np.frexp(whole)
            last = np.ldexp(1.0, exponents - self.a.accumulator.precision)
            total = np.trunc(whole / last) * last
        return total

    def product(self, a: Float, b: Float) -> Float:
        """a @ b^T for a of (n, c) and b of (m, c), products rounded where they are not exact: (n, m)."""
        terms = np.moveaxis(a[:, None, :] * b[None, :, :], -1, 0)
        exact = 2 * self.a.inputs.precision <= self.a.accumulator.precision
        return self.total(terms if exact else self.fl(terms, self.a.accumulator))

    def weighted(self, weights: Float, values: Float, start: Float | None = None) -> Float:
        """weights @ values for weights of (n, m) and values of (m, c): (n, c)."""
        terms = weights.T[:, :, None] * values[:, None, :]
        exact = self.a.weights.precision + self.a.inputs.precision <= self.a.accumulator.precision
        return self.total(terms if exact else self.fl(terms, self.a.accumulator), start)


def _quantum(value: Float, fmt: FloatFormat) -> Float:
    """Spacing of the numbers of `fmt` around value."""
    _, exponents = np.frexp(np.where(np.isfinite(value), value, 1.0))
    return np.asarray(np.ldexp(1.0, np.maximum(exponents - fmt.precision, fmt.eta_exponent)))
