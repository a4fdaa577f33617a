"""Runs and witnesses as JSON and back, without losing a bit.

The shape is fixed by `schemas/run-1.json` and `schemas/witness-1.json`. JSON has no infinity and no
NaN, so where a number can be one it is the string "inf", "-inf" or "nan"; the numbers of arrays are
hexadecimal floats.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from softcert.backends.ops import OPERANDS
from softcert.backends.types import Call, Failure, Output
from softcert.conformance.environment import softcert_version
from softcert.conformance.model import SCHEMA, Finding, RequestError, Run, Trial, Verdict, Witness
from softcert.conformance.wire.arrays import ArrayError, array_from_json, array_to_json
from softcert.conformance.wire.files import dumps, read_json, schema, validate, write_text

__all__ = [
    "dumps",
    "read_json",
    "read_report",
    "read_run",
    "read_runs",
    "read_witness",
    "report_to_json",
    "run_from_json",
    "run_to_json",
    "schema",
    "validate",
    "witness_from_json",
    "witness_to_json",
    "write_document",
    "write_text",
]

T = TypeVar("T")

_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


def _number(value: Any) -> float | int | str:
    """Write a number, or the string that says what JSON has no number for."""
    number: float | int = value.item() if isinstance(value, np.generic) else value
    if isinstance(number, float) and not math.isfinite(number):
        return "nan" if math.isnan(number) else ("inf" if number > 0 else "-inf")
    return number


def _read_number(value: float | str) -> float:
    return _WORDS[value] if isinstance(value, str) else value


def _plain(value: Any) -> Any:
    """Make free-form facts JSON: tuples and arrays are lists, numbers as `_number` writes them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, (float, int, np.generic)) and not isinstance(value, bool):
        return _number(value)
    return value if value is None or isinstance(value, (bool, str)) else str(value)


def _unplain(value: Any) -> Any:
    """Undo `_plain`: the strings of `_WORDS` are numbers again."""
    if isinstance(value, dict):
        return {key: _unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unplain(item) for item in value]
    return _WORDS.get(value, value) if isinstance(value, str) else value


#: Files of other kinds hold free-form facts and numbers too.
plain, unplain, write_number, read_number = _plain, _unplain, _number, _read_number


def _pair(pair: tuple[float, float] | None) -> list[float | int | str] | None:
    return None if pair is None else [_number(end) for end in pair]


def _read_pair(pair: Sequence[float | str] | None) -> tuple[float, float] | None:
    return None if pair is None else (_read_number(pair[0]), _read_number(pair[1]))


# --- witnesses ---


def _operand_names(op: str, count: int) -> tuple[str, ...]:
    names = OPERANDS.get(op, ())
    return names if len(names) == count else tuple(f"operand{i}" for i in range(count))


def _call_to_json(call: Call) -> dict[str, Any]:
    names = _operand_names(call.op, len(call.operands))
    document: dict[str, Any] = {
        "op": call.op,
        "params": _plain(call.params),
        "layout": call.layout,
        "repeat": int(call.repeat),
        "operands": [{"name": n, **array_to_json(a)} for n, a in zip(names, call.operands, strict=True)],
    }
    if call.mask is not None:
        document["mask"] = array_to_json(call.mask)
    if call.measured:
        document["measured"] = True
    return document


def _call_from_json(call: Mapping[str, Any]) -> Call:
    return Call(
        op=call["op"],
        operands=tuple(array_from_json(operand) for operand in call["operands"]),
        params=_unplain(call["params"]),
        layout=call["layout"],
        repeat=call["repeat"],
        mask=array_from_json(call["mask"]) if "mask" in call else None,
        measured=call.get("measured", False),
    )


def _reply_to_json(reply: Output | Failure) -> dict[str, Any]:
    if isinstance(reply, Failure):
        return {"failure": reply.kind, "message": reply.message}
    try:
        document = _results_to_json(reply.values)
        if reply.distinct is not None:
            document["distinct"] = _results_to_json(reply.distinct)
    except ArrayError as error:
        return {"failure": "output", "message": str(error)}
    document["seconds"] = _number(reply.seconds)
    document["side_effects"] = list(reply.side_effects)
    if reply.peak_bytes is not None:
        document["peak_bytes"] = int(reply.peak_bytes)
    if reply.kept_bytes is not None:
        document["kept_bytes"] = int(reply.kept_bytes)
    return document


