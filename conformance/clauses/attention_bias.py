"""Errors of attention lean to neither side: see `docs/explanation/attention-bounds.md`, "Bias"."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.types import Array, Call, as_dtype
from softcert.conformance.bounds.attention_arithmetic import AttentionArithmetic
from softcert.conformance.context import Context, truth_ulp
from softcert.conformance.inputs.attention_growing import attend_once
from softcert.conformance.judging.attention_judge import judge_attention, part_quantity
from softcert.conformance.judging.attention_truth import Part
from softcert.conformance.judging.compare import combine, hex_of
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import ATTENTION_FORWARD_OPS, Clause, Seedling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Float = NDArray[np.float64]

#: Chance that a kernel whose errors lean to no side is accused in one verdict.
FALSE_ALARM = 1e-9
#: Of how many tests a verdict is made at the most: two sides, two results, three families, two signs.
_TESTS = 24

#: Batches and heads, one query each: every one has its own q, k and v, so that their errors are independent.
_HEADS = (16, 16)
_WIDTH = 16
_REPEATED = "repeated maximum"
#: Score of the two largest keys, where those of the others are about N(0, 1).
_FAR_ABOVE = 12.0
#: What a division by an approximate reciprocal may lean by, in ulps of the format computed in.
_LAST_STEP = 0.25
#: A product of bases, log2(e) and log(2), each rounded once for all.
_CONSTANTS = 2.0


# --- inputs ---


def _forward(context: Context) -> Iterator[Seedling]:
    """Scores at random, and with the largest one at several keys; values of one sign, then of the other.

    Wide formats get more keys: there it is sums that may lean, narrow weights are what does elsewhere.
    """
    keys = 64 if as_dtype(context.dtype).itemsize == 2 else 256
    for sign in (1.0, -1.0):
        for place, family in enumerate(("normal", _REPEATED)):
            rng = np.random.default_rng([47, place, int(sign > 0)])
            q, k = _normal(rng, 1), _normal(rng, keys)
            if family == _REPEATED:
                _repeat_largest(rng, q, k)
            yield _seedling(context, family, q, k, sign * _sizes(rng, keys))
        if context.attention_arithmetic.weights.precision > context.attention_arithmetic.inputs.precision:
            yield _two_maxima(context, sign)


def _two_maxima(context: Context, sign: float) -> Seedling:
    """Two keys share the largest score, values of one binade, and next to no weight is left for the others.

    The sum before the division has one bit too many half the time, and the others always break the tie
    the same way. Weights that are narrow and normalized lean here however they are rounded, so this is for
    contracts that promise wider ones.
    """
    rng = np.random.default_rng([59, int(sign > 0)])
    q, k = _normal(rng, 1), _normal(rng, 16)
    k[..., :2, :] = _FAR_ABOVE * _WIDTH**0.5 * q / (q * q).sum(axis=-1, keepdims=True)
    return _seedling(context, "two maxima", q, k, sign * rng.uniform(1.0, 2.0, k.shape))


def _backward(context: Context) -> Iterator[Seedling]:
    """Cotangents of one sign, then of the other."""
    for sign in (1.0, -1.0):
        rng = np.random.default_rng([53, int(sign > 0)])
        q, k, v = _normal(rng, 48), _normal(rng, 4), _normal(rng, 4)
        yield _seedling(context, "normal", q, k, v, sign * _sizes(rng, 48))


def _seedling(context: Context, family: str, *operands: Float) -> Seedling:
    return Seedling(tuple(a.astype(as_dtype(context.dtype)) for a in operands), family=family)


def _normal(rng: np.random.Generator, rows: int) -> Float:
    return rng.standard_normal((*_HEADS, rows, _WIDTH))


def _sizes(rng: np.random.Generator, rows: int) -> Float:
    """Positive numbers, of another size in each head: results lie anywhere between two powers of two."""
    factors = np.exp2(rng.uniform(-1.0, 1.0, (*_HEADS, 1, 1)))
    return np.asarray(factors * rng.uniform(0.25, 1.75, (*_HEADS, rows, _WIDTH)))


def _repeat_largest(rng: np.random.Generator, q: Float, k: Float) -> None:
    """Give the key of the largest score to some others in each head."""
    for head in np.ndindex(_HEADS):
        top = int(np.argmax(k[head] @ q[head][0]))
        count = int(rng.integers(2, k.shape[-2] // 4))
        k[head][rng.permutation(k.shape[-2])[:count]] = k[head][top]


# --- what the contract allows ---


def allowed_relative(call: Call, context: Context) -> float:
    """Leaning that the contract itself allows, relative to a result whose terms are of one sign.

    An exponential and a logarithm may err on one side throughout, constants are rounded once for all, a
    matrix unit may truncate; what is rounded to nearest leans only by the square of what it rounds by.
    """
    a = context.attention_arithmetic
    keys, queries = call.operands[1].shape[-2], call.operands[0].shape[-2]
    gap = 1.0 + float(np.log(keys))
    terms = queries if call.op == "attention_vjp" else keys
    steps = 2.0 * a.exp_ulp * gap + _CONSTANTS * gap + 2.0 * _LAST_STEP
    narrowed = (a.u_scores + a.u_scaled) * _largest_score(call)
    squares: float = 4.0 * a.weights.unit_roundoff**2 + narrowed**2
    return steps * a.compute.unit_roundoff + _truncation(a, terms) + squares


def allowed_lse(call: Call, context: Context) -> float:
    """Leaning of lse that the contract allows, absolute: that of a weight, and of truncated scores."""
    a = context.attention_arithmetic
    return allowed_relative(call, context) + _truncation(a, _WIDTH) * _largest_score(call)


def _truncation(a: AttentionArithmetic, terms: int) -> float:
    """Relative leaning of a sum in a matrix unit, which may truncate; 0 where sums are of single terms."""
    return float(a.sum_length(terms) * a.u_sum) if a.group > 1 else 0.0


def _largest_score(call: Call) -> float:
    """Largest sum of magnitudes that a score is made of; the scale is 1/sqrt(D)."""
    q, k = (np.abs(x.astype(np.float64)) for x in call.operands[:2])
    return float((q @ k.swapaxes(-1, -2)).max() / np.sqrt(q.shape[-1]))


def _narrow_sums(context: Context) -> str | None:
    if context.attention_arithmetic.accumulator.precision >= 24:
        return None
    return "sums in so narrow a format stagnate, which leans to one side however they are rounded"


# --- judgement ---


@dataclass(frozen=True)
class Leaning:
    """Signed errors of the heads on one side: how far they lean, and from where on that is no chance.

    Attributes
    ----------
    error : certified (lower, upper) median of the heads' mean errors, positive on the side looked at.
    bound : the median that is allowed, with what chance may add.
    """

    error: tuple[float, float]
    bound: float

    @property
    def margin(self) -> float:
        """error / bound."""
        return max(0.0, self.error[1]) / self.bound


@cache
def critical_rank(count: int, chance: float = FALSE_ALARM / _TESTS) -> int:
    """Largest r at which fewer than r of `count` fair coins show heads with at most the chance given; or 0.

    Of independent errors of which each is at most as often above 0 as not, the r-th smallest is above 0
    if fewer than r are not above it.
    """
    rank, below = 0, 0
    while below + comb(count, rank) <= chance * 2.0**count:
        below += comb(count, rank)
        rank += 1
    return rank


def leaning(low: Float, high: Float, allowed: Float) -> Leaning:
    """How far errors lean to the positive side.

    Parameters
    ----------
    low, high : certified ends of each head's mean error.
    allowed : what the contract allows each.
    """
    middle = float(np.median(low)), float(np.median(high))
    rank = critical_rank(low.size)
    surely = float(np.sort(low - allowed)[rank - 1]) if rank else -np.inf
    return Leaning(middle, middle[0] - surely)


def _judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    call = trial.calls[0]
    judged = []
    for place, (value, part) in enumerate(zip(results, context.parts(call), strict=True)):
        if call.op == "attention_vjp" and part.name != "dv":
            continue
        if not np.isfinite(value.astype(np.float64)).all():
            return judge_attention(0, call, results, context)
        judged.append(_judge_part(place, call, value, part, context))
    worst = max(judged, key=lambda j: j.margin)
    return replace(combine(judged), bias=worst.bias)


def _judge_part(place: int, call: Call, value: Array, part: Part, context: Context) -> Judgement:
    low, high = _signed(value, part)
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        return Judgement()
    outward = np.ones(value.shape) if part.name == "lse" else np.sign(part.truth.to_float64())
    ulp = truth_ulp(part.truth, part.dtype)
    size = np.ones(value.shape) if part.name == "lse" else np.abs(part.truth.to_float64())
    share = (allowed_lse if part.name == "lse" else allowed_relative)(call, context)
    allowed = _by_head(share * size / ulp, call)
    sides = {}
    for side in (1.0, -1.0):
        toward = side * outward
        ends = np.where(toward > 0, low, -high), np.where(toward > 0, high, -low)
        sides[side] = leaning(_by_head(ends[0], call), _by_head(ends[1], call), allowed)
    side = max(sides, key=lambda s: sides[s].margin)
    found = sides[side]
    errors = _by_head(outward * (low + high) / 2.0, call)
    mean = float(errors.mean())
    deviation = float(errors.std(ddof=1)) / errors.size**0.5 if errors.size > 1 else 0.0
    finding = None
    if found.error[0] > found.bound:
        at = np.unravel_index(int(np.argmax(side * outward * (low + high))), value.shape)
        finding = _finding(place, call, value, part, tuple(map(int, at)), found, errors.size, side)
    return Judgement(
        finding=finding,
        error_ulp=(max(0.0, found.error[0]), max(0.0, found.error[1])),
        mean_ulp=abs(mean),
        bound_ulp=found.bound,
        margin=found.margin,
        elements=int(value.size),
        bias=(mean, mean / deviation if deviation else 0.0, errors.size),
    )


def _by_head(numbers: Float, call: Call) -> Float:
    """Mean over all numbers of a head, which share the weights' errors and are not independent."""
    heads = int(np.prod(call.operands[1].shape[:-2]))
    return np.asarray(numbers.reshape(heads, -1).mean(axis=-1))


