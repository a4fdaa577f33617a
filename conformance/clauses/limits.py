"""The limits of softmax: arg max, arg min, uniform, and the tropical limit of logsumexp."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from softcert import reference
from softcert.backends.types import Array, Call
from softcert.conformance.bounds import limits as limit_bounds
from softcert.conformance.bounds.softmax import Rows, rows_of, softmax_numerator_error
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import Scale, to_dtype
from softcert.conformance.inputs.growing import grow_scaled, one_call
from softcert.conformance.judging.compare import combine
from softcert.conformance.judging.evidence import broken, ordinary, ratio_judgement, relation_finding
from softcert.conformance.judging.judge import judge_values, quantity
from softcert.conformance.judging.rational import Ends, ends_of, exact_of, shown
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import LOGIT_OPS, Clause, Seedling

_ROWS = (
    (1.0, 5.0, 10.0),
    (1.0, 5.0, 5.0),
    (0.0, 10.0),
    (3.0, 3.0, 3.0, 1.0),
    (-2.0, 0.0, -2.0, 0.5, -7.0),
    (1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0),
    # Long, with one maximum and with several: near the limit the sum no longer grows with the length.
    (*(0.0, -1.0, -2.5, 0.0) * 250, 8.0),
    (*(0.0, 8.0, -1.0) * 100, 0.0),
)
_POWERS = (0, 2, 4, 6, 8, 10, 12)
_HUGE_POWERS = (20, 40, 100)
_SMALL_POWERS = (-3, -6, -9, -12, -20, -40)
#: A gap that 16 bits hold, and that the largest beta of a near tie leaves below 2^-8.
_NEAR = 2.0**-20
_ONE_NORM = "distance of softmax(x) from arg max, 1-norm"
_LARGEST = "distance of softmax(x) from arg max, maximum norm"
_MEAN = "max(x) - the mean of x under softmax(x)"


def _lines(call: Call, context: Context) -> tuple[list[list[Fraction]], Rows]:
    """beta x of every row, exactly, and what the bounds need to know of them."""
    x, beta = call.operands[0], float(call.params.get("beta", 1.0))
    products = [[Fraction(beta) * v for v in exact_of(row)] for row in x.reshape(-1, x.shape[-1])]
    rows = rows_of(x.astype(np.float64), beta, any_order=not context.arithmetic.division)
    return products, rows


def _judge_distance(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Against the exact values, and how far from arg max, in two norms, which is known exactly too."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call):
            continue
        lines, rows = _lines(call, context)
        slack = (
            np.ravel(limit_bounds.distance_bound(rows, context.arithmetic)),
            np.ravel(limit_bounds.element_bound(rows, context.arithmetic).max(axis=-1)),
        )
        truth, answer = context.truth(call).reshape(len(lines), -1), value.reshape(len(lines), -1)
        for k, logits in enumerate(lines):
            found = _off(logits, exact_of(answer[k]), ends_of(truth[k]), (slack[0][k], slack[1][k]))
            if found is not None:
                at = tuple(int(i) for i in np.unravel_index(k, value.shape[:-1])) if value.ndim > 1 else ()
                return broken(_distance_finding(position, (*at, 0), *found), values.elements)
    return values


def _off(
    logits: list[Fraction], answer: list[Fraction], truth: list[Ends], slack: tuple[float, float]
) -> tuple[str, Fraction, Ends, float] | None:
    """Which distance of a row is certainly not the exact one: its name, as computed, exact, its bound.

    With T the weight below m maxima the exact distances are 2 T and max(T / m, the largest p below).
    """
    top = max(logits)
    maxima = [v == top for v in logits]
    share = Fraction(1, sum(maxima))
    gaps = [share - p if is_top else p for p, is_top in zip(answer, maxima, strict=True)]
    below = [ends for ends, is_top in zip(truth, maxima, strict=True) if not is_top]
    tail = tuple(sum((e[side] for e in below), Fraction(0)) for side in (0, 1))
    largest = tuple(max((tail[side] * share, *(e[side] for e in below))) for side in (0, 1))
    one_norm = _ONE_NORM, sum(gaps, Fraction(0)), (2 * tail[0], 2 * tail[1]), slack[0]
    max_norm = _LARGEST, max(gaps), (largest[0], largest[1]), slack[1]
    return next((case for case in (one_norm, max_norm) if _outside(*case[1:])), None)


def _outside(observed: Fraction, exact: Ends, slack: float) -> bool:
    if not np.isfinite(slack):
        return False
    return observed < exact[0] - Fraction(slack) or observed > exact[1] + Fraction(slack)


def _distance_finding(
    position: int, at: tuple[int, ...], name: str, observed: Fraction, exact: Ends, slack: float
) -> Finding:
    message = (
        f"the {name}, is {float(observed):.6g} where it is {float(exact[0]):.6g} exactly, "
        f"more than {slack:.3g} apart"
    )
    return relation_finding(position, at, name, float(observed).hex(), message, exact=shown(exact))


def _factors(context: Context, sign: float) -> Iterator[Seedling]:
    largest = Scale.of(context.dtype).largest
    for row in _ROWS:
        for power in (*_POWERS, *_HUGE_POWERS):
            factor = 2.0**power
            if 10.0 * factor < largest:
                x = to_dtype(np.asarray(row), context.dtype)
                yield Seedling((x,), family="limit", extra={"factor": sign * factor})


def _near_ties(context: Context) -> Iterator[Seedling]:
    """Pairs some units apart, and one so near that no beta of these tells it apart, in any format."""
    ulp = 2.0 ** (1 - Scale.of(context.dtype).precision)
    apart = [(1.0, 1.0 + sign * step * ulp) for step in (1.0, 2.0, 1e-4 / ulp) for sign in (1.0, -1.0)]
    for pair in ((1.0, 1.0), *apart, (0.0, _NEAR)):
        for power in _POWERS:
            x = to_dtype(np.asarray(pair), context.dtype)
            yield Seedling((x,), family="near-tie", extra={"factor": 2.0**power})


def _diagonal(context: Context) -> Iterator[Seedling]:
    largest = Scale.of(context.dtype).largest
    for n in (1, 2, 3, 5, 7, 8, 10, 31, 64, 100, 1000, 3001):
        for level in (0.0, 1.0, -3.5, 88.0, -120.0, largest, -largest):
            yield Seedling((to_dtype(np.full(n, level), context.dtype),), family="equal")


def _hot(context: Context) -> Iterator[Seedling]:
    """Rows at inverse temperatures near 0 of either sign, and at 0 itself."""
    for row in _ROWS:
        for factor in (0.0, *(sign * 2.0**power for power in _SMALL_POWERS for sign in (1.0, -1.0))):
            x = to_dtype(np.asarray(row), context.dtype)
            yield Seedling((x,), family="hot", extra={"factor": factor})


def _judge_uniform(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """By values, and by ratios, in which what is common to a row cancels: max p / min p = e^(beta W)."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    ratios = ratio_judgement(trial, results, context)
    return ratios if ratios.finding is not None else values


