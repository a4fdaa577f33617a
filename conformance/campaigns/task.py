"""What a campaign computes: how it is cut into slices, what one of them gives, and what all amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from softcert.conformance.hunting.worst_cases import WorstCase
from softcert.conformance.model import Verdict


@dataclass(frozen=True)
class Task:
    """A kind of campaign: how it is cut into slices, what one slice computes, what all of them amount to.

    Attributes
    ----------
    name : what settings call it.
    slices : of settings, slices that are JSON-ready and have each a unique string `key`; in an order that
        the settings alone determine; a generator. One that has `after`, keys of slices before it, is run
        when those are done.
    run : of settings and a slice, a JSON-ready result with at least `cases`, the count of inputs judged. A
        slice that has `after` comes with a third argument, the results of those, in that order. A pure
        function of its arguments, which runs in any process that can import it.
    merge : of settings and results, the verdicts. Associative: the results come in any order.
    worst : of settings and results, the inputs that came nearest to the bound, the worst first; None where
        a task keeps none.
    """

    name: str
    slices: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]
    run: Callable[..., Mapping[str, Any]]
    merge: Callable[[Mapping[str, Any], Iterable[Mapping[str, Any]]], list[Verdict]]
    worst: Callable[[Mapping[str, Any], Iterable[Mapping[str, Any]]], Sequence[WorstCase]] | None = None
