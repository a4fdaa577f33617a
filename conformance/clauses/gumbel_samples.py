"""Gumbel-softmax sample by sample: what one seed fixes, one-hot samples, and the simplex they lie in."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from softcert.backends.types import Array, Call
from softcert.conformance.bounds import softmax as bounds
from softcert.conformance.clauses.determinism import differing
from softcert.conformance.context import Context
from softcert.conformance.inputs.draws import (
    FIRST_SEED,
    SECOND_SEED,
    families_of_draws,
    few_draws,
    grow_with,
)
from softcert.conformance.inputs.growing import one_call
from softcert.conformance.judging import gumbel_samples
from softcert.conformance.judging.draws import draws_of, logits_of, tau_of, unbroken
from softcert.conformance.judging.evidence import broken, not_numbers, relation_finding
from softcert.conformance.judging.judge import quantity
from softcert.conformance.judging.policy import ORDINARY, row_kinds
from softcert.conformance.model import Judgement, Trial
from softcert.conformance.spec import SAMPLING_OPS, Clause
from softcert.reference import format_of

Float = NDArray[np.float64]

#: Beside 1, from where one share is nearly all to where all shares are nearly alike.
_TEMPERATURES = (2.0**-8, 0.25, 3.0, 2.0**8)
#: Ulps that a share may be off by.
_ULPS = 4.0
#: Noise is larger with a probability of 2^-60.
_LARGEST_NOISE = 42.0


def _judge_temperatures(trial: Trial, results: tuple[Array, ...], _context: Context) -> Judgement:
    """Shares at each temperature within what those of the first call leave open."""
    first = trial.calls[0]
    for position, (call, value) in enumerate(zip(trial.calls, results, strict=True)):
        missing = not_numbers(position, call, value)
        if missing is not None:
            return missing
        low, high = _shares_at(tau_of(call), first, results[0])
        given, room = _with_room(draws_of(call, value))
        wrong = np.argwhere((given + room < low) | (given - room > high))
        if wrong.size:
            at = (int(wrong[0, 0]), int(wrong[0, 1]))
            name = f"share {at[1]} of sample {at[0]}"
            message = (
                f"{name} is {given[at]:.6g} at tau={tau_of(call):g}, where the sample of this seed at "
                f"tau={tau_of(first):g} makes it lie between {low[at]:.6g} and {high[at]:.6g}"
            )
            return broken(relation_finding(position, None, name, float(given[at]).hex(), message), given.size)
    return unbroken(results)


def _shares_at(tau: float, call: Call, value: Array) -> tuple[Float, Float]:
    """Ends of the shares at a temperature, by those of the same noise at another.

    tau log(y_i / y_j) = x_i + g_i - x_j - g_j, whatever tau is; `slack` bounds how far rounding moves it.
    """
    y, x = draws_of(call, value), logits_of(call)
    low, high = (tau_of(call) * logs for logs in gumbel_samples.log_ends(y))
    error = gumbel_samples.slack(y, x, tau_of(call)) + gumbel_samples.slack(y, x, tau)
    own = np.eye(y.shape[-1], dtype=np.bool_)

    def shares(ends: Float, others: Float, room: float) -> Float:
        gaps = np.where(own, 0.0, (others[:, np.newaxis, :] - ends[:, :, np.newaxis] + room) / tau)
        # Shares may be subnormal, whose reciprocals overflow.
        return np.asarray(np.exp(-np.logaddexp.reduce(gaps, axis=-1)))

    return shares(low, high, error), shares(high, low, -error)


def _with_room(y: Array) -> tuple[Float, Float]:
    """Shares in binary64, and the ulps that each may be off by."""
    fmt = format_of(y.dtype)
    given = y.astype(np.float64)
    return given, _ULPS * (2.0 * fmt.unit_roundoff * np.abs(given) + 2.0 ** (fmt.emin - fmt.precision + 1))


def _judge_hard(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """One 1 in each row and zeros, where the soft sample of the same seed is largest."""
    call, (soft, hard) = trial.calls[1], (draws_of(c, v) for c, v in zip(trial.calls, results, strict=True))
    ones, zeros = (hard == 1).sum(axis=-1), (hard == 0).sum(axis=-1)
    wrong = np.flatnonzero((ones != 1) | (zeros != hard.shape[-1] - 1))
    if wrong.size:
        row = hard[wrong[0]].astype(np.float64).tolist()
        message = f"one-hot sample {wrong[0]} is {row}, and not a 1 and zeros"
        return broken(relation_finding(1, None, "one-hot sample", repr(row), message), int(hard.size))
    if not context.seeded:
        return unbroken(results)
    given, room = _with_room(soft)
    at_one = np.where(hard == 1, given + room, 0.0).max(axis=-1)
    wrong = np.flatnonzero(~(at_one >= (given - room).max(axis=-1)))
    if not wrong.size:
        return unbroken(results)
    row = int(wrong[0])
    message = (
        f"one-hot sample {row} has its 1 at class {int(np.argmax(hard[row]))}, and the soft one of the same "
        f"seed {call.params['seed']} is {given[row].tolist()}"
    )
    return broken(relation_finding(1, None, "one-hot sample", repr(given[row].tolist()), message), given.size)


def _judge_seeds(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """The first and the last call have one seed, the one between has another."""
    first, other, last = results
    changed = differing(first, last)
    elements = int(first.size)
    if context.contract.deterministic and changed.any():
        at = tuple(int(i) for i in np.argwhere(changed)[0])
        message = "the same seed gave other bits after a call with another seed"
        return broken(relation_finding(2, at, quantity(trial.calls[2], at), last[at], message), elements)
    if not differing(first, other).any():
        message = f"the seeds {FIRST_SEED} and {SECOND_SEED} give the same sample"
        return broken(relation_finding(1, None, "sample", "the same", message), elements)
    return unbroken(results)


def _judge_simplex(trial: Trial, results: tuple[Array, ...], context: Context) -> Judgement:
    """Shares in [0, 1], whose exact sum is as near to 1 as that of softmax at such logits has to be."""
    (call,), (value,) = trial.calls, results
    y, kinds = draws_of(call, value).astype(np.float64), row_kinds(call).ravel()
    logits = draws_of(call, call.operands[0]).astype(np.float64)
    for row in np.flatnonzero(kinds == ORDINARY):
        outside = np.flatnonzero(~((y[row] >= 0.0) & (y[row] <= 1.0)))
        if outside.size:
            message = f"share {outside[0]} of sample {row} is {y[row, outside[0]]:.9g}, outside [0, 1]"
            return broken(
                relation_finding(0, None, "share", repr(float(y[row, outside[0]])), message), int(value.size)
            )
        total = math.fsum(y[row])
        bound = _sum_bound(y[row], logits[row], tau_of(call), context) if total else 0.0
        if not abs(total - 1.0) <= bound:
            message = f"sample {row} sums to {total:.9g}; the bound of its distance from 1 is {bound:.4g}"
            return broken(relation_finding(0, None, "sum of a sample", repr(total), message), int(value.size))
    return unbroken(results)


def _sum_bound(y: Float, logits: Float, tau: float, context: Context) -> float:
    """The bound of softmax at logits with these shares, and as large as x + g may be, over tau."""
    size = np.abs(logits[np.isfinite(logits)]).max() + _LARGEST_NOISE
    with np.errstate(divide="ignore", over="ignore"):
        perturbed = np.log(y)[np.newaxis] + np.minimum(size / tau, np.finfo(np.float64).max / 4)
    rows = bounds.rows_of(perturbed, 1.0, any_order=not context.arithmetic.division)
    return float(bounds.softmax_sum_bound(rows, context.arithmetic)[0, 0]) + 2.0**-50


def _needs_seeds(context: Context) -> str | None:
    return None if context.seeded else "the subject takes no seed"


_DERIVED = "derivation in docs/explanation/sampling.md"

CLAUSES = (
    Clause(
        id="gumbel.temperature",
        statement="the noise of a seed is the same at every temperature: near 0 one share is all, the "
        "largest one stays the largest, and far above all shares tend to 1/n",
        mathematics="tau log(y_i(tau) / y_j(tau)) is the same for every tau; so 1/n exp(-W / tau) <= y_i "
        "<= 1/n exp(W / tau), W the range of x + g",
        source=_DERIVED,
        in_practice="multiplied by the temperature in place of divided, noise drawn at a scale of its own",
        ops=SAMPLING_OPS,
        directed=few_draws,
        grow=grow_with({"seed": 1}, *({"seed": 1, "tau": tau} for tau in _TEMPERATURES)),
        judge=_judge_temperatures,
        applies=_needs_seeds,
        shrinks=False,
    ),
    Clause(
        id="gumbel.hard",
        statement="one-hot samples are a 1 and zeros, the 1 where the soft sample of the same seed is "
        "largest",
        mathematics="y_hard = e_k, k = argmax_i (x_i + g_i) = argmax_i y_i",
        source="E. Jang, S. Gu & B. Poole, arXiv:1611.01144, section 2.2",
        in_practice="a soft sample coming back, the argmin, new noise for the one-hot sample",
        ops=SAMPLING_OPS,
        directed=few_draws,
        grow=grow_with({"seed": 1}, {"seed": 1, "hard": 1}),
        judge=_judge_hard,
        shrinks=False,
    ),
    Clause(
        id="gumbel.seed",
        statement="a seed gives the same bits again, and another seed gives others",
        mathematics="f(x, s), f(x, s'), f(x, s): the first and the last alike",
        source="the contract's deterministic field; the meaning of a seed",
        in_practice="a seed that is ignored, or that only the first call heeds",
        ops=SAMPLING_OPS,
        directed=few_draws,
        grow=grow_with({"seed": FIRST_SEED}, {"seed": SECOND_SEED}, {"seed": FIRST_SEED}),
        judge=_judge_seeds,
        applies=_needs_seeds,
        shrinks=False,
    ),
    Clause(
        id="gumbel.simplex",
        statement="samples of ordinary logits are probability vectors: shares in [0, 1], their sum within "
        "the bound of 1",
        mathematics="0 <= y_i <= 1; |sum_i y_i - 1| within the bound of softmax at (x + g) / tau",
        source="definition of the simplex; the bounds of softmax",
        in_practice="NaN where a maximum is not subtracted, an epsilon in the sum",
        ops=SAMPLING_OPS,
        directed=families_of_draws,
        grow=one_call,
        judge=_judge_simplex,
        shrinks=False,
    ),
)
