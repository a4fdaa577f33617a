"""The task `check`: the clauses of a check at many seeds, each seed a slice, the verdicts joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from softcert.backends.ops import DTYPES, OPS
from softcert.conformance.campaigns.task import Task
from softcert.conformance.model import STATUSES, RequestError, Verdict
from softcert.conformance.request import choose_clauses, known_names
from softcert.conformance.runner import check
from softcert.conformance.wire.runs import verdict_from_json, verdict_to_json

#: What is examined where settings do not say.
_CLAUSES, _PROFILE, _SLICES = ("accuracy.certified",), "smoke", 100
_SEVERITY = {status: place for place, status in enumerate(STATUSES)}


def _slices(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One seed each, from the `seed` of the settings on.

    Raises
    ------
    RequestError : settings that a check refuses.
    """
    for name in ("subject", "op", "dtype"):
        if settings.get(name) is None:
            raise RequestError(f"the task check needs the {name} that it judges")
    known_names("op", [settings["op"]], OPS)
    known_names("dtype", [settings["dtype"]], DTYPES)
    choose_clauses(settings.get("clauses", _CLAUSES))
    first = settings.get("seed", 0)
    for seed in range(first, first + settings.get("slices", _SLICES)):
        yield {"key": f"seed-{seed}", "seed": seed}


def _run(settings: Mapping[str, Any], piece: Mapping[str, Any]) -> dict[str, Any]:
    run = check(
        settings["subject"],
        ops=settings["op"],
        dtypes=settings["dtype"],
        clauses=settings.get("clauses", _CLAUSES),
        profile=settings.get("profile", _PROFILE),
        contract=settings.get("contract"),
        seed=piece["seed"],
    )
    return {
        "cases": sum(verdict.cases for verdict in run.verdicts),
        "verdicts": [verdict_to_json(replace(v, statistics={}), run.name) for v in run.verdicts],
    }


def _merge(_settings: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    found: dict[tuple[str, str, str], Verdict] = {}
    for result in results:
        for verdict in map(verdict_from_json, result["verdicts"]):
            place = (verdict.clause, verdict.op, verdict.dtype)
            found[place] = joined(found[place], verdict) if place in found else verdict
    return list(found.values())


def joined(first: Verdict, second: Verdict) -> Verdict:
    """Return the verdict on the inputs of both, of one clause, op and dtype; their order does not matter.

    The status is the worse one, and the witness that of the larger error of those that show it; counts and
    times are sums, errors the largest, and a control counts as passed if it passed once.
    """
    both = (first, second)
    spokesman = min(both, key=lambda v: (_SEVERITY[v.status], -v.margin, v.message))
    nearest = max(both, key=lambda v: (v.margin, v.bound_ulp))
    elements = sum(v.elements for v in both)
    return replace(
        spokesman,
        cases=sum(v.cases for v in both),
        elements=elements,
        error_max=(max(v.error_max[0] for v in both), max(v.error_max[1] for v in both)),
        error_mean=sum(v.error_mean * v.elements for v in both) / elements if elements else 0.0,
        bound_ulp=nearest.bound_ulp,
        margin=nearest.margin,
        grade=max(v.grade for v in both),
        controls={
            name: max(v.controls.get(name, "") for v in both) for name in (*first.controls, *second.controls)
        },
        seconds=sum(v.seconds for v in both),
        oracle_seconds=sum(v.oracle_seconds for v in both),
        subject_seconds=sum(v.subject_seconds for v in both),
        # The directed inputs are the same at every seed, so that all of those are no more than that.
        exhaustive=first.exhaustive if first.exhaustive == second.exhaustive else "",
    )


CHECK = Task("check", _slices, _run, _merge)
