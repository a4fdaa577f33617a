"""What a witness file says: its tensors, calls and replies, and the claim of its finding."""

from __future__ import annotations

import math
import re
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from exact_rows import FORMATS, TINY, Doubt, Interval, UnknownError, in_digits, ulp_at

Ends = tuple[Fraction | None, Fraction | None]  # None: no end on that side


class MalformedError(Exception):
    """The file is not a witness or a run; the message is one sentence."""


class FalseError(Exception):
    """The certificate is wrong; the message says in what."""


@dataclass(frozen=True)
class Tensor:
    """Numbers of one dtype, in C order, each in a float that holds it exactly.

    Attributes
    ----------
    nan_bits : bits of the NaNs that are not the format's default, by position in C order.
    """

    dtype: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    nan_bits: Mapping[str, str]

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Tensor:
        """Tensor of a JSON record with dtype, shape and hexadecimal values."""
        dtype, shape = str(record["dtype"]), tuple(int(n) for n in record["shape"])
        if dtype not in FORMATS:
            raise UnknownError(f"dtype {dtype} is not one of {', '.join(FORMATS)}")
        values = tuple(float.fromhex(v) for v in record["hex"])
        if len(values) != math.prod(shape):
            raise MalformedError(f"{len(values)} values do not fill the shape {list(shape)}")
        return cls(dtype, shape, values, record.get("nan_bits", {}))

    def place(self, index: Sequence[int]) -> int:
        """Position of an element in C order."""
        if len(index) != len(self.shape) or not all(
            0 <= k < n for k, n in zip(index, self.shape, strict=True)
        ):
            raise MalformedError(f"index {list(index)} does not fit the shape {list(self.shape)}")
        flat = 0
        for k, n in zip(index, self.shape, strict=True):
            flat = flat * n + k
        return flat

    def at(self, index: Sequence[int]) -> float:
        """One element."""
        return self.values[self.place(index)]

    def bits(self, place: int) -> tuple[bytes, str]:
        """What tells an element in C order from every other bit pattern."""
        return struct.pack(">d", self.values[place]), self.nan_bits.get(str(place), "")

    def same(self, other: Tensor) -> bool:
        """Whether two tensors are equal bit for bit."""
        alike = (self.dtype, self.shape) == (other.dtype, other.shape)
        return alike and all(self.bits(k) == other.bits(k) for k in range(len(self.values)))

    def row(self, index: Sequence[int], axis: int) -> list[float]:
        """All elements along `axis` whose other coordinates are those of `index`."""
        return [self.at([*index[:axis], k, *index[axis + 1 :]]) for k in range(self.shape[axis])]

    def matrix(self) -> list[list[Fraction]]:
        """The rows of a two-dimensional tensor of finite numbers."""
        if len(self.shape) != 2 or not all(math.isfinite(v) for v in self.values):
            raise UnknownError("the entries are not a matrix of finite numbers")
        return [[Fraction(v) for v in self.row([i, 0], 1)] for i in range(self.shape[0])]


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


