"""The specification and its judge: clauses, bounds, the runner, witnesses."""

from softcert.conformance.clauses import CLAUSES
from softcert.conformance.examination.replay import replay
from softcert.conformance.model import (
    Finding,
    OracleError,
    RequestError,
    Run,
    Trial,
    Verdict,
    Witness,
)
from softcert.conformance.profiles import PROFILES, Profile
from softcert.conformance.request import choose_clauses
from softcert.conformance.runner import Progress, check
from softcert.conformance.spec import Clause

__all__ = [
    "CLAUSES",
    "PROFILES",
    "Clause",
    "Finding",
    "OracleError",
    "Profile",
    "Progress",
    "RequestError",
    "Run",
    "Trial",
    "Verdict",
    "Witness",
    "check",
    "choose_clauses",
    "replay",
]
