"""Make the calls of a file of cases, and keep the answers: what a machine without an oracle does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

from softcert.backends import exchange
from softcert.backends.asking import PATIENCE, answers, cost_of, worn_out
from softcert.backends.contract import Contract, as_contract
from softcert.backends.exchange import Frame, Store
from softcert.backends.isolation import Description, Limits, Worker
from softcert.backends.types import Call, Failure, Reply
from softcert.errors import RequestError, SubjectError

#: What a part of a file of results is called until it is whole.
PART = ".part"


@dataclass(frozen=True)
class Done:
    """What a run came to.

    Attributes
    ----------
    trials : how many were made, those before a resumption included.
    failures : in how many of them the subject crashed, hung, raised, or gave no array.
    left_out : items of an op or dtype that the subject does not have.
    resumed : items that were there already.
    """

    trials: int = 0
    failures: int = 0
    left_out: int = 0
    resumed: int = 0


def run_cases(
    subject: str,
    cases: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    op: str | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Done:
    """Make the calls of a file of cases on a subject, and write its answers to a file.

    Parameters
    ----------
    subject : as for `load`.
    cases : what `softcert cases` wrote.
    out : written whole or not at all; until then, what is reached lies in `out` with ".part" behind it, and
        a run of the same cases on the same subject goes on from there.
    op : the op of a single function; that of the cases where they have one.
    progress : called with the items done, the items in all, and the one at work.

    Raises
    ------
    RequestError : the cases cannot be used, or the results not written.
    SubjectError : the subject cannot be loaded, or lacks an op that the cases ask for.
    """
    target = Path(out)
    frames = exchange.frames_of(cases, "cases")
    header = next(frames).head
    with _refusing(cases):
        asked = _Asked.of(header)
    with Worker(
        subject, op=op or asked.only_op, contract=asked.contract, limits=limits or Limits()
    ) as worker:
        described = worker.description
        asked.require_had(described)
        told = {
            "schema": exchange.SCHEMA,
            "kind": "results",
            "softcert": _version(),
            "cases": exchange.digest_of(cases),
            "round": asked.round,
            "request": asked.request,
            "subject": subject,
            "description": described.to_mapping(),
        }
        with _results(target, told) as (file, reached):
            run = _Running(worker, asked, file, reached)
            for number, frame in enumerate(frames):
                with _refusing(cases):
                    item = _Item.of(number, frame)
                if progress is not None:
                    progress(number, asked.items, f"{item.clause or 'probes'} {item.op} {item.dtype}")
                run.take(item)
        return run.done


@contextlib.contextmanager
def _refusing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in whatever is wrong with what it holds."""
    try:
        yield
    except RequestError as error:
        raise RequestError(f"cannot use {path}: {error}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise RequestError(f"cannot use {path}: its contents are not as they should be ({error!r})") from None


def _version() -> str:
    try:
        return version("softcert")
    except PackageNotFoundError:
        return "unknown"


@dataclass(frozen=True)
class _Asked:
    """What the first frame of the cases asks for."""

    round: int
    items: int
    request: Mapping[str, Any]
    ops: tuple[str, ...] | None
    dtypes: tuple[str, ...] | None
    contract: Contract | None

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> _Asked:
        request = header["request"]
        ops, dtypes = (request[name] and tuple(request[name]) for name in ("ops", "dtypes"))
        contract = as_contract(request["contract"])
        return cls(int(header["round"]), int(header["items"]), request, ops, dtypes, contract)

    @property
    def only_op(self) -> str | None:
        return self.ops[0] if self.ops and len(self.ops) == 1 else None

    def require_had(self, described: Description) -> None:
        for name in self.ops or ():
            if name not in described.ops:
                raise SubjectError(f"the subject has no op {name!r}; it has {', '.join(described.ops)}")

    def fits(self, item: _Item, described: Description) -> bool:
        """Whether an item is of an op and dtype that the subject has."""
        return item.dtype in (self.dtypes or described.dtypes) and item.op in described.ops


@dataclass(frozen=True)
class _Item:
    """An item of the cases.

    Attributes
    ----------
    trials : digest and calls of each.
    unreadable : why its arrays cannot be held here, or empty.
    """

    number: int
    clause: str
    op: str
    dtype: str
    beta: bool | None
    ends_on: frozenset[str]
    trials: tuple[tuple[str, tuple[Call, ...]], ...]
    unreadable: str = ""

    @classmethod
    def of(cls, number: int, frame: Frame) -> _Item:
        """Read an item; RequestError where it is damaged."""
        head = frame.head
        facts = (head["clause"], head["op"], head["dtype"], head["beta"], frozenset(head["ends_on"]))
        try:
            arrays = frame.arrays()
        except exchange.UnreadableError as error:
            return cls(number, *facts, (), str(error))
        trials = []
        for trial in head["trials"]:
            calls = tuple(exchange.call_from_json(told, arrays) for told in trial["calls"])
            if exchange.digest(calls) != trial["digest"]:
                raise RequestError("a trial of it is not the one that it was written as")
            trials.append((trial["digest"], calls))
        return cls(number, *facts, tuple(trials))


# --- one run ---------------------------------------------------------------------------------------


@dataclass
class _Running:
    """Takes the items of the cases in order.

    Attributes
    ----------
    reached : the answers that an interrupted run has written, by the number of their item.
    """

    worker: Worker
    asked: _Asked
    file: BinaryIO
    reached: Mapping[int, Frame]
    done: Done = Done()
    _spent: int = 0
    _place: tuple[str, str] = ("", "")

    def take(self, item: _Item) -> None:
        """Make the trials of an item, and write their answers."""
        if (item.op, item.dtype) != self._place:
            self._place, self._spent = (item.op, item.dtype), 0
        described = self.worker.description
        if not self.asked.fits(item, described):
            self.done = _more(self.done, left_out=1)
        elif item.number in self.reached:
            self._count(self.reached[item.number].head, resumed=1)
        elif item.beta in (None, described.beta):
            store = Store()
            head = self._answered(item, store)
            self.file.write(exchange.packed(head, store.arrays))
            self.file.flush()
            self._count(head)

    def _count(self, head: Mapping[str, Any], resumed: int = 0) -> None:
        self._spent = head["spent"]
        failed = sum(any("failure" in reply for reply in a["replies"]) for a in head["answers"])
        self.done = _more(self.done, trials=len(head["answers"]), failures=failed, resumed=resumed)

    def _answered(self, item: _Item, store: Store) -> dict[str, Any]:
        """Answers to the trials of an item, up to the failure that ends it."""
        answered: list[dict[str, Any]] = []
        untold = item.unreadable
        if self._spent >= PATIENCE and item.ends_on:
            untold = worn_out(item.op, item.dtype)
        for key, calls in () if untold else item.trials:
            replies = self._asked(calls)
            if item.clause:  # what a probe costs is not the clauses' loss
                self._spent += cost_of(replies)
            told = [exchange.reply_to_json(reply, store) for reply in replies]
            answered.append({"digest": key, "replies": told})
            if any(isinstance(reply, Failure) and reply.kind in item.ends_on for reply in replies):
                break
        return {
            "number": item.number,
            "clause": item.clause,
            "op": item.op,
            "dtype": item.dtype,
            "beta": item.beta,
            "untold": untold,
            "answers": answered,
            "spent": self._spent,
        }

    def _asked(self, calls: tuple[Call, ...]) -> tuple[Reply, ...]:
        missing = {call.op for call in calls} - set(self.worker.description.ops)
        if missing:
            return (Failure("exception", f"the subject has no op {min(missing)!r}"),) * len(calls)
        return answers(calls, self.worker.call)


def _more(done: Done, **counts: int) -> Done:
    return Done(**{name: value + counts.get(name, 0) for name, value in vars(done).items()})


# --- the file of results ---------------------------------------------------------------------------


@contextlib.contextmanager
def _results(target: Path, told: Mapping[str, Any]) -> Iterator[tuple[BinaryIO, Mapping[int, Frame]]]:
    """Open the part of the results that is there, or a new one; make it the whole when the block is done."""
    part = target.with_name(target.name + PART)
    try:
        with part.open("r+b" if part.exists() else "w+b") as file:
            yield file, _reached(file, told)
            file.write(exchange.end())
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        raise RequestError(f"cannot write {target}: {(error.strerror or str(error)).lower()}") from error


def _reached(file: BinaryIO, told: Mapping[str, Any]) -> dict[int, Frame]:
    """Read what an interrupted run of the same cases wrote, and stand behind it; else begin anew."""
    found: dict[int, Frame] = {}
    start = 0
    with contextlib.suppress(RequestError):
        first = exchange.read_frame(file)
        if first is not None and dict(first.head) == told:
            start = file.tell()
            while (frame := exchange.read_frame(file)) is not None:
                found[int(frame.head["number"])] = frame
                start = file.tell()
    file.seek(start)
    file.truncate()
    if not start:
        file.write(exchange.packed(told))
    return found
