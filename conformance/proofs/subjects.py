"""The subject of a proof at work: a worker that lives as long as slices come, and its answers to many rows.

Starting a worker takes longer than a slice, so a process keeps the last one that it was asked for.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from softcert.backends import Limits, Worker
from softcert.backends.contract import as_contract
from softcert.backends.types import Array, Backend, Failure, Reply
from softcert.conformance.context import Context
from softcert.conformance.examination.job import clause_named
from softcert.conformance.judging.failures import failure_of
from softcert.conformance.model import Finding, RequestError
from softcert.conformance.proofs.domains import Domain
from softcert.conformance.proofs.judging import Bench

#: The clause that a proof is of: every result within the contract's bound of the exact value.
CLAUSE = "accuracy.certified"
#: So many calls at most look for the row that a call fails for; a hang takes its whole time each.
_PROBES: Mapping[str, int] = {"hang": 3}
_MOST_PROBES = 24
#: A call of 65536 rows is not waited for as patiently as one of a few.
LIMITS = Limits(seconds_per_element=2e-4)


@dataclass
class Subject:
    """A subject in its worker.

    Attributes
    ----------
    spec : as for `Worker`.
    worker : of the subject.
    """

    spec: str | Backend
    worker: Worker

    @property
    def name(self) -> str:
        """What a witness calls it."""
        return self.spec if isinstance(self.spec, str) else self.spec.name

    def bench(self, domain: Domain, op: str, dtype: str) -> Bench:
        """What is proved of this subject.

        Raises
        ------
        RequestError : it has no such op.
        """
        described = self.worker.description
        if op not in described.ops:
            raise RequestError(f"{described.name} has no op {op!r}; it has {', '.join(described.ops)}")
        return Bench(domain, Context.of(described, op, dtype))

    def asked(self, bench: Bench, x: Array) -> tuple[Reply, Finding | None]:
        """Its reply to rows, and what is wrong with that as an answer."""
        trial = bench.trial(x)
        reply = self.worker.call(trial.calls[0])
        return reply, failure_of(clause_named(CLAUSE), trial, (reply,))

    def failing(self, bench: Bench, first: int, last: int) -> tuple[int, int]:
        """Fewest rows of a failing call that fail by themselves, as [first, last), by halving."""
        probes = _MOST_PROBES
        while last - first > 1 and probes > 0:
            middle = (first + last) // 2
            for half in ((first, middle), (middle, last)):
                probes -= 1
                reply, wrong = self.asked(bench, bench.domain.rows(*half, bench.dtype))
                if isinstance(reply, Failure):
                    probes = min(probes, _PROBES.get(reply.kind, probes))
                if wrong is not None:
                    first, last = half
                    break
            else:
                return first, last
        return first, last


def started(
    spec: str | Backend, op: str, contract: Mapping[str, Any] | None = None, limits: Limits = LIMITS
) -> Subject:
    """Start a subject for one op; close its worker when done."""
    alone = spec if isinstance(spec, Backend) else str(spec)
    return Subject(alone, Worker(alone, op=op, contract=as_contract(contract), limits=limits))


_kept: dict[tuple[str, str, str], Subject] = {}
_inherited: list[Subject] = []


def _disown() -> None:
    """Leave the parent's worker to it in a forked process, which asks for one of its own.

    It is not dropped: a worker that is dropped ends, its folder included.
    """
    _inherited.extend(_kept.values())
    _kept.clear()


os.register_at_fork(after_in_child=_disown)


def kept(spec: str, op: str, contract: Mapping[str, Any] | None = None, limits: Limits = LIMITS) -> Subject:
    """The subject of a name, which stays at work until another is asked for."""
    key = (spec, op, repr((sorted((contract or {}).items()), limits)))
    if key not in _kept:
        release()
        _kept[key] = started(spec, op, contract, limits)
    return _kept[key]


@atexit.register
def release() -> None:
    """End the subject that is kept."""
    while _kept:
        _kept.popitem()[1].worker.close()


__all__ = ["CLAUSE", "Subject", "kept", "release", "started"]
