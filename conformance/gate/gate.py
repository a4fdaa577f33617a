"""The gate: each subject of a configuration judged, and held to what was known of it before.

For each subject, in this order: the stored witnesses of expected failures, the clauses, the folder of
witnesses, the comparison with the baseline, the speed beside its reference.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from softcert.conformance.examination.replay import replay
from softcert.conformance.expected import Expectations
from softcert.conformance.gate.baseline import Ratio, Rows, compared, ratios, require_comparable, unknown_to
from softcert.conformance.gate.config import GateConfig, GatedSubject
from softcert.conformance.model import BROKEN, RequestError, Run, Verdict, Witness
from softcert.conformance.outcome import describe_nothing, outcome
from softcert.conformance.runner import Progress, check
from softcert.conformance.wire.runs import read_run, read_witness, run_to_json, write_document
from softcert.errors import SoftcertError

#: Times subjects in one interleaved measurement: (subjects, op, dtypes) to rows of speed for each.
Timer = Callable[[Sequence[str], str, Sequence[str]], Sequence[Rows]]


@dataclass(frozen=True)
class Replayed:
    """What a stored witness shows today."""

    path: Path
    verdict: Verdict


@dataclass(frozen=True)
class SubjectResult:
    """What one subject comes to.

    Attributes
    ----------
    run : its verdicts; expected failures are xfail, and what fell behind the baseline is broken.
    replayed : the stored witnesses, in the order of their files.
    times : ratios to the reference of its speed.
    notes : what a reader should know, and what breaks nothing.
    written : the baseline that was written, or None.
    """

    gated: GatedSubject
    run: Run
    replayed: tuple[Replayed, ...] = ()
    times: tuple[Ratio, ...] = ()
    notes: tuple[str, ...] = ()
    written: Path | None = None

    @property
    def name(self) -> str:
        """What outputs call the subject."""
        return self.run.name

    @property
    def holds(self) -> bool:
        """Whether nothing is broken, lost or too slow."""
        replays = any(r.verdict.status in BROKEN for r in self.replayed)
        return self.run.conforms and not replays and not any(t.exceeds for t in self.times)


@dataclass(frozen=True)
class GateResult:
    """What a gate comes to."""

    config: GateConfig
    subjects: tuple[SubjectResult, ...]

    @property
    def holds(self) -> bool:
        """Whether every subject passes."""
        return all(subject.holds for subject in self.subjects)


def run_gate(
    config: GateConfig,
    *,
    timer: Timer | None = None,
    update: bool = False,
    progress: Callable[[GatedSubject, Progress], None] | None = None,
    jobs: int = 1,
) -> GateResult:
    """Judge every subject of a configuration.

    Parameters
    ----------
    timer : measures speed where the configuration asks for it; None leaves that out.
    update : compare with no baseline, and write a new one for each subject that holds without.
    progress : called after each verdict.
    jobs : processes to examine in, as for `check`.

    Raises
    ------
    RequestError : a subject cannot be loaded, or a file is wrong; the sentence names the file and the key.
    OracleError : the two oracles disagree.

    Notes
    -----
    The process works in the configuration's folder meanwhile, so that subjects and files mean the same
    wherever the gate is called from.
    """
    if update and not any(gated.baseline for gated in config.subjects):
        raise RequestError(
            f"{config.path.name}: no subject has the key baseline, so that none can be written"
        )
    with contextlib.chdir(config.folder):
        results = []
        for gated in config.subjects:
            watch = None if progress is None else _watching(progress, gated)
            with _naming(config, gated):
                results.append(_Judging(gated, timer, watch, jobs, update).result())
        return GateResult(config, tuple(results))


def _watching(
    progress: Callable[[GatedSubject, Progress], None], gated: GatedSubject
) -> Callable[[Progress], None]:
    return lambda step: progress(gated, step)


@contextlib.contextmanager
def _naming(config: GateConfig, gated: GatedSubject) -> Iterator[None]:
    try:
        yield
    except SoftcertError as error:
        raise RequestError(f"{config.path.name}: {gated.key}: {error}") from error


@dataclass(frozen=True)
class _Judging:
    """The way of one subject through the gate."""

    gated: GatedSubject
    timer: Timer | None
    progress: Callable[[Progress], None] | None
    jobs: int
    update: bool

    def result(self) -> SubjectResult:
        gated = self.gated
        # Files that are wrong are told before the long part.
        baseline = self._baseline()
        stored = _stored_witnesses(gated)
        run = self._checked()
        replayed = tuple(
            self._replayed(path, witness)
            for path, witness in stored
            if witness.op in run.request["ops"] and witness.dtype in run.request["dtypes"]
        )
        notes: list[str] = []
        if baseline is not None:
            require_comparable(run, baseline, str(gated.baseline))
            notes += _notes(unknown_to(run, baseline))
            run = compared(run, baseline, gated.accuracy_factor)
        run, times = self._timed(run, baseline)
        result = SubjectResult(gated, run, replayed, times, tuple(notes))
        return self._updated(result) if self.update else result

    def _baseline(self) -> Run | None:
        path = self.gated.baseline
        if path is None or self.update:
            return None
        if not path.is_file():
            raise RequestError(
                f"the baseline {path} is not there; `softcert gate --update-baseline` writes it"
            )
        return read_run(path)

    def _checked(self) -> Run:
        gated = self.gated
        run = check(
            gated.subject,
            op=gated.op,
            ops=gated.ops,
            dtypes=gated.dtypes,
            clauses=gated.clauses,
            profile=gated.profile,
            seed=gated.seed,
            contract=gated.contract,
            worst=gated.worst,
            progress=self.progress,
            jobs=self.jobs,
            expected_failures=Expectations(gated.expected, everywhere=True),
        )
        if outcome(run) == "nothing":
            raise RequestError(describe_nothing(run))
        return run if gated.name is None else replace(run, name=gated.name)

    def _replayed(self, path: Path, witness: Witness) -> Replayed:
        try:
            verdict = replay(witness, self.gated.subject, self.gated.contract)
        except RequestError as error:
            raise RequestError(f"{path}: {error}") from error
        entry = next(
            (e for e in self.gated.expected if e.matches(witness.clause, witness.op, witness.dtype)), None
        )
        if entry is not None and verdict.status in BROKEN:
            verdict = replace(verdict, status="xfail", message=f"{entry.reason} ({verdict.message})")
        return Replayed(path, verdict)

    def _timed(self, run: Run, baseline: Run | None) -> tuple[Run, tuple[Ratio, ...]]:
        limit = self.gated.speed
        if limit is None or self.timer is None:
            return run, ()
        rows: list[Mapping[str, Any]] = []
        times: list[Ratio] = []
        before = baseline.speed if baseline is not None else ()
        for op in run.request["ops"]:
            mine, theirs = self.timer((self.gated.subject, limit.reference), op, run.request["dtypes"])
            found = tuple(ratios(mine, theirs, before, limit.tolerance, limit.at_most))
            known = {(t.op, t.dtype, t.shape): t.ratio for t in found}
            for row in mine:
                key = row["op"], row["dtype"], tuple(row["shape"])
                extra = {"reference": limit.reference, "ratio": known[key]} if key in known else {}
                rows.append({**row, **extra})
            times += found
        return replace(run, speed=tuple(rows)), tuple(times)

    def _updated(self, result: SubjectResult) -> SubjectResult:
        path = self.gated.baseline
        if path is None:
            return replace(result, notes=(*result.notes, "it has no key baseline, so that none was written"))
        if not result.holds:
            return replace(result, notes=(*result.notes, f"it is broken, so that {path} was left as it was"))
        write_document(run_to_json(result.run), path)
        return replace(result, written=path)


def _stored_witnesses(gated: GatedSubject) -> list[tuple[Path, Witness]]:
    folder = gated.witnesses
    return [] if folder is None else [(path, read_witness(path)) for path in sorted(folder.glob("*.json"))]


def _notes(unknown: Sequence[Verdict]) -> list[str]:
    if not unknown:
        return []
    few = ", ".join(dict.fromkeys(v.clause for v in unknown[:3]))
    return [f"{len(unknown)} verdicts are not in the baseline ({few}, ...), and were compared with nothing"]