def _signed(value: Array, part: Part) -> tuple[Float, Float]:
    """Certified ends of the signed error less that of the correctly rounded result, in ulps.

    What rounding the exact value costs is nobody's bias; leaving it out leaves less to chance too.
    """
    if part.unit != 1.0:  # an lse to base 2, through binary64
        exact = part.truth.to_float64()
        error = value.astype(np.float64) * part.unit - exact
        guard = 2.0**-50 * (np.abs(exact) + np.abs(error))
        ulp = truth_ulp(part.truth, part.dtype)
        return (error - guard) / ulp, (error + guard) / ulp
    low, high = part.truth.signed_error_ulp(value)
    rounded_low, rounded_high = part.truth.signed_error_ulp(part.truth.round(part.dtype))
    return low - rounded_high, high - rounded_low


def _finding(
    place: int,
    call: Call,
    value: Array,
    part: Part,
    at: tuple[int, ...],
    found: Leaning,
    heads: int,
    side: float,
) -> Finding:
    """The number that errs most on the side to which all lean stands for them."""
    lower, upper = part.truth[at].bounds_decimal(30)
    where = "up" if part.name == "lse" and side > 0 else "down" if part.name == "lse" else ""
    where = where or ("away from zero" if side > 0 else "towards zero")
    return Finding(
        call=0,
        index=at,
        quantity=part_quantity(call, part.name, at),
        exact=(str(lower), str(upper)),
        observed=hex_of(value[at]),
        error_ulp=found.error,
        bound_ulp=found.bound,
        message=(
            f"{part.name} of {call.op} leans {where}: the median over {heads} heads of a head's mean signed "
            f"error is {found.error[0]:.3f} ulp more than correct rounding costs, beyond the "
            f"{found.bound:.3f} ulp that chance and the contract allow"
        ),
        result=place,
    )


