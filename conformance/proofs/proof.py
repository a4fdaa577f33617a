"""A proof by exhaustion: every row of a domain is asked of the subject and judged, slice by slice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from time import perf_counter
from typing import Any

from softcert.backends.contract import Contract, as_contract
from softcert.backends.types import Failure
from softcert.conformance.campaigns.task import Task
from softcert.conformance.model import RequestError, Verdict
from softcert.conformance.proofs.concluding import refined, verdict_of
from softcert.conformance.proofs.domains import Domain, domain_of
from softcert.conformance.proofs.judging import Answered, Bench, judge_rows
from softcert.conformance.proofs.part import Breach, Part, total
from softcert.conformance.proofs.subjects import Subject, kept, started
from softcert.conformance.request import Subject as Given
from softcert.conformance.request import as_spec

#: Rows of one call: what the caches hold, and long enough that a call's own cost does not count.
BATCH = 1 << 16
#: Rows of a slice, where nothing else is said: about a second's work.
SLICE = 1 << 22


def prove(
    subject: Given,
    domain: str,
    op: str,
    dtype: str,
    *,
    first: int = 0,
    last: int | None = None,
    contract: Contract | Mapping[str, Any] | None = None,
    progress: Callable[[Part], None] | None = None,
) -> Verdict:
    """Ask a subject for every row of a domain, or of a part of it, and judge every answer.

    Parameters
    ----------
    subject : as for `softcert.check`.
    domain : "pairs", every ordered pair of numbers of a 16-bit format; "single", (x, 0) for every x of
        float16, bfloat16 or float32; "triples", every triple of float8_e4m3fn numbers in the dtype asked for.
    op : softmax, log_softmax or logsumexp.
    first, last : the rows [first, last) of the domain, in the order of their encodings; all by default.
    contract : judge by this contract, or mapping of its fields, in place of the subject's own.
    progress : called with what is known after each call.

    Returns
    -------
    Verdict on `accuracy.certified`. Where all rows were answered, `exhaustive` names them, and `error_max`
    encloses the largest error that there is.

    Raises
    ------
    RequestError, SubjectError : the request is wrong, or the subject cannot be loaded.
    OracleError : two oracles disagree.
    """
    chosen = domain_of(domain, op, dtype)
    ends = _checked_range(first, last, chosen.size(dtype))
    promised = as_contract(contract)
    working = started(as_spec(subject, op), op, promised.to_mapping() if promised else None)
    try:
        part = proved_part(working, working.bench(chosen, op, dtype), *ends, progress)
        return verdict_of(chosen, op, dtype, working.name, part)
    finally:
        working.worker.close()


def proved_part(
    subject: Subject, bench: Bench, first: int, last: int, progress: Callable[[Part], None] | None = None
) -> Part:
    """All that is to be known of the rows [first, last) of a domain."""
    known = Part()
    for start in range(first, last, BATCH):
        known = known + _batch(subject, bench, start, min(start + BATCH, last), known)
        if progress is not None:
            progress(known)
    return refined(subject, bench, known)


def _batch(subject: Subject, bench: Bench, first: int, last: int, known: Part) -> Part:
    x = bench.domain.rows(first, last, bench.dtype)
    begun = perf_counter()
    reply, wrong = subject.asked(bench, x)
    answered = perf_counter()
    if wrong is not None or isinstance(reply, Failure):
        message = wrong.message if wrong else ""
        breach = Breach(float("inf"), first, last - first, message)
        return Part(ranges=((first, last),), failure=breach, subject_seconds=answered - begun)
    part = judge_rows(bench, Answered.of(first, x, reply.value), known)
    return replace(part, subject_seconds=answered - begun, oracle_seconds=perf_counter() - answered)


def _checked_range(first: int, last: int | None, size: int) -> tuple[int, int]:
    end = size if last is None else last
    if not 0 <= first < end <= size:
        raise RequestError(f"rows {first} to {end} are none of a domain of {size} rows")
    return first, end


# --- as a campaign -------------------------------------------------------------------------------------


def _asked_for(settings: Mapping[str, Any]) -> tuple[Domain, str, str]:
    missing = [name for name in ("subject", "domain", "op", "dtype") if name not in settings]
    if missing:
        raise RequestError(f"a proof needs {', '.join(missing)}")
    op, dtype = settings["op"], settings["dtype"]
    return domain_of(settings["domain"], op, dtype), op, dtype


def slices(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Slices of a proof: rows [first, last) each, of about `rows` or in as many as `slices` says.

    Parameters
    ----------
    settings : "subject", "domain", "op", "dtype"; and where wanted "contract", "slices", "first", "last".

    Raises
    ------
    RequestError : something is missing or wrong.
    """
    domain, op, dtype = _asked_for(settings)
    first, last = _checked_range(settings.get("first") or 0, settings.get("last"), domain.size(dtype))
    count = settings.get("slices") or -(-(last - first) // SLICE)
    if not isinstance(count, int) or not 1 <= count <= last - first:
        raise RequestError(f"slices={count!r} is no number of slices of {last - first} rows")
    for k in range(count):
        start, end = (first + (last - first) * i // count for i in (k, k + 1))
        yield {"key": f"{domain.name}-{op}-{dtype}-{start:010}-{end:010}", "first": start, "last": end}


def run(settings: Mapping[str, Any], piece: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of the rows of a slice, JSON-ready; `cases` counts them."""
    domain, op, dtype = _asked_for(settings)
    subject = kept(settings["subject"], op, settings.get("contract"))
    return proved_part(subject, subject.bench(domain, op, dtype), piece["first"], piece["last"]).to_json()


def merge(settings: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """The verdict that the results of slices amount to, in whatever order they come.

    Raises
    ------
    ValueError : two results share a row.
    """
    domain, op, dtype = _asked_for(settings)
    part = total(Part.from_json(result) for result in results)
    return [verdict_of(domain, op, dtype, settings["subject"], part)]


PROOF = Task(name="proof", slices=slices, run=run, merge=merge)
