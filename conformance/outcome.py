"""What a run comes to: the one word that every report, page and exit status goes by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from softcert.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from softcert.conformance.model import Run

Outcome = Literal["broken", "stopped", "nothing", "conforms"]
#: Verdicts that say nothing of the subject.
_SILENT = frozenset({"vacuous", "skip"})


def outcome(run: Run) -> Outcome:
    """Return what a run comes to.

    Returns
    -------
    "broken" where a clause is broken, also in a run that was stopped; "stopped" where none is so far;
    "nothing" where no verdict says anything of the subject; else "conforms".
    """
    if run.broken:
        return "broken"
    if is_stopped(run):
        return "stopped"
    return "conforms" if any(v.status not in _SILENT for v in run.verdicts) else "nothing"


def is_stopped(run: Run) -> bool:
    """Whether the run was stopped before its last verdict."""
    return bool(run.request.get("stopped"))


def describe_stop(run: Run) -> str:
    """How far a stopped run came: "stopped after 23 of 33 verdicts"."""
    planned = run.request.get("planned")
    if planned is None:
        return f"stopped after {len(run.verdicts)} verdict{'' if len(run.verdicts) == 1 else 's'}"
    return f"stopped after {len(run.verdicts)} of {planned} verdict{'' if planned == 1 else 's'}"


def describe_nothing(run: Run) -> str:
    """Why a run shows nothing."""
    if not run.verdicts:
        return "nothing was shown: no verdict was reached"
    return "nothing was shown: every verdict is vacuous or skipped"


def with_proofs(run: Run, proofs: Iterable[Run]) -> Run:
    """Return a run with the verdicts of proofs by exhaustion on the same subject beside its own.

    Parameters
    ----------
    proofs : what complete campaigns came to. Into the statistics of their verdicts goes, as "campaign", what
        they took: `seconds` on the wall clock, `slice_seconds` of all processes together.

    Raises
    ------
    RequestError : a proof was judged by another contract, and so against other bounds.
    """
    proved = []
    for proof in proofs:
        if proof.contract != run.contract:
            raise RequestError(f"a proof about {proof.name} was judged by another contract than the run")
        took = {"seconds": proof.seconds, "slice_seconds": proof.request.get("slice_seconds", proof.seconds)}
        proved += [
            replace(verdict, statistics={**verdict.statistics, "campaign": took})
            for verdict in proof.verdicts
            if verdict.exhaustive
        ]
    return replace(run, verdicts=(*run.verdicts, *proved))
