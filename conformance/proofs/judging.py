"""Judge the answers to many rows of a domain at once: what a proof does in place of the ordinary judge.

Rows of finite logits are judged by the compiled enclosures of `reference.fast.short_rows`; what these leave
open, and rows with -inf beside a number, by an exact oracle; rows without an exact value by the contract's
policy. Only the errors that may be nearest to their bounds are compared with the bounds (`screen`). A sample
of the rows is measured by the exact oracle too, and an error on which the two disagree stops the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softcert.backends.types import Array, Call
from softcert.conformance.context import Context, evaluate
from softcert.conformance.inputs.growing import call_of
from softcert.conformance.judging.compare import certified_errors
from softcert.conformance.judging.controls import CONTROLS, control_answer
from softcert.conformance.judging.judge import judge_values
from softcert.conformance.judging.policy import ORDINARY, breaches, row_kinds
from softcert.conformance.model import OracleError, Trial
from softcert.conformance.proofs.domains import Domain
from softcert.conformance.proofs.part import Breach, Part, Peak, further, worse
from softcert.conformance.proofs.screen import largest_ratios
from softcert.conformance.proofs.tally import counted
from softcert.conformance.spec import Seedling
from softcert.reference import format_of
from softcert.reference.fast.short_rows import short_row_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Rows = NDArray[np.intp]

#: What the trials of a proof call their family.
FAMILY = "every row"
#: So many rows of a domain are judged twice, of 2**32 one in so many: as many are answered by controls.
_SAMPLED, _ONE_IN, _CONTROLLED = 1 << 12, 1 << 12, 1 << 9
#: Spreads the samples over the rows of a domain: an odd number, so that it permutes residues of 2**32.
_SPREAD = 0x9E3779B1
#: So many errors are compared with their bounds at a time, the likeliest first; and so often at most.
_AT_A_TIME, _ATTEMPTS = 16, 4
#: Errors this near to the bound are measured exactly.
_NEAR = 1.0 - 2.0**-20


@dataclass(frozen=True)
class Bench:
    """What is proved: of which rows, by which promises."""

    domain: Domain
    context: Context

    @property
    def op(self) -> str:
        """The op."""
        return self.context.op

    @property
    def dtype(self) -> str:
        """The dtype of logits and results."""
        return self.context.dtype

    @property
    def size(self) -> int:
        """Number of rows of the domain."""
        return self.domain.size(self.dtype)

    def trial(self, x: Array) -> Trial:
        """Trial of one call on rows."""
        return Trial(calls=(self.call(x),), family=FAMILY)

    def call(self, x: Array) -> Call:
        """Call of the op on rows."""
        return call_of(Seedling((x,)), self.context)


class Answered(NamedTuple):
    """Rows with the answers to them.

    Attributes
    ----------
    first : number of the first row in the domain.
    x, value : (N, n) logits, and results, (N, n) or (N,).
    logits, answers : the same in binary64, results as (N, n) or (N, 1).
    """

    first: int
    x: Array
    value: Array
    logits: Floats
    answers: Floats

    @classmethod
    def of(cls, first: int, x: Array, value: Array) -> Answered:
        """Rows from `first` on, with the results of a call on them."""
        with np.errstate(invalid="ignore"):  # a signalling NaN
            logits, answers = x.astype(np.float64), value.astype(np.float64)
        return cls(first, x, value, logits, answers.reshape(len(x), -1))


class Measured(NamedTuple):
    """Errors of rows that have an exact value: which rows; lower, upper, signed error; error / bound."""

    rows: Rows
    lower: Floats
    upper: Floats
    signed: Floats
    ratio: Floats


def judge_rows(bench: Bench, given: Answered, known: Part) -> Part:
    """Judge rows of a domain by the answers to them.

    Parameters
    ----------
    known : what is known of other rows: what stays below its largest figures is not looked at closer.

    Raises
    ------
    OracleError : the proof's oracle and the exact one disagree about a row of the sample.
    """
    with np.errstate(all="ignore"):
        return _judged(bench, given, known)


def _judged(bench: Bench, given: Answered, known: Part) -> Part:
    # Numbers of 24 bits at most do not overflow binary64: a sum is finite where all its terms are.
    finite = np.isfinite(reduce(np.add, given.logits.T))
    strange = np.flatnonzero(~finite)
    kinds = row_kinds(bench.call(given.x[strange])) if strange.size else np.zeros(0, dtype=np.int8)
    masked = strange[kinds == ORDINARY]
    finite[masked] = True
    measured, settled = _measured(bench, given, np.flatnonzero(finite), masked)
    within, error_sum, signed_sum = counted(measured.upper, measured.signed)
    closest, breach = _closest(bench, given, measured, known)
    special = strange[kinds != ORDINARY]
    if special.size:
        breach = _first_breach(bench, given, special) or breach
    last = given.first + len(given.x)
    sampled = _sample(bench, given.first, last, _SAMPLED)
    controls, telling = _controlled(bench, given, _sample(bench, given.first, last, _CONTROLLED), known)
    return Part(
        ranges=((given.first, last),),
        cases=len(given.x),
        elements=given.answers.size,
        compared=measured.upper.size,
        within=within,
        error_sum=error_sum,
        signed_sum=signed_sum,
        settled=settled,
        audited=_audit(bench, given, sampled[np.isfinite(given.logits[sampled]).all(axis=1)]),
        largest=_largest(given, measured),
        closest=closest,
        breach=breach,
        controls=controls,
        telling=telling,
    )


# --- errors --------------------------------------------------------------------------------------------


def _measured(bench: Bench, given: Answered, rows: Rows, masked: Rows) -> tuple[Measured, int]:
    """Errors of rows that have an exact value, and how many of them the exact oracle had to settle.

    Parameters
    ----------
    masked : those of the rows in which a logit is -inf.
    """
    places = np.searchsorted(rows, masked)
    errors = _by_enclosures(bench, given, rows, places)
    slow = np.flatnonzero(np.isnan(reduce(np.add, errors.upper.T)))
    if slow.size:
        exact = _by_oracle(bench, given, rows[slow])
        for column, settled in zip(errors[1:], exact[1:], strict=True):
            column[slow] = settled
    return errors, int(slow.size - masked.size)


def _by_enclosures(bench: Bench, given: Answered, rows: Rows, masked: Rows) -> Measured:
    """Errors by the compiled enclosures; NaN where they leave one open, and at the places `masked`."""
    whole = len(rows) == len(given.x) and not masked.size
    x, y = (given.logits, given.answers) if whole else (given.logits[rows], given.answers[rows])
    x[masked] = 0.0
    errors = short_row_errors(bench.op, x, y, format_of(bench.dtype))
    errors.upper[masked] = np.nan
    ratio = largest_ratios(bench.op, x, errors, bench.context.arithmetic)
    return Measured(rows, errors.lower, errors.upper, errors.signed, ratio)


def _by_oracle(bench: Bench, given: Answered, rows: Rows) -> Measured:
    """Errors by the exact oracle and their ratios to the bounds themselves; each row as if it were alone."""
    call, value = bench.call(given.x[rows]), given.value[rows]
    truth = evaluate(call, bench.context.contract, "arb")[0]
    unbounded = np.full(value.shape, np.inf)
    lower, upper = certified_errors(truth, value, unbounded)
    low, high = truth.signed_error_ulp(value)
    signed = np.where(np.isinf(low), low, (low + high) / 2.0)
    bound = bench.context.bound_ulp(call, truth)
    ratio = np.where(upper == 0.0, 0.0, upper / bound)
    return Measured(rows, *(a.reshape(len(rows), -1) for a in (lower, upper, signed, ratio)))


def _largest(given: Answered, measured: Measured) -> Peak | None:
    if not measured.upper.size:
        return None
    at = int(np.argmax(measured.upper))
    i, column = divmod(at, measured.upper.shape[1])
    ends = float(measured.lower.flat[at]), float(measured.upper.flat[at])
    row = int(measured.rows[i])
    return Peak(ends[1], given.first + row, column, ends, tuple(given.answers[row].tolist()))


# --- bounds --------------------------------------------------------------------------------------------


def _closest(
    bench: Bench, given: Answered, measured: Measured, known: Part
) -> tuple[Peak | None, Breach | None]:
    """The largest error / bound unless more is known already, and the worst breach of the contract found.

    Estimates are compared with the bounds themselves from the largest down, until none is above what is known
    or, among very many that are nearly equal, one of them stands for what is known from above.
    """
    estimates: Floats = reduce(np.maximum, measured.ratio.T)
    if not estimates.size or (known.closest is not None and estimates.max() <= known.closest.value):
        return None, None
    best, breach = None, None
    for attempt in count():
        hopeful = np.flatnonzero(estimates > (-1.0 if best is None else best.value))
        if not hopeful.size:
            break
        chosen = _largest_of(estimates, hopeful)
        if attempt >= _ATTEMPTS and (breach is not None or estimates[chosen[0]] < _NEAR):
            best = _estimated(given, measured, int(chosen[0]))
            break
        peak, broken = _against_bounds(bench, given, measured, np.sort(chosen))
        estimates[chosen] = -1.0
        best, breach = further(best, peak), worse(breach, broken)
    return best, breach


def _largest_of(estimates: Floats, hopeful: Rows) -> Rows:
    """Rows with the largest estimates, from the largest down; of equal ones the first."""
    if hopeful.size > _AT_A_TIME:
        least = np.partition(estimates[hopeful], -_AT_A_TIME)[-_AT_A_TIME]
        hopeful = hopeful[estimates[hopeful] >= least]
    order = np.argsort(-estimates[hopeful], kind="stable")[:_AT_A_TIME]
    rows: Rows = hopeful[order]
    return rows


def _estimated(given: Answered, measured: Measured, i: int) -> Peak:
    """The place of an estimate that stands for the largest error / bound."""
    column = int(np.argmax(measured.ratio[i]))
    row, value = int(measured.rows[i]), float(measured.ratio[i, column])
    ends = float(measured.lower[i, column]), float(measured.upper[i, column])
    answer = tuple(given.answers[row].tolist())
    return Peak(value, given.first + row, column, ends, answer, ends[1] / value)


def _against_bounds(
    bench: Bench, given: Answered, measured: Measured, chosen: Rows
) -> tuple[Peak, Breach | None]:
    """The largest error / bound of some rows by the bounds themselves, and the worst breach among them."""
    rows = measured.rows[chosen]
    call = bench.call(given.x[rows])
    truth = evaluate(call, bench.context.contract, "arb")[0]
    upper = measured.upper[chosen]
    bound = bench.context.bound_ulp(call, truth).reshape(upper.shape)
    ratio = np.where(upper == 0.0, 0.0, upper / bound)
    at = int(np.argmax(ratio))
    i, column = divmod(at, upper.shape[1])
    ends = float(measured.lower[chosen[i], column]), float(upper[i, column])
    answer = tuple(given.answers[rows[i]].tolist())
    peak = Peak(
        float(ratio.flat[at]), given.first + int(rows[i]), column, ends, answer, float(bound[i, column])
    )
    return peak, _worst_breach(bench, given, rows, ratio)


def _worst_breach(bench: Bench, given: Answered, rows: Rows, ratio: Floats) -> Breach | None:
    """The row with the largest error / bound that the ordinary judge finds to break the contract."""
    largest = ratio.max(axis=1)
    for i in np.argsort(-largest, kind="stable"):
        if largest[i] < _NEAR:
            return None
        one = slice(int(rows[i]), int(rows[i]) + 1)
        judged = judge_values(bench.trial(given.x[one]), (given.value[one],), bench.context)
        if judged.finding is not None:
            return Breach(float(largest[i]), given.first + one.start, message=judged.finding.message)
    return None


# --- policy --------------------------------------------------------------------------------------------


def _first_breach(bench: Bench, given: Answered, special: Rows) -> Breach | None:
    """The first row without an exact value whose answer the contract does not allow."""
    chosen = np.sort(np.concatenate(list(_representatives(given, special))))
    found = breaches(bench.call(given.x[chosen]), given.value[chosen], bench.context.contract)
    if not found:
        return None
    row = int(chosen[found[0].index[0]])
    judged = judge_values(bench.trial(given.x[row : row + 1]), (given.value[row : row + 1],), bench.context)
    message = judged.finding.message if judged.finding else ""
    return Breach(float("inf"), given.first + row, message=message)


def _representatives(given: Answered, special: Rows) -> Iterator[Rows]:
    """The first of all rows that the policy cannot tell from each other.

    It knows of a logit whether it is a number, NaN or which infinity, and looks at every answer.
    """
    logits, answers = given.logits[special], given.answers[special]
    codes = np.isnan(logits) + 2 * np.isposinf(logits) + 3 * np.isneginf(logits)
    pattern = codes @ (4 ** np.arange(logits.shape[1]))
    for code in np.unique(pattern):
        alike = np.flatnonzero(pattern == code)
        found = answers[alike]
        same = ((found == found[0]) | (np.isnan(found) & np.isnan(found[0]))).all()
        if same:
            yield special[alike[:1]]
            continue
        canonical = np.where(np.isnan(found), np.nan, found)
        _, first = np.unique(canonical.view(np.int64), axis=0, return_index=True)
        yield special[alike[first]]


# --- the proof's own controls --------------------------------------------------------------------------


def _sample(bench: Bench, first: int, last: int, least: int) -> Rows:
    """Places of the rows of a sample, which depend on their numbers alone."""
    numbers = np.arange(first, last, dtype=np.uint64)
    share = max(bench.size // _ONE_IN if least == _SAMPLED else 0, least) / bench.size
    mixed = (numbers * np.uint64(_SPREAD)) & np.uint64(0xFFFFFFFF)
    return np.flatnonzero(mixed < np.uint64(share * 2.0**32))


def _audit(bench: Bench, given: Answered, rows: Rows) -> int:
    """Compare the errors of some rows with those of the exact oracle; say how many rows."""
    if not rows.size:
        return 0
    nothing = np.zeros(0, dtype=np.intp)
    fast, exact = _by_enclosures(bench, given, rows, nothing), _by_oracle(bench, given, rows)
    left_open = np.isnan(fast.upper)
    apart = (fast.lower > exact.upper) | (exact.lower > fast.upper)
    least = np.where(exact.lower > 0.0, exact.ratio * (exact.lower / exact.upper), 0.0)
    understated = fast.ratio < least * _NEAR
    wrong = (apart | understated) & ~left_open
    if wrong.any():
        i, column = (int(k) for k in np.argwhere(wrong)[0])
        row = given.x[rows[i]].astype(np.float64).tolist()
        raise OracleError(
            f"the proof's oracle says that {bench.op} of {row} in {bench.dtype} errs by "
            f"{fast.lower[i, column]:.17g} to {fast.upper[i, column]:.17g} ulp at {column}, the exact one by "
            f"{exact.lower[i, column]:.17g} to {exact.upper[i, column]:.17g}"
        )
    return len(rows)


def _controlled(
    bench: Bench, given: Answered, rows: Rows, known: Part
) -> tuple[dict[str, bool], tuple[int, int]]:
    """Which wrong answers on purpose are caught on a sample of rows, and whether the bound can tell any."""
    if not rows.size:
        return {}, (0, 0)
    trial = bench.trial(given.x[rows])
    caught: dict[str, bool] = {}
    judged = judge_values(trial, (given.value[rows],), bench.context)
    for name in CONTROLS:
        if known.controls.get(name):
            continue
        answers = control_answer(name, trial.calls[0], bench.context)
        if answers is not None:
            caught[name] = judge_values(trial, answers, bench.context).finding is not None
    return caught, (int(not judged.vacuous), 1)


__all__ = ["FAMILY", "Answered", "Bench", "judge_rows"]
