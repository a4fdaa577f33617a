"""From what is known of rows to a verdict: the worst places measured exactly, and shown by witnesses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from softcert import reference
from softcert.backends.ops import REDUCING_OPS
from softcert.backends.types import Array, Call, Output, as_dtype
from softcert.conformance.examination.breakdown import WITHIN
from softcert.conformance.judging.compare import certified_errors, hex_of
from softcert.conformance.judging.judge import judge_values, quantity
from softcert.conformance.model import BROKEN, Finding, Status, Trial, Verdict, Witness
from softcert.conformance.proofs.domains import Domain
from softcert.conformance.proofs.judging import Bench
from softcert.conformance.proofs.part import Breach, Part, Peak
from softcert.conformance.proofs.subjects import CLAUSE, Subject
from softcert.conformance.proofs.tally import UNIT
from softcert.conformance.wire.runs import witness_from_json, witness_to_json

#: Rows of the calls that may show a breach again, fewest first: what errs in a vector may not err alone.
_WITNESSED = (1, 64, 4096, 65536)


def refined(subject: Subject, bench: Bench, part: Part) -> Part:
    """The part with its largest error measured exactly, and witnesses of what breaks the contract."""
    largest, breach, failure = part.largest, part.breach, part.failure
    if largest is not None:
        x, value = bench.domain.row(largest.row, bench.dtype), answer_of(bench.op, bench.dtype, largest)
        low, high = _exact_error(bench.op, x, value, largest.column)
        # Another row may err by more than this one does, but by no more than `value`.
        largest = replace(largest, error=(low, max(high, largest.value)))
    if breach is not None and not breach.witness:
        breach = _witnessed_breach(subject, bench, breach)
    if failure is not None and not failure.witness:
        failure = _witnessed_failure(subject, bench, failure)
    return replace(part, largest=largest, breach=breach, failure=failure)


def answer_of(op: str, dtype: str, peak: Peak) -> Array:
    """The subject's answer to the row of a peak, as it came."""
    value = np.array([peak.answer]).astype(as_dtype(dtype))
    return value[:, 0] if op in REDUCING_OPS else value


def _exact_error(op: str, x: Array, value: Array, column: int) -> tuple[float, float]:
    truth = getattr(reference, op)(x, method="arb")
    with np.errstate(all="ignore"):
        ends = certified_errors(truth, value, np.full(value.shape, np.inf))
    low, high = (float(end.reshape(-1)[column]) for end in ends)
    return low, high


def _witnessed_breach(subject: Subject, bench: Bench, breach: Breach) -> Breach:
    """Ask again for the row, alone and among ever more of its neighbours, until it breaks the contract."""
    for rows in _WITNESSED:
        first = breach.row // rows * rows
        x = bench.domain.rows(first, min(first + rows, bench.size), bench.dtype)
        reply, wrong = subject.asked(bench, x)
        if wrong is not None or not isinstance(reply, Output):
            continue
        trial = bench.trial(x)
        with np.errstate(all="ignore"):
            finding = judge_values(trial, reply.values, bench.context).finding
        if finding is not None:
            witness = _witness(subject.name, bench.op, bench.dtype, trial, reply, finding)
            return replace(breach, rows=len(x), message=finding.message, witness=witness)
    return replace(breach, message=f"{breach.message} (and not when asked again)")


def _witnessed_failure(subject: Subject, bench: Bench, failure: Breach) -> Breach:
    first, last = subject.failing(bench, failure.row, failure.row + failure.rows)
    x = bench.domain.rows(first, last, bench.dtype)
    reply, wrong = subject.asked(bench, x)
    if wrong is None:
        return replace(failure, message=f"{failure.message} (and not when asked again)")
    witness = _witness(subject.name, bench.op, bench.dtype, bench.trial(x), reply, wrong)
    return replace(failure, row=first, rows=last - first, message=wrong.message, witness=witness)


def _witness(
    subject: str, op: str, dtype: str, trial: Trial, reply: Any, finding: Finding
) -> Mapping[str, Any]:
    return witness_to_json(Witness(CLAUSE, op, dtype, subject, trial, (reply,), finding))


# --- the verdict ---------------------------------------------------------------------------------------


