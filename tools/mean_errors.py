"""The mean signed error over many rows: recomputed from exact values, with the chance that it allows for."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from itertools import product

from exact_rows import FORMATS, Interval, Row, UnknownError, in_digits, ulp_at
from witness_record import FalseError, Record, Tensor, check_bound, read_number

_DIGITS = 50
_Z = 6
_ROUNDING_SPREAD = Fraction(2, 5)
#: What the last roundings alone may add up to, in ulps, whatever the kernel.
_LAST_ROUNDING = Fraction(1, 4)
_REPEATED = "repeated maximum"
#: Log-probabilities beyond this are left out: there the logit itself rules the error.
_DEEPEST = 1000
_GRID = 2**1400
#: No format holds exp of less than minus this; results so small are left out in any case.
_NEGLIGIBLE = 2000


def _coarse(value: Interval) -> Interval:
    """A wider interval with short ends: weights that count as nothing leave denominators of 17000 digits."""
    return Interval(
        Fraction(math.floor(value.lo * _GRID), _GRID),
        Fraction(math.ceil(value.hi * _GRID), _GRID),
    )


def _exact_row(op: str, logits: list[float], beta: Fraction) -> list[Interval]:
    """Every element of one row; elements of equal logits are computed once."""
    row = Row(logits, beta, _DIGITS)
    if op == "softmax":
        near = [v for v in set(logits) if v != -math.inf and beta * Fraction(v) - row.top > -_NEGLIGIBLE]
        known = {v: _coarse(row.softmax(beta * Fraction(v))) for v in near}
        return [known.get(v, Interval(Fraction(0), Fraction(0))) for v in logits]
    rest = _coarse(row.log_total())
    if op == "logsumexp":
        return [Interval(row.top + rest.lo, row.top + rest.hi)]
    if not all(math.isfinite(v) for v in logits):
        raise UnknownError("log_softmax of a masked row has infinite values")
    places = [beta * Fraction(v) - row.top for v in logits]
    return [Interval(d - rest.hi, d - rest.lo) for d in places]


def _row_error(op: str, exact: list[Interval], replies: list[float], dtype: str) -> Fraction:
    """Mean of (reply - exact) in ulps over the elements that are neither subnormal nor far below 0."""
    smallest = Fraction(2) ** FORMATS[dtype][1]
    total, count = Fraction(0), 0
    for value, reply in zip(exact, replies, strict=True):
        if op != "logsumexp" and max(abs(value.lo), abs(value.hi)) < smallest:
            continue
        if op == "log_softmax" and value.lo <= -_DEEPEST:
            continue
        ulp = ulp_at(value, dtype)
        if ulp is None:
            raise UnknownError("an exact value is too near to a power of two")
        total += (Fraction(reply) - (value.lo + value.hi) / 2) / ulp
        count += 1
    return total / max(count, 1)


def _errors(record: Record) -> list[Fraction]:
    """Mean signed error of each row of the call."""
    call = record.position
    op, axis, beta = record.op(call), record.axis(call), record.beta(call)
    x, reply = record.operands(call)[0], record.reply(call)
    if not all(math.isfinite(v) for v in reply.values):
        raise UnknownError("the outputs are not all finite")
    lengths = [1 if k == axis else n for k, n in enumerate(x.shape)]
    found = []
    for place in product(*map(range, lengths)):
        exact = _exact_row(op, x.row(place, axis), beta)
        found.append(_row_error(op, exact, _answers(reply, place, axis, op), reply.dtype))
    return found


def _answers(reply: Tensor, place: tuple[int, ...], axis: int, op: str) -> list[float]:
    if op == "logsumexp":
        return [reply.at([*place[:axis], *place[axis + 1 :]])]
    return reply.row(place, axis)


def _check_bound_holds_chance(record: Record, errors: list[Fraction], mean: Fraction) -> None:
    """The bound is a quarter of an ulp and six standard errors.

    Random rows may add to it, repeated maxima what their errors spread beyond 0.4 ulp.
    """
    bound = read_number(record.finding["bound_ulp"])
    variance = sum(((e - mean) ** 2 for e in errors), Fraction(0)) / max(len(errors) - 1, 1)
    chance = _Z * Fraction(math.sqrt(variance / len(errors)))
    least = _LAST_ROUNDING + chance
    # The deviation stated is of errors in binary64, whose own roundings count where the errors are huge.
    slack = Fraction(1, 10**9) * (1 + chance) + max(abs(e) for e in errors) / 2**50
    most = least + max(Fraction(0), Fraction(math.sqrt(variance)) - _ROUNDING_SPREAD)
    if bound < least - slack or (record.family == _REPEATED and bound > most + slack):
        raise FalseError(f"the bound is stated as {float(bound)!r}, chance allows {in_digits(least)} ulp")


def check_mean(record: Record) -> str:
    """The mean over the rows of each row's mean signed error, against its stated value and interval.

    Raises
    ------
    FalseError : another mean, count of rows or interval, or a bound that chance alone may exceed.
    """
    errors = _errors(record)
    named = re.search(r"[0-9]+", str(record.finding["quantity"]))
    if named is None or int(named[0]) != len(errors):
        raise FalseError(f"the call has {len(errors)} rows")
    mean = sum(errors, Fraction(0)) / len(errors)
    stated = Fraction(read_number(str(record.finding["observed"]).removesuffix("ulp")))
    largest = max(abs(e) for e in errors)
    # The stated mean is a sum in binary64, printed with six decimals.
    if abs(stated - mean) > Fraction(6, 10**7) + largest / 2**45:
        raise FalseError(f"the mean is stated as {record.finding['observed']}, it is {in_digits(mean)} ulp")
    interval = check_bound(record.finding)
    if interval and not Interval(abs(mean), abs(mean)).inside(*interval):
        raise FalseError(f"the mean is {in_digits(mean)} ulp, outside the interval stated")
    _check_bound_holds_chance(record, errors, mean)
    return f"the mean signed error over {len(errors)} rows is {in_digits(mean)} ulp"
