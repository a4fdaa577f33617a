"""How reports write numbers and names: certified ends rounded outwards, nothing that hides in a text."""

from __future__ import annotations

import math
import re
import shlex
import unicodedata
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from softcert.reports.speed import Growth
    from softcert.reports.summary import Bias

#: Symbol and word of each status: never told by colour alone.
SYMBOLS: Mapping[str, str] = {
    "fail": "✗",
    "error": "⚡",
    "vacuous": "∅",
    "xfail": "⊘",
    "skip": "–",
    "pass": "✓",
}
GRADES: Mapping[str, str] = {
    "A": "correctly rounded on everything tried: within half an ulp, ties to even",
    "B": "faithful: every error below one ulp",
    "C": "within the bound that the contract allows",
    "F": "outside the bound of the contract",
}
ULP = (
    "An ulp is the spacing of the numbers of the result's own format at the exact value: at a power of "
    "two the spacing above it, among subnormals the smallest subnormal, beyond the largest number that of "
    "the top binade. Where the terms of a sum cancel, as in attention, its gradients and an lse near 0, the "
    "exact value and with it the ulp may be as small as one likes: there error / bound says what a kernel is "
    "worth, and thousands of ulps say nothing."
)
RESTS_ON = (
    "Every error is the distance to an enclosure of the exact value that is proven and cross-checked by a "
    "second, independent oracle, so an error is itself an interval. A clause fails only when the lower end "
    "of that interval exceeds the bound. The figures are the largest errors seen on the inputs tried: they "
    "prove that an error of that size occurs, and never that no larger one exists."
)

RIVALS = (
    "Implementations with one planted fault each, many after public bug reports, were shown to the rules by "
    "which kernels are commonly accepted, on the data on which they are commonly tested. A rule that lets a "
    "fault through need not be wrong: the fault may not show on that data. That is why agreement with "
    "another library within a tolerance is no evidence here."
)


def printable(text: object) -> str:
    """Return text with control, format and surrogate characters shown by their codes."""
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"} else c
        for c in str(text)
    )


def number(value: float, digits: int = 4, rounding: str = ROUND_HALF_EVEN, *, padded: bool = False) -> str:
    """Return a number in `digits` significant digits, rounded as asked, zeros at its end dropped."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    rounded = Context(prec=digits, rounding=rounding).create_decimal(Decimal(value))
    if rounded == 0:
        return "0"
    text = f"{rounded:f}" if -5 < rounded.adjusted() < 7 else f"{rounded:e}"
    mantissa, e, exponent = text.partition("e")
    if "." in mantissa and not padded:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return f"{mantissa}{e}{exponent.removeprefix('+')}"


def interval(ends: tuple[float, float], digits: int = 5) -> str:
    """Return a certified interval, its lower end rounded down and its upper end up."""
    lower, upper = (number(ends[0], digits, ROUND_FLOOR), number(ends[1], digits, ROUND_CEILING))
    if lower == upper:
        return lower
    # Ends that differ keep their last zeros, so that they can be compared digit by digit.
    padded = (
        number(ends[0], digits, ROUND_FLOOR, padded=True),
        number(ends[1], digits, ROUND_CEILING, padded=True),
    )
    return f"[{padded[0]}, {padded[1]}]"


def above(value: float, digits: int = 4) -> str:
    """Return a number rounded up, for upper ends."""
    return number(value, digits, ROUND_CEILING)


def bias(value: Bias) -> str:
    """Return a mean signed error in ulps with its distance from zero in standard errors."""
    return f"{_signed(value.mean)} (z {_signed(value.z)})"


def _signed(value: float) -> str:
    text = number(value, 2)
    return text if value <= 0 or math.isnan(value) else f"+{text}"


def short_hexadecimal(text: str) -> str:
    """Drop the zeros that end a hexadecimal fraction: 0x1.8000000000000p+1 is 0x1.8p+1."""
    return re.sub(r"\.?0*p", "p", text) if "." in text else text


def count(value: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: "1 clause", "1,200 clauses"."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def seconds(value: float) -> str:
    """Return a duration in the unit that fits it."""
    for limit, factor, unit in ((1e-6, 1e9, "ns"), (1e-3, 1e6, "µs"), (1.0, 1e3, "ms")):
        if value < limit:
            return f"{number(value * factor, 3)} {unit}"
    return f"{number(value, 3)} s"


def described_growth(growth: Growth) -> str:
    """Return how the time of an op grows: "softmax float32, 64 rows: time grows as n^1.02 ..."."""
    found = growth.interval
    within = f" [{number(found.low, 3)}, {number(found.high, 3)}]" if found else ""
    lengths = f"{growth.lengths[0]} to {growth.lengths[-1]}"
    where = f"{growth.op} {growth.dtype}, {growth.fixed}"
    return f"{where}: time grows as {growth.what}^{number(growth.exponent, 3)}{within}, {lengths}"


def command_line(subject: str, request: Mapping[str, object], every_clause: Iterable[str] = ()) -> str:
    """Return the command that repeats a run; asking for every clause there is needs no option."""
    words = ["softcert", "check", subject]
    clauses = request.get("clauses")
    if isinstance(clauses, (list, tuple)) and set(every_clause) <= set(clauses):
        request = {**request, "clauses": []}
    for option, key in (("--op", "ops"), ("--dtype", "dtypes"), ("--clause", "clauses")):
        values = request.get(key)
        for value in values if isinstance(values, (list, tuple)) else ():
            words += [option, str(value)]
    for option, key in (("--profile", "profile"), ("--seed", "seed")):
        if key in request:
            words += [option, str(request[key])]
    return printable(shlex.join(words))
