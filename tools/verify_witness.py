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
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from exact_rows import (
    FORMATS,
    TINY,
    Doubt,
    Interval,
    UnknownError,
    exact_element,
    in_digits,
    overflow_threshold,
    special_element,
    ulp_at,
)

Ends = tuple[Fraction | None, Fraction | None]  # None: no end on that side

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


class MalformedError(Exception):
    """The file is not a witness or a run; the message is one sentence."""


class FalseError(Exception):
    """The certificate is wrong; the message says in what."""


@dataclass(frozen=True)
class Tensor:
    """Numbers of one dtype, in C order, each in a float that holds it exactly."""

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...]

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Tensor:
        """Tensor of a JSON record with dtype, shape and hexadecimal values."""
        dtype, shape = str(record["dtype"]), tuple(int(n) for n in record["shape"])
        if dtype not in FORMATS:
            raise UnknownError(f"dtype {dtype} is not one of {', '.join(FORMATS)}")
        values = tuple(float.fromhex(v) for v in record["hex"])
        if len(values) != math.prod(shape):
            raise MalformedError(f"{len(values)} values do not fill the shape {list(shape)}")
        return cls(dtype, shape, values)

    def at(self, index: Sequence[int]) -> float:
        """One element."""
        if len(index) != len(self.shape) or not all(
            0 <= k < n for k, n in zip(index, self.shape, strict=True)
        ):
            raise MalformedError(f"index {list(index)} does not fit the shape {list(self.shape)}")
        flat = 0
        for k, n in zip(index, self.shape, strict=True):
            flat = flat * n + k
        return self.values[flat]

    def row(self, index: Sequence[int], axis: int) -> list[float]:
        """All elements along `axis` whose other coordinates are those of `index`."""
        return [self.at([*index[:axis], k, *index[axis + 1 :]]) for k in range(self.shape[axis])]


def read_number(value: object, *, upward: bool = True) -> Fraction | float:
    """A number of the JSON: exact where it is finite, a float where it is an infinity or NaN.

    Decimal exponents below -17000 become the nearest value at hand in the direction asked for.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise MalformedError(f"{value!r} is not a number")
    if not isinstance(value, str):
        return Fraction(value) if math.isfinite(value) else float(value)
    text = value.strip().lower()
    if re.fullmatch(r"[+-]?(nan|inf|infinity)", text):
        return float(text)
    if re.match(r"[+-]?0x", text):
        return Fraction(float.fromhex(text))
    match = re.fullmatch(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))(?:e([+-]?[0-9]+))?", text)
    if not match:
        raise MalformedError(f"{value!r} is not a number")
    mantissa, exponent = Fraction(match[1]), int(match[2] or 0)
    if mantissa and exponent < -17_000:
        return (TINY if upward else Fraction(0)) if mantissa > 0 else (Fraction(0) if upward else -TINY)
    if mantissa and exponent > 17_000:
        return math.copysign(math.inf, mantissa)
    return mantissa * Fraction(10) ** exponent if mantissa else mantissa


def read_ends(pair: object) -> Ends | None:
    """The ends of an interval in the JSON; None where there is none."""
    if pair is None:
        return None
    if not isinstance(pair, list) or len(pair) != 2:
        raise MalformedError(f"{pair!r} is not an interval")
    lo, hi = read_number(pair[0], upward=False), read_number(pair[1])
    if math.inf in (lo, -hi) or any(isinstance(v, float) and math.isnan(v) for v in (lo, hi)):
        return None  # an infinity or NaN alone: nothing finite is claimed
    return (None if lo == -math.inf else Fraction(lo), None if hi == math.inf else Fraction(hi))


@dataclass(frozen=True)
class Claim:
    """What a finding states of a reply of some dtype."""

    dtype: str
    observed: Fraction | float
    exact: Ends | None
    error: Ends | None

    @classmethod
    def read(cls, finding: Mapping[str, Any], dtype: str) -> Claim:
        """Claim of a JSON finding.

        Raises
        ------
        FalseError : the lower end of the error does not exceed the bound.
        """
        error, bound = finding.get("error_ulp"), finding.get("bound_ulp")
        if error is not None and bound is not None and not read_number(error[0]) > read_number(bound):
            raise FalseError(f"the lower error {error[0]} ulp does not exceed the bound {bound}")
        exact = read_ends(finding.get("exact"))
        return cls(dtype, read_number(finding["observed"]), exact, read_ends(error))

    def check_observed(self, actual: float) -> None:
        """Raise FalseError where the observed value stated is not `actual`, the reply's."""
        if not (
            self.observed == actual
            or (isinstance(self.observed, float) and math.isnan(self.observed) and math.isnan(actual))
        ):
            stated = self.observed if isinstance(self.observed, float) else in_digits(self.observed)
            raise FalseError(f"observed is stated as {stated}, the reply holds {actual!r}")

    def judge(self, value: Interval) -> tuple[Doubt, str]:
        """Whether the claim is true of a finite observation, and what was found."""
        held = value.inside(*self.exact) if self.exact else True
        if held is False:
            raise FalseError(f"the enclosure does not hold the exact value {in_digits(value.lo)}")
        ulp = ulp_at(value, self.dtype)
        if ulp is None:
            return None, "the exact value is too near to a power of two"
        distance = value.distance(Fraction(self.observed))
        error = Interval(distance.lo / ulp, distance.hi / ulp)
        known = error.inside(*self.error) if self.error else True
        if known is False:
            raise FalseError(f"the error is {in_digits(error.lo)} ulp, outside the interval stated")
        return (
            True if held and known else None
        ), f"exact {in_digits(value.lo)}, error {float(error.lo):.6g} ulp"


