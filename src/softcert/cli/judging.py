"""From a checked request to a run, kept as far as it came when it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.console import progress_bar
from softcert.cli.options import require_known, suggest, unique

if TYPE_CHECKING:
    from softcert.backends import Contract
    from softcert.conformance import Progress
    from softcert.conformance.examination.job import Item
    from softcert.conformance.expected import ExpectedFailure
    from softcert.conformance.model import Run, Verdict


@dataclass(frozen=True)
class Request:
    """What is asked of every subject of one command.

    Attributes
    ----------
    ops, dtypes, clauses : restrictions as given, empty for all.
    profile : how much to try.
    seed : seed of every random choice.
    contract : what the subject promises, or None for what it declares itself.
    expected : clauses that are known to be broken.
    worst : files or folders of known hard cases, with which each examination begins.
    time_limit : seconds that a call may take, a millisecond an element aside; None for the usual ones.
    """

    ops: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    profile: str = "quick"
    seed: int = 0
    contract: Contract | None = None
    expected: tuple[ExpectedFailure, ...] = ()
    worst: tuple[str, ...] = ()
    time_limit: float | None = None

    def restrictions(self) -> dict[str, Any]:
        """What is tried, as the arguments of `softcert.conformance.check` and of its `Request.of` say it."""
        return {
            "op": self.ops[0] if len(self.ops) == 1 else None,
            "ops": unique(self.ops),
            "dtypes": unique(self.dtypes),
            "clauses": unique(self.clauses),
            "profile": self.profile,
            "seed": self.seed,
        }

    def validate(self) -> None:
        """Refuse names that softcert does not know, before anything is loaded.

        Raises
        ------
        click.UsageError : one sentence, with the nearest known name.
        """
        from softcert.backends.ops import DTYPES, OPS
        from softcert.conformance import CLAUSES, PROFILES

        require_known("op", self.ops, OPS)
        require_known("dtype", self.dtypes, DTYPES)
        groups = dict.fromkeys(clause.group for clause in CLAUSES)
        known = [*groups, *(clause.id for clause in CLAUSES)]
        for name in self.clauses:
            if name not in known:
                hint = suggest("clause", name, known)
                raise click.UsageError(
                    hint if "did you mean" in hint else f"{hint.partition(';')[0]}; see softcert spec"
                )
        require_known("profile", [self.profile], PROFILES)


def judge(subject: str, request: Request, label: str = "") -> tuple[Run, KeyboardInterrupt | None]:
    """Judge one subject, showing `label` (by default the subject) on the progress bar.

    Returns
    -------
    The run, and what stopped it if something did; a stopped run holds the verdicts that were reached.

    Raises
    ------
    KeyboardInterrupt : stopped before the examination began.
    RequestError, SubjectError, OracleError : as `softcert.check`.
    """
    from softcert.backends import Limits
    from softcert.conformance import check
    from softcert.conformance.environment import available_cores
    from softcert.conformance.examination.parallel import Stopped

    steps: list[Progress] = []
    started = perf_counter()
    try:
        with progress_bar(label or subject) as show:

            def watch(step: Progress) -> None:
                steps.append(step)
                show(step)

            run = check(
                subject,
                **request.restrictions(),
                contract=request.contract,
                worst=request.worst or None,
                limits=None if request.time_limit is None else Limits(seconds=request.time_limit),
                progress=watch,
                expected_failures=request.expected,
                # In processes of their own, also on one core: those can be ended whatever they are at.
                jobs=max(2, available_cores()),
            )
    except KeyboardInterrupt as interrupt:
        if not steps and not isinstance(interrupt, Stopped):
            raise
        return _stopped_run(subject, request, steps, interrupt, perf_counter() - started), _cause(interrupt)
    return run, None


def _cause(interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
    """Return what was raised first: by Ctrl-C, or by the request to terminate."""
    cause = interrupt.__cause__
    return cause if isinstance(cause, KeyboardInterrupt) else interrupt


def _stopped_run(
    subject: str, request: Request, steps: Sequence[Progress], interrupt: KeyboardInterrupt, seconds: float
) -> Run:
    """Return the run that holds what was reached before it was stopped, and what was asked."""
    from softcert.conformance import choose_clauses
    from softcert.conformance.environment import describe
    from softcert.conformance.examination.parallel import Stopped
    from softcert.conformance.model import Run

    verdicts = [step.verdict for step in steps]
    planned: Sequence[Item | Verdict] = verdicts
    described = None
    if isinstance(interrupt, Stopped):
        planned, described = interrupt.planned, interrupt.description
    contract = described.contract if described else request.contract
    order = {(item.clause, item.op, item.dtype): place for place, item in enumerate(planned)}
    return Run(
        subject=subject,
        name=described.name if described else subject,
        contract=contract.to_mapping() if contract else {},
        environment=describe(described.versions if described else None),
        request={
            "profile": request.profile,
            "seed": request.seed,
            "ops": list(dict.fromkeys(item.op for item in planned)),
            "dtypes": list(dict.fromkeys(item.dtype for item in planned)),
            "clauses": [clause.id for clause in choose_clauses(unique(request.clauses))],
            "stopped": True,
            "planned": steps[-1].total if steps else len(planned),
        },
        verdicts=tuple(sorted(verdicts, key=lambda v: order[v.clause, v.op, v.dtype])),
        seconds=seconds,
    )
