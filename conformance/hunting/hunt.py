"""The search at one op and dtype: seed a population, move, judge, keep what came nearer to the bound."""

from __future__ import annotations

from collections.abc import Generator as Yielding
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from softcert.conformance.examination.examine import Examination, Violation
from softcert.conformance.hunting.aiming import aim
from softcert.conformance.hunting.choosing import admitted, choose, parent, recorded
from softcert.conformance.hunting.movers import is_sound, movers_of
from softcert.conformance.hunting.scene import Scene
from softcert.conformance.hunting.state import State, generator, random_state
from softcert.conformance.hunting.worst_cases import WorstCase
from softcert.conformance.model import Judgement, RequestError
from softcert.conformance.spec import Seedling

if TYPE_CHECKING:
    from numpy.random import Generator

#: The mover that is a run of Hypothesis.
AIMED = "hypothesis"
#: Moves that give nothing new, one after the other, after which another mover is asked.
_PATIENCE = 8
#: How often what came out is handed over, in seconds.
_SLICE = 0.1


@dataclass(frozen=True)
class Budget:
    """When a search ends; what is None sets no end.

    Attributes
    ----------
    evaluations : inputs judged, those before a resumption included. A run of Hypothesis is finished.
    seconds : wall time from now on.
    """

    evaluations: int | None = None
    seconds: float | None = None


