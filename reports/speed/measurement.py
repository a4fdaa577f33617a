"""Several subjects timed in turn, in one process each, beside what the machine can do at most.

Times of one machine are compared within one run only: each round asks every subject on the same inputs, so
that what slows the machine down for a while slows all of them. No input is used in two rounds, so that a
result that was kept is a wrong one.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from statistics import median
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from softcert.backends import Limits as CallLimits
from softcert.backends import Worker
from softcert.backends.types import Array, Call, Failure, Output
from softcert.errors import SubjectError
from softcert.reports.speed.limits import LARGE, Limits, Machine
from softcert.reports.speed.problems import Problem, Shape, shapes_of
from softcert.reports.speed.statistics import NOISY, median_interval, quartiles, unrest
from softcert.reports.speed.validity import Examiner, beyond_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from softcert.backends import Description
    from softcert.backends.types import Backend

ROUNDS = 9
#: Calls of a subject in a round, each on other inputs, of which the fastest counts.
_CALLS = 2
#: Seconds before a subject is asked: threads of the one before spin for a while, and take its cores.
_REST = 0.02
#: Seconds in a subject's own code after which it is asked no more on one shape, once it has two rounds.
_PATIENCE = 30.0
#: Times that limits are measured again before a figure is called impossible, and seconds before each.
_SECOND_LOOKS, _PAUSE = 5, 0.3
#: The fewest rounds of which quartiles can be told.
LEAST_ROUNDS = 2

Row = dict[str, Any]


class Unmeasured(NamedTuple):
    """Why a subject has no figure."""

    position: int
    problem: Problem
    message: str


@dataclass
class _Times:
    """What one subject gave on one problem.

    Attributes
    ----------
    rounds : seconds of each.
    clocks : what they were measured with.
    """

    rounds: list[float] = field(default_factory=list)
    clocks: set[str] = field(default_factory=set)
    asked: Call | None = None
    answer: tuple[Array, ...] = ()
    spent: float = 0.0

    @property
    def worn(self) -> bool:
        return self.spent > _PATIENCE and len(self.rounds) >= LEAST_ROUNDS


class Stopwatch:
    """Subjects that are loaded, and timed together; use it as a context manager.

    Parameters
    ----------
    subjects : as for `softcert.load`.
    op : the op of a subject that is a function of another name, as for `softcert.load`.
    pythons : for each subject the interpreter that runs it, as for `Worker`; none given, this one for all.

    Attributes
    ----------
    descriptions : what each subject is that could be loaded, by its position.
    unloadable : why the others could not.
    unmeasured : where one gave no figure, and why.
    """

    def __init__(
        self, subjects: Sequence[str | Backend], op: str | None = None, pythons: Sequence[str | None] = ()
    ) -> None:
        self._subjects, self._op = subjects, op
        self._pythons = pythons or [None] * len(subjects)
        self._workers: dict[int, Worker] = {}
        self._examiner = Examiner()
        self._machine = Machine()
        self._stack = ExitStack()
        self.descriptions: dict[int, Description] = {}
        self.unloadable: dict[int, SubjectError] = {}
        self.unmeasured: list[Unmeasured] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._machine)
            for position, (subject, python) in enumerate(zip(self._subjects, self._pythons, strict=True)):
                worker = Worker(subject, op=self._op, limits=CallLimits(), timed=True, python=python)
                stack.enter_context(worker)
                try:
                    self.descriptions[position] = worker.description
                    self._workers[position] = worker
                except SubjectError as error:
                    self.unloadable[position] = error
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def rows(
        self,
        ops: Sequence[str],
        dtypes: Sequence[str],
        shapes: Sequence[Shape] | None = None,
        rounds: int = ROUNDS,
        *,
        ladder: bool = False,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Iterator[tuple[int, Row]]:
        """Yield (position of a subject, row of a run's `speed`), one problem after another.

        Parameters
        ----------
        shapes : of every op; by default those of `shapes_of`, with `ladder` those whose lengths grow too.
        rounds : at least 2.
        progress : called with the rounds done, those in all, and what is being timed.
        """
        problems = [
            Problem(op, dtype, tuple(shape))
            for op in ops
            for dtype in dtypes
            for shape in shapes or shapes_of(op, ladder=ladder)
        ]
        for number, problem in enumerate(problems):
            told = " x ".join(map(str, problem.shape))

            def show(done: int, at: int = number, what: str = f"{problem.op} {problem.dtype} {told}") -> None:
                if progress is not None:
                    progress(at * (rounds + 1) + done, len(problems) * (rounds + 1), what)

            yield from self._timed(problem, rounds, show)

    def _timed(self, problem: Problem, rounds: int, show: Callable[[int], None]) -> Iterator[tuple[int, Row]]:
        able = {
            position: _Times()
            for position, described in self.descriptions.items()
            if problem.op in described.ops and problem.dtype in described.dtypes
        }
        limits: list[Limits] = []
        traffic = 0
        # The first round warms up: it compiles, fills caches, and is thrown away.
        for number in range(rounds + 1):
            if not able:
                return
            show(number)
            # First the product, whose threads spin for a while; drawing numbers takes longer than they do.
            matrix = self._matrix_rate(problem)
            calls = [problem.draw(number * _CALLS + k) for k in range(_CALLS)]
            traffic = problem.traffic(calls[0])
            limit = self._limit(traffic, matrix)
            if number:
                limits.append(limit)
            self._ask(problem, calls, able, number)
        for position, times in able.items():
            if len(times.rounds) >= LEAST_ROUNDS:
                yield position, self._row(problem, position, times, limits, traffic)

    def _matrix_rate(self, problem: Problem) -> float | None:
        return self._machine.matrix_rate(problem.dtype) if problem.flops else None

    def _limit(self, traffic: int, matrix: float | None) -> Limits:
        return Limits(self._machine.copy_rate(traffic), self._machine.copy_rate(2 * LARGE), matrix)

    def _impossible(self, problem: Problem, traffic: int, slowest: float, limits: list[Limits]) -> str:
        """Why a time cannot be true, if so; limits that would say it are measured again first.

        Other work may have slowed the machine down in just those moments in which they were measured.
        """
        for _ in range(_SECOND_LOOKS):
            if not beyond_limits(problem, traffic, slowest, limits):
                break
            sleep(_PAUSE)
            limits.append(self._limit(traffic, self._matrix_rate(problem)))
        return beyond_limits(problem, traffic, slowest, limits)

    def _ask(self, problem: Problem, calls: Sequence[Call], able: dict[int, _Times], number: int) -> None:
        """One round; a subject that fails leaves, and each begins as often as the others."""
        order = list(able)
        first = number % len(order)
        for position in (*order[first:], *order[:first]):
            times = able[position]
            if times.worn:
                continue
            outputs: list[Output] = []
            sleep(_REST)
            for call in calls:
                reply = self._workers[position].call(replace(call, timed=True))
                if isinstance(reply, Failure):
                    self.unmeasured.append(Unmeasured(position, problem, f"{reply.kind}: {reply.message}"))
                    del able[position]
                    break
                outputs.append(reply)
            else:
                times.spent += sum(output.seconds for output in outputs)
                times.asked, times.answer = calls[-1], outputs[-1].values
                if number:
                    fastest = min(outputs, key=lambda output: output.seconds)
                    times.rounds.append(fastest.seconds)
                    times.clocks.add(fastest.clock)

    def _row(self, problem: Problem, position: int, times: _Times, limits: list[Limits], traffic: int) -> Row:
        samples = times.rounds
        seconds, interval = median(samples), median_interval(samples)
        clock = times.clocks.pop() if len(times.clocks) == 1 else "mixed"
        on_host = clock == "wall"
        described = self.descriptions[position]
        assert times.asked is not None  # noqa: S101 - it has rounds
        examined = self._examiner.examine(times.asked, times.answer, described, problem.dtype)
        impossible = ""
        if on_host and not examined.wrong:
            impossible = self._impossible(problem, traffic, interval.high, limits)
        row: Row = {
            "op": problem.op,
            "dtype": problem.dtype,
            "shape": list(problem.shape),
            "seconds": seconds,
            "spread": list(quartiles(samples)),
            "interval": [interval.low, interval.high],
            "confidence": interval.confidence,
            "samples": list(samples),
            "clock": clock,
            "bytes": traffic,
            "bytes_per_second": traffic / seconds,
            # A limit is what was reached once.
            "copy_bytes_per_second": max(limit.copy for limit in limits),
            "memory_bytes_per_second": max(limit.memory for limit in limits),
            "error_ulp": examined.error_ulp,
            "margin": examined.margin,
        }
        row |= _state(examined.wrong, impossible, samples, limits)
        row |= _rates(problem, seconds, limits)
        if on_host:
            row |= _shares(row)
            row |= self._memory(position, times.asked)
        return row

    def _memory(self, position: int, call: Call) -> Row:
        """Memory that a call takes beyond its operands, where that can be seen."""
        if not self.descriptions[position].memory_seen:
            return {}
        reply = self._workers[position].call(replace(call, measured=True, timed=True))
        if isinstance(reply, Failure) or reply.peak_bytes is None:
            return {}
        return {"peak_bytes": reply.peak_bytes}


def _state(wrong: str, impossible: str, samples: Sequence[float], limits: Sequence[Limits]) -> Row:
    """Status of a figure, and the reason where it is not "ok"."""
    if wrong:
        return {"status": "invalid", "reason": f"the answer after timing is wrong: {wrong}"}
    if impossible:
        return {"status": "invalid", "reason": impossible}
    beside = unrest([limit.copy for limit in limits])
    for what, found in (("the rounds", unrest(samples)), ("the copies beside it", beside)):
        if found > NOISY:
            reason = f"the quartiles of {what} lie {100 * found:.0f} % of the median apart"
            return {"status": "noisy", "reason": f"{reason} ({100 * NOISY:.0f} % at most)"}
    return {"status": "ok"}


def _rates(problem: Problem, seconds: float, limits: Sequence[Limits]) -> Row:
    row: Row = {} if problem.operations is None else {"operations": problem.operations}
    if problem.flops is not None:
        row["flops_per_second"] = problem.flops / seconds
        row["matrix_flops_per_second"] = max(limit.matrix for limit in limits if limit.matrix is not None)
    return row


def _shares(row: Mapping[str, Any]) -> Row:
    """What was reached of each limit."""
    shares = {"copy_share": row["bytes_per_second"] / row["copy_bytes_per_second"]}
    if "flops_per_second" in row:
        shares["matrix_share"] = row["flops_per_second"] / row["matrix_flops_per_second"]
    return shares