def _pair(pair: object) -> tuple[Fraction | float, Fraction | float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise MalformedError(f"{pair!r} is not an interval")
    return read_number(pair[0], upward=False), read_number(pair[1])


def read_ends(pair: object) -> Ends | None:
    """The ends of an enclosure in the JSON; None where there is none."""
    if pair is None:
        return None
    lo, hi = _pair(pair)
    if math.inf in (lo, -hi) or any(isinstance(v, float) and math.isnan(v) for v in (lo, hi)):
        return None  # an infinity or NaN alone: nothing finite is claimed
    return (None if lo == -math.inf else Fraction(lo), None if hi == math.inf else Fraction(hi))


def read_error(pair: object) -> Ends | None:
    """The ends of an error in ulps; an infinite lower end claims more ulps than binary64 counts."""
    if pair is None:
        return None
    lo, hi = _pair(pair)
    if any(isinstance(v, float) and math.isnan(v) for v in (lo, hi)):
        raise MalformedError(f"{pair!r} is not an error")
    least = Fraction(sys.float_info.max) if lo == math.inf else None if lo == -math.inf else Fraction(lo)
    return least, None if isinstance(hi, float) else hi


def show(value: Fraction | float) -> str:
    """A number as the lines of the program give it."""
    return repr(value) if isinstance(value, float) else in_digits(value)


@dataclass(frozen=True)
class Claim:
    """What a finding states in numbers of a reply of some dtype.

    Attributes
    ----------
    unbounded : the bound is more ulps than binary64 counts, and nothing can be compared with it.
    """

    dtype: str
    observed: Fraction | float
    exact: Ends | None
    error: Ends | None
    unbounded: bool = False

    @classmethod
    def read(cls, finding: Mapping[str, Any], dtype: str) -> Claim:
        """Claim of a JSON finding."""
        error = check_bound(finding)
        unbounded = finding.get("bound_ulp") is not None and read_number(finding["bound_ulp"]) == math.inf
        return cls(dtype, read_number(finding["observed"]), read_ends(finding.get("exact")), error, unbounded)

    def check_observed(self, actual: float) -> None:
        """Raise FalseError where the observed value stated is not `actual`, the reply's."""
        if not (
            self.observed == actual
            or (isinstance(self.observed, float) and math.isnan(self.observed) and math.isnan(actual))
        ):
            raise FalseError(f"observed is stated as {show(self.observed)}, the reply holds {actual!r}")

    def judge(self, value: Interval) -> tuple[Doubt, str]:
        """Whether the claim is true of a finite observation, and what was found."""
        held = value.inside(*self.exact) if self.exact else True
        if held is False:
            raise FalseError(f"the enclosure does not hold the exact value {in_digits(value.lo)}")
        ulp = ulp_at(value, self.dtype)
        if ulp is None:
            return None, "the exact value is too near to a power of two"
        distance = value.distance(Fraction(self.observed))
        if not distance.hi:
            raise FalseError(f"the reply is the exact value {in_digits(value.lo)}")
        error = Interval(distance.lo / ulp, distance.hi / ulp)
        known = error.inside(*self.error) if self.error else (True if distance.lo else None)
        if known is False:
            raise FalseError(f"the error is {in_digits(error.lo)} ulp, outside the interval stated")
        decided = True if held and known else None
        return decided, f"exact {in_digits(value.lo)}, error {in_digits(error.lo)} ulp"


def check_bound(finding: Mapping[str, Any]) -> Ends | None:
    """The error that a finding states, its lower end compared with the bound.

    Raises
    ------
    FalseError : the lower end does not exceed a bound that binary64 can count.
    """
    pair, bound = finding.get("error_ulp"), finding.get("bound_ulp")
    error = read_error(pair)
    if pair is not None and bound is not None:
        limit = read_number(bound)
        if limit != math.inf and not read_number(pair[0]) > limit:
            raise FalseError(f"the lower error {pair[0]} ulp does not exceed the bound {bound}")
    return error


@dataclass(frozen=True)
class Record:
    """A witness: which clause, the calls made, the replies, and what the finding says of them."""

    clause: str
    calls: Sequence[Mapping[str, Any]]
    replies: Sequence[Mapping[str, Any]]
    relation: Mapping[str, Any]
    family: str
    finding: Mapping[str, Any]

    @classmethod
    def read(cls, witness: Mapping[str, Any]) -> Record:
        """Record of a JSON witness."""
        trial, finding = witness["trial"], witness["finding"]
        record = cls(
            clause=str(witness["clause"]),
            calls=trial["calls"],
            replies=witness["replies"],
            relation=trial.get("relation", {}),
            family=str(trial.get("family", "")),
            finding=finding,
        )
        if not 0 <= record.position < min(len(record.calls), len(record.replies)):
            raise MalformedError(f"there is no call {record.position}")
        return record

    @property
    def position(self) -> int:
        """The call that the finding speaks of."""
        return int(self.finding["call"])

    @property
    def index(self) -> tuple[int, ...]:
        """The element that the finding speaks of."""
        if self.finding.get("index") is None:
            raise UnknownError("the finding names no element")
        return tuple(int(k) for k in self.finding["index"])

    @property
    def result(self) -> int:
        """Which result of the call, where it has several."""
        return int(self.finding.get("result", 0))

    @property
    def bare(self) -> bool:
        """Whether the finding states neither an enclosure nor an error."""
        return self.finding.get("exact") is None and self.finding.get("error_ulp") is None

    def op(self, call: int) -> str:
        """The op of a call."""
        return str(self.calls[call]["op"])

    def operands(self, call: int) -> list[Tensor]:
        """The operands of a call."""
        return [Tensor.read(operand) for operand in self.calls[call]["operands"]]

    def reply(self, call: int) -> Tensor:
        """What the subject answered to a call."""
        if "failure" in self.replies[call]:
            raise UnknownError(f"the call failed ({self.replies[call]['failure']})")
        several = [self.replies[call], *self.replies[call].get("others", [])]
        return Tensor.read(several[self.result])

    def axis(self, call: int) -> int:
        """The reduced axis of a call, counted from the front."""
        shape = self.calls[call]["operands"][0]["shape"]
        return int(self.calls[call].get("params", {}).get("axis", -1)) % max(len(shape), 1)

    def beta(self, call: int) -> Fraction:
        """The inverse temperature of a call."""
        beta = read_number(self.calls[call].get("params", {}).get("beta", 1))
        if isinstance(beta, float):
            raise UnknownError("beta is not finite")
        return beta

    def whole(self, call: int, index: Sequence[int]) -> list[int]:
        """The index of a reply's element in an operand: for logsumexp, of the first of its row."""
        axis = self.axis(call)
        return [*index[:axis], 0, *index[axis:]] if self.op(call) == "logsumexp" else list(index)

    def rows(self, call: int, index: Sequence[int]) -> tuple[list[list[float]], int]:
        """The operands' rows that an element of the reply comes from, and its place in them."""
        whole, axis = self.whole(call, index), self.axis(call)
        return [operand.row(whole, axis) for operand in self.operands(call)], whole[axis]

    def observed(self) -> float:
        """The reply's element that the finding speaks of, compared with what the finding states."""
        actual = self.reply(self.position).at(self.index)
        Claim("", read_number(self.finding["observed"]), None, None).check_observed(actual)
        return actual
