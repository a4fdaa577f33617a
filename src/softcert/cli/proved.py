"""Results of campaigns that a report shows beside what it judges itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from softcert.errors import RequestError

if TYPE_CHECKING:
    from softcert.conformance.model import Run


def read_proofs(paths: Sequence[str], subjects: Sequence[str]) -> Mapping[str, tuple[Run, ...]]:
    """Read proofs, as `softcert campaign result --json` writes them, for a report on some subjects.

    Returns
    -------
    The proofs of each subject that has one.

    Raises
    ------
    RequestError : a file cannot be read, proves nothing, is of no subject of the report, or of other versions
        than are installed here.
    """
    from softcert.conformance.wire.runs import read_run

    found: dict[str, tuple[Run, ...]] = {}
    for path in paths:
        proof = read_run(Path(path))
        _require_proof(proof, path, subjects)
        found[proof.subject] = (*found.get(proof.subject, ()), proof)
    return found


def _require_proof(proof: Run, path: str, subjects: Sequence[str]) -> None:
    from softcert.conformance.environment import installed_versions

    if proof.subject not in subjects:
        raise RequestError(f"{path} is about {proof.subject}, which is none of the report's subjects")
    if not any(verdict.exhaustive for verdict in proof.verdicts):
        raise RequestError(f"{path} proves nothing: not every input of a domain was tried")
    proved = proof.environment["versions"]
    for name, version in installed_versions(proved).items():
        if proved[name] != version:
            raise RequestError(f"{path} is about {name} {proved[name]}, and here is {version}")