_SOURCE = (
    "exact binomial test, docs/explanation/attention-bounds.md; Qiu & Yao, arXiv:2510.04212 (biased "
    "rounding in FlashAttention, repeated maxima and values of one sign, breaks training)"
)

CLAUSES = (
    Clause(
        id="bias.attention",
        statement="over many heads the errors of out and lse lean to neither side, for values of one sign "
        "and repeated maxima too",
        mathematics="median of the signed errors, less those of correct rounding, within a + chance; a what "
        "the declared errors of exp and log may lean by; false alarms below 1e-9",
        source=_SOURCE,
        in_practice="weights truncated to bfloat16 in place of rounded, sums that truncate, a fast exp that "
        "is always a little high, outputs rounded before they are divided",
        ops=ATTENTION_FORWARD_OPS,
        directed=_forward,
        grow=attend_once,
        judge=_judge,
        applies=_narrow_sums,
        shrinks=False,
    ),
    Clause(
        id="bias.attention-gradient",
        statement="over many heads the errors of dv lean to neither side, for cotangents of one sign",
        mathematics="the same of dV = P^T dO",
        source=_SOURCE,
        in_practice="weights made anew and truncated: a gradient that is always a little short",
        ops=("attention_vjp",),
        directed=_backward,
        grow=attend_once,
        judge=_judge,
        applies=_narrow_sums,
        shrinks=False,
    ),
)
