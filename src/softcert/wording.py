"""Verdicts in words: what the command line prints and a failing test says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softcert.conformance.model import Run, Verdict, Witness

#: How many numbers of an array are shown before the rest is only counted.
SHOWN = 8

#: Statuses that are neither passed nor broken, in words for one and for several.
_OTHER_STATUSES = {
    "vacuous": ("vacuous", "vacuous"),
    "xfail": ("expected failure", "expected failures"),
    "skip": ("skipped", "skipped"),
}


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
    from softcert.backends.ops import OPERANDS

    return OPERANDS[op]


def hexadecimal(array: object) -> str:
    """Return the first numbers of an array, floats in hexadecimal, and how many more there are."""
    import numpy as np

    numbers = np.asarray(array).reshape(-1)
    integers = numbers.dtype.kind in "iu"
    shown = [str(number) if integers else _short_hexadecimal(float(number)) for number in numbers[:SHOWN]]
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
    return f"{run.name}{_ending(run)}, {_effort(run)}."


def _ending(run: Run) -> str:
    """Return what a run comes to, as the words that follow the subject's name."""
    from softcert.conformance.outcome import describe_nothing, describe_stop, is_stopped, outcome

    state = outcome(run)
    clauses = list(dict.fromkeys(v.clause for v in run.broken))
    broken = f"{counted(len(clauses), 'clause')} broken"
    if state == "broken" and is_stopped(run):
        return f" does not conform: {describe_stop(run)}; {broken} so far ({listed(clauses)})"
    if state == "broken":
        return f" does not conform: {broken} ({listed(clauses)})"
    return {
        "stopped": f": {describe_stop(run)}; no clause broken so far",
        "nothing": f": {describe_nothing(run)}",
        "conforms": " conforms: no clause broken",
    }[state]


def _effort(run: Run) -> str:
    """Return what a run tried, and which verdicts are neither passed nor broken."""
    from softcert.conformance.outcome import is_stopped

    count: Counter[str] = Counter(v.status for v in run.verdicts)
    cases = counted(sum(v.cases for v in run.verdicts), "case")
    others = [f"{count[status]} {words[count[status] > 1]}"
              for status, words in _OTHER_STATUSES.items() if count[status]]  # fmt: skip
    notes = [*_shares(run), *others]
    rest = f" ({', '.join(notes)})" if notes else ""
    # The ending of a stopped run has counted its verdicts already.
    verdicts = "" if is_stopped(run) else f"{counted(len(run.verdicts), 'verdict')} on "
    return f"{verdicts}{cases} in {run.seconds:.1f} s{rest}"


def _shares(run: Run) -> list[str]:
    """Return whose the work was, where any is known: what all processes together did."""
    whole = sum(v.seconds for v in run.verdicts)
    parts = {
        "oracle": sum(v.oracle_seconds for v in run.verdicts),
        "subject": sum(v.subject_seconds for v in run.verdicts),
    }
    return [f"{name} {spent / whole:.0%}" for name, spent in parts.items() if spent]


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 verdict", "23 verdicts"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str]) -> str:
    """Return the first names, the others counted."""
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more
