"""The search for the worst case as a campaign: islands of short hunts, which hand on the best they found.

A slice is one round of one island. It begins with what the round before found on its island and on the two
beside it, in a ring, and with nothing else: the engine hands it those results, whoever computed them and
whenever. So what a search comes to follows from its settings alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from softcert.backends import Limits, Worker
from softcert.backends.ops import DTYPES, OPS
from softcert.backends.rules import Rule, integer, require
from softcert.conformance.campaigns.checking import joined
from softcert.conformance.campaigns.task import Task
from softcert.conformance.examination.job import Item
from softcert.conformance.hunting.choosing import Population, admitted, elite, niche
from softcert.conformance.hunting.hunt import Budget, Hunt
from softcert.conformance.hunting.search import SearchTask, clause_of, examination_for, task_of
from softcert.conformance.hunting.state import State, fresh_random
from softcert.conformance.hunting.worst_cases import KEPT, WorstCase, case_from_json, case_to_json
from softcert.conformance.model import RequestError, Verdict
from softcert.conformance.proofs.subjects import kept
from softcert.conformance.request import Request, known_names
from softcert.conformance.wire.runs import verdict_from_json, verdict_to_json

#: What a search is where settings do not say: islands, rounds of each, inputs judged in a round.
ISLANDS, ROUNDS, BUDGET = 8, 10, 1000
#: Numbers of an input at most: what is kept is short, and a round of seconds judges many.
SIZE = 512
#: Cases that an island hands to each of its neighbours.
HANDED = 2

#: What the settings that are the search's own may be.
RULES: Mapping[str, Rule] = {
    "islands": integer(1, 10_000, "an integer from 1 to 10000"),
    "rounds": integer(1, 10**6, "an integer of at least 1"),
    "slices": integer(1, 10**9, "an integer of at least 1"),
    "budget": integer(1, 10**9, "an integer of at least 1"),
    "size": integer(1, 10**9, "an integer of at least 1"),
    "seed": integer(0, 2**63 - 1, "an integer from 0 to 2**63 - 1"),
}


@dataclass(frozen=True)
class Asked:
    """What settings ask for.

    Attributes
    ----------
    item : the clause whose error / bound is maximized, op and dtype.
    islands : hunts beside each other, in a ring.
    slices : rounds of islands, the last round perhaps not of all.
    budget : inputs judged in a slice.
    size : numbers that an input has at most, all operands together.
    """

    subject: str
    item: Item
    contract: Mapping[str, Any] | None
    seed: int
    islands: int
    slices: int
    budget: int
    size: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Asked:
        """Check settings, and fill in what they do not say.

        Raises
        ------
        RequestError : something is missing or wrong.
        """
        for name in ("subject", "op", "dtype"):
            if settings.get(name) is None:
                raise RequestError(f"the task search needs the {name} that it hunts")
        op, dtype = settings["op"], settings["dtype"]
        known_names("op", [op], OPS)
        known_names("dtype", [dtype], DTYPES)
        clause = clause_of(op, dtype)
        if clause is None:
            raise RequestError(f"nothing to search: no clause on accuracy speaks of {op} in {dtype}")
        own = {name: settings[name] for name in RULES if settings.get(name) is not None}
        require(RULES, own, RequestError)
        if {"rounds", "slices"} <= own.keys():
            raise RequestError("either the slices of a search are given, or its rounds")
        islands = own.get("islands", ISLANDS)
        return cls(
            subject=settings["subject"],
            item=Item(clause.id, op, dtype),
            contract=settings.get("contract"),
            seed=own.get("seed", 0),
            islands=islands,
            slices=own.get("slices", islands * own.get("rounds", ROUNDS)),
            budget=own.get("budget", BUDGET),
            size=own.get("size", SIZE),
        )


# --- slices ---


def _key(number: int, island: int) -> str:
    return f"round-{number:04}-island-{island:04}"


def slices(settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Rounds of islands; each after the last round of its own island and of those beside it, in that order.

    Parameters
    ----------
    settings : "subject", "op", "dtype"; and where wanted "contract", "seed", "islands", "rounds" or "slices",
        "budget", "size".

    Raises
    ------
    RequestError : something is missing or wrong.
    """
    asked = Asked.of(settings)
    for place in range(asked.slices):
        number, island = divmod(place, asked.islands)
        piece = {"key": _key(number, island), "round": number, "island": island}
        if number:
            ring = [(island + step) % asked.islands for step in (0, -1, 1)]
            piece["after"] = [_key(number - 1, one) for one in dict.fromkeys(ring)]
        yield piece


# --- one slice ---


