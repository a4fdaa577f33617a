"""What a campaign comes to: the run that its results make, complete or so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from softcert.conformance.campaigns.drivers import seconds_driven
from softcert.conformance.campaigns.store import Store
from softcert.conformance.campaigns.tasks import find_task
from softcert.conformance.environment import describe
from softcert.conformance.hunting.worst_cases import WorstCase
from softcert.conformance.model import RequestError, Run, Verdict


def campaign_run(store: Store) -> Run:
    """Return the verdicts on what is done.

    Returns
    -------
    A run whose `request` says of how many slices, what they took together, and where they were computed if
    that is more than one machine or set of versions. Of a campaign that is not complete, it is a stopped one,
    and nothing in it is exhaustive. `seconds` is how long drivers worked.

    Raises
    ------
    RequestError : no slice is done.
    """
    digest, text = store.head()
    head, totals = json.loads(text), store.totals()
    if not totals.done:
        raise RequestError(f"the store {store.path} has no result yet")
    settings = head["settings"]
    verdicts = find_task(settings["task"]).merge(settings, map(json.loads, store.results()))
    if not totals.complete:
        verdicts = [replace(verdict, exhaustive="") for verdict in verdicts]
    environments = [json.loads(document) for document in store.environments()]
    subject = head.get("subject", {})
    spec = subject.get("spec", settings["task"])
    return Run(
        subject=spec,
        name=subject.get("name", spec),
        contract=subject.get("contract", {}),
        environment={**describe(), **environments[0], "versions": _versions(head, environments)},
        request={
            **_asked(settings, verdicts),
            "campaign": digest,
            "settings": settings,
            "slices": totals.slices,
            "slices_done": totals.done,
            "slices_aside": totals.aside,
            "slice_seconds": totals.seconds,
            **({"environments": environments} if len(environments) > 1 else {}),
            **({} if totals.complete else {"stopped": True}),
        },
        verdicts=tuple(verdicts),
        seconds=seconds_driven(store),
    )


def campaign_worst(store: Store) -> Sequence[WorstCase]:
    """Return the worst cases that are known so far, the worst first.

    Raises
    ------
    RequestError : the campaign's task keeps none, or no slice is done, or none was found.
    """
    settings = json.loads(store.head()[1])["settings"]
    task = find_task(settings["task"])
    if task.worst is None:
        raise RequestError(f"{store.path} is of the task {task.name}, which looks for no worst cases")
    cases = task.worst(settings, map(json.loads, store.results()))
    if not cases:
        raise RequestError(f"the store {store.path} has no worst case yet")
    return cases


def _versions(head: dict[str, Any], environments: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Versions of the campaign, without which no slice was computed, and of what else was there."""
    return {**environments[0]["versions"], **head["versions"]}


def _asked(settings: dict[str, Any], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "profile": str(settings.get("profile", "campaign")),
        "seed": int(settings.get("seed", 0)),
        "ops": list(dict.fromkeys(verdict.op for verdict in verdicts)),
        "dtypes": list(dict.fromkeys(verdict.dtype for verdict in verdicts)),
        "clauses": list(dict.fromkeys(verdict.clause for verdict in verdicts)),
    }
