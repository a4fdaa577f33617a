"""What was proved by asking for every input: each largest error, where it is, and what it took to know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from softcert.reports.wording import count, interval, printable, seconds, short_hexadecimal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from softcert.conformance.model import Verdict
    from softcert.reports.summary import Subject

#: What the figures are, for both forms of the report.
INTRO = (
    "Every input of a domain was asked for and every answer judged, so that the error is the largest there "
    "is and not only the largest seen. It holds of these inputs: of other lengths it says nothing, and the "
    "grades above are about samples of them. The time is that of the wall clock, and in brackets that of "
    "all processes together."
)
HEADINGS = ("inputs", "largest error, proved / ulp", "at", "above half an ulp", "time")
#: Up to which error, in ulps, an answer counts as correctly rounded.
_HALF = 0.5


class ProofLine(NamedTuple):
    """One proof.

    Attributes
    ----------
    cells : texts under `HEADINGS`, empty where nothing is known.
    """

    subject: Subject
    op: str
    dtype: str
    cells: tuple[str, ...]


def proof_lines(members: Sequence[Subject]) -> tuple[ProofLine, ...]:
    """Every proof of the subjects, in their order."""
    return tuple(
        ProofLine(subject, printable(v.op), printable(v.dtype), _cells(v))
        for subject in members
        for v in subject.run.verdicts
        if v.exhaustive
    )


def _cells(verdict: Verdict) -> tuple[str, ...]:
    figures = verdict.statistics
    texts = (
        verdict.exhaustive,
        interval(verdict.error_max, 8) if verdict.elements else "",
        _place(figures.get("proof", {}).get("largest_at")),
        _beyond(figures.get("within")),
        _time(figures.get("campaign")),
    )
    return tuple(map(printable, texts))


def _place(place: Mapping[str, Any] | None) -> str:
    if place is None:
        return ""
    answer, *logits = map(short_hexadecimal, (place["answer"], *place["logits"]))
    return f"{place['result']} = {answer}, x = ({', '.join(logits)})"


def _beyond(within: Mapping[str, Any] | None) -> str:
    """How many of the results with an exact value are further from it than half an ulp."""
    if within is None or _HALF not in within["ulps"]:
        return ""
    near = within["counts"][within["ulps"].index(_HALF)]
    return f"{within['of'] - near:,} of {count(within['of'], 'result')}"


def _time(took: Mapping[str, Any] | None) -> str:
    return f"{seconds(took['seconds'])} ({seconds(took['slice_seconds'])})" if took else ""
