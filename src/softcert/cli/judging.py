"""From a checked request to a run, kept as far as it came when it is stopped."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from softcert.cli.console import progress_bar
from softcert.cli.options import require_known, suggest, unique

if TYPE_CHECKING:
    from softcert.backends import Contract
    from softcert.conformance import Progress
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
    """

    ops: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    clauses: tuple[str, ...] = ()
    profile: str = "quick"
    seed: int = 0
    contract: Contract | None = None

    def validate(self) -> None:
        """Refuse names that softcert does not know, before anything is loaded.

        Raises
        ------
        click.UsageError : one sentence, with the nearest known name.
        """
        from softcert.backends.types import DTYPES, OPS
        from softcert.conformance import CLAUSES, PROFILES

        require_known("op", self.ops, OPS)
        require_known("dtype", self.dtypes, DTYPES)
        groups = dict.fromkeys(clause.group for clause in CLAUSES)
        known = [*groups, *(clause.id for clause in CLAUSES)]
        for name in self.clauses:
            if name not in known:
                hint = suggest("clause", name, known)
                raise click.UsageError(
                    hint if "mean" in hint else f"{hint.partition(';')[0]}; see softcert spec"
                )
        require_known("profile", [self.profile], PROFILES)


def judge(subject: str, request: Request, label: str = "") -> tuple[Run, bool]:
    """Judge one subject, showing `label` (by default the subject) on the progress bar.

    Returns
    -------
    The run, and whether Ctrl-C stopped it; a stopped run holds the verdicts that were reached.

    Raises
    ------
    KeyboardInterrupt : stopped before the first verdict.
    RequestError, SubjectError, OracleError : as `softcert.check`.
    """
    from softcert.conformance import check
    from softcert.conformance.environment import available_cores

    reached: list[Verdict] = []
    try:
        with progress_bar(label or subject) as show:

            def watch(step: Progress) -> None:
                reached.append(step.verdict)
                show(step)

            run = check(
                subject,
                op=request.ops[0] if len(request.ops) == 1 else None,
                ops=unique(request.ops),
                dtypes=unique(request.dtypes),
                clauses=unique(request.clauses),
                profile=request.profile,
                seed=request.seed,
                contract=request.contract,
                progress=watch,
                jobs=available_cores(),
            )
    except KeyboardInterrupt:
        if not reached:
            raise
        return _stopped_run(subject, request, reached), True
    return run, False


def _stopped_run(subject: str, request: Request, reached: Sequence[Verdict]) -> Run:
    """Return the run that holds what was reached before it was stopped."""
    from softcert.conformance.environment import describe
    from softcert.conformance.model import Run

    return Run(
        subject=subject,
        name=subject,
        contract=request.contract.to_mapping() if request.contract else {},
        environment=describe(),
        request={
            "profile": request.profile,
            "seed": request.seed,
            "ops": sorted({v.op for v in reached}),
            "dtypes": sorted({v.dtype for v in reached}),
            "clauses": sorted({v.clause for v in reached}),
            "stopped": True,
        },
        verdicts=tuple(reached),
        seconds=sum(v.seconds for v in reached),
    )


def read_contract(path: str) -> Contract:
    """Read a contract from a TOML file (suffix .toml) or a JSON file.

    Raises
    ------
    click.UsageError, RequestError : it cannot be read, is malformed, or is no table of contract fields.
    SubjectError : a field or value that no contract has.
    """
    from softcert.backends import Contract
    from softcert.conformance.wire_files import read_json

    if not path.endswith(".toml"):
        declared: Any = read_json(path)
    else:
        try:
            declared = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:  # the decoder's error, UnicodeDecodeError included
            raise click.UsageError(f"{path} is not TOML: {error}") from error
    if not isinstance(declared, Mapping):
        raise click.UsageError(
            f"the contract {path} has to hold a table of fields, not a {type(declared).__name__}"
        )
    return Contract.from_mapping(declared)
