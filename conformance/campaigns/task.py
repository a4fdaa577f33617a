"""What a campaign is about: how it is cut into slices, what one computes, what all of them amount to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from softcert.conformance.model import Verdict


@dataclass(frozen=True)
class Task:
    """A kind of campaign: how it is cut into slices, what one slice computes, what all of them amount to.

    Attributes
    ----------
    name : how campaign files call it.
    slices : from settings to JSON-ready slices, each with a unique string "key", in a fixed order.
    run : from settings and a slice to a JSON-ready result with at least "cases", an integer. A pure function
        of its arguments; it runs in any process that imports softcert.
    merge : from settings and results, in any order, to verdicts.
    """

    name: str
    slices: Callable[[Mapping[str, Any]], Iterable[Mapping[str, Any]]]
    run: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
    merge: Callable[[Mapping[str, Any], Iterable[Mapping[str, Any]]], list[Verdict]]