def _judge_tropical(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Between the logsumexp with all others at -inf and that with all at the runner-up, up to the bound."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    call, value = trial.calls[0], results[0]
    lines, rows = _lines(call, context)
    slack = np.ravel(limit_bounds.excess_bound(rows, context.arithmetic))
    for k, (logits, answer) in enumerate(zip(lines, exact_of(value), strict=True)):
        exact = _bracket(logits)
        if _outside(answer, exact, slack[k]):
            at = tuple(int(i) for i in np.unravel_index(k, value.shape)) if value.ndim else ()
            apart = max(exact[0] - answer, answer - exact[1])
            message = (
                f"logsumexp is {float(answer):.9g}, {float(apart):.3g} outside [max + log m, "
                f"max + log(m + (n - m) e^-gap)] = [{float(exact[0]):.9g}, {float(exact[1]):.9g}]; "
                f"the bound is {slack[k]:.3g}"
            )
            finding = relation_finding(0, at, quantity(call, at), value[at], message)
            return combine([broken(finding, values.elements)])
    return values


def _bracket(logits: list[Fraction]) -> Ends:
    """max + log m and max + log(m + (n - m) exp(-gap)), m maxima among n, outwards."""
    top = max(logits)
    below = [v for v in logits if v < top]
    least = [float(top)] * (len(logits) - len(below))
    most = [*least, *([float(max(below))] * len(below) if below else ())]
    return ends_of(reference.logsumexp(least))[0][0], ends_of(reference.logsumexp(most))[0][1]


def _balanced(context: Context) -> Iterator[Seedling]:
    """One maximum and n - 1 equal logits at the gap 1 + W((n - 1)/e) below, where the mean is farthest."""
    for n in (2, 3, 10, 100, 1000):
        (low, _), *_ = ends_of(reference.largest_mean_gap(n))
        for power in (-2, 0, 4):
            row = np.full(n, -(1.0 + float(low)) * 2.0**-power)
            row[n // 2] = 0.0
            yield Seedling((to_dtype(row, context.dtype),), family="balanced", extra={"factor": 2.0**power})


def _judge_mean(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """The mean under the answers, normalised, so that what is common to a row cancels."""
    values = judge_values(trial, results, context)
    if values.finding is not None:
        return values
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        if not ordinary(call) or value.ndim != 1 or not value.any():
            continue
        (logits,), rows = _lines(call, context)
        top = max(logits)
        gaps = [top - v for v in logits]
        observed = _mean(gaps, exact_of(value))
        exact = _mean_ends(gaps, ends_of(context.truth(call)))
        ceiling = ends_of(reference.largest_mean_gap(len(gaps)))[0][1]
        slack = _mean_slack(rows, gaps, float(exact[1]), context)
        if _outside(observed, exact, slack) or observed > ceiling + Fraction(slack):
            message = (
                f"{_MEAN} is {float(observed):.9g} where it is {float(exact[0]):.9g} exactly and at most "
                f"{float(ceiling):.9g}, W((n - 1)/e); more than {slack:.3g} apart"
            )
            text = float(observed).hex()
            finding = relation_finding(position, (0,), _MEAN, text, message, exact=shown(exact))
            return broken(finding, values.elements)
    return values


def _mean(gaps: list[Fraction], weights: list[Fraction]) -> Fraction:
    total = sum((g * w for g, w in zip(gaps, weights, strict=True)), Fraction(0))
    return total / sum(weights, Fraction(0))


def _mean_ends(gaps: list[Fraction], truth: list[Ends]) -> Ends:
    low, high = (sum((g * e[side] for g, e in zip(gaps, truth, strict=True)), Fraction(0)) for side in (0, 1))
    return low, high


def _mean_slack(rows: Rows, gaps: list[Fraction], mean: float, context: Context) -> float:
    """Of a ratio of two sums of p_i e^o_i, |o_i| <= q: mean (e^2q - 1), and what underflow may add."""
    a = context.arithmetic
    own = float(softmax_numerator_error(rows, a).max())
    lost = a.underflow * (float(sum(gaps)) + len(gaps) * mean)
    return float(np.expm1(2.0 * own) * mean + 2.0 * lost) * (1.0 + 2.0**-30)


CLAUSES = (
    Clause(
        id="limits.argmax",
        statement="as beta grows, softmax tends to the arg max, ties sharing it equally, at the exact rate",
        mathematics="|p - argmax|_1 = 2R/(m + R) and |p - argmax|_inf = max(R/m, e^(-beta gap))/(m + R), "
        "R = sum of exp(-beta (max - x_j)) below m maxima, at most (n - m) exp(-beta gap)",
        source="p_i = 1/(m + R) on the maxima, by the definition; docs/explanation/limits.md",
        in_practice="NaN for x * 1e14 (pytorch#163932), the first of two maxima given all of the weight, "
        "weights held above a floor in the sum so that it never vanishes",
        ops=("softmax",),
        directed=lambda context: _factors(context, 1.0),
        grow=grow_scaled,
        judge=_judge_distance,
    ),
    Clause(
        id="limits.argmin",
        statement="as beta falls to minus infinity, softmax tends to the arg min, ties sharing it equally, "
        "at the exact rate",
        mathematics="|p - argmin|_1 = 2R/(m + R), R = sum of exp(beta (x_j - min)) above m minima",
        source="softmax(-beta x) = softmax(beta (-x))",
        in_practice="a running maximum that starts at 0, so that very negative rows give 0/0; "
        "beta (x - max x) for a negative beta, which overflows",
        ops=("softmax",),
        directed=lambda context: _factors(context, -1.0),
        grow=grow_scaled,
        judge=_judge_distance,
    ),
    Clause(
        id="limits.near-ties",
        statement="nearly equal logits converge as slowly as they must, equal ones not at all: at every beta "
        "some pair stays half a unit away from its arg max",
        mathematics="softmax(beta (1, 1 + d)) = (1/(1+e^(beta d)), 1/(1+e^(-beta d))); "
        "|p - argmax|_inf = 1/(1+e^(beta d)), which tends to 1/2 as d to 0",
        source="the convergence to arg max is pointwise, not uniform; docs/explanation/limits.md",
        in_practice="an early switch to one-hot, logits rounded to a narrower format",
        ops=("softmax",),
        directed=_near_ties,
        grow=grow_scaled,
        judge=_judge_distance,
    ),
    Clause(
        id="limits.uniform",
        statement="as beta tends to 0, softmax tends to the uniform distribution, and is it at 0",
        mathematics="e^(-beta W)/n <= p_i <= e^(beta W)/n, W = max(x) - min(x); max p / min p = e^(beta W)",
        source="1 = sum of p_j lies between n min p and n max p, and their ratio is e^(beta W)",
        in_practice="beta = 0 taken for a beta that was not given, a temperature that is cut off",
        ops=("softmax",),
        directed=_hot,
        grow=grow_scaled,
        judge=_judge_uniform,
    ),
    Clause(
        id="limits.expectation",
        statement="the mean of the logits under softmax lies below the maximum, by no more than W((n - 1)/e) "
        "divided by beta",
        mathematics="0 <= max(x) - <p, x> <= W((n - 1)/e)/beta, W(t) e^W(t) = t; attained by one maximum and "
        "n - 1 logits at the gap (1 + W)/beta",
        source="with w = W((n-1)/e): (d - w) e^-d <= e^-(1 + w) for each d, and (n-1) e^-(1 + w) = w; "
        "docs/explanation/limits.md",
        in_practice="weights below the maximum too heavy or too light, whatever the sum",
        ops=("softmax",),
        directed=_balanced,
        grow=grow_scaled,
        judge=_judge_mean,
    ),
    Clause(
        id="limits.diagonal",
        statement="equal logits give equal shares, at any level",
        mathematics="softmax(x, ..., x) = (1/n, ..., 1/n); lse = x + log n",
        source="definition",
        in_practice="0/0 at very negative levels, inf/inf at very large ones",
        ops=LOGIT_OPS,
        directed=_diagonal,
        grow=one_call,
        judge=judge_values,
    ),
    Clause(
        id="limits.tropical",
        statement="logsumexp tends to the maximum, m maxima above it by log m, at the exact rate",
        mathematics="max(x) + log(m)/beta <= lse(beta x)/beta <= "
        "max(x) + (log m + log1p((n - m) e^(-beta gap)/m))/beta, m maxima, gap to the next logit",
        source="lse = max + log(m + R), 0 <= R <= (n - m) e^-gap; Blanchard, Higham & Higham 2021, (4.2), "
        "for max <= lse <= max + log n",
        in_practice="a base-2 logarithm returned as a natural one, terms left out of the sum",
        ops=("logsumexp",),
        directed=lambda context: _factors(context, 1.0),
        grow=grow_scaled,
        judge=_judge_tropical,
    ),
)
