"""Asking a subject for all calls of a trial, and how much of its failing is put up with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from softcert.backends.types import Call, Failure, Reply

#: What each failure costs of the patience with one op and dtype; the rest of its clauses is then left out.
COSTS: Mapping[str, int] = MappingProxyType({"crash": 1, "memory": 2, "hang": 4})
PATIENCE = 12


def answers(calls: Sequence[Call], ask: Callable[[Call], Reply]) -> tuple[Reply, ...]:
    """Make calls in order; the first that fails is the answer to the later ones too."""
    replies: list[Reply] = []
    for call in calls:
        reply = ask(call)
        replies.append(reply)
        if isinstance(reply, Failure):
            replies.extend([reply] * (len(calls) - len(replies)))
            break
    return tuple(replies)


def cost_of(replies: Iterable[Reply]) -> int:
    """What the answers to a trial cost of the patience."""
    failure = next((reply for reply in replies if isinstance(reply, Failure)), None)
    return 0 if failure is None else COSTS.get(failure.kind, 0)


def worn_out(op: str, dtype: str) -> str:
    """Why the rest of an op and dtype is left out."""
    return f"{op} {dtype} kept crashing, hanging or running out of memory"
