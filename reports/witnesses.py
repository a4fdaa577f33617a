"""The worst witnesses as reports show them: inputs in hexadecimal, the answer, the certificate."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from softcert.backends.ops import OPERANDS
from softcert.backends.types import SIDE_EFFECTS, Failure
from softcert.conformance.wire.arrays import FLOATS, array_to_json
from softcert.conformance.wire.runs import witness_to_json
from softcert.reports.filenames import file_stem
from softcert.reports.wording import interval, number, printable, short_hexadecimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from softcert.backends.types import Array, Call, Output
    from softcert.conformance.model import Finding, Verdict, Witness
    from softcert.reports.summary import Subject

#: How many numbers of an array are shown; the others are counted.
SHOWN = 64
#: How many witnesses of a subject are shown; every one is in report.json.
PER_SUBJECT = 20
#: Longest witness, in characters of JSON, that the page itself carries.
EMBEDDED = 200_000


@dataclass(frozen=True)
class ArrayView:
    """The head of an array; `hidden` numbers more were left out."""

    name: str
    dtype: str
    shape: str
    numbers: str
    hidden: int


@dataclass(frozen=True)
class CallView:
    """One call with what came back."""

    title: str
    operands: tuple[ArrayView, ...]
    reply: ArrayView | None
    failure: str
    effects: tuple[str, ...]


@dataclass(frozen=True)
class WitnessView:
    """One witness, ready to be shown.

    Attributes
    ----------
    anchor : identifier within the page.
    file : path of the witness beside the page, which the replay command takes.
    facts : what is certified, as (term, value) pairs.
    text : the whole witness as JSON.
    href : the same as a data: link, or "" where it would make the page too large.
    """

    anchor: str
    file: str
    subject: Subject
    status: str
    clause: str
    op: str
    dtype: str
    message: str
    facts: tuple[tuple[str, str], ...]
    calls: tuple[CallView, ...]
    verdict: Verdict
    text: str
    href: str

    @property
    def filename(self) -> str:
        """Name of the file without its folder."""
        return self.file.rpartition("/")[2]


def worst_witnesses(members: Iterable[Subject]) -> tuple[tuple[Subject, tuple[WitnessView, ...], int], ...]:
    """For each subject with witnesses: the worst of them, and how many are left out."""
    found = []
    for subject in members:
        ranked = _ranked(subject.run.verdicts)
        if ranked:
            views = tuple(
                _view(subject, place, verdict) for place, verdict in enumerate(ranked[:PER_SUBJECT])
            )
            found.append((subject, views, max(0, len(ranked) - PER_SUBJECT)))
    return tuple(found)


def _ranked(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Witnessed verdicts, the worst first; the first of every clause before the second of any."""
    having = [v for v in verdicts if v.witness is not None]
    order = {"fail": 0, "error": 0, "xfail": 1}
    having.sort(key=lambda v: (order.get(v.status, 2), -_finite(v.margin)))
    seen: dict[str, int] = {}
    rounds = []
    for verdict in having:
        seen[verdict.clause] = seen.get(verdict.clause, -1) + 1
        rounds.append(seen[verdict.clause])
    return [v for _, v in sorted(zip(rounds, having, strict=True), key=lambda pair: pair[0])]


def _finite(value: float) -> float:
    return 1e308 if math.isnan(value) else min(value, 1e308)


def _view(subject: Subject, place: int, verdict: Verdict) -> WitnessView:
    witness = verdict.witness
    assert witness is not None  # noqa: S101 - `_ranked` leaves only witnessed verdicts; this tells mypy
    anchor = f"witness-{subject.index + 1}-{place + 1}"
    stem = file_stem(f"{subject.label}-{verdict.clause}-{verdict.op}-{verdict.dtype}")
    text = json.dumps(witness_to_json(witness, subject.run.name), allow_nan=False)
    embedded = f"data:application/json;charset=utf-8,{quote(text)}" if len(text) <= EMBEDDED else ""
    return WitnessView(
        anchor=anchor,
        # The numbers tell apart what differs only in characters that no file name holds.
        file=f"witnesses/{stem}-{subject.index + 1}-{place + 1}.json",
        subject=subject,
        status=verdict.status,
        clause=printable(verdict.clause),
        op=printable(verdict.op),
        dtype=printable(verdict.dtype),
        message=printable(witness.finding.message or verdict.message),
        facts=_facts(witness.finding),
        calls=_calls(witness),
        verdict=verdict,
        text=text,
        href=embedded,
    )


