"""Inputs of samplers: rows of the same logits, drawn from many times, under options and seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from softcert.conformance.context import Context
from softcert.conformance.inputs.families import make_row, to_dtype
from softcert.conformance.inputs.growing import call_of, one_call, trial_of
from softcert.conformance.model import Trial
from softcert.conformance.spec import Grow, Seedling

Options = Mapping[str, float]

_LARGE = 1000.0
#: Four classes, two far apart, two close, ties, ties whose sums with noise are large, nine.
_LOGITS = (
    (0.5, -1.0, 0.0, 1.25),
    (3.0, 0.0),
    (0.25, 0.0),
    (0.0, 0.0, 0.0),
    (_LARGE,) * 4,
    tuple((4 * k % 9) / 4 for k in range(9)),
)
_MASKED = ((0.5, -math.inf, 0.0, 1.25), (-math.inf, 0.0, 0.0), (1.0, -math.inf))
#: Rows of a trial; in the thorough profiles, of one trial; where each sample is judged by itself.
DRAWS, _MANY_DRAWS, _FEW_DRAWS = 1 << 14, 1 << 17, 1 << 8
_TEMPERATURES: tuple[Options, ...] = ({}, {"tau": 0.25}, {"tau": 5.0})
#: Where the shares' own rounding, in proportion to the temperature, exchanges few classes.
_COLD = 0.125
_HARD: Options = {"tau": _COLD, "hard": 1}
#: Rows with a NaN, with +inf, of nothing but -inf, and one that is ordinary.
_SPECIAL = (
    (math.nan, 1.0, 2.0),
    (0.5, math.inf, 2.0),
    (-math.inf, -math.inf, -math.inf),
    (-math.inf, 1.0, math.nan),
    (0.5, 1.0, -math.inf),
)
#: Seeds that are to give different samples.
FIRST_SEED, SECOND_SEED = 1, 2
_FAMILIES = ("normal", "wide", "near-overflow", "offset-down", "ties", "masked", "subnormal-logits")


def grow_draws(seedling: Seedling, context: Context) -> Trial:
    """One call for as many rows of the same logits as the seedling says."""
    return one_call(many_draws(seedling), context)


def grow_with(*each: Options) -> Grow:
    """A call for the same rows under each of some options, which go before those of the seedling."""

    def grow(seedling: Seedling, context: Context) -> Trial:
        many = many_draws(seedling)
        variants = (replace(many, options={**many.options, **options}) for options in each)
        return trial_of(seedling, *(call_of(variant, context) for variant in variants))

    return grow


def many_draws(seedling: Seedling) -> Seedling:
    """The seedling with its one row repeated along the other axis; one that has rows already as it is."""
    (x,) = seedling.operands
    if x.ndim != 1 or "draws" not in seedling.extra:
        return seedling
    rows = np.tile(x, (int(seedling.extra["draws"]), 1))
    return replace(seedling, operands=(np.ascontiguousarray(np.moveaxis(rows, -1, seedling.axis)),))


def _drawn(context: Context, row: tuple[float, ...], draws: int = DRAWS, **facts: Any) -> Seedling:
    x = to_dtype(np.asarray(row), context.dtype)
    return Seedling((x,), family="draws", extra={"draws": draws}, **facts)


def soft_and_hard(context: Context) -> Iterator[Seedling]:
    """Rows of which classes are drawn, by one-hot samples and by cold soft ones."""
    for row in _LOGITS:
        yield _drawn(context, row, options=_HARD)
        yield _drawn(context, row, options={"tau": _COLD})
    # Not every sampler takes a temperature.
    yield from (_drawn(context, row) for row in (_LOGITS[0], _LOGITS[2]))
    yield from (_drawn(context, _LOGITS[0], options={**more, "hard": 1}) for more in ({}, {"tau": 5.0}))
    yield _drawn(context, _LOGITS[0], axis=0, options=_HARD)
    if context.thorough >= 1:
        yield _drawn(context, _LOGITS[0], _MANY_DRAWS, options=_HARD)


def soft(context: Context) -> Iterator[Seedling]:
    """Rows of which soft samples are drawn, at several temperatures, along either axis."""
    for row in _LOGITS:
        yield from (_drawn(context, row, options=options) for options in _TEMPERATURES)
    yield _drawn(context, _LOGITS[0], layout="transposed")
    yield _drawn(context, _LOGITS[0], axis=0)
    if context.thorough >= 1:
        yield _drawn(context, _LOGITS[1], _MANY_DRAWS)


def cold(context: Context) -> Iterator[Seedling]:
    """Rows of which soft samples are drawn that tell which class is the largest."""
    yield from (_drawn(context, row, options={"tau": _COLD}) for row in (_LOGITS[0], _LOGITS[2]))
    yield _drawn(context, _LOGITS[2])


def few_draws(context: Context) -> Iterator[Seedling]:
    """Rows of which few samples are drawn, for clauses that look at each."""
    # Quotients of larger logits by the smallest temperature overflow 16 bits.
    yield from (_drawn(context, row, _FEW_DRAWS) for row in _LOGITS if max(row) < _LARGE)


def masked_and_special(context: Context) -> Iterator[Seedling]:
    """Rows with classes that are never drawn, and rows that have no law, one beside another."""
    for options in ({}, _HARD):
        for row in _MASKED:
            yield _drawn(context, row, options=options)
        x = to_dtype(np.asarray(_SPECIAL), context.dtype)
        yield Seedling((x,), family="special", options=options)
        yield Seedling((np.ascontiguousarray(x.T),), axis=0, family="special", options=options)


def families_of_draws(context: Context) -> Iterator[Seedling]:
    """Rows of any logits, one sample of each."""
    for family in _FAMILIES:
        for n in (1, 2, 5, 33):
            x = np.stack([make_row(family, n, seed, 3.0, context.dtype) for seed in range(4)])
            yield Seedling((x,), family=family)
    for n in (130, 4097):
        x = np.stack([make_row(family, n, n, 1.0, context.dtype) for family in ("normal", "equal")])
        yield from (Seedling((x,), family="long", options=options) for options in _TEMPERATURES)
