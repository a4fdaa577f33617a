"""Examine one clause at one op and dtype: run its trials, judge them, keep the smallest witness."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as hypothesis_seed
from hypothesis.errors import Flaky

from softcert.backends.ops import ATTENTION_OPS
from softcert.backends.types import Array, Failure, Output, Reply
from softcert.conformance.context import Context
from softcert.conformance.examination.breakdown import Breakdown
from softcert.conformance.examination.clock import Clock
from softcert.conformance.examination.concessions import with_concession
from softcert.conformance.examination.minimize import minimize
from softcert.conformance.examination.tally import Tally
from softcert.conformance.inputs.features import missing
from softcert.conformance.inputs.storage import fixed_draws, private_storage
from softcert.conformance.judging.confirm import confirm
from softcert.conformance.judging.controls import CONTROLS, control_answer
from softcert.conformance.judging.failures import failure_of
from softcert.conformance.judging.shapes import summed_length
from softcert.conformance.model import Finding, Judgement, Status, Trial, Verdict, Witness
from softcert.conformance.profiles import Profile
from softcert.conformance.spec import PRODUCT_OPS, Clause, Seedling, rows_last

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

#: Controls are judged on this many first trials, then on one in so many.
_CONTROL_TRIALS = 12
_CONTROL_STRIDE = 8

#: A matrix of a row's elements by themselves of this size, and what is made of it, exceed the usual limit.
_MATRIX_BYTES = 1 << 30
#: How far the y of a derivative may be from summing to 1: far above its roundings in any format.
_SIMPLEX = 2.0**-5

#: How the message of a clause that holds begins to name what its subject refuses.
NOT_ASKED = "not asked, since the subject refuses it: "

#: Replies to the calls of a trial, or None where they are not known.
Ask = Callable[[Trial], "tuple[Reply, ...] | None"]


@dataclass(frozen=True)
class Violation:
    """A trial that breaks the clause, and the seedling it grew from, where it can be grown anew."""

    seedling: Seedling | None
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
    ask : makes the calls of a trial, in the worker or in a recording of one.
    subject : its spec, for the witness.
    first, last : known hard cases, examined before and after the clause's own directed seedlings.
    """

    clause: Clause
    context: Context
    ask: Ask
    profile: Profile
    seed: int
    subject: str
    first: tuple[Seedling, ...] = ()
    last: tuple[Seedling, ...] = ()
    tally: Tally = field(default_factory=Tally)
    breakdown: Breakdown = field(default_factory=Breakdown)
    caught: dict[str, bool] = field(default_factory=dict)
    observed: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unanswered: int = 0
    clock: Clock = field(default_factory=Clock)
    _trials: int = 0

    def run(self) -> Verdict:
        """Examine the directed seedlings, then the drawn ones; shrink and confirm what breaks the clause."""
        started = perf_counter()
        verdict = self.conclude(self.shrunk(self._directed() or self._drawn()))
        return replace(
            verdict,
            seconds=perf_counter() - started,
            oracle_seconds=self.clock.spent["oracle"],
            subject_seconds=self.clock.spent["subject"],
        )

    def shrunk(self, violation: Violation | None) -> Violation | None:
        """Smallest violation found from one, if the clause lets it shrink."""
        if violation is None or not self.clause.shrinks:
            return violation
        return minimize(violation, self.reattempt, self.profile.shrinks)

    def conclude(self, violation: Violation | None) -> Verdict:
        """Verdict on all that was examined; what breaks the clause is confirmed first."""
        return self._verdict(None if violation is None else self._confirmed(violation))

    def _directed(self) -> Violation | None:
        for seedling in self.seedlings():
            violation = self.attempt(seedling)
            if violation is not None:
                return violation
        return None

    def rehearse(self) -> None:
        """Ask for every trial that `run` would make of a subject that breaks nothing, and judge none."""
        for seedling in self.seedlings():
            self.attempt(seedling)
        self._drawn()

    def seedlings(self) -> list[Seedling]:
        """Seedlings that are examined whatever is drawn, in order."""
        with np.errstate(all="ignore"):
            return [*self.first, *self.clause.directed(self.context), *self.last]

    def _drawn(self) -> Violation | None:
        if self.clause.drawn is None:
            return None
        with private_storage(), fixed_draws():
            return _Search(self).run(self.clause.drawn(self.context))

    def attempt(self, seedling: Seedling) -> Violation | None:
        """Run the trial of a seedling, count it, and return what it breaks."""
        trial = self.grown(seedling)
        if trial is None:
            return None
        replies = self._asked(trial)
        if replies is None:
            self.unanswered += 1
            return None
        beyond = self._beyond_memory(trial, replies)
        if beyond is not None:
            self.refused.setdefault(*beyond)
            return None
        return self.settle(trial, replies, seedling)[0]

    def _beyond_memory(self, trial: Trial, replies: tuple[Reply, ...]) -> tuple[str, str] | None:
        """What a kernel that holds a whole matrix cannot be asked, and how it says so; None for another."""
        if self.context.contract.memory != "any":
            return None
        for call, reply in zip(trial.calls, replies, strict=True):
            if call.op in ATTENTION_OPS or not isinstance(reply, Failure) or reply.kind != "memory":
                continue
            largest = math.isqrt(_MATRIX_BYTES // call.operands[0].dtype.itemsize)
            if summed_length(call) > largest:
                return f"rows of more than {largest} elements", reply.message
        return None

    def settle(
        self, trial: Trial, replies: tuple[Reply, ...], seedling: Seedling | None = None
    ) -> tuple[Violation | None, Judgement]:
        """Judge the replies to a trial, and count it; say what they break."""
        with self.clock.running("oracle"):
            violation, judgement = self._judged(seedling, trial, replies)
            if violation is None:
                self._judge_controls(trial)
        self.tally.add(trial, judgement)
        if self.clause.accuracy:
            self.breakdown.add(trial, judgement, self.context)
        return violation, judgement

    def grown(self, seedling: Seedling) -> Trial | None:
        """Trial of a seedling, or None where the clause has none for it."""
        if self.context.op in PRODUCT_OPS and not _is_softmax_output(seedling):
            return None
        # Gradients are asked for at the exact results of the forward pass.
        with np.errstate(all="ignore"), self.clock.running("oracle"):
            trial = self.clause.grow(seedling, self.context)
        for call in () if trial is None else trial.calls:
            feature = missing(call, self.context.lacks)
            if feature is not None:
                self.refused[feature] = self.context.lacks[feature]
                return None
        return trial

    def reattempt(self, seedling: Seedling) -> Violation | None:
        """Run the trial of a seedling without counting it, and return what it breaks."""
        trial = self.grown(seedling)
        replies = None if trial is None else self._asked(trial)
        if trial is None or replies is None:
            return None
        with self.clock.running("oracle"):
            return self._judged(seedling, trial, replies)[0]

    def _asked(self, trial: Trial) -> tuple[Reply, ...] | None:
        with self.clock.running("subject"):
            return self.ask(trial)

    def _judged(
        self, seedling: Seedling | None, trial: Trial, replies: tuple[Reply, ...]
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

    def _confirmed(self, violation: Violation) -> Violation:
        """Recompute what a violation rests on by the other oracle; two that disagree stop the run."""
        if violation.status != "fail":
            return violation
        trial, finding = violation.trial, violation.finding
        with self.clock.running("oracle"):
            confirm(trial, finding, self.context)
            results = outputs_of(violation.replies)
            return replace(
                violation, finding=with_concession(finding, self.clause, trial, results, self.context)
            )

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
            statistics={**self.tally.statistics(), **self.breakdown.statistics()},
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
        untold = [f"{feature} ({words})" for feature, words in self.refused.items()]
        unexamined = self._unexamined(untold)
        if unexamined is not None:
            return "skip", unexamined, None
        if self.clause.observes:
            return "pass", "observed: " + "; ".join(self.observed), None
        if self.tally.vacuous:
            return "vacuous", "the bound accepts every value in every case tried", None
        passed = [name for name, hit in self.caught.items() if not hit]
        if passed and len(passed) == len(self.caught):
            return "vacuous", "no control was caught: the clause could not have failed here", None
        notes = [f"controls that pass here too: {', '.join(passed)}"] if passed else []
        notes += [f"{NOT_ASKED}{'; '.join(untold)}"] if untold else []
        return "pass", "; ".join(notes), None

    def _unexamined(self, untold: list[str]) -> str | None:
        """Why nothing can be said although nothing is broken, if so."""
        if self.unanswered:
            return f"{self.unanswered} of its cases have no answer yet"
        if self.tally.cases:
            return None
        if untold:
            return f"the subject refuses {'; '.join(untold)}"
        return "no input of this dtype fits the clause"


def judge_trial(clause: Clause, trial: Trial, replies: tuple[Reply, ...], context: Context) -> Judgement:
    """Judge replies that are all outputs."""
    with np.errstate(all="ignore"):
        if clause.inspect is not None:
            return clause.inspect(trial, tuple(r for r in replies if isinstance(r, Output)), context)
        if clause.judge is None:
            raise TypeError(f"clause {clause.id} has neither judge nor inspect")
        return clause.judge(trial, outputs_of(replies), context)


def outputs_of(replies: tuple[Reply, ...]) -> tuple[Array, ...]:
    """The results of every call that has some, call by call."""
    return tuple(value for r in replies if isinstance(r, Output) for value in r.values)


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
        elif self._best.seedling is None or seedling.key() != self._best.seedling.key():
            return
        if self._best is not None:
            raise _ShrinkingError
