"""Hypothesis as one mover: a short run that starts from the best input and targets error / bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings, target
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st

from softcert.conformance.inputs.families import Scale, to_dtype
from softcert.conformance.inputs.storage import fixed_draws, private_storage
from softcert.conformance.spec import Seedling

#: Inputs of one run.
EXAMPLES = 24
#: Numbers changed at most in one input.
_EDITS = 6
#: Targets have to be finite.
_LARGEST_TARGET = 1e9

#: Place among all numbers of all operands, and by how many ulps it moves.
Edit = tuple[int, int]
#: Judges an input, says how near it came to the bound; None where it is no input of the clause.
Evaluate = Callable[[Seedling], "float | None"]


def aim(best: Seedling, seed: int, evaluate: Evaluate) -> None:
    """Evaluate inputs around the best one, each chosen by what the earlier ones came to.

    Parameters
    ----------
    seed : a fixed one gives the same inputs, if they come to the same.
    """
    size = sum(int(a.size) for a in best.operands)
    reach = 1 << Scale.of(best.operands[0].dtype.name).precision

    @hypothesis_seed(seed)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.target),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.lists(st.tuples(st.integers(0, size - 1), st.integers(-reach, reach)), max_size=_EDITS))
    def body(edits: list[Edit]) -> None:
        margin = evaluate(edited(best, edits))
        if margin is not None and not np.isnan(margin):
            target(min(margin, _LARGEST_TARGET), label="error / bound")

    with private_storage(), fixed_draws():
        body()


def edited(seedling: Seedling, edits: list[Edit]) -> Seedling:
    """The seedling with some of its numbers moved by ulps."""
    operands = [a.astype(np.float64).reshape(-1) for a in seedling.operands]
    starts = np.cumsum([0, *(a.size for a in operands)])
    for place, steps in edits:
        which = int(np.searchsorted(starts, place, side="right")) - 1
        at = place - int(starts[which])
        operands[which][at] = _moved(float(operands[which][at]), steps, seedling.operands[which].dtype.name)
    rounded = (
        to_dtype(flat, own.dtype.name).reshape(own.shape)
        for flat, own in zip(operands, seedling.operands, strict=True)
    )
    return replace(seedling, operands=tuple(rounded))


def _moved(value: float, steps: int, dtype: str) -> float:
    if not np.isfinite(value):
        return value
    scale = Scale.of(dtype)
    exponent = np.floor(np.log2(max(abs(value), scale.smallest * 2.0 ** (scale.precision - 1))))
    return value + steps * float(np.exp2(exponent - scale.precision + 1))
