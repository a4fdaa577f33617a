"""Verdicts in words: what the command line prints and a failing test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softcert.conformance.model import Run, Verdict, Witness

#: How many numbers of an array are shown before the rest is only counted.
SHOWN = 8

_OTHER_STATUSES = {"vacuous": "vacuous", "xfail": "expected failures", "skip": "skipped"}


def describe_witness(witness: Witness) -> list[str]:
    """Return the lines that show a witness: inputs in hexadecimal, what came back, what is exact."""
    lines = []
    for number, call in enumerate(witness.trial.calls):
        keywords = "".join(f" {name}={value}" for name, value in call.params.items())
        layout = "" if call.layout == "contiguous" else f" layout={call.layout}"
        label = f"call {number}: " if len(witness.trial.calls) > 1 else ""
        lines.append(f"{label}{call.op}{keywords}{layout}")
        for name, operand in zip(_operand_names(call.op), call.operands, strict=False):
            lines.append(f"    {name} = {hexadecimal(operand)}  shape {tuple(operand.shape)}")
    finding = witness.finding
    place = f" at index {list(finding.index)}" if finding.index else ""
    lines.append(f"got    {finding.observed}{place}")
    if finding.exact is not None:
        lower, upper = finding.exact
        lines.append(
            f"exact  {finding.quantity} " + (f"= {lower}" if lower == upper else f"in [{lower}, {upper}]")
        )
    return lines


def _operand_names(op: str) -> tuple[str, ...]:
    from softcert.backends.types import OPERANDS

    return OPERANDS[op]


def hexadecimal(array: object) -> str:
    """Return the first numbers of an array as hexadecimal floats, the others counted."""
    import numpy as np

    numbers = np.asarray(array).reshape(-1)
    shown = [_short_hexadecimal(float(number)) for number in numbers[:SHOWN]]
    more = f", ... {numbers.size - SHOWN} more" if numbers.size > SHOWN else ""
    return f"[{', '.join(shown)}{more}]"


def _short_hexadecimal(number: float) -> str:
    """0x1.8p+1 rather than 0x1.8000000000000p+1, the same number."""
    mantissa, mark, exponent = number.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}{mark}{exponent}" if "." in mantissa else number.hex()


def witness_size(verdict: Verdict) -> int:
    """Number of input elements of a verdict's witness; 0 where it has none."""
    if verdict.witness is None:
        return 0
    return sum(operand.size for call in verdict.witness.trial.calls for operand in call.operands)


def conclusion(run: Run) -> str:
    """Return the line that a reader needs if they read only one."""
    count: Counter[str] = Counter(v.status for v in run.verdicts)
    cases = sum(v.cases for v in run.verdicts)
    tried = f"{len(run.verdicts)} verdicts on {cases} cases in {run.seconds:.1f} s"
    others = [f"{count[status]} {word}" for status, word in _OTHER_STATUSES.items() if count[status]]
    rest = f" ({', '.join(others)})" if others else ""
    if not run.broken:
        return f"{run.name} conforms: no clause broken, {tried}{rest}."
    clauses = dict.fromkeys(v.clause for v in run.broken)
    number = f"{len(clauses)} clause{'s' if len(clauses) > 1 else ''}"
    return f"{run.name} does not conform: {number} broken ({listed(clauses)}), {tried}{rest}."


def listed(names: Iterable[str]) -> str:
    """Return the first names, the others counted."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