@dataclass
class Hunt:
    """A search at one op and dtype.

    Attributes
    ----------
    examination : grows, asks and judges.
    subject : name of the subject, for the cases.
    state : as it was after the last whole move.
    known : hard cases from elsewhere, judged first; a search that begins takes them into its population.
    share : which of the inputs that every search begins with are judged.
    size : numbers that an input has at most, all operands together; None sets no limit.
    is_judged : whether the population is what this subject came to already, and not to be judged again.
    violation : what broke the clause, after which the search ends.
    largest : the input of the largest error in ulps, which need not be near its bound, or None.
    """

    examination: Examination
    subject: str
    state: State
    known: tuple[Seedling, ...] = ()
    share: slice = field(default_factory=lambda: slice(None))
    size: int | None = None
    is_judged: bool = False
    violation: Violation | None = None
    largest: WorstCase | None = None
    _seeds: list[Seedling] = field(default_factory=list)
    _fit: list[Seedling] = field(default_factory=list)

    def run(self, budget: Budget) -> Yielding[State, None, None]:
        """Search until the budget is spent or the clause is broken; yield the state now and then.

        What was known before is judged again first, without being counted: the subject may have changed.

        Raises
        ------
        RequestError : there is none to begin with; every one has more than `size` numbers.
        """
        started = handed = monotonic()
        fit = [seedling for seedling in self.examination.seedlings() if self._is_fit(seedling)]
        if not fit:
            few = "" if self.size is None else f" of at most {self.size} numbers"
            raise RequestError(f"there is no input{few} that a search could begin with")
        self._fit, self._seeds = fit, fit[self.share]
        if not self.is_judged:
            self._refresh()
        while self.violation is None and not _spent(budget, self.state, started):
            self.state = self._advanced()
            if monotonic() - handed >= _SLICE:
                yield self.state
                handed = monotonic()
        yield self.state

    def _refresh(self) -> None:
        population: tuple[WorstCase, ...] = ()
        for case in self.state.population:
            population = _with(population, self._evaluated(case.seedling, case.found_by))
        for seedling in self.known:
            judged = self._evaluated(seedling, "known")
            # A search that goes on must do what it would have done without a break.
            if self.state.evaluations == 0:
                population = _with(population, judged)
        self.state = replace(self.state, population=population)

    def _advanced(self) -> State:
        state = self.state
        if state.seeded < len(self._seeds):
            case = self._evaluated(self._seeds[state.seeded], "seed")
            state = replace(state, seeded=state.seeded + 1, evaluations=state.evaluations + 1)
            return replace(state, population=_with(state.population, case))
        rng = generator(state.random)
        if not state.population:
            # Not one seed could be judged: only new blood helps.
            state = replace(state, population=(self._case(self._fit[0], Judgement(), "seed"),))
        names = (*movers_of(state.op), AIMED)
        name = choose(rng, state.movers, names)
        state = self._aimed(state, rng) if name == AIMED else self._moved(state, rng, name)
        return replace(state, random=random_state(rng))

    def _moved(self, state: State, rng: Generator, name: str) -> State:
        """State after one move, or unchanged but for the record where the mover has nothing to give."""
        chosen = parent(rng, state.population)
        child = self._child(state, rng, name, chosen)
        if child is None:
            movers = recorded(state.movers, name, 0, 1)
            return replace(state, movers=movers, evaluations=state.evaluations + 1)
        case = self._evaluated(child, name)
        better = case is not None and case.margin > chosen.margin
        return replace(
            state,
            evaluations=state.evaluations + 1,
            movers=recorded(state.movers, name, int(better), 1),
            population=_with(state.population, case),
        )

    def _child(self, state: State, rng: Generator, name: str, chosen: WorstCase) -> Seedling | None:
        move = movers_of(state.op)[name]
        for _ in range(_PATIENCE):
            mate = state.population[int(rng.integers(len(state.population)))]
            with np.errstate(all="ignore"):
                child = move(Scene(rng, self.examination.context, chosen.seedling, mate.seedling))
            if child is not None and self._is_fit(child) and child.key() != chosen.seedling.key():
                return child
        return None

    def _aimed(self, state: State, rng: Generator) -> State:
        """State after a run of Hypothesis from the best of the population, or one near it."""
        chosen = parent(rng, state.population)
        found: list[WorstCase | None] = []

        def evaluate(seedling: Seedling) -> float | None:
            if self.violation is not None or not self._is_fit(seedling):
                return None
            found.append(self._evaluated(seedling, AIMED))
            return None if found[-1] is None else found[-1].margin

        aim(chosen.seedling, int(rng.integers(1 << 32)), evaluate)
        population, better = state.population, 0
        for case in found:
            population = _with(population, case)
            better += case is not None and case.margin > chosen.margin
        trials = max(len(found), 1)
        return replace(
            state,
            evaluations=state.evaluations + trials,
            movers=recorded(state.movers, AIMED, better, trials),
            population=population,
        )

    def _evaluated(self, seedling: Seedling, found_by: str) -> WorstCase | None:
        """Judge an input; None where the clause grows no trial of it, or it shows nothing."""
        examination = self.examination
        trial = examination.grown(seedling)
        if trial is None:
            return None
        replies = examination.ask(trial)
        assert replies is not None  # noqa: S101 -- a worker answers always
        violation, judgement = examination.settle(trial, replies, seedling)
        if violation is not None:
            self.violation = self.violation or violation
            judgement = replace(
                judgement, margin=max(judgement.margin, 1.0) if judgement.elements else np.inf
            )
        elif not judgement.elements or judgement.vacuous or np.isnan(judgement.margin):
            return None
        case = self._case(seedling, judgement, found_by)
        if self.largest is None or case.error_ulp[1] > self.largest.error_ulp[1]:
            self.largest = case
        return case

    def _is_fit(self, seedling: Seedling) -> bool:
        count = sum(int(operand.size) for operand in seedling.operands)
        return is_sound(seedling) and (self.size is None or count <= self.size)

    def _case(self, seedling: Seedling, judgement: Judgement, found_by: str) -> WorstCase:
        state = self.state
        return WorstCase(
            clause=state.clause,
            op=state.op,
            dtype=state.dtype,
            subject=self.subject,
            seedling=seedling,
            margin=float(judgement.margin),
            error_ulp=judgement.error_ulp,
            bound_ulp=float(judgement.bound_ulp),
            found_by=found_by,
        )


def _with(population: tuple[WorstCase, ...], case: WorstCase | None) -> tuple[WorstCase, ...]:
    return population if case is None else admitted(population, case)


def _spent(budget: Budget, state: State, started: float) -> bool:
    if budget.evaluations is not None and state.evaluations >= budget.evaluations:
        return True
    return budget.seconds is not None and monotonic() - started >= budget.seconds
