"""The plain data of a conformance run: trials, findings, verdicts, the run itself.

Everything here is frozen and becomes JSON by `to_json`; the schema of the files is
`schemas/run-1.json` and `schemas/witness-1.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from softcert.backends.types import Call, Failure, Output
from softcert.errors import OracleError, RequestError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "BROKEN",
    "SCHEMA",
    "STATUSES",
    "Compared",
    "Finding",
    "Judgement",
    "OracleError",
    "RequestError",
    "Run",
    "Status",
    "Trial",
    "Verdict",
    "Witness",
]

SCHEMA = 1

Status = Literal["pass", "fail", "vacuous", "error", "skip", "xfail"]
#: What each status says, in the order in which reports list them.
STATUSES: Mapping[str, str] = MappingProxyType(
    {
        "fail": "the clause is broken, and the witness proves it",
        "error": "the subject crashed, hung, raised, or gave something that is no answer",
        "vacuous": "the bound would have accepted anything, so nothing was shown",
        "xfail": "broken as expected, for the reason given",
        "skip": "not examined, for the reason given",
        "pass": "nothing that was tried breaks the clause",
    }
)
BROKEN: frozenset[str] = frozenset({"fail", "error"})


@dataclass(frozen=True)
class Trial:
    """The calls that one examination of a clause makes, and what relates them.

    Attributes
    ----------
    calls : made in this order, each judged by the clause.
    relation : JSON-ready facts that the clause needs to compare them (a shift, a permutation).
    family : the family of inputs that it was drawn from, for reports.
    """

    calls: tuple[Call, ...]
    relation: Mapping[str, Any] = field(default_factory=dict)
    family: str = ""


@dataclass(frozen=True)
class Finding:
    """One certified violation.

    Attributes
    ----------
    call : which call of the trial shows it.
    index : position in that call's result, or None where the finding concerns all of it.
    quantity : what `exact` encloses, in words: "softmax(x)[3]", "sum of the outputs".
    exact : decimal strings (lower, upper) that enclose the exact value, or None.
    observed : what the subject gave, a hexadecimal float or words.
    error_ulp : certified (lower, upper) error in ulps of the result's format, or None.
    bound_ulp : the bound that the lower end exceeds, or None.
    message : one sentence that a kernel author can act on.
    result : which of the op's results it concerns.
    """

    call: int
    index: tuple[int, ...] | None
    quantity: str
    exact: tuple[str, str] | None
    observed: str
    error_ulp: tuple[float, float] | None
    bound_ulp: float | None
    message: str
    result: int = 0


class Compared(NamedTuple):
    """How one result of a call differs from its exact values, element by element.

    Attributes
    ----------
    call, result : which result of which call of the trial.
    upper : certified upper ends of the errors in ulps.
    margin : these errors / their bounds.
    ordinary : which elements have an exact value; of the others the figures say nothing.
    """

    call: int
    result: int
    upper: NDArray[np.float64]
    margin: NDArray[np.float64]
    ordinary: NDArray[np.bool_]


@dataclass(frozen=True)
class Judgement:
    """What judging one trial gave.

    Attributes
    ----------
    finding : the worst violation, or None.
    error_ulp : certified (lower, upper) of the largest error in the trial, in ulps.
    mean_ulp : mean absolute error over the trial's elements, in ulps.
    bound_ulp : the bound at the element of the largest margin.
    margin : largest (certified upper end of error) / bound over the elements.
    elements : how many results were judged.
    vacuous : the bound accepts every value in the range of the op.
    errors : midpoints of the absolute errors in ulps, for the histogram; may be empty.
    bias : mean signed error in ulps, its distance from zero in standard errors, and the count of rows.
    compared : every result that was compared with its exact values.
    """

    finding: Finding | None = None
    error_ulp: tuple[float, float] = (0.0, 0.0)
    mean_ulp: float = 0.0
    bound_ulp: float = 0.0
    margin: float = 0.0
    elements: int = 0
    vacuous: bool = False
    errors: Sequence[float] = ()
    bias: tuple[float, float, int] | None = None
    compared: tuple[Compared, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class Witness:
    """A trial that shows a defect, with what the subject answered and the certificate.

    Attributes
    ----------
    replies : the subject's reply to each call.
    seed : the seed of the run that found it.
    """

    clause: str
    op: str
    dtype: str
    subject: str
    trial: Trial
    replies: tuple[Output | Failure, ...]
    finding: Finding
    seed: int = 0


@dataclass(frozen=True)
class Verdict:
    """The answer for one clause x op x dtype of one subject.

    Attributes
    ----------
    cases : trials judged.
    error_max : certified (lower, upper) of the largest error seen, in ulps.
    error_mean : mean absolute error over every element judged, in ulps.
    bound_ulp : the bound at the worst element.
    margin : largest error / bound seen (certified upper end).
    grade : A, B, C or F on accuracy verdicts, else empty.
    controls : "caught" or "passed" for each wrong answer that was judged in the subject's place.
    statistics : what plots are drawn from: `by_length`, `histogram`, `bias`, and where the errors of a
        verdict that grades occur: `by_spread`, `by_magnitude`, `by_query`, ..., `within`, `residues`.
    seconds : wall time that the verdict took.
    oracle_seconds, subject_seconds : of these, what making the exact values and judging by them took, and
        what the subject's calls took, their way to its process included. The rest is drawing and shrinking.
    exhaustive : in words, the inputs of which every one was tried, so that `error_max` is proved to be the
        largest error there is; empty where the inputs are a sample, and `error_max` the largest seen.
    """

    clause: str
    op: str
    dtype: str
    status: Status
    cases: int = 0
    elements: int = 0
    error_max: tuple[float, float] = (0.0, 0.0)
    error_mean: float = 0.0
    bound_ulp: float = 0.0
    margin: float = 0.0
    grade: str = ""
    message: str = ""
    witness: Witness | None = None
    controls: Mapping[str, str] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    oracle_seconds: float = 0.0
    subject_seconds: float = 0.0
    exhaustive: str = ""


@dataclass(frozen=True)
class Run:
    """Every verdict on one subject, with all that is needed to repeat them.

    Attributes
    ----------
    subject : how it was named on the command line.
    name : how reports call it.
    contract : JSON-ready contract that the bounds were taken from.
    environment : machine, versions, softcert's own version.
    request : profile, seed, ops, dtypes, clauses.
    speed : rows of measured speed (op, dtype, shape, seconds, bytes per second), or empty.
    """

    subject: str
    name: str
    contract: Mapping[str, Any]
    environment: Mapping[str, Any]
    request: Mapping[str, Any]
    verdicts: tuple[Verdict, ...]
    speed: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0

    @property
    def broken(self) -> tuple[Verdict, ...]:
        """The verdicts that make the run fail."""
        return tuple(v for v in self.verdicts if v.status in BROKEN)

    @property
    def conforms(self) -> bool:
        """Whether no clause is broken."""
        return not self.broken
