"""What runs in a worker, wherever that is: one slice, and what it came to or why not, as plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from time import perf_counter
from typing import Any

from softcert.conformance.campaigns.campaign import canonical
from softcert.conformance.campaigns.tasks import find_task
from softcert.conformance.environment import describe, installed_versions
from softcert.conformance.model import RequestError

#: Longest reason that is kept of a failure.
_LONGEST = 500


def run_slice(head: str, piece: str, earlier: Sequence[str] = ()) -> dict[str, Any]:
    """Compute a slice.

    Parameters
    ----------
    head : the campaign's file without its slices, canonical JSON.
    piece : the slice, canonical JSON.
    earlier : the results of those that it is after, in that order, canonical JSON each.

    Returns
    -------
    `result` (canonical JSON), `cases`, `seconds`, `environment` (canonical JSON); or `failure`, one line. No
    exception leaves it but those that end a process, since not every one survives the way between two.
    """
    started = perf_counter()
    try:
        result = _computed(json.loads(head), json.loads(piece), [json.loads(text) for text in earlier])
        cases = result.get("cases")
        if type(cases) is not int or cases < 0:
            return {"failure": f"the result says {cases!r} for its count of cases"}
        return {
            "result": canonical(result),
            "cases": cases,
            "seconds": perf_counter() - started,
            "environment": _environment(),
        }
    except (Exception, SystemExit) as error:  # noqa: BLE001 -- whatever a task raises is the slice's failure
        return {"failure": f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]}


def _computed(
    head: Mapping[str, Any], piece: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    require_versions(head["versions"])
    settings = head["settings"]
    follows = (earlier,) if "after" in piece else ()
    return dict(find_task(settings["task"]).run(settings, piece, *follows))


def require_versions(planned: Mapping[str, str]) -> None:
    """Make sure that results of this process rest on the versions that a campaign was planned with.

    Raises
    ------
    RequestError : a distribution is missing here or has another version.
    """
    here = _versions(tuple(planned))
    for name, version in planned.items():
        if here.get(name) != version:
            raise RequestError(
                f"the campaign is of {name} {version}, and here is "
                f"{f'{name} {here[name]}' if name in here else 'none'}"
            )


@cache
def _versions(names: tuple[str, ...]) -> dict[str, str]:
    return installed_versions(names)


@cache
def _environment() -> str:
    """Machine and versions; without the date, by which any two would differ."""
    return canonical({key: value for key, value in describe().items() if key != "date"})
