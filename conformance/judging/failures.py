"""Replies that are no answer at all: failures, and arrays of the wrong shape or dtype."""

from __future__ import annotations

from softcert.backends.types import Call, Failure, Reply
from softcert.conformance.judging.shapes import misshapen
from softcert.conformance.model import Finding, Trial
from softcert.conformance.spec import Clause

#: Failures that even a clause which only observes does not let pass.
_FATAL = frozenset({"crash", "hang", "memory"})


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
