"""A run as JUnit XML, the form in which continuous integration shows test results."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import junitparser

from softcert.conformance.model import STATUSES
from softcert.conformance.wire.arrays import FLOATS, array_to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softcert.backends.types import Array
    from softcert.conformance.model import Run, Verdict, Witness

_SHOWN = 64
#: What XML 1.0 cannot hold, not even escaped (production 2, Char).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def run_to_junit(run: Run) -> str:
    """Return one run as JUnit XML text: see `runs_to_junit`."""
    return runs_to_junit([run])


def runs_to_junit(runs: Sequence[Run]) -> str:
    """Return runs as JUnit XML text.

    Each run is a test suite, each verdict a test case named by its clause, in the class `op.dtype`.
    `fail` is a failure and `error` an error, with the finding and the witness in hexadecimal as text;
    `skip`, `vacuous` and `xfail` are skipped, with the reason.
    """
    document: Any = junitparser.JUnitXml("softcert")  # the library types only some of its methods
    for run in runs:
        document.add_testsuite(_suite(run))
    document.update_statistics()
    text: str = document.tostring().decode("utf-8")
    return text if text.endswith("\n") else f"{text}\n"


def _suite(run: Run) -> Any:
    suite: Any = junitparser.TestSuite(_text(run.name))
    suite.timestamp = _text(str(run.environment.get("date", "")))
    for name in ("profile", "seed"):
        suite.add_property(name, _text(str(run.request.get(name, ""))))
    suite.add_property("subject", _text(run.subject))
    suite.add_testcases([_case(verdict) for verdict in run.verdicts])
    suite.update_statistics()
    return suite


def _case(verdict: Verdict) -> junitparser.TestCase:
    case = junitparser.TestCase(
        _text(verdict.clause),
        classname=_text(f"{verdict.op}.{verdict.dtype}"),
        time=round(verdict.seconds, 6),
    )
    message = _text(verdict.message or STATUSES[verdict.status])
    if verdict.status == "fail":
        case.result = [_with_text(junitparser.Failure(message, "fail"), verdict)]
    elif verdict.status == "error":
        case.result = [_with_text(junitparser.Error(message, "error"), verdict)]
    elif verdict.status != "pass":
        case.result = [junitparser.Skipped(f"{verdict.status}: {message}", verdict.status)]
    passed = sorted(name for name, outcome in verdict.controls.items() if outcome == "passed")
    if passed:
        case.system_out = _text(
            f"controls that this verdict did not tell from the truth: {', '.join(passed)}"
        )
    return case


def _with_text(
    result: junitparser.Failure | junitparser.Error, verdict: Verdict
) -> junitparser.Failure | junitparser.Error:
    lines = [verdict.message] if verdict.witness is None else _witness_lines(verdict.witness)
    result.text = _text("\n".join(lines))
    return result


def _witness_lines(witness: Witness) -> list[str]:
    finding = witness.finding
    lines = [finding.message, f"subject: {witness.subject}, seed {witness.seed}"]
    for number, call in enumerate(witness.trial.calls):
        keywords = "".join(f" {name}={value}" for name, value in call.params.items())
        lines.append(f"call {number}: {call.op}{keywords} layout={call.layout} repeat={call.repeat}")
        lines += [f"  operand: {_hexadecimal(operand)}" for operand in call.operands]
    place = "" if finding.index is None else f" at {list(finding.index)}"
    lines.append(f"observed{place} of call {finding.call}: {finding.observed}")
    if finding.exact is not None:
        lines.append(f"exact {finding.quantity} in [{finding.exact[0]}, {finding.exact[1]}]")
    if finding.error_ulp is not None:
        lines.append(f"certified error in [{finding.error_ulp[0]:g}, {finding.error_ulp[1]:g}] ulp")
    if finding.bound_ulp is not None:
        lines.append(f"bound {finding.bound_ulp:g} ulp")
    return lines


def _hexadecimal(array: Array) -> str:
    head = array.reshape(-1)[:_SHOWN]
    document = array_to_json(head) if array.dtype.name in FLOATS else {"hex": map(str, head.tolist())}
    more = f" ... {array.size - _SHOWN} more" if array.size > _SHOWN else ""
    return f"{array.dtype.name} {list(array.shape)}: {' '.join(document['hex'])}{more}"


def _text(text: str) -> str:
    """Return text that XML can hold; what it cannot is shown by its code."""
    return _NOT_XML.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
