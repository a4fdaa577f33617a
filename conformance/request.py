"""What may be asked of the suite: every argument checked, every name known, every item of the plan."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Self

from softcert.backends import Limits
from softcert.backends.contract import Contract, as_contract
from softcert.backends.functions import adapted
from softcert.backends.loading import as_subject
from softcert.backends.ops import DTYPES, OPS
from softcert.backends.rules import Rule, instance_of, integer, names_in, require
from softcert.backends.types import Backend
from softcert.conformance.clauses import CLAUSES
from softcert.conformance.examination.job import Item, Source, Task, lacks_of, refusals
from softcert.conformance.hunting.worst_cases import Paths, WorstCase, read_cases
from softcert.conformance.model import RequestError
from softcert.conformance.profiles import PROFILES, Profile
from softcert.conformance.spec import Clause

Subject = str | os.PathLike[str] | Backend | Callable[..., object]
#: One name, or several.
Names = str | Sequence[str]


def _are_paths(value: object) -> bool:
    given = value if isinstance(value, (list, tuple)) else [value]
    return all(isinstance(path, (str, os.PathLike)) for path in given)


#: What the plain arguments of a request may be; the command line allows the same.
RULES: Mapping[str, Rule] = {
    "op": instance_of((str, type(None)), "the name of an op or None"),
    "profile": instance_of(str, "the name of a profile"),
    "seed": integer(0, 2**63 - 1, "an integer from 0 to 2**63 - 1"),
    "jobs": integer(1, 2**16, "an integer of at least 1"),
    "limits": instance_of((Limits, type(None)), "a Limits or None"),
    "worst": Rule(lambda value: value is None or _are_paths(value), "a path or a list of paths"),
    "progress": Rule(lambda value: value is None or callable(value), "a function or None"),
}


@dataclass(frozen=True)
class Request:
    """A request of which every part is known to be possible, whatever the subject is.

    Attributes
    ----------
    op, contract, limits : as for `Worker`.
    ops, dtypes : what is asked for, or None for all that the subject has.
    clauses : in the order of the specification.
    profile : a key of `PROFILES`.
    jobs : how many processes may examine.
    worst : known hard cases to begin with.
    """

    op: str | None
    ops: tuple[str, ...] | None
    dtypes: tuple[str, ...] | None
    clauses: tuple[Clause, ...]
    contract: Contract | None
    limits: Limits
    profile: str
    seed: int
    jobs: int
    worst: tuple[WorstCase, ...] = ()

    @classmethod
    def of(
        cls,
        op: str | None = None,
        ops: Names | None = None,
        dtypes: Names | None = None,
        clauses: Names | None = None,
        contract: Contract | Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        profile: str = "quick",
        seed: int = 0,
        jobs: int = 1,
        worst: Paths | None = None,
    ) -> Self:
        """Check the arguments of a request.

        Raises
        ------
        RequestError : a value of a wrong type, a name that is not known, or a file that cannot be read.
        SubjectError : what is given as a contract is none.
        """
        plain = {"op": op, "limits": limits, "profile": profile, "seed": seed, "jobs": jobs, "worst": worst}
        require(RULES, plain, RequestError)
        if profile not in PROFILES:
            raise RequestError(f"profile {profile!r} is unknown; the profiles are {', '.join(PROFILES)}")
        wanted = known_names("op", ops, OPS) or ((op,) if op else None)
        return cls(
            op=op,
            ops=wanted,
            dtypes=known_names("dtype", dtypes, DTYPES),
            clauses=choose_clauses(clauses),
            contract=as_contract(contract),
            limits=limits or Limits(),
            profile=profile,
            seed=int(seed),
            jobs=int(jobs),
            worst=() if worst is None else read_cases(worst),
        )

    @property
    def effort(self) -> Profile:
        """How much to try."""
        return PROFILES[self.profile]

    def ops_of(self, available: Sequence[str]) -> tuple[str, ...]:
        """Ops to examine of a subject that has some.

        Raises
        ------
        RequestError : one that it does not have.
        """
        for name in self.ops or ():
            if name not in available:
                raise RequestError(f"the subject has no op {name!r}; it has {', '.join(available)}")
        return tuple(k for k in OPS if k in (self.ops or available))

    def dtypes_of(self, declared: Sequence[str]) -> tuple[str, ...]:
        """Dtypes to examine of a subject that declares some; others may be asked for."""
        return tuple(k for k in DTYPES if k in (self.dtypes or declared))

    def task(
        self,
        source: Source,
        subject: str,
        ops: Sequence[str],
        dtypes: Sequence[str],
        refused: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> Task:
        """What is to be known of a subject before it is examined; it is asked what it refuses.

        Parameters
        ----------
        subject : as reports name it. refused : why an op and dtype cannot be examined, where that is known.
        """
        assumed = source.description.assumed and not self.dtypes
        left_out = (refusals(source, ops, dtypes) if assumed else {}) | dict(refused)
        return Task(
            subject=subject,
            op=self.op,
            contract=self.contract,
            limits=self.limits,
            profile=self.effort,
            seed=self.seed,
            refused=left_out,
            lacks=lacks_of(source, ops, dtypes, left_out, self.effort.thorough),
            worst=self.worst,
        )

    def plan(self, ops: Sequence[str], dtypes: Sequence[str]) -> tuple[Item, ...]:
        """Every item to be examined, in order.

        Raises
        ------
        RequestError : there is none, since no clause asked for speaks of the ops and dtypes.
        """
        items = tuple(
            Item(clause.id, op, dtype)
            for op in ops
            for dtype in dtypes
            for clause in self.clauses
            if speaks_of(clause, op, dtype)
        )
        if not items:
            raise RequestError(nothing_to_examine(self.clauses, ops, dtypes))
        return items


def as_spec(subject: object, op: str | None) -> str | Backend:
    """Subject as `Worker` takes it; a function becomes a backend of its one op.

    Raises
    ------
    RequestError : a function whose op nothing says.
    SubjectError : no subject at all, or a function that cannot be called as its op.
    """
    given = as_subject(subject)
    if isinstance(given, (str, Backend)):
        return given
    name = function_name(given)
    wanted = op or name
    if wanted not in OPS:
        raise RequestError(f"function {name!r} is no op by name; say which with op=, one of {', '.join(OPS)}")
    kernel = adapted(given, wanted)
    return Backend(name=name, ops={wanted: kernel}, beta=kernel.beta)


def function_name(function: object) -> str:
    """Name of a function, of what a partial one stands for, or of the type of another callable."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def speaks_of(clause: Clause, op: str, dtype: str) -> bool:
    """Whether a clause says anything of an op at a dtype."""
    return op in clause.ops and dtype in clause.dtypes


