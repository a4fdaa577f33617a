"""Check witnesses of softcert with another program: the standard library's decimal and fractions alone.

    python tools/verify_witness.py WITNESS_OR_RUN.json ...

For each witness the exact value of the element that it speaks of is computed again, and one line says
whether the certificate is true: its enclosure holds the exact value, the observed value is the one in
the reply, the error in ulps lies in the interval stated, and that interval lies above the bound.

Exit status: 0, no certificate is wrong; 1, at least one is; 2, a file cannot be read.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import attention_element
from exact_rows import (
    FORMATS,
    Interval,
    UnknownError,
    exact_element,
    in_digits,
    overflow_threshold,
)
from relations import BY_CLAUSE_NUMBER, relation_of
from special_rows import check_rule, kind_of, scaled
from witness_record import Claim, FalseError, MalformedError, Record, show

OPERANDS: Mapping[str, int] = {
    "softmax": 1,
    "log_softmax": 1,
    "logsumexp": 1,
    "softmax_vjp": 2,
    "softmax_jvp": 2,
}
SUM = "sum of the outputs"
#: Digits of the successive attempts; the next is made only where the one before leaves a doubt.
DIGITS = (60, 150, 400, 1600)


def _settle(value: Callable[[int], Interval], claim: Claim) -> str:
    """Judge a finite observation at growing precision; returns what was found."""
    said = ""
    for digits in DIGITS:
        verdict, said = claim.judge(value(digits))
        if verdict and claim.unbounded:
            raise UnknownError(f"the bound is more ulps than binary64 counts; {said}")
        if verdict:
            return said
    raise UnknownError(f"undecided at {DIGITS[-1]} digits, {said}")


def _settle_special(value: Callable[[int], Interval], claim: Claim, observed: float) -> str:
    """Judge an infinity or NaN in place of a finite value: there is no distance to speak of."""
    exact = value(DIGITS[0])
    if math.isinf(observed):
        rounds = exact.lo if observed > 0 else -exact.hi
        if rounds >= overflow_threshold(claim.dtype):
            raise FalseError("the exact value does round to an infinity")
    if claim.exact and exact.inside(*claim.exact) is False:
        raise FalseError("the enclosure does not hold the exact value")
    return f"{observed!r} where the exact value is {in_digits(exact.lo)}"


def _check_masked(op: str, actual: float, claim: Claim) -> str:
    """A -inf logit among others gives exactly 0, or -inf as a logarithm."""
    special = 0.0 if op == "softmax" else -math.inf
    if actual == special:
        raise FalseError(f"the reply is {actual!r}, which is the right value")
    if op == "softmax" and math.isfinite(actual):
        _settle(lambda _: Interval(Fraction(0), Fraction(0)), claim)
    return f"{actual!r} where the rules ask for {special!r}"


def _check_element(record: Record) -> str:
    call, op = record.position, record.op(record.position)
    reply, (rows, place) = record.reply(call), record.rows(call, record.index)
    if len(rows) != OPERANDS[op]:
        raise MalformedError(f"op {op!r} does not take {len(rows)} operands")
    beta, actual = record.beta(call), record.observed()
    claim = Claim.read(record.finding, reply.dtype)
    logits = scaled(rows[0], beta)
    kind = kind_of(op, rows, beta)
    if kind is not None:
        return check_rule(op, logits, place, kind, actual, str(record.finding.get("message", "")))
    if record.bare and not math.isnan(actual) and record.clause in BY_CLAUSE_NUMBER:
        return BY_CLAUSE_NUMBER[record.clause](record)
    if op in {"softmax", "log_softmax"} and logits[place] == -math.inf:
        return _check_masked(op, actual, claim)
    value = exact_element(op, [logits, *rows[1:]], place, beta)
    if not math.isfinite(actual):
        return _settle_special(value, claim, actual)
    if record.bare:
        raise UnknownError(
            f"the finding states neither an enclosure nor an error of {record.finding['quantity']}"
        )
    return _settle(value, claim)


def _check_attention(record: Record, op: str, quantity: str) -> str:
    """One element of a result of attention, by the rules that hold where the contract says nothing else."""
    names = attention_element.RESULTS[op]
    whole = f"{op}({', '.join(attention_element.OPERANDS[op])})"
    named = whole if len(names) == 1 else f"{names[record.result]} of {whole}"
    if not (record.finding.get("exact") and quantity.startswith(f"{named}[")):
        raise UnknownError(f"the quantity {quantity!r} of {op} is not one that this program knows")
    claim = Claim.read(record.finding, record.reply(record.position).dtype)
    value, actual = attention_element.exact_result(record), record.observed()
    return _settle(value, claim) if math.isfinite(actual) else _settle_special(value, claim, actual)


def _check_sum(record: Record) -> str:
    """The exact sum of the outputs of one row against 1, in ulps of 1."""
    finding, reply = record.finding, record.reply(record.position)
    axis, index = record.axis(record.position), list(record.index)
    if len(index) == len(reply.shape) - 1:
        index.insert(axis, 0)
    row = reply.row(index, axis)
    if not all(math.isfinite(v) for v in row):
        raise UnknownError("the outputs are not all finite")
    total = sum((Fraction(v) for v in row), Fraction(0))
    error = abs(total - 1) * 2 ** (FORMATS[reply.dtype][0] - 1)
    claim = Claim.read(finding, reply.dtype)
    if claim.error and not Interval(error, error).inside(*claim.error):
        raise FalseError(f"the sum is {in_digits(error)} ulps of 1 away from 1, outside the interval stated")
    if claim.exact and not any(Interval(v, v).inside(*claim.exact) for v in (Fraction(1), total)):
        raise FalseError(f"the enclosure holds neither 1 nor the sum, {in_digits(total)}")
    # a sum of many outputs need not be one float: it is stated as the nearest double
    if isinstance(claim.observed, float) or abs(claim.observed - total) > abs(total) * Fraction(1, 2**52):
        raise FalseError(f"observed is stated as {show(claim.observed)}, the sum is {in_digits(total)}")
    return f"the sum is {in_digits(total)}, {in_digits(error)} ulps of 1 away from 1"


def check_witness(witness: Mapping[str, Any]) -> str:
    """Recompute one witness; returns what was found.

    Raises
    ------
    FalseError : the certificate is wrong. UnknownError : it is of a kind not recomputed here.
    MalformedError : it is not a witness.
    """
    try:
        record = Record.read(witness)
        relation = relation_of(record)
        if relation is not None:
            return relation(record)
        quantity, op = str(record.finding["quantity"]), record.op(record.position)
        if op in attention_element.OPERANDS:
            return _check_attention(record, op, quantity)
        if op == "softmax" and quantity == SUM:
            return _check_sum(record)
        if not (op in OPERANDS and re.fullmatch(rf"{op}(\([^()]*\)(\[[^][]*\])?)?", quantity)):
            raise UnknownError(f"the quantity {quantity!r} of {op} is not one that this program knows")
        return _check_element(record)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedError(f"not a witness: {type(error).__name__}: {error}") from error


def witnesses(document: object) -> Iterator[Mapping[str, Any]]:
    """All witnesses of a JSON document: a witness, a run or several."""
    if isinstance(document, dict) and document.get("kind") == "witness":
        yield document
    elif isinstance(document, dict) and isinstance(document.get("verdicts"), list):
        for verdict in document["verdicts"]:
            if isinstance(verdict, dict) and isinstance(verdict.get("witness"), dict):
                yield verdict["witness"]
    elif isinstance(document, dict) and isinstance(document.get("runs"), list):
        for run in document["runs"]:
            yield from witnesses(run)
    else:
        raise MalformedError("neither a witness nor a run")


def check_file(path: Path) -> int:
    """Print one line for each witness of a file; returns the exit status that they ask for."""
    try:
        found = list(witnesses(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise MalformedError(str(error)) from error
    status = 0
    for witness in found:
        title = " ".join(str(witness.get(key)) for key in ("clause", "op", "dtype"))
        try:
            line = f"true: {check_witness(witness)}"
        except UnknownError as reason:
            line = f"not recomputed: {reason}"
        except FalseError as complaint:
            status, line = max(status, 1), f"WRONG: {complaint}"
        except MalformedError as error:
            sys.stderr.write(f"{path}: {title}: {error}\n")
            status = 2
            continue
        sys.stdout.write(f"{path.name}: {title}: {line}\n")
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the files named on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Check the certificates of witnesses with another program.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="a witness or a run")
    status = 0
    for path in parser.parse_args(arguments).files:
        try:
            status = max(status, check_file(path))
        except MalformedError as error:
            sys.stderr.write(f"{path}: {error}\n")
            status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
