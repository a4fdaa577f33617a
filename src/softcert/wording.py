"""Verdicts in words: what the command line prints and a failing test says."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softcert.conformance.model import Run, Witness

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
    place = "" if finding.index is None else f" at index {list(finding.index)}"
    lines.append(f"got    {finding.observed}{place}")
    if finding.exact is not None:
        lines.append(f"exact  {finding.quantity} in [{finding.exact[0]}, {finding.exact[1]}]")
    return lines


def _operand_names(op: str) -> tuple[str, ...]:
    from softcert.backends.types import OPERANDS

    return OPERANDS[op]


def hexadecimal(array: object) -> str:
    """Return the first numbers of an array as hexadecimal floats, the others counted."""
    import numpy as np

    numbers = np.asarray(array).reshape(-1)
    shown = [float(number).hex() for number in numbers[:SHOWN]]
    more = f", ... {numbers.size - SHOWN} more" if numbers.size > SHOWN else ""
    return f"[{', '.join(shown)}{more}]"


def conclusion(run: Run) -> str:
    """Return the line that a reader needs if they read only one."""
    count: Counter[str] = Counter(v.status for v in run.verdicts)
    cases = sum(v.cases for v in run.verdicts)
    tried = f"{len(run.verdicts)} verdicts on {cases} cases in {run.seconds:.1f} s"
    others = [f"{count[status]} {word}" for status, word in _OTHER_STATUSES.items() if count[status]]
    rest = f" ({', '.join(others)})" if others else ""
    if not run.broken:
        return f"{run.name} conforms: no clause broken, {tried}{rest}."
    clauses = sorted({v.clause for v in run.broken})
    return (
        f"{run.name} does not conform: {len(clauses)} clauses broken ({', '.join(clauses)}), {tried}{rest}."
    )
