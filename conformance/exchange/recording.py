"""What a subject answered elsewhere, as a source of answers: results of one or more exchanges."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from softcert.backends import Description, exchange
from softcert.backends.asking import worn_out
from softcert.backends.contract import Contract
from softcert.backends.types import Call, Failure, Reply
from softcert.conformance.examination.job import Item
from softcert.conformance.exchange.cases import Calls
from softcert.conformance.model import RequestError, Trial
from softcert.conformance.wire.files import validate_part

Replies = tuple[Reply, ...]

#: Trials of one item that a further exchange asks for at the most.
_MOST_WANTED = 400


@dataclass
class Recording:
    """The answers of one subject, by item and by the digest of a trial.

    Attributes
    ----------
    description : what the subject is.
    request : what was asked for, as `request_to_json` writes it.
    round : the last exchange that it holds results of.
    subject : as it was named where it ran.
    untold : why an item was not, or not wholly, run.
    wanted : trials that were asked for and have no answer, by item.
    """

    description: Description
    request: Mapping[str, Any]
    round: int
    subject: str
    untold: dict[Item, str] = field(default_factory=dict)
    wanted: dict[Item, dict[str, Calls]] = field(default_factory=lambda: defaultdict(dict))
    _answers: dict[Item, dict[str, list[Replies]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    _taken: dict[tuple[Item, str], int] = field(default_factory=lambda: defaultdict(int))

    def call(self, call: Call) -> Reply:
        """Reply to a probe; a failure where it was not made."""
        item = Item("", call.op, call.operands[0].dtype.name)
        replies = self.answers(item, Trial((call,)))
        return Failure("output", self.untold.get(item, "it was not asked")) if replies is None else replies[0]

    def answers(self, item: Item, trial: Trial) -> Replies | None:
        """Replies to the calls of a trial, in the order in which they were given, or None."""
        key = exchange.digest(trial.calls)
        given = self._answers[item].get(key)
        if not given:
            if len(self.wanted[item]) < _MOST_WANTED:
                self.wanted[item][key] = trial.calls
            return None
        place = self._taken[item, key]
        self._taken[item, key] += 1
        # One that is asked for again and again, as an input being made smaller is, has one answer.
        return given[min(place, len(given) - 1)]

    def keep(self, frame: exchange.Frame) -> None:
        """Take the answers of a frame."""
        head, arrays = frame.head, frame.arrays()
        item = Item(head["clause"], head["op"], head["dtype"])
        if head["untold"]:
            self.untold[item] = head["untold"]
        for answer in head["answers"]:
            replies = tuple(exchange.reply_from_json(reply, arrays) for reply in answer["replies"])
            self._answers[item][answer["digest"]].append(replies)

    def judged_by(self, contract: Contract) -> Self:
        """The same answers of a subject that promises something else."""
        return replace(self, description=replace(self.description, contract=contract))

    def refused(self, ops: Sequence[str], dtypes: Sequence[str]) -> dict[tuple[str, str], str]:
        """Why an op and dtype were not run at all."""
        return {
            (item.op, item.dtype): f"not run there: {reason}"
            for item, reason in self.untold.items()
            if item.op in ops and item.dtype in dtypes and reason != worn_out(item.op, item.dtype)
        }


def read_recording(paths: Sequence[str | os.PathLike[str]]) -> Recording:
    """Read the results of the exchanges of one subject.

    Raises
    ------
    RequestError : a file holds no results, is damaged, or is of other cases or of another subject.
    """
    found: Recording | None = None
    for path in paths:
        frames = exchange.frames_of(path, "results")
        head = next(frames).head
        validate_part(head, "results", str(path))
        told = _begun(head)
        if found is None:
            found = told
        _require_same(found, told, str(path), str(paths[0]))
        found.round = max(found.round, told.round)
        _keep_all(found, frames, str(path))
    if found is None:
        raise RequestError("there are no results to judge")
    return found


def _keep_all(recording: Recording, frames: Iterator[exchange.Frame], path: str) -> None:
    for frame in frames:
        validate_part(frame.head, "answers", path)
        try:
            recording.keep(frame)
        except (IndexError, RequestError) as error:
            raise RequestError(f"cannot use {path}: {error}") from error


def _begun(head: Mapping[str, Any]) -> Recording:
    described = Description.from_mapping(head["description"])
    return Recording(described, head["request"], head["round"], head["subject"])


def _require_same(first: Recording, other: Recording, path: str, first_path: str) -> None:
    if other.request != first.request:
        raise RequestError(f"{path} holds results of other cases than {first_path}")
    if replace(other.description, machine={}) != replace(first.description, machine={}):
        raise RequestError(
            f"{path} holds results of another subject than {first_path}, or of another version"
        )
