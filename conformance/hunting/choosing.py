"""Who is kept, who has offspring, and which mover makes it: a population in niches, and a bandit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from softcert.conformance.hunting.worst_cases import WorstCase

if TYPE_CHECKING:
    from numpy.random import Generator

#: Inputs of about one size that are kept: long rows, whose margins are small as a rule, have their own place.
_PER_NICHE = 6
#: How much of a mover's record each new trial of it leaves: what helped an hour ago may be exhausted.
_MEMORY = 0.98
#: Share of the moves that are made by a mover drawn blindly.
_ANY = 0.3

Population = tuple[WorstCase, ...]
#: Weights of success and failure by mover.
Record = Mapping[str, tuple[float, float]]


def niche(case: WorstCase) -> int:
    """Size class of an input: sizes of one class are within a factor of two."""
    return sum(int(a.size) for a in case.seedling.operands).bit_length()


def admitted(population: Population, case: WorstCase) -> Population:
    """Population with a case in it, each niche cut to its best; the best come first."""
    if any(case.key == other.key for other in population):
        return population
    ranked = sorted((*population, case), key=lambda one: -one.margin)
    counts: dict[int, int] = {}
    kept = []
    for one in ranked:
        counts[niche(one)] = counts.get(niche(one), 0) + 1
        if counts[niche(one)] <= _PER_NICHE:
            kept.append(one)
    return tuple(kept)


def elite(population: Population, count: int) -> Population:
    """The `count` worst cases, the worst of each niche before the second of any."""
    seen: dict[int, int] = {}
    ranks = []
    for case in population:
        ranks.append(seen.get(niche(case), 0))
        seen[niche(case)] = ranks[-1] + 1
    order = sorted(range(len(population)), key=lambda k: (ranks[k], -population[k].margin))
    return tuple(sorted((population[k] for k in order[:count]), key=lambda one: -one.margin))


def parent(rng: Generator, population: Population) -> WorstCase:
    """The best one sometimes, else the best of three."""
    if rng.random() < 0.2:
        return population[0]
    return population[int(rng.integers(len(population), size=3).min())]


def choose(rng: Generator, record: Record, names: Sequence[str]) -> str:
    """Mover by Thompson sampling: each is drawn a rate of success by its record, the best is taken.

    Now and then any: one that never comes nearer to the bound may be the one that breaks it, as an offset
    does, whose bound grows faster than a right kernel's error.
    """
    if rng.random() < _ANY:
        return names[int(rng.integers(len(names)))]
    weights = [record.get(name, (0.0, 0.0)) for name in names]
    rates = [float(rng.beta(1.0 + won, 1.0 + lost)) for won, lost in weights]
    return names[rates.index(max(rates))]


def recorded(record: Record, name: str, successes: int, trials: int) -> dict[str, tuple[float, float]]:
    """Record after some trials of a mover; a success is an input that is worse than what it was made of."""
    won, lost = record.get(name, (0.0, 0.0))
    faded = _MEMORY**trials
    return {**record, name: (won * faded + successes, lost * faded + (trials - successes))}