def verdict_of(domain: Domain, op: str, dtype: str, subject: str, part: Part) -> Verdict:
    """The verdict on a domain, or on the rows of it that are known.

    Parameters
    ----------
    subject : what witnesses call it.
    """
    size = domain.size(dtype)
    status, message = _conclusion(part, size)
    shown = part.breach or part.failure
    largest = part.largest.error if part.largest else (0.0, 0.0)
    return Verdict(
        clause=CLAUSE,
        op=op,
        dtype=dtype,
        status=status,
        cases=part.cases,
        elements=part.elements,
        error_max=largest,
        error_mean=part.error_sum / UNIT / part.compared if part.compared else 0.0,
        bound_ulp=part.closest.bound if part.closest else 0.0,
        margin=_margin(part),
        grade=_grade(status, largest[1]) if part.compared or status in BROKEN else "",
        message=message,
        witness=witness_from_json(dict(shown.witness)) if shown and shown.witness else None,
        controls={name: "caught" if hit else "passed" for name, hit in part.controls.items()},
        statistics=_statistics(domain, op, dtype, subject, part),
        seconds=part.oracle_seconds + part.subject_seconds,
        oracle_seconds=part.oracle_seconds,
        subject_seconds=part.subject_seconds,
        exhaustive=f"{domain.words(dtype)}: {size:,} rows" if part.cases == size else "",
    )


def _margin(part: Part) -> float:
    known = [peak.value for peak in (part.closest, part.breach) if peak is not None]
    return max(known, default=0.0)


def _grade(status: Status, largest: float) -> str:
    if status in {"fail", "error"}:
        return "F"
    if status != "pass":
        return ""
    return "A" if largest <= 0.5 else "B" if largest < 1.0 else "C"


def _conclusion(part: Part, size: int) -> tuple[Status, str]:
    if part.breach is not None:
        return "fail", part.breach.message
    if part.failure is not None:
        return "error", part.failure.message
    if not part.cases:
        return "skip", "no row was examined"
    if part.telling[1] and not part.telling[0]:
        return "vacuous", "the bound accepts every value in every row of the sample"
    passed = [name for name, hit in part.controls.items() if not hit]
    if passed and len(passed) == len(part.controls):
        return "vacuous", "no control was caught: the clause could not have failed here"
    notes = [] if part.cases == size else [f"{part.cases:,} of {size:,} rows"]
    notes += [f"controls that pass here too: {', '.join(passed)}"] if passed else []
    return "pass", "; ".join(notes)


def _statistics(domain: Domain, op: str, dtype: str, subject: str, part: Part) -> dict[str, Any]:
    """What plots are drawn from, and under "proof" what a proof alone can tell."""
    figures: dict[str, Any] = {
        "proof": {
            "domain": domain.name,
            "ranges": [list(ends) for ends in part.ranges],
            "bias_ulp": part.signed_sum / UNIT / part.compared if part.compared else 0.0,
            "settled_by_exact_oracle": part.settled,
            "audited": part.audited,
        }
    }
    if part.largest is not None:
        figures["proof"]["largest_at"] = _place(domain, op, dtype, part.largest)
        figures["proof"]["witness"] = _witness_of(domain, op, dtype, subject, part.largest)
        figures["by_length"] = [
            {
                "n": domain.classes,
                "error_ulp": part.largest.value,
                "bound_ulp": part.closest.bound if part.closest else 0.0,
                "margin": _margin(part),
                "family": domain.name,
            }
        ]
    if part.closest is not None:
        figures["proof"]["closest_at"] = _place(domain, op, dtype, part.closest)
    if part.compared:
        counts = np.cumsum(part.within[:-1]).tolist()
        figures["within"] = {"ulps": list(WITHIN), "counts": counts, "of": part.compared}
    return figures


def _place(domain: Domain, op: str, dtype: str, peak: Peak) -> dict[str, Any]:
    with np.errstate(invalid="ignore"):
        logits = domain.row(peak.row, dtype).astype(np.float64)[0]
    return {
        "row": peak.row,
        "logits": [float(v).hex() for v in logits],
        "result": f"{op}(x)[{peak.column}]" if op not in REDUCING_OPS else f"{op}(x)",
        "answer": float(peak.answer[peak.column]).hex(),
        "error_ulp": list(peak.error),
    }


def _witness_of(domain: Domain, op: str, dtype: str, subject: str, peak: Peak) -> Mapping[str, Any]:
    """The case of the largest error, which breaks nothing, in the form that `softcert replay` takes."""
    x, value = domain.row(peak.row, dtype), answer_of(op, dtype, peak)
    call = Call(op, (x,))
    index = (0,) if op in REDUCING_OPS else (0, peak.column)
    low, high = (str(end) for end in getattr(reference, op)(x, method="arb")[index].bounds_decimal(30))
    name = quantity(call, index)
    observed = float(value[index])
    message = (
        f"{name} is {observed:.9g}, {peak.error[1]:.6g} ulp at most from the exact value: the largest error"
    )
    finding = Finding(0, index, name, (low, high), hex_of(value[index]), peak.error, None, message)
    trial = Trial(calls=(call,), family=domain.name)
    return _witness(subject, op, dtype, trial, Output((value,)), finding)