def nothing_to_examine(clauses: Iterable[Clause], ops: Sequence[str], dtypes: Sequence[str]) -> str:
    """One sentence for a request that asks for something, and yet for nothing."""
    if not ops or not dtypes:
        return f"the subject has no {'dtype' if ops else 'op'} to examine"
    ids = [clause.id for clause in clauses]
    subject = f"clause {ids[0]} does not speak" if len(ids) == 1 else f"none of {', '.join(ids)} speaks"
    spoken = any(op in clause.ops for clause in clauses for op in ops)
    return f"{subject} of {' or '.join(ops)}" + (f" in {' or '.join(dtypes)}" if spoken else "")


def choose_clauses(names: Names | None) -> tuple[Clause, ...]:
    """Clauses by id or group, in the order of the specification; None is all of them.

    Raises
    ------
    RequestError : a name that is neither an id nor a group.
    """
    known = {name for clause in CLAUSES for name in (clause.id, clause.group)}
    chosen = known_names("clause", names, sorted(known), "`softcert spec` lists them")
    return tuple(c for c in CLAUSES if chosen is None or {c.id, c.group} & set(chosen))


def known_names(
    what: str, names: Names | None, known: Sequence[str], otherwise: str = ""
) -> tuple[str, ...] | None:
    """Names from one or several; None for none at all.

    Raises
    ------
    RequestError : one that is not known, with the nearest that is.
    """
    given = names_in(names, f"{what}s", RequestError)
    for name in given or ():
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else otherwise or f"known are {', '.join(known)}"
            raise RequestError(f"{what} {name!r} is unknown; {hint}")
    return given or None