def _facts(finding: Finding) -> tuple[tuple[str, str], ...]:
    place = "" if finding.index is None else f" at {list(finding.index)}"
    facts = [(f"observed{place}", printable(finding.observed))]
    if finding.exact is not None:
        lower, upper = (printable(end) for end in finding.exact)
        facts.append(
            (f"exact {printable(finding.quantity)}", lower if lower == upper else f"[{lower}, {upper}]")
        )
    else:
        facts.append(("concerns", printable(finding.quantity)))
    if finding.error_ulp is not None:
        facts.append(("certified error", f"{interval(finding.error_ulp, 6)} ulp"))
    if finding.bound_ulp is not None:
        facts.append(("bound", f"{number(finding.bound_ulp, 6)} ulp"))
    return tuple(facts)


def _calls(witness: Witness) -> tuple[CallView, ...]:
    replies: tuple[Output | Failure | None, ...] = witness.replies
    calls = witness.trial.calls
    replies += (None,) * (len(calls) - len(replies))
    several = len(calls) > 1
    return tuple(
        _call_view(call, reply, f"call {i}: " if several else "")
        for i, (call, reply) in enumerate(zip(calls, replies, strict=False))
    )


def _call_view(call: Call, reply: Output | Failure | None, label: str) -> CallView:
    keywords = ", ".join(f"{name}={_keyword(value)}" for name, value in call.params.items())
    notes = [] if call.layout == "contiguous" else [f"{call.layout} in memory"]
    notes += [f"called {call.repeat} times"] if call.repeat > 1 else []
    title = printable(f"{label}{call.op}({', '.join(_names(call))}, {keywords})")
    operands = tuple(_array(name, a) for name, a in zip(_names(call), call.operands, strict=True))
    failure = printable(f"{reply.kind}: {reply.message}") if isinstance(reply, Failure) else ""
    output = None if reply is None or isinstance(reply, Failure) else reply
    return CallView(
        title=f"{title}, {', '.join(notes)}" if notes else title,
        operands=operands,
        reply=None if output is None else _array("output", output.value),
        failure=failure,
        effects=()
        if output is None
        else tuple(SIDE_EFFECTS.get(e, printable(e)) for e in output.side_effects),
    )


def _names(call: Call) -> tuple[str, ...]:
    names = OPERANDS.get(call.op, ())
    count = len(call.operands)
    return names if len(names) == count else tuple(f"operand{i}" for i in range(count))


def _keyword(value: float) -> str:
    """Write a parameter so that nothing is lost: in hexadecimal unless it is a whole number."""
    whole = isinstance(value, int) or not math.isfinite(value) or value.is_integer()
    return str(value) if whole else value.hex()


def _array(name: str, array: Array) -> ArrayView:
    head = array.reshape(-1)[:SHOWN]
    numbers = array_to_json(head)["hex"] if array.dtype.name in FLOATS else map(str, head.tolist())
    return ArrayView(
        name=name,
        dtype=printable(array.dtype.name),
        shape=" × ".join(map(str, array.shape)) or "a single number",
        numbers=printable(" ".join(map(short_hexadecimal, numbers))),
        hidden=max(0, array.size - SHOWN),
    )


def witness_files(shown: Iterable[tuple[Subject, Sequence[WitnessView], int]]) -> Mapping[str, str]:
    """Return the text of every witness shown, by its path beside the page."""
    return {view.file: f"{view.text}\n" for _, views, _ in shown for view in views}