def _settle(value: Callable[[int], Interval], claim: Claim) -> str:
    """Judge at growing precision; returns what was found."""
    if isinstance(claim.observed, float):  # an infinity or NaN: no distance to speak of
        exact = value(DIGITS[0])
        if math.isinf(claim.observed) and max(abs(exact.lo), abs(exact.hi)) >= overflow_threshold(
            claim.dtype
        ):
            raise FalseError("the exact value does round to an infinity")
        if claim.exact and exact.inside(*claim.exact) is False:
            raise FalseError("the enclosure does not hold the exact value")
        return f"{claim.observed!r} where the exact value is {in_digits(exact.lo)}"
    said = ""
    for digits in DIGITS:
        verdict, said = claim.judge(value(digits))
        if verdict:
            return said
    raise UnknownError(f"undecided at {DIGITS[-1]} digits, {said}")


def _check_element(call: Mapping[str, Any], finding: Mapping[str, Any], reply: Tensor) -> str:
    op, params = str(call["op"]), call.get("params", {})
    operands = [Tensor.read(operand) for operand in call["operands"]]
    if len(operands) != OPERANDS[op]:
        raise MalformedError(f"op {op!r} does not take {len(operands)} operands")
    index = [int(k) for k in finding["index"]]
    actual = reply.at(index)
    claim = Claim.read(finding, reply.dtype)
    claim.check_observed(actual)
    axis = int(params.get("axis", -1)) % max(len(operands[0].shape), 1)
    whole = [*index[:axis], 0, *index[axis:]] if op == "logsumexp" else index
    rows = [operand.row(whole, axis) for operand in operands]
    special = special_element(op, rows, whole[axis])
    if special is not None:
        if actual == special or (math.isnan(actual) and math.isnan(special)):
            raise FalseError(f"the reply is {actual!r}, which is the right value")
        return f"{actual!r} where the rules ask for {special!r}"
    if claim.exact is None and claim.error is None:
        raise UnknownError(f"the finding states neither an enclosure nor an error of {finding['quantity']}")
    beta = read_number(params.get("beta", 1))
    if isinstance(beta, float):
        raise UnknownError("beta is not finite")
    return _settle(exact_element(op, rows, whole[axis], beta), claim)


def _check_sum(call: Mapping[str, Any], finding: Mapping[str, Any], reply: Tensor) -> str:
    """The exact sum of the outputs of one row against 1, in ulps of 1."""
    axis = int(call.get("params", {}).get("axis", -1)) % len(reply.shape)
    index = [int(k) for k in finding["index"]]
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
        raise FalseError(f"observed is stated as {finding['observed']}, the sum is {in_digits(total)}")
    return f"the sum is {in_digits(total)}, {float(error):.6g} ulps of 1 away from 1"


def check_witness(witness: Mapping[str, Any]) -> str:
    """Recompute one witness; returns what was found.

    Raises
    ------
    FalseError : the certificate is wrong. UnknownError : it is of a kind not recomputed here.
    MalformedError : it is not a witness.
    """
    try:
        finding = witness["finding"]
        quantity = str(finding["quantity"])
        call = witness["trial"]["calls"][int(finding["call"])]
        record = witness["replies"][int(finding["call"])]
        if "failure" in record:
            raise UnknownError(f"the call failed ({record['failure']})")
        op = str(call["op"])
        element = op in OPERANDS and re.fullmatch(rf"{op}(\([^()]*\)(\[[^][]*\])?)?", quantity)
        if not element and not (quantity == SUM and op == "softmax"):
            raise UnknownError(f"the quantity {quantity!r} of {op} is not one that this program knows")
        if finding.get("index") is None:
            raise UnknownError("the finding names no element")
        check = _check_element if element else _check_sum
        return check(call, finding, Tensor.read(record))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"not a witness: {type(error).__name__}: {error}") from error


def witnesses(document: object) -> Iterator[Mapping[str, Any]]:
    """All witnesses of a JSON document, a witness or a run."""
    if isinstance(document, dict) and document.get("kind") == "witness":
        yield document
    elif isinstance(document, dict) and isinstance(document.get("verdicts"), list):
        for verdict in document["verdicts"]:
            if isinstance(verdict, dict) and isinstance(verdict.get("witness"), dict):
                yield verdict["witness"]
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