def _results_to_json(values: Sequence[np.ndarray]) -> dict[str, Any]:
    """The first result, and the others where an op gives several."""
    document = array_to_json(values[0])
    if len(values) > 1:
        document["others"] = [array_to_json(value) for value in values[1:]]
    return document


def _results_from_json(document: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    return tuple(array_from_json(part) for part in (document, *document.get("others", ())))


def _reply_from_json(reply: Mapping[str, Any]) -> Output | Failure:
    if "failure" in reply:
        return Failure(reply["failure"], reply["message"])
    distinct = reply.get("distinct")
    return Output(
        values=_results_from_json(reply),
        seconds=_read_number(reply.get("seconds", 0.0)),
        distinct=None if distinct is None else _results_from_json(distinct),
        side_effects=tuple(reply.get("side_effects", ())),
        peak_bytes=reply.get("peak_bytes"),
        kept_bytes=reply.get("kept_bytes"),
    )


def _finding_to_json(finding: Finding) -> dict[str, Any]:
    return {
        "call": int(finding.call),
        "index": None if finding.index is None else [int(i) for i in finding.index],
        "quantity": finding.quantity,
        "exact": None if finding.exact is None else list(finding.exact),
        "observed": finding.observed,
        "error_ulp": _pair(finding.error_ulp),
        "bound_ulp": None if finding.bound_ulp is None else _number(finding.bound_ulp),
        "message": finding.message,
        **({"result": int(finding.result)} if finding.result else {}),
    }


def _finding_from_json(finding: Mapping[str, Any]) -> Finding:
    index, exact, bound = finding["index"], finding["exact"], finding["bound_ulp"]
    return Finding(
        call=finding["call"],
        index=None if index is None else tuple(index),
        quantity=finding["quantity"],
        exact=None if exact is None else (exact[0], exact[1]),
        observed=finding["observed"],
        error_ulp=_read_pair(finding["error_ulp"]),
        bound_ulp=None if bound is None else _read_number(bound),
        message=finding["message"],
        result=finding.get("result", 0),
    )


def witness_to_json(witness: Witness, name: str | None = None) -> dict[str, Any]:
    """Return a witness as a document of schema witness-1.

    Parameters
    ----------
    name : how reports call the subject; the subject string itself by default.
    """
    return {
        "schema": SCHEMA,
        "kind": "witness",
        "softcert": softcert_version(),
        "clause": witness.clause,
        "op": witness.op,
        "dtype": witness.dtype,
        "subject": {"spec": witness.subject, "name": name or witness.subject},
        "seed": int(witness.seed),
        "trial": {
            "calls": [_call_to_json(call) for call in witness.trial.calls],
            "relation": _plain(witness.trial.relation),
            "family": witness.trial.family,
        },
        "replies": [_reply_to_json(reply) for reply in witness.replies],
        "finding": _finding_to_json(witness.finding),
    }


def _witness(document: Mapping[str, Any]) -> Witness:
    trial = document["trial"]
    return Witness(
        clause=document["clause"],
        op=document["op"],
        dtype=document["dtype"],
        subject=document["subject"]["spec"],
        trial=Trial(
            calls=tuple(_call_from_json(call) for call in trial["calls"]),
            relation=_unplain(trial["relation"]),
            family=trial["family"],
        ),
        replies=tuple(_reply_from_json(reply) for reply in document["replies"]),
        finding=_finding_from_json(document["finding"]),
        seed=document["seed"],
    )


# --- runs ---


def _verdict_to_json(verdict: Verdict, name: str) -> dict[str, Any]:
    return {
        "clause": verdict.clause,
        "op": verdict.op,
        "dtype": verdict.dtype,
        "status": verdict.status,
        "cases": int(verdict.cases),
        "elements": int(verdict.elements),
        "error_ulp": {"max": _pair(verdict.error_max), "mean": _number(verdict.error_mean)},
        "bound_ulp": _number(verdict.bound_ulp),
        "margin": _number(verdict.margin),
        "grade": verdict.grade,
        "message": verdict.message,
        "witness": None if verdict.witness is None else witness_to_json(verdict.witness, name),
        "controls": dict(verdict.controls),
        "statistics": _plain(verdict.statistics),
        "seconds": _number(verdict.seconds),
        "oracle_seconds": _number(verdict.oracle_seconds),
        "subject_seconds": _number(verdict.subject_seconds),
        **({"exhaustive": verdict.exhaustive} if verdict.exhaustive else {}),
    }


def _verdict(document: Mapping[str, Any]) -> Verdict:
    errors = document["error_ulp"]
    return Verdict(
        clause=document["clause"],
        op=document["op"],
        dtype=document["dtype"],
        status=document["status"],
        cases=document["cases"],
        elements=document["elements"],
        error_max=_read_pair(errors["max"]) or (0.0, 0.0),
        error_mean=_read_number(errors["mean"]),
        bound_ulp=_read_number(document["bound_ulp"]),
        margin=_read_number(document["margin"]),
        grade=document["grade"],
        message=document["message"],
        witness=None if document["witness"] is None else _witness(document["witness"]),
        controls=document["controls"],
        statistics=_unplain(document["statistics"]),
        seconds=_read_number(document["seconds"]),
        oracle_seconds=_read_number(document.get("oracle_seconds", 0.0)),
        subject_seconds=_read_number(document.get("subject_seconds", 0.0)),
        exhaustive=document.get("exhaustive", ""),
    )


#: A result of a campaign holds verdicts alone.
verdict_to_json, verdict_from_json = _verdict_to_json, _verdict


def run_to_json(run: Run) -> dict[str, Any]:
    """Return a run as a document of schema run-1."""
    versions = run.environment.get("versions", {})
    return {
        "schema": SCHEMA,
        "kind": "run",
        "softcert": str(versions.get("softcert", softcert_version())),
        "environment": _plain(run.environment),
        "subject": {"name": run.name, "spec": run.subject, "contract": _plain(run.contract)},
        "request": _plain(run.request),
        "verdicts": [_verdict_to_json(verdict, run.name) for verdict in run.verdicts],
        "speed": [_plain(row) for row in run.speed],
        "seconds": _number(run.seconds),
    }


def _run(document: Mapping[str, Any]) -> Run:
    subject = document["subject"]
    return Run(
        subject=subject["spec"],
        name=subject["name"],
        contract=subject["contract"],
        environment=document["environment"],
        request=document["request"],
        verdicts=tuple(_verdict(verdict) for verdict in document["verdicts"]),
        speed=tuple(_unplain(row) for row in document["speed"]),
        seconds=_read_number(document["seconds"]),
    )


def report_to_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return several runs as one document of kind report."""
    return {"schema": SCHEMA, "kind": "report", "runs": [run_to_json(run) for run in runs]}


# --- reading and writing ---


def _report(document: Mapping[str, Any]) -> tuple[Run, ...]:
    return tuple(_run(run) for run in document["runs"])


def _read(build: Callable[[Mapping[str, Any]], T], document: Any, kind: str, source: str) -> T:
    validate(document, kind, source)
    try:
        return build(document)
    except ArrayError as error:
        raise RequestError(f"{source} is not a valid {kind}: {error}") from error


def run_from_json(document: Any, source: str = "the run") -> Run:
    """Return the run that a document holds.

    Raises
    ------
    RequestError : a document that breaks the schema, or an array that contradicts itself.
    """
    return _read(_run, document, "run", source)


def witness_from_json(document: Any, source: str = "the witness") -> Witness:
    """Return the witness that a document holds.

    Raises
    ------
    RequestError : a document that breaks the schema, or an array that contradicts itself.
    """
    return _read(_witness, document, "witness", source)


def read_run(path: str | os.PathLike[str]) -> Run:
    """Return the run in a file; raise RequestError, one sentence, if there is none."""
    return _read(_run, read_json(path), "run", str(path))


def read_witness(path: str | os.PathLike[str]) -> Witness:
    """Return the witness in a file; raise RequestError, one sentence, if there is none."""
    return _read(_witness, read_json(path), "witness", str(path))


def read_report(path: str | os.PathLike[str]) -> tuple[Run, ...]:
    """Return the runs in a report's file; raise RequestError, one sentence, if there are none."""
    return _read(_report, read_json(path), "report", str(path))


def read_runs(path: str | os.PathLike[str]) -> tuple[Run, ...]:
    """Return the runs in a file, of one run or a report's; raise RequestError, one sentence, if none."""
    document = read_json(path)
    if isinstance(document, dict) and document.get("kind") == "report":
        return _read(_report, document, "report", str(path))
    return (run_from_json(document, str(path)),)


def write_document(document: Mapping[str, Any], path: str | os.PathLike[str]) -> Path:
    """Write a document to a file, whole or not at all; raise RequestError if it cannot be written."""
    return write_text(path, dumps(document))
