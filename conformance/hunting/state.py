"""The state of a search, in a file from which it goes on as if it had never been stopped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import PCG64, Generator

from softcert.conformance.environment import softcert_version
from softcert.conformance.hunting.choosing import Population
from softcert.conformance.hunting.worst_cases import case_from_json, case_to_json
from softcert.conformance.model import SCHEMA, RequestError
from softcert.conformance.wire.arrays import ArrayError
from softcert.conformance.wire.runs import dumps, read_json, validate, write_text


@dataclass(frozen=True)
class State:
    """Everything on which the rest of a search depends.

    Attributes
    ----------
    subject : the string that names it.
    evaluations : inputs judged so far.
    seeded : how many of the inputs that every search begins with are judged.
    random : state of the random generator.
    movers : record of each mover.
    population : the worst cases so far, the worst first.
    """

    subject: str
    clause: str
    op: str
    dtype: str
    seed: int
    random: Mapping[str, int]
    evaluations: int = 0
    seeded: int = 0
    movers: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    population: Population = ()


def fresh_random(seed: int, op: str, dtype: str, *part: int) -> dict[str, int]:
    """State of the generator with which the search of an op and dtype begins, or a part of it."""
    words = [seed & 0xFFFFFFFF, seed >> 32, *op.encode(), *dtype.encode(), *part]
    return random_state(Generator(PCG64(np.random.SeedSequence(words))))


def random_state(rng: Generator) -> dict[str, int]:
    """State of a generator, as plain integers."""
    state: Any = rng.bit_generator.state
    return {**state["state"], "has_uint32": state["has_uint32"], "uinteger": state["uinteger"]}


def generator(random: Mapping[str, int]) -> Generator:
    """Return the generator that a state describes."""
    bits = PCG64(0)
    bits.state = {
        "bit_generator": "PCG64",
        "state": {"state": random["state"], "inc": random["inc"]},
        "has_uint32": random["has_uint32"],
        "uinteger": random["uinteger"],
    }
    return Generator(bits)


def write_state(path: str | os.PathLike[str], state: State) -> Path:
    """Write a state, whole or not at all; raise RequestError if it cannot be written."""
    document = {
        "schema": SCHEMA,
        "kind": "search",
        "softcert": softcert_version(),
        "subject": state.subject,
        "clause": state.clause,
        "op": state.op,
        "dtype": state.dtype,
        "seed": state.seed,
        "evaluations": state.evaluations,
        "seeded": state.seeded,
        # JSON promises no integers of 128 bits.
        "random": {**state.random, "state": str(state.random["state"]), "inc": str(state.random["inc"])},
        "movers": {name: list(weights) for name, weights in state.movers.items()},
        "population": [case_to_json(case) for case in state.population],
    }
    return write_text(path, dumps(document))


def read_state(path: str | os.PathLike[str]) -> State:
    """Return the state in a file.

    Raises
    ------
    RequestError : it cannot be read, or is no state of a search.
    """
    document = read_json(path)
    validate(document, "search", str(path))
    try:
        return _state(document)
    except ArrayError as error:
        raise RequestError(f"{path} is not a valid search: {error}") from error


def _state(document: Mapping[str, Any]) -> State:
    random = {name: int(value) for name, value in document["random"].items()}
    if max(random["state"], random["inc"]) >= 1 << 128:
        raise ArrayError("the random state has more than 128 bits")
    return State(
        subject=document["subject"],
        clause=document["clause"],
        op=document["op"],
        dtype=document["dtype"],
        seed=document["seed"],
        random=random,
        evaluations=document["evaluations"],
        seeded=document["seeded"],
        movers={name: (weights[0], weights[1]) for name, weights in document["movers"].items()},
        population=tuple(case_from_json(case) for case in document["population"]),
    )