def run(
    settings: Mapping[str, Any], piece: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """One round of an island, JSON-ready; `cases` counts the inputs that it judged.

    Parameters
    ----------
    earlier : results of the round before, its own first, then those of its neighbours.

    Notes
    -----
    After one that broke the bound there is nothing to look for: it hands on what it was handed.
    """
    asked = Asked.of(settings)
    worker = kept(asked.subject, asked.item.op, asked.contract, Limits()).worker
    begun = _begun(asked, piece, earlier)
    if any(result["broken"] for result in earlier):
        return _result(piece, begun, None, None, broken=True)
    examination = examination_for(worker, _task(asked, worker), asked.item)
    if isinstance(examination, Verdict):
        return _result(piece, begun, None, examination, broken=False)
    hunt = Hunt(
        examination,
        worker.description.name,
        begun,
        share=slice(piece["island"], None, asked.islands) if not piece["round"] else slice(0),
        size=asked.size,
        is_judged=True,
    )
    for _ in hunt.run(Budget(evaluations=asked.budget)):
        pass
    broken = hunt.violation is not None
    verdict = examination.conclude(examination.shrunk(hunt.violation))
    return _result(piece, hunt.state, hunt.largest, verdict, broken=broken)


def _task(asked: Asked, worker: Worker) -> SearchTask:
    request = Request.of(
        asked.item.op, asked.item.op, asked.item.dtype, contract=asked.contract, seed=asked.seed
    )
    return task_of(asked.subject, request, worker, [asked.item])


def _begun(asked: Asked, piece: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> State:
    """State that a round begins with: its island's own, and the best of its neighbours."""
    clause, op, dtype = asked.item
    population: Population = ()
    for place, result in enumerate(earlier):
        best = result["best"][: HANDED if place else None]
        for case in map(case_from_json, best):
            population = admitted(population, case)
    return State(
        subject=asked.subject,
        clause=clause,
        op=op,
        dtype=dtype,
        seed=asked.seed,
        random=fresh_random(asked.seed, op, dtype, piece["round"], piece["island"]),
        movers={name: (won, lost) for name, (won, lost) in earlier[0]["movers"].items()} if earlier else {},
        population=population,
    )


def _result(
    piece: Mapping[str, Any],
    state: State,
    largest: WorstCase | None,
    verdict: Verdict | None,
    *,
    broken: bool,
) -> dict[str, Any]:
    best = elite(tuple(case for case in state.population if case.margin > 0.0), KEPT)
    told = None if verdict is None else verdict_to_json(replace(verdict, statistics={}), state.subject)
    return {
        "cases": 0 if verdict is None else verdict.cases,
        "round": piece["round"],
        "island": piece["island"],
        "broken": broken,
        "best": [case_to_json(case) for case in best],
        "largest": None if largest is None else case_to_json(largest),
        "movers": {name: list(weights) for name, weights in state.movers.items()},
        "verdict": told,
    }


# --- all slices ---


@dataclass(frozen=True)
class _Find:
    """A case, and the round and island that found it."""

    case: WorstCase
    round: int
    island: int

    @property
    def source(self) -> str:
        """Who found it, for a message."""
        return f"found by {self.case.found_by} on island {self.island} in round {self.round}"


def _finds(results: Iterable[Mapping[str, Any]]) -> list[_Find]:
    """Every case once, with where it was found first, the nearest to its bound first."""
    found: dict[tuple[Any, ...], _Find] = {}
    for result in sorted(results, key=lambda one: (one["round"], one["island"])):
        largest = [result["largest"]] if result["largest"] is not None else []
        for case in map(case_from_json, (*result["best"], *largest)):
            found.setdefault(case.key, _Find(case, result["round"], result["island"]))
    return sorted(found.values(), key=lambda find: (-find.case.margin, find.round, find.island))


def merge(_settings: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> list[Verdict]:
    """The verdict that rounds of islands amount to, in whatever order they come.

    Its message names the input nearest to its bound and that of the largest error; its witness, where the
    bound is broken, is the smallest that the search made of the worst.
    """
    known = sorted(results, key=lambda one: (one["round"], one["island"]))
    told = [verdict_from_json(one["verdict"]) for one in known if one["verdict"] is not None]
    if not told:
        return []
    verdict, finds = reduce(joined, told), _finds(known)
    if verdict.status != "pass" or not finds:
        return [verdict]
    largest = max(finds, key=lambda find: find.case.error_ulp[1])
    words = [
        verdict.message,
        f"error / bound up to {finds[0].case.margin:.4g}, {finds[0].source}",
        f"errors up to {largest.case.error_ulp[1]:.4g} ulp, {largest.source}",
    ]
    return [replace(verdict, message="; ".join(filter(None, words)))]


def worst(_settings: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> tuple[WorstCase, ...]:
    """The nearest to its bound of each size class, and that of the largest error; the worst first.

    Islands that hand on what they find end near each other, so that the second of a class would say little.
    """
    cases = [find.case for find in _finds(results)]
    if not cases:
        return ()
    first: dict[int, WorstCase] = {}
    for case in cases:
        first.setdefault(niche(case), case)
    largest = max(cases, key=lambda case: case.error_ulp[1])
    chosen = {case.key: case for case in (*[*first.values()][: KEPT - 1], largest)}
    return tuple(sorted(chosen.values(), key=lambda case: -case.margin))


SEARCH = Task(name="search", slices=slices, run=run, merge=merge, worst=worst)
