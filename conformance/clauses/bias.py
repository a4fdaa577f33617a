"""Errors are not biased: many small errors of one sign add up where large ones of both do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from softcert.backends.types import Array, Call
from softcert.conformance.context import Context
from softcert.conformance.inputs.families import Scale, make_row, to_dtype
from softcert.conformance.inputs.growing import one_call
from softcert.conformance.judging.evidence import not_numbers, ordinary
from softcert.conformance.model import Finding, Judgement, Trial
from softcert.conformance.spec import Clause, Seedling, rows_last

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROWS = 250
_LONGEST = 320
_REPEATED = "repeated maximum"
#: Least level of a row of logarithms, in binary a power of two: errors of weights are that much less there.
_LOWEST = 64.0
_Z = 6.0
#: Mean error in ulps that a contract-conforming kernel may show besides chance; see `_allowed`.
_LAST_ROUNDING = 0.25
#: Standard deviation of a last rounding, 0.29 ulp, and what chance adds.
_ROUNDING_SPREAD = 0.4


def _repeated(context: Context) -> Iterator[Seedling]:
    """Rows of k equal maxima, k no power of two, and others that underflow to nothing.

    Equal rows would err equally: every row has its own k, so that the errors are as independent as the
    count of rows says.
    """
    scale = Scale.of(context.dtype)
    rng = np.random.default_rng(41)
    counts = rng.permutation([k for k in range(3, _LONGEST) if k & (k - 1)])[:_ROWS]
    levels = np.zeros(_ROWS) if context.op == "softmax" else rng.uniform(_LOWEST, 112.0, _ROWS)
    rows = np.full((_ROWS, int(counts.max()) + 1), -0.75 * scale.largest)
    for row, count, level in zip(rows, counts, levels, strict=True):
        row[:count] = level
    yield Seedling((to_dtype(rng.permuted(rows, axis=-1), context.dtype),), family=_REPEATED)


def _random(context: Context) -> Iterator[Seedling]:
    """Random rows; for logsumexp with ties at the top, and at levels where an ulp is that of the level.

    Equal logits alone would not do there: whatever x is, rounding x + log k errs by the same amount in a
    whole binade, and an addition among logarithms passes that on to the next k.
    """
    rng = np.random.default_rng(43)
    levels = rng.uniform(_LOWEST, 112.0, _ROWS) if context.op == "logsumexp" else np.zeros(_ROWS)
    family = "ties" if context.op == "logsumexp" else "normal"
    rows = [make_row(family, 8, seed, 2.0, "float64") + levels[seed] for seed in range(_ROWS)]
    yield Seedling((to_dtype(np.stack(rows), context.dtype),), family=family)


def _row_errors(call: Call, value: Array, context: Context) -> tuple[NDArray[np.float64], float]:
    """Mean signed error of each row in ulps, underflowed results left out, and the enclosures' width."""
    truth = context.truth(call)
    low, high = truth.signed_error_ulp(value)
    if call.op == "logsumexp":
        return (low + high) / 2, float((high - low).max())
    axis = int(call.params["axis"])
    large = rows_last(truth.in_ulps(context.dtype)[0], axis) >= 0.5 / context.arithmetic.u_out
    if call.op == "log_softmax":
        large &= rows_last(np.abs(truth.to_float64()), axis) < 1e3
    middle = np.where(large, rows_last((low + high) / 2, axis), 0.0)
    count = np.maximum(large.sum(axis=-1), 1)
    return middle.sum(axis=-1) / count, float((high - low).max())


def _allowed(trial: Trial, context: Context, deviation: float) -> float:
    """Mean error that the contract itself allows, in ulps, besides chance.

    Parameters
    ----------
    deviation : standard deviation of the rows' mean errors.

    At equal maxima every weight is exp(0), the sum is an integer and only the last roundings err: to
    nearest they have no bias, and a quarter of an ulp is far from the half of truncation. At random
    rows an exponential within its ulps may err on one side throughout.
    """
    exp_bias = 0.0 if trial.family == _REPEATED else context.arithmetic.exp_ulp
    if context.op == "logsumexp":
        exp_bias /= _LOWEST
    if trial.family == _REPEATED and context.contract.form == "any":
        # Errors that spread wider than a last rounding's show another form, exp(x - lse), or an exp(0)
        # that is not 1: the contract lets those be off by as much as they spread.
        exp_bias += max(0.0, deviation - _ROUNDING_SPREAD)
    wider = context.arithmetic.u_compute / context.arithmetic.u_out
    return _LAST_ROUNDING + exp_bias * wider


def _judge(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    call, value = trial.calls[0], results[0]
    if not ordinary(call):
        return Judgement()
    missing = not_numbers(0, call, value)
    if missing is not None:
        return missing
    errors, width = _row_errors(call, value, context)
    if not np.isfinite(errors).all():
        return Judgement()
    rows = errors.size
    mean = float(errors.mean())
    deviation = float(errors.std(ddof=1)) if rows > 1 else 0.0
    chance = _Z * deviation / np.sqrt(rows)
    bound = _allowed(trial, context, deviation) + chance
    certified = (max(0.0, abs(mean) - width), abs(mean) + width)
    finding = None
    if certified[0] > bound:
        finding = _finding(mean, certified, bound, rows, deviation)
    return Judgement(
        finding=finding,
        error_ulp=certified,
        mean_ulp=abs(mean),
        bound_ulp=bound,
        margin=certified[1] / bound,
        elements=int(value.size),
        bias=(mean, mean / (deviation / np.sqrt(rows)) if deviation else 0.0, rows),
    )


def _finding(mean: float, error: tuple[float, float], bound: float, rows: int, deviation: float) -> Finding:
    return Finding(
        call=0,
        index=None,
        quantity=f"mean over {rows} rows of the row's mean signed error",
        exact=None,
        observed=f"{mean:+.6f} ulp",
        error_ulp=error,
        bound_ulp=bound,
        message=(
            f"the mean signed error over {rows} rows is {mean:+.3f} ulp (standard deviation "
            f"{deviation:.3f} a row):"
            f" more than the {bound:.3f} ulp that chance and the contract allow"
        ),
    )


CLAUSES = (
    Clause(
        id="bias.repeated-maximum",
        statement="over many rows with a repeated maximum the mean signed error is consistent with zero",
        mathematics="|mean error| <= 1/4 ulp + 6 sigma / sqrt(rows), and sigma - 0.4 more where the contract "
        "allows another form than exp(x - max) / sum",
        source="derivation: exp(0) = 1 and integer sums are exact, so only the last rounding errs; "
        "Qiu & Yao, "
        "arXiv:2510.04212 (biased rounding at repeated maxima breaks training)",
        in_practice="results truncated towards zero, a reciprocal that is always a little low "
        "(tt-metal#52045)",
        ops=("softmax", "log_softmax"),
        directed=_repeated,
        grow=one_call,
        judge=_judge,
        shrinks=False,
    ),
    Clause(
        id="bias.random",
        statement="over many random rows the mean signed error is no larger than the exponential's own",
        mathematics="|mean error| <= (1/4 + E) ulp + 6 sigma / sqrt(rows), E the declared error of exp, "
        "E/64 for logsumexp",
        source="as bias.repeated-maximum; the test of TOSA's reference model for sums of products",
        in_practice="an approximation fitted from one side",
        ops=("softmax", "logsumexp"),
        directed=_random,
        grow=one_call,
        judge=_judge,
        shrinks=False,
    ),
)
