"""Examine one clause at one op and dtype: run its trials, judge them, keep the smallest witness."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.errors import Flaky

from softcert.backends.types import Call, Failure, Output, Reply
from softcert.conformance.attention_features import missing
from softcert.conformance.confirm import confirm
from softcert.conformance.context import Context
from softcert.conformance.controls import CONTROLS, control_answer
from softcert.conformance.minimize import minimize
from softcert.conformance.model import Finding, Judgement, Status, Trial, Verdict, Witness
from softcert.conformance.profiles import Profile
from softcert.conformance.shapes import misshapen
from softcert.conformance.spec import DERIVATIVE_OPS, Clause, Seedling, rows_last
from softcert.conformance.storage import private_storage
from softcert.conformance.tally import Tally

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: Controls are judged on this many first trials, then on one in so many.
_CONTROL_TRIALS = 12
_CONTROL_STRIDE = 8

#: Failures that even a clause which only observes does not let pass.
_FATAL = frozenset({"crash", "hang", "memory"})
#: How far the y of a derivative may be from summing to 1: far above its roundings in any format.
_SIMPLEX = 2.0**-5

Ask = Callable[[Trial], tuple[Reply, ...]]


@dataclass(frozen=True)
class Violation:
    """A trial that breaks the clause, and the seedling it grew from."""

    seedling: Seedling
    trial: Trial
    replies: tuple[Reply, ...]
    finding: Finding
    status: Status


class _ShrinkingError(AssertionError):
    """Raised inside Hypothesis, which shrinks what raises."""


@dataclass
class Examination:
    """One clause at one op and dtype of one subject.

    Attributes
    ----------
    ask : makes the calls of a trial in the worker.
    subject : its spec, for the witness.
    """

    clause: Clause
    context: Context
    ask: Ask
    profile: Profile
    seed: int
    subject: str
    tally: Tally = field(default_factory=Tally)
    caught: dict[str, bool] = field(default_factory=dict)
    observed: dict[str, None] = field(default_factory=dict)
    _trials: int = 0

    def run(self) -> Verdict:
        """Examine the directed seedlings, then the drawn ones; shrink and confirm what breaks the clause."""
        started = perf_counter()
        violation = self._directed() or self._drawn()
        if violation is not None:
            if self.clause.shrinks:
                violation = minimize(violation, self.reattempt, self.profile.shrinks)
            self._confirm(violation)
        verdict = self._verdict(violation)
        return replace(verdict, seconds=perf_counter() - started)

    def _directed(self) -> Violation | None:
        for seedling in self._seedlings():
            violation = self.attempt(seedling)
            if violation is not None:
                return violation
        return None

    def _seedlings(self) -> list[Seedling]:
        with np.errstate(all="ignore"):
            return list(self.clause.directed(self.context))

    def _drawn(self) -> Violation | None:
        if self.clause.drawn is None:
            return None
        with private_storage():
            return _Search(self).run(self.clause.drawn(self.context))

    def attempt(self, seedling: Seedling) -> Violation | None:
        """Run the trial of a seedling, count it, and return what it breaks."""
        trial = self._grown(seedling)
        if trial is None:
            return None
        replies = self.ask(trial)
        violation, judgement = self._judged(seedling, trial, replies)
        self.tally.add(trial, judgement)
        if violation is None:
            self._judge_controls(trial)
        return violation

    def _grown(self, seedling: Seedling) -> Trial | None:
        if self.context.op in DERIVATIVE_OPS and not _is_softmax_output(seedling):
            return None
        with np.errstate(all="ignore"):
            trial = self.clause.grow(seedling, self.context)
        if trial is None or any(missing(call, self.context.lacks) for call in trial.calls):
            return None
        return trial

    def reattempt(self, seedling: Seedling) -> Violation | None:
        """Run the trial of a seedling without counting it, and return what it breaks."""
        trial = self._grown(seedling)
        return None if trial is None else self._judged(seedling, trial, self.ask(trial))[0]

    def _judged(
        self, seedling: Seedling, trial: Trial, replies: tuple[Reply, ...]
    ) -> tuple[Violation | None, Judgement]:
        failure = failure_of(self.clause, trial, replies)
        if self.clause.observes and failure is None:
            self.observed.update(dict.fromkeys(_described(trial, replies)))
            return None, Judgement(elements=1)
        if failure is not None:
            return Violation(seedling, trial, replies, failure, "error"), Judgement()
        judgement = judge_trial(self.clause, trial, replies, self.context)
        if judgement.finding is None:
            return None, judgement
        return Violation(seedling, trial, replies, judgement.finding, "fail"), judgement

    def _judge_controls(self, trial: Trial) -> None:
        """Judge each control that has not been caught yet on the same trial."""
        self._trials += 1
        if self.clause.judge is None or (self._trials > _CONTROL_TRIALS and self._trials % _CONTROL_STRIDE):
            return
        for name in CONTROLS:
            if self.caught.get(name):
                continue
            with np.errstate(all="ignore"):
                given = [control_answer(name, call, self.context) for call in trial.calls]
                if None in [None if answers is None else 0 for answers in given]:
                    continue
                answers = tuple(a for answers in given for a in answers or ())
                judgement = self.clause.judge(trial, answers, self.context)
            self.caught[name] = judgement.finding is not None

    def _confirm(self, violation: Violation) -> None:
        """Recompute what a violation rests on by the other oracle; two that disagree stop the run."""
        if violation.status == "fail":
            confirm(violation.trial, violation.finding, self.context)

    def _verdict(self, violation: Violation | None) -> Verdict:
        status, message, witness = self._conclusion(violation)
        return Verdict(
            clause=self.clause.id,
            op=self.context.op,
            dtype=self.context.dtype,
            status=status,
            cases=self.tally.cases,
            elements=self.tally.elements,
            error_max=self.tally.error_max,
            error_mean=self.tally.mean,
            bound_ulp=self.tally.bound_ulp,
            margin=self.tally.margin,
            grade=self.tally.grade(status) if self.clause.accuracy else "",
            message=message,
            witness=witness,
            controls={name: "caught" if hit else "passed" for name, hit in self.caught.items()},
            statistics=self.tally.statistics(),
        )

    def _conclusion(self, violation: Violation | None) -> tuple[Status, str, Witness | None]:
        if violation is not None:
            witness = Witness(
                clause=self.clause.id,
                op=self.context.op,
                dtype=self.context.dtype,
                subject=self.subject,
                trial=violation.trial,
                replies=violation.replies,
                finding=violation.finding,
                seed=self.seed,
            )
            return violation.status, violation.finding.message, witness
        if self.tally.cases == 0:
            return "skip", "no input of this dtype fits the clause", None
        if self.clause.observes:
            return "pass", "observed: " + "; ".join(self.observed), None
        if self.tally.vacuous:
            return "vacuous", "the bound accepts every value in every case tried", None
        passed = [name for name, hit in self.caught.items() if not hit]
        if passed and len(passed) == len(self.caught):
            return "vacuous", "no control was caught: the clause could not have failed here", None
        note = f"controls that pass here too: {', '.join(passed)}" if passed else ""
        return "pass", note, None


def judge_trial(clause: Clause, trial: Trial, replies: tuple[Reply, ...], context: Context) -> Judgement:
    """Judge replies that are all outputs."""
    outputs = tuple(r for r in replies if isinstance(r, Output))
    with np.errstate(all="ignore"):
        if clause.inspect is not None:
            return clause.inspect(trial, outputs, context)
        if clause.judge is None:
            raise TypeError(f"clause {clause.id} has neither judge nor inspect")
        return clause.judge(trial, tuple(value for o in outputs for value in o.values), context)


def failure_of(clause: Clause, trial: Trial, replies: tuple[Reply, ...]) -> Finding | None:
    """The first reply that is no answer to a clause: a failure, or an array of the wrong shape or dtype.

    A clause with `inspect` judges shapes itself; one that `observes` is broken by fatal failures alone.
    """
    finding = _first_failure(trial, replies, judged_by_shape=clause.inspect is None)
    return None if finding and clause.observes and finding.observed not in _FATAL else finding


def _first_failure(trial: Trial, replies: tuple[Reply, ...], *, judged_by_shape: bool) -> Finding | None:
    for position, (call, reply) in enumerate(zip(trial.calls, replies, strict=True)):
        if isinstance(reply, Failure):
            shapes = " ".join(str(a.shape) for a in call.operands)
            what = f"{reply.kind} in {call.op} of {call.operands[0].dtype} {shapes}"
            message = f"{what}{_options(call)}: {reply.message}"
            return Finding(position, None, "the call itself", None, reply.kind, None, None, message)
        wrong = misshapen(call, reply.values) if judged_by_shape else None
        if wrong is not None:
            given = ", ".join(f"{value.dtype} {value.shape}" for value in reply.values)
            return Finding(position, None, "shape and dtype", None, given, None, None, wrong)
    return None


def _options(call: Call) -> str:
    """The keywords of attention that a call gives, in words."""
    given = [f"{name}={value!r}" for name, value in sorted(call.params.items()) if name != "axis"]
    if call.mask is not None:
        given.append(f"mask={call.mask.dtype} {call.mask.shape}")
    return f" with {', '.join(given)}" if given else ""


def _is_softmax_output(seedling: Seedling) -> bool:
    """Whether y could have come out of softmax: kernels may use that it sums to 1."""
    y = rows_last(seedling.operands[0], seedling.axis).astype(np.float64)
    return not y.shape[-1] or bool((np.abs(y.sum(axis=-1) - 1.0) <= _SIMPLEX).all())


def _described(trial: Trial, replies: tuple[Reply, ...]) -> list[str]:
    """What came back, one sentence a call."""
    return [
        f"{call.op} of shape {call.operands[0].shape} "
        + (
            f"raises {reply.message}"
            if isinstance(reply, Failure)
            else " and ".join(f"gives {value.dtype} {value.tolist()}" for value in reply.values)
        )
        for call, reply in zip(trial.calls, replies, strict=True)
    ]


class _Search:
    """Hypothesis over one clause: draws seedlings, and shrinks the first that breaks it."""

    def __init__(self, examination: Examination) -> None:
        self._examination = examination
        self._best: Violation | None = None
        self._shrinks_left = examination.profile.shrinks

    def run(self, strategy: SearchStrategy[Seedling]) -> Violation | None:
        clause, context = self._examination.clause, self._examination.context
        count = max(1, round(self._examination.profile.examples * clause.effort))
        text = f"{self._examination.seed}/{clause.id}/{context.op}/{context.dtype}"

        @hypothesis_seed(zlib.crc32(text.encode()))
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.target, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            print_blob=False,
        )
        @given(strategy)
        def body(seedling: Seedling) -> None:
            self._try(seedling)

        try:
            body()
        except (_ShrinkingError, Flaky):
            # A subject that errs now and then is told from a sound one by the first time it does.
            return self._best
        return self._best

    def _try(self, seedling: Seedling) -> None:
        if self._best is None:
            self._best = self._examination.attempt(seedling)
        elif self._shrinks_left > 0:
            self._shrinks_left -= 1
            smaller = self._examination.reattempt(seedling)
            if smaller is None or smaller.status != self._best.status:
                return
            self._best = smaller
        elif seedling.key() != self._best.seedling.key():
            return
        if self._best is not None:
            raise _ShrinkingError
